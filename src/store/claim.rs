//! Claim: hands ready jobs to a worker, many in one statement, in true order.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::Store;
use super::lease::Lease;
use crate::error::{Error, Result};

/// Who claims, and how much.
#[derive(Clone, Debug)]
pub struct ClaimRequest {
    /// A registered worker; one whose lease has run out gets nothing.
    pub worker_id: Uuid,
    /// The queue.
    pub queue: String,
    /// At most this many.
    pub limit: i64,
    /// True when the process holds a job that has lost a worker before; it then gets no second one, so that a job
    /// which kills its worker does not take others to ERROR with it.
    pub holds_suspect: bool,
}

/// A job under a lease.
#[derive(Clone, Debug)]
pub struct ClaimedJob {
    /// What every later write about it must name.
    pub lease: Lease,
    /// What is to be done.
    pub kind: String,
    /// Its queue.
    pub queue: String,
    /// Whose it is.
    pub client_id: String,
    /// Input. An error where this version cannot read what is stored: the job fails, the worker goes on.
    pub payload: std::result::Result<Value, String>,
    /// Which attempt this is, from 1.
    pub attempt: i16,
    /// Attempts granted.
    pub max_attempts: i16,
    /// How long it may run.
    pub timeout_seconds: i32,
    /// True when it has lost a worker before.
    pub suspect: bool,
    /// By the database's clock.
    pub started_at: DateTime<Utc>,
}

/// The statement; a test pins its plan.
pub const CLAIM_SQL: &str = "
    WITH ready AS MATERIALIZED (
        -- MATERIALIZED and joined: as `WHERE id IN (SELECT … LIMIT n)` a nested loop runs the subquery once a row
        -- and was seen to claim 1,000 jobs instead of 5.
        SELECT id, level, seq, losses FROM job
        WHERE status = 'PENDING' AND queue = $2 AND (losses = 0 OR NOT $4)
            AND EXISTS (SELECT FROM worker
                        WHERE worker.id = $1 AND lost_at IS NULL AND NOT draining AND expires_at > now())
        ORDER BY queue, level, seq
        LIMIT $3
        FOR UPDATE OF job SKIP LOCKED
    ), chosen AS (
        SELECT id FROM (
            SELECT id, losses, row_number() OVER (PARTITION BY losses > 0 ORDER BY level, seq) AS suspects FROM ready
        ) AS numbered
        WHERE losses = 0 OR suspects = 1
    )
    UPDATE job
    SET status = 'RUNNING', version = version + 1, attempt = attempt + 1, lease_epoch = lease_epoch + 1,
        worker_id = $1, started_at = now(),
        progress_fraction = NULL, progress_message = NULL, progress_at = NULL
    FROM chosen
    WHERE job.id = chosen.id AND job.status = 'PENDING'
    RETURNING job.id, job.kind, job.queue, job.client_id, job.payload::text AS payload, job.attempt,
              job.max_attempts, job.timeout_seconds, job.lease_epoch, job.losses, job.started_at, job.level, job.seq";

impl Store {
    /// Claims the first ready jobs of a queue, in claim order.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn claim(&self, request: ClaimRequest) -> Result<Vec<ClaimedJob>> {
        let pool = self.pool.clone();
        self.detached("claim", async move {
            let claimed = sqlx::query(CLAIM_SQL)
                .bind(request.worker_id)
                .bind(&request.queue)
                .bind(request.limit)
                .bind(request.holds_suspect)
                .fetch_all(&pool)
                .await
                .and_then(|rows| {
                    let mut claimed = rows.iter().map(in_claim_order).collect::<sqlx::Result<Vec<_>>>()?;
                    claimed.sort_unstable_by_key(|(place, _)| *place);
                    Ok(claimed)
                })
                .map_err(|source| Error::database("claim", source))?;
            Ok(claimed.into_iter().map(|(_, job)| job).collect())
        })
        .await
    }
}

/// A row with its place: an UPDATE returns rows in no order.
fn in_claim_order(row: &PgRow) -> sqlx::Result<((i16, i64), ClaimedJob)> {
    let payload: &str = row.try_get("payload")?;
    let losses: i16 = row.try_get("losses")?;
    let claimed = ClaimedJob {
        lease: Lease { job_id: row.try_get("id")?, epoch: row.try_get("lease_epoch")? },
        kind: row.try_get("kind")?,
        queue: row.try_get("queue")?,
        client_id: row.try_get("client_id")?,
        payload: serde_json::from_str(payload).map_err(|error| error.to_string()),
        attempt: row.try_get("attempt")?,
        max_attempts: row.try_get("max_attempts")?,
        timeout_seconds: row.try_get("timeout_seconds")?,
        suspect: losses > 0,
        started_at: row.try_get("started_at")?,
    };
    Ok(((row.try_get("level")?, row.try_get("seq")?), claimed))
}
