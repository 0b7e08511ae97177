//! Queues: what was set about them, what is in them, and what will be claimed from them next.
//!
//! Settings live in table `queue`; a queue without a row goes by the defaults. A queue is known when the
//! configuration, a worker, a setting or an active job names it. A claim reads the settings in its own statement, so
//! one that begins after a pause was answered takes nothing.

use std::collections::HashMap;

use entity::job;
use entity::queue::{ClaimOrder, Model as Settings};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use super::{Store, read};
use crate::error::{Error, Result};
use crate::job::viewer::Viewer;

/// The largest limit that can be set.
pub const MAX_RUNNING: i32 = 1_000_000;

/// What is to be changed about a queue. What is `None` keeps its setting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueChange {
    /// Pause or resume.
    pub paused: Option<bool>,
    /// Which jobs of a level go first.
    pub order: Option<ClaimOrder>,
    /// A limit, or `Some(None)` to lift it.
    pub max_running: Option<Option<i32>>,
}

/// What a queue has its pending jobs wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueWait {
    /// Nothing is claimed from it.
    pub paused: bool,
    /// A live worker serves it.
    pub served: bool,
    /// As many of its jobs run as may.
    pub full: bool,
}

/// A place in the order of claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Its level.
    pub level: i16,
    /// Its number within the level.
    pub seq: i64,
}

/// Which part of the pending jobs of a queue, in claim order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpcomingRequest {
    /// The queue.
    pub queue: String,
    /// Kinds that are left out.
    pub except_kinds: Vec<String>,
    /// Only what comes after this place.
    pub after: Option<Turn>,
    /// At most this many.
    pub limit: i64,
}

/// These columns of a queue's pending jobs in claim order.
pub(super) fn upcoming_sql(order: ClaimOrder, columns: &str) -> String {
    match order {
        ClaimOrder::Fifo => format!(
            "SELECT {columns} FROM job
             WHERE status = 'PENDING' AND queue = $1 AND (level, seq) > ($2, $3) AND kind <> ALL($4)
             ORDER BY queue, level, seq
             LIMIT $5"
        ),
        // Level by level upwards, and downwards within each: the index is read forwards for the levels, backwards for
        // the jobs, and nothing is sorted.
        ClaimOrder::Lifo => format!(
            "WITH RECURSIVE levels(level) AS (
                 (SELECT level FROM job WHERE status = 'PENDING' AND queue = $1 AND level >= $2
                  ORDER BY queue, level LIMIT 1)
                 UNION ALL
                 SELECT (SELECT job.level FROM job
                         WHERE status = 'PENDING' AND queue = $1 AND job.level > levels.level
                         ORDER BY queue, job.level LIMIT 1)
                 FROM levels WHERE level IS NOT NULL
             )
             SELECT turn.* FROM levels CROSS JOIN LATERAL (
                 SELECT {columns} FROM job
                 WHERE status = 'PENDING' AND queue = $1 AND job.level = levels.level AND kind <> ALL($4)
                     AND seq < CASE WHEN levels.level = $2 THEN $3 ELSE 9223372036854775807 END
                 ORDER BY queue DESC, job.level DESC, seq DESC
                 LIMIT $5
             ) AS turn
             LIMIT $5"
        ),
    }
}

