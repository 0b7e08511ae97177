//! When a change of a job was committed, as PostgreSQL noted it (`track_commit_timestamp`). For `jobql bench`: the server
//! does not ask.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

/// When the last change of each of these jobs was committed.
///
/// # Errors
/// Of the database, also when it does not note it.
pub async fn of_last_changes(
    connection: &mut PgConnection,
    ids: &[Uuid],
) -> Result<Vec<(Uuid, DateTime<Utc>)>, sqlx::Error> {
    sqlx::query_as("SELECT id, pg_xact_commit_timestamp(xmin) FROM job WHERE id = ANY($1)")
        .bind(ids)
        .fetch_all(connection)
        .await
}
