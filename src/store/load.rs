//! Samples of how many jobs of each kind were active, one a minute, kept for a month.

use chrono::{DateTime, Utc};
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::Store;
use crate::error::{Error, Result};

/// How long samples are kept.
const KEEP_DAYS: i32 = 31;
/// Names the lock under which a sample is taken; any constant will do.
const SAMPLE_LOCK: i64 = 0x6a6f_6271_6c00_0002;

/// The active jobs of a kind at some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// Start of the minute, or of the bucket.
    pub at: DateTime<Utc>,
    /// The kind.
    pub kind: String,
    /// Ready ones.
    pub pending: i32,
    /// Those that wait for their time.
    pub scheduled: i32,
    /// Those that workers hold.
    pub running: i32,
    /// All three.
    pub total: i32,
}

/// Which samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadRequest {
    /// From this instant on.
    pub from: DateTime<Utc>,
    /// Before this instant.
    pub to: DateTime<Utc>,
    /// Of these kinds; none for all.
    pub kinds: Option<Vec<String>>,
    /// Length of a bucket, of whose samples the largest counts are given.
    pub bucket_seconds: i32,
    /// At most this many.
    pub limit: i64,
}

impl Store {
    /// Takes the sample of this minute unless it has been taken, and drops those that are too old.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn sample_load(&self) -> Result<()> {
        let pool = self.upkeep.clone();
        self.detached("sample the load", async move {
            let failed = |source| Error::database("sample the load", source);
            sqlx::query(
                "WITH turn AS MATERIALIZED (
                     -- Whoever does not get the lock leaves the sample to the one who has it.
                     SELECT date_trunc('minute', now()) AS at
                     WHERE NOT EXISTS (SELECT FROM job_load WHERE at = date_trunc('minute', now()))
                         AND pg_try_advisory_xact_lock($1)
                 ), active AS (
                     SELECT kind, status, sum(jobs)::integer AS jobs
                     FROM (SELECT kind, status, jobs FROM job_count
                           UNION ALL SELECT kind, status, jobs FROM job_count_change) AS part
                     WHERE status IN ('PENDING', 'SCHEDULED', 'RUNNING') AND EXISTS (SELECT FROM turn)
                     GROUP BY kind, status HAVING sum(jobs) <> 0
                 )
                 INSERT INTO job_load (at, kind, pending, scheduled, running)
                 SELECT turn.at, kind,
                        COALESCE(sum(jobs) FILTER (WHERE status = 'PENDING'), 0),
                        COALESCE(sum(jobs) FILTER (WHERE status = 'SCHEDULED'), 0),
                        COALESCE(sum(jobs) FILTER (WHERE status = 'RUNNING'), 0)
                 FROM turn CROSS JOIN active
                 GROUP BY turn.at, kind
                 ON CONFLICT DO NOTHING",
            )
            .bind(SAMPLE_LOCK)
            .execute(&pool)
            .await
            .map_err(failed)?;
            sqlx::query("DELETE FROM kind_duration WHERE minute < now() - interval '1 day'")
                .execute(&pool)
                .await
                .map_err(failed)?;
            sqlx::query("DELETE FROM job_load WHERE at < now() - make_interval(days => $1)")
                .bind(KEEP_DAYS)
                .execute(&pool)
                .await
                .map(drop)
                .map_err(failed)
        })
        .await
    }

    /// The last sample, by kind; at most some hundred kinds.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn last_load(&self) -> Result<Vec<Load>> {
        let rows = sqlx::query(
            "SELECT at AS bucket, kind, pending, scheduled, running, pending + scheduled + running AS total
             FROM job_load
             WHERE at = (SELECT max(at) FROM job_load)
             ORDER BY kind
             LIMIT 1000",
        );
        rows.fetch_all(&self.pool)
            .await
            .and_then(|rows| rows.iter().map(load).collect())
            .map_err(|source| Error::database("read the load", source))
    }

    /// Samples by time, then by kind.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn loads(&self, request: &LoadRequest) -> Result<Vec<Load>> {
        sqlx::query(
            "SELECT to_timestamp(floor(extract(epoch FROM at) / $4) * $4) AS bucket, kind,
                    max(pending) AS pending, max(scheduled) AS scheduled, max(running) AS running,
                    max(pending + scheduled + running) AS total
             FROM job_load
             WHERE at >= $1 AND at < $2 AND ($3::text[] IS NULL OR kind = ANY($3))
             GROUP BY bucket, kind
             ORDER BY bucket, kind
             LIMIT $5",
        )
        .bind(request.from)
        .bind(request.to)
        .bind(&request.kinds)
        .bind(f64::from(request.bucket_seconds))
        .bind(request.limit)
        .fetch_all(&self.pool)
        .await
        .and_then(|rows| rows.iter().map(load).collect())
        .map_err(|source| Error::database("read the load", source))
    }
}

fn load(row: &PgRow) -> sqlx::Result<Load> {
    Ok(Load {
        at: row.try_get("bucket")?,
        kind: row.try_get("kind")?,
        pending: row.try_get("pending")?,
        scheduled: row.try_get("scheduled")?,
        running: row.try_get("running")?,
        total: row.try_get("total")?,
    })
}
