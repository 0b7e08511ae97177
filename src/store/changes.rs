//! What the watchers of changes need beside reads by id: a ping through NOTIFY, and the rows that changed while
//! nobody listened.
//!
//! A horizon is a transaction id below which every transaction had ended when it was taken. A row that was written
//! by a transaction which ended later carries an id that is not below it. So the rows changed since a horizon are
//! found whatever the order in which their transactions committed, which no timestamp or sequence could promise.

use entity::job;
use sqlx::Row;
use uuid::Uuid;

use super::{Store, read};
use crate::error::{Error, Result};

/// Every transaction below this id had ended when it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Horizon(i64);

impl Store {
    /// The horizon now.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn horizon(&self) -> Result<Horizon> {
        sqlx::query("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS horizon")
            .fetch_one(&self.work)
            .await
            .and_then(|row| row.try_get("horizon").map(Horizon))
            .map_err(|source| Error::database("read the horizon", source))
    }

    /// Notifies `channel`. Whoever receives it has received before it everything that ended below the horizon.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn ping(&self, channel: &str) -> Result<()> {
        sqlx::query("SELECT pg_notify($1, pg_snapshot_xmin(pg_current_snapshot())::text)")
            .bind(channel)
            .execute(&self.work)
            .await
            .map(drop)
            .map_err(|source| Error::database("ping the listener", source))
    }

    /// Those of the jobs that exist, of everyone, from one snapshot: what the hub hands to those who may see it. Beside them the
    /// ids of those that are there and cannot be read.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn watched_jobs(&self, ids: &[Uuid]) -> Result<(Vec<job::Model>, Vec<Uuid>)> {
        let failed = |source| Error::database("read watched jobs", source);
        let mut connection = self.watching.take().await.map_err(failed)?;
        let rows = sqlx::query(sqlx::AssertSqlSafe(watched_sql(ids)))
            .bind(ids)
            .fetch_all(&mut *connection)
            .await
            .map_err(failed)?;
        connection.keep();
        read::readable_jobs(&rows).map_err(failed)
    }

    /// The jobs of everyone that were written since the horizon: those that can be read of the first `limit` of them by id,
    /// after `after`, and the last one's id if there may be more. Reads the whole table: it is for the rare moment after a
    /// lost listener.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn jobs_changed_since(
        &self,
        horizon: Horizon,
        after: Uuid,
        limit: i64,
    ) -> Result<(Vec<job::Model>, Option<Uuid>)> {
        let rows = sqlx::query(
            // age() counts back from now, so it compares ids across their wrap-around.
            "SELECT job.* FROM job WHERE age(xmin) <= age(($1 % 4294967296)::text::xid) AND id > $2
             ORDER BY id LIMIT $3",
        )
        .bind(horizon.0)
        .bind(after)
        .bind(limit)
        .fetch_all(&self.work)
        .await;
        let read = rows.and_then(|rows| {
            let last = rows.last().filter(|_| rows.len() as i64 >= limit);
            let last = last.map(|row| row.try_get("id")).transpose()?;
            Ok((read::readable_jobs(&rows)?.0, last))
        });
        read.map_err(|source| Error::database("read changed jobs", source))
    }
}

impl std::str::FromStr for Horizon {
    type Err = std::num::ParseIntError;

    /// Reads the payload of a ping.
    fn from_str(text: &str) -> std::result::Result<Horizon, Self::Err> {
        text.parse().map(Horizon)
    }
}

/// Jobs by `ids`, which `$1` is, for all eyes.
pub fn watched_sql(ids: &[Uuid]) -> String {
    format!("SELECT job.* FROM job WHERE {}", read::is_one_of("job.id", 1, ids))
}
