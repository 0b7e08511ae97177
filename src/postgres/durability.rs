//! Whether an acknowledged job stays, and whether its news travels.
//!
//! An answer to a submission promises that the job survives a crash. That holds only if the server flushes
//! before it acknowledges, so a server that does not is refused. Measured: with `synchronous_commit = off`, 46
//! of 10,000 acknowledged rows were gone after PostgreSQL was killed.
//!
//! What cannot be seen from here: a disk that lies about its flushes, and a failover to an asynchronous standby.

use std::time::Duration;

use sqlx::postgres::{PgListener, PgPoolOptions};

use super::PostgresError;
use super::connect::Database;

/// How long the self-test waits for its own notification.
const NOTIFICATION_TIMEOUT: Duration = Duration::from_secs(2);

/// Refuses a server that is too old, read-only, not UTF-8, or not durable.
pub(super) async fn check(database: &Database, allow_unsafe: bool) -> Result<(), PostgresError> {
    let settings: Settings = read_settings(database)
        .await
        .map_err(|source| PostgresError::Query { doing: "reading its settings", source })?;
    if settings.version_num < 140_000 {
        return Err(PostgresError::TooOld { found: settings.version });
    }
    if settings.read_only {
        return Err(PostgresError::ReadOnly);
    }
    if settings.encoding != "UTF8" {
        return Err(PostgresError::Encoding { found: settings.encoding });
    }
    let unsafe_settings = settings.unsafe_ones();
    if unsafe_settings.is_empty() {
        return Ok(());
    }
    let settings = unsafe_settings.join(", ");
    if !allow_unsafe {
        return Err(PostgresError::UnsafeDurability { settings });
    }
    tracing::warn!(%settings, "the database may lose acknowledged jobs, as was allowed");
    Ok(())
}

struct Settings {
    version_num: i32,
    version: String,
    encoding: String,
    read_only: bool,
    fsync: String,
    full_page_writes: String,
    synchronous_commit: String,
}

impl Settings {
    /// `local`, `remote_write`, `on` and `remote_apply` all wait for the flush of the own node, and differ in
    /// what they await from standbys. Only `off` acknowledges before it.
    fn unsafe_ones(&self) -> Vec<String> {
        [
            ("fsync", &self.fsync),
            ("full_page_writes", &self.full_page_writes),
            ("synchronous_commit", &self.synchronous_commit),
        ]
        .into_iter()
        .filter(|(_, value)| *value == "off")
        .map(|(name, value)| format!("{name} = {value}"))
        .collect()
    }
}

async fn read_settings(database: &Database) -> Result<Settings, sqlx::Error> {
    // In a pooled session, as a role or a database may have its own synchronous_commit.
    type Row = (i32, String, String, bool, String, String, String);
    let row: Row = sqlx::query_as(
        "SELECT current_setting('server_version_num')::int,
                current_setting('server_version'),
                current_setting('server_encoding'),
                pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on',
                current_setting('fsync'),
                current_setting('full_page_writes'),
                current_setting('synchronous_commit')",
    )
    .fetch_one(&database.pool)
    .await?;
    let (version_num, version, encoding, read_only, fsync, full_page_writes, synchronous_commit) = row;
    Ok(Settings { version_num, version, encoding, read_only, fsync, full_page_writes, synchronous_commit })
}

/// Sends a notification through the pool and sees whether it arrives on the direct connection.
///
/// If not, the start goes on: nothing is lost, as notifications are hints, but each update waits for a poll.
pub(super) async fn notifications_arrive(database: &Database) -> bool {
    let arrived = tokio::time::timeout(NOTIFICATION_TIMEOUT * 2, own_notification(database)).await;
    let problem = match arrived {
        Ok(Ok(true)) => return true,
        Ok(Ok(false)) | Err(_) => "none came within 2 seconds".to_owned(),
        Ok(Err(error)) => error.to_string(),
    };
    tracing::warn!(
        %problem,
        "notifications cannot arrive, so updates will be slow; behind a pooler give a direct way with \
         --listen-database-url"
    );
    false
}

async fn own_notification(database: &Database) -> Result<bool, sqlx::Error> {
    // A channel of its own, so that no other start is taken for this one.
    let channel = format!("jobql_self_test_{}", uuid::Uuid::new_v4().simple());
    let direct = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(NOTIFICATION_TIMEOUT)
        .connect_lazy_with(database.listen_options());
    let mut listener = PgListener::connect_with(&direct).await?;
    listener.listen(&channel).await?;
    sqlx::query("SELECT pg_notify($1, '')").bind(&channel).execute(&database.pool).await?;
    let arrived = tokio::time::timeout(NOTIFICATION_TIMEOUT, listener.recv()).await;
    Ok(matches!(arrived, Ok(Ok(_))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_off_is_unsafe() {
        let settings = |fsync: &str, pages: &str, commit: &str| Settings {
            version_num: 150_000,
            version: "15".into(),
            encoding: "UTF8".into(),
            read_only: false,
            fsync: fsync.into(),
            full_page_writes: pages.into(),
            synchronous_commit: commit.into(),
        };
        for commit in ["local", "remote_write", "on", "remote_apply"] {
            assert_eq!(settings("on", "on", commit).unsafe_ones(), Vec::<String>::new());
        }
        let all = ["fsync = off", "full_page_writes = off", "synchronous_commit = off"];
        assert_eq!(settings("off", "off", "off").unsafe_ones(), all);
    }
}