impl Store {
    /// The settings of all known queues, by name; `configured` are those that the configuration names.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn queues(&self, configured: &[String]) -> Result<Vec<Settings>> {
        sqlx::query(
            // The queues of active jobs are found by skipping from one to the next in their index.
            "WITH RECURSIVE ready(name) AS (
                 (SELECT queue FROM job WHERE status = 'PENDING' ORDER BY queue LIMIT 1)
                 UNION ALL
                 SELECT (SELECT queue FROM job WHERE status = 'PENDING' AND queue > ready.name ORDER BY queue LIMIT 1)
                 FROM ready WHERE ready.name IS NOT NULL
             ), running(name) AS (
                 (SELECT queue FROM job WHERE status = 'RUNNING' ORDER BY queue LIMIT 1)
                 UNION ALL
                 SELECT (SELECT queue FROM job WHERE status = 'RUNNING' AND queue > running.name ORDER BY queue LIMIT 1)
                 FROM running WHERE running.name IS NOT NULL
             ), known AS (
                 SELECT unnest($1::text[]) AS name
                 UNION SELECT name FROM queue
                 UNION SELECT unnest(queues) FROM worker WHERE lost_at IS NULL
                 UNION SELECT name FROM ready
                 UNION SELECT name FROM running
             )
             SELECT known.name, COALESCE(paused, false) AS paused, COALESCE(claim_order, 'FIFO') AS claim_order,
                    max_running
             FROM known LEFT JOIN queue USING (name)
             WHERE known.name IS NOT NULL
             ORDER BY known.name",
        )
        .bind(configured)
        .fetch_all(&self.pool)
        .await
        .and_then(|rows| rows.iter().map(settings).collect())
        .map_err(|source| Error::database("read queues", source))
    }

    /// Changes what is set about a queue, and answers with all that is set. Afterwards every claim heeds it.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn change_queue(&self, name: &str, change: QueueChange) -> Result<Settings> {
        let (pool, name) = (self.pool.clone(), name.to_owned());
        self.detached("change a queue", async move {
            sqlx::query(
                "INSERT INTO queue (name, paused, claim_order, max_running)
                 VALUES ($1, COALESCE($2, false), COALESCE($3, 'FIFO'), $5)
                 ON CONFLICT (name) DO UPDATE
                 SET paused = COALESCE($2, queue.paused),
                     claim_order = COALESCE($3, queue.claim_order),
                     max_running = CASE WHEN $4 THEN $5 ELSE queue.max_running END
                 RETURNING *",
            )
            .bind(name)
            .bind(change.paused)
            .bind(change.order.map(ClaimOrder::as_str))
            .bind(change.max_running.is_some())
            .bind(change.max_running.flatten())
            .fetch_one(&pool)
            .await
            .and_then(|row| settings(&row))
            .map_err(|source| Error::database("change a queue", source))
        })
        .await
    }

    /// How many workers serve each of these queues now; a queue that none serves is left out.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn live_workers(&self, names: &[String]) -> Result<HashMap<String, i64>> {
        sqlx::query(
            "SELECT served.queue, count(*) AS workers
             FROM worker CROSS JOIN LATERAL (SELECT DISTINCT unnest(queues) AS queue) AS served
             WHERE lost_at IS NULL AND NOT draining AND expires_at > now() AND served.queue = ANY($1)
             GROUP BY served.queue",
        )
        .bind(names)
        .fetch_all(&self.pool)
        .await
        .and_then(|rows| {
            rows.iter().map(|row| Ok((row.try_get("queue")?, row.try_get("workers")?))).collect()
        })
        .map_err(|source| Error::database("count live workers", source))
    }

    /// What the pending jobs of these queues wait for.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn queue_waits(&self, names: &[String]) -> Result<HashMap<String, QueueWait>> {
        sqlx::query(
            "SELECT named.name, COALESCE(paused, false) AS paused,
                    EXISTS (SELECT FROM worker
                            WHERE named.name = ANY(queues) AND lost_at IS NULL AND NOT draining
                                AND expires_at > now()) AS served,
                    CASE WHEN max_running IS NULL THEN false
                         ELSE max_running <= (SELECT count(*) FROM job WHERE status = 'RUNNING' AND queue = named.name)
                    END AS full
             FROM unnest($1::text[]) AS named(name) LEFT JOIN queue USING (name)",
        )
        .bind(names)
        .fetch_all(&self.pool)
        .await
        .and_then(|rows| {
            let wait = |row: &PgRow| {
                let wait = QueueWait {
                    paused: row.try_get("paused")?,
                    served: row.try_get("served")?,
                    full: row.try_get("full")?,
                };
                Ok((row.try_get("name")?, wait))
            };
            rows.iter().map(wait).collect()
        })
        .map_err(|source| Error::database("read what queues wait for", source))
    }

    /// The pending jobs of a queue in the order in which they will be claimed; one more than the limit tells whether
    /// there are more, and is not given.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn upcoming(
        &self,
        viewer: &Viewer,
        request: &UpcomingRequest,
    ) -> Result<(Vec<job::Model>, bool)> {
        if *viewer != Viewer::Operator {
            return Err(Error::forbidden("the jobs of a queue can be seen by operators only"));
        }
        let failed = |source| Error::database("read upcoming jobs", source);
        // Boxed, as it is 15 kB.
        let mut connection = Box::pin(self.pool.acquire()).await.map_err(failed)?;
        let order = settings_of(&mut connection, &request.queue).await.map_err(failed)?.claim_order;
        // No level is below 0.
        let after = request.after.unwrap_or(Turn { level: -1, seq: 0 });
        let rows = sqlx::query(sqlx::AssertSqlSafe(upcoming_sql(order, "job.*")))
            .bind(&request.queue)
            .bind(after.level)
            .bind(after.seq)
            .bind(&request.except_kinds)
            .bind(request.limit + 1)
            .fetch_all(&mut *connection)
            .await
            .map_err(failed)?;
        let mut jobs = read::jobs(&rows).map_err(failed)?;
        let limit = usize::try_from(request.limit).unwrap_or_default();
        let more = jobs.len() > limit;
        jobs.truncate(limit);
        Ok((jobs, more))
    }
}

/// What is set about the queue.
pub(super) async fn settings_of(connection: &mut PgConnection, name: &str) -> sqlx::Result<Settings> {
    let row =
        sqlx::query("SELECT * FROM queue WHERE name = $1").bind(name).fetch_optional(connection).await?;
    row.as_ref().map_or_else(|| Ok(defaults(name)), settings)
}

/// The same, held against changes and other claims until the transaction ends.
pub(super) async fn lock_settings_of(connection: &mut PgConnection, name: &str) -> sqlx::Result<Settings> {
    let row = sqlx::query("SELECT * FROM queue WHERE name = $1 FOR NO KEY UPDATE")
        .bind(name)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map_or_else(|| Ok(defaults(name)), settings)
}

fn defaults(name: &str) -> Settings {
    Settings { name: name.to_owned(), paused: false, claim_order: ClaimOrder::Fifo, max_running: None }
}

fn settings(row: &PgRow) -> sqlx::Result<Settings> {
    let order: &str = row.try_get("claim_order")?;
    Ok(Settings {
        name: row.try_get("name")?,
        paused: row.try_get("paused")?,
        claim_order: ClaimOrder::from_name(order)
            .ok_or_else(|| sqlx::Error::Decode(format!("unknown claim order {order:?}").into()))?,
        max_running: row.try_get("max_running")?,
    })
}
