//! Claim: hands ready jobs to a worker, many in one statement, in true order.
//!
//! Each statement looks at the queue's settings itself, so a claim that begins after a pause was answered takes
//! nothing. Only a queue with a limit is claimed under its row's lock. A limit counts what claims before it have
//! committed: one that is set while a claim is on its way holds from the next one on.

use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use entity::queue::ClaimOrder;
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::{Connection, FromRow, PgConnection};
use uuid::Uuid;

use super::kept::KeptConnection;
use super::lease::Lease;
use super::ledger::BLOCK_BITS;
use super::{Store, queue};
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
    /// Begin where the ledger says that the queue's first jobs are, rather than at the head of the index. While somebody holds
    /// a snapshot open, all that was claimed since is still there, and is stepped over by each claim: within 40 s of that a
    /// drain fell to a quarter. Worth its fraction of a millisecond to who has just got a full claim. What the ledger does not
    /// know would not be found, so that no worker claims this way only. Heeded of FIFO queues without a limit.
    pub from_ledger: bool,
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
    /// The payload got results of other jobs after it was submitted, so nobody has held it to the kind's schema.
    pub has_results: bool,
    /// True when it has lost a worker before.
    pub suspect: bool,
    /// By the database's clock.
    pub started_at: DateTime<Utc>,
}

/// Claims from a queue that is FIFO, unlimited and not paused; nothing from any other. A test pins its plan.
pub static PLAIN_CLAIM_SQL: LazyLock<String> = LazyLock::new(|| plain_claim_of("WITH", "true"));

/// The same from the first block on that has pending jobs; what is not folded into the blocks yet can only add some. A test
/// pins its plan.
pub static LEDGER_CLAIM_SQL: LazyLock<String> = LazyLock::new(|| {
    plain_claim_of(
        &format!(
            "WITH first AS MATERIALIZED (
             SELECT level, block << {BLOCK_BITS} AS seq FROM (
                 (SELECT level, block FROM ready_block
                  WHERE ready_block.queue = $2 AND jobs > 0 ORDER BY level, block LIMIT 1)
                 UNION ALL
                 SELECT level, block FROM job_count_change
                 WHERE job_count_change.queue = $2 AND status = 'PENDING' AND jobs > 0
             ) AS block
             ORDER BY level, block LIMIT 1
         ),"
        ),
        "(level, seq) >= ((SELECT level FROM first), (SELECT seq FROM first))",
    )
});

fn plain_claim_of(with: &str, begins: &str) -> String {
    claim_of(&format!(
        "{with} ready AS MATERIALIZED (
             -- MATERIALIZED and joined: as `WHERE id IN (SELECT … LIMIT n)` a nested loop runs the subquery once a
             -- row and was seen to claim 1,000 jobs instead of 5.
             SELECT id, level, seq AS turn, losses FROM job
             WHERE status = 'PENDING' AND queue = $2 AND {begins} AND (losses = 0 OR NOT $4)
                 AND EXISTS (SELECT FROM worker
                             WHERE worker.id = $1 AND lost_at IS NULL AND NOT draining AND expires_at > now())
                 -- Looked at once a statement, not once a row.
                 AND NOT EXISTS (SELECT FROM queue
                                 WHERE name = $2 AND (paused OR claim_order <> 'FIFO' OR max_running IS NOT NULL))
             ORDER BY queue, level, seq
             LIMIT $3
             FOR UPDATE OF job SKIP LOCKED
         )"
    ))
}

/// Claims from a FIFO queue that may have a limit, `$5`; see [`ROOM`].
pub static FIFO_CLAIM_SQL: LazyLock<String> = LazyLock::new(|| {
    claim_of(&format!(
        "WITH {ROOM}, ready AS MATERIALIZED (
             SELECT id, level, seq AS turn, losses FROM job
             WHERE status = 'PENDING' AND queue = $2 AND (losses = 0 OR NOT $4)
             ORDER BY queue, level, seq
             LIMIT (SELECT jobs FROM room)
             FOR UPDATE OF job SKIP LOCKED
         )"
    ))
});

/// Claims from a LIFO queue that may have a limit, `$5`: level by level upwards, and downwards within each. `job_ready`
/// is read forwards for the levels and backwards for the jobs, so that one index serves both orders and a switch is
/// instant. Levels are walked one at a time, no further than needed. A test pins its plan.
pub static LIFO_CLAIM_SQL: LazyLock<String> = LazyLock::new(|| {
    claim_of(&format!(
        "WITH RECURSIVE {ROOM}, levels(level) AS (
             (SELECT level FROM job WHERE status = 'PENDING' AND queue = $2 ORDER BY queue, level LIMIT 1)
             UNION ALL
             SELECT (SELECT job.level FROM job
                     WHERE status = 'PENDING' AND queue = $2 AND job.level > levels.level
                     ORDER BY queue, job.level LIMIT 1)
             FROM levels WHERE level IS NOT NULL
         ), ready AS MATERIALIZED (
             SELECT turn.* FROM levels CROSS JOIN LATERAL (
                 SELECT id, job.level, -seq AS turn, losses FROM job
                 WHERE status = 'PENDING' AND queue = $2 AND job.level = levels.level AND (losses = 0 OR NOT $4)
                 ORDER BY queue DESC, job.level DESC, seq DESC
                 LIMIT (SELECT jobs FROM room)
                 FOR UPDATE OF job SKIP LOCKED
             ) AS turn
             LIMIT (SELECT jobs FROM room)
         )"
    ))
});

/// How many jobs may be claimed. With a limit the statement must stand in a transaction that holds the queue's row,
/// after the statement that locked it: then every claim before it is counted.
const ROOM: &str = "room AS (
    SELECT CASE WHEN NOT EXISTS (SELECT FROM worker
                                 WHERE worker.id = $1 AND lost_at IS NULL AND NOT draining AND expires_at > now())
                THEN 0
                WHEN $5::bigint IS NULL THEN $3
                ELSE GREATEST(0, LEAST($3, $5 - (SELECT count(*) FROM job WHERE status = 'RUNNING' AND queue = $2)))
           END AS jobs
)";

/// The statement that claims what `ready` gives. `|| ''`: see [`DONE_SQL`](super::finish::DONE_SQL).
fn claim_of(ready: &str) -> String {
    format!(
        "{ready}, chosen AS (
             SELECT id FROM ready
             WHERE losses = 0 OR id = (SELECT id FROM ready WHERE losses > 0 ORDER BY level, turn LIMIT 1)
         )
         UPDATE job
         SET status = 'RUNNING', version = version + 1, attempt = attempt + 1, lease_epoch = lease_epoch + 1,
             worker_id = $1, started_at = now(),
             progress_fraction = NULL, progress_message = NULL, progress_at = NULL
         FROM chosen
         WHERE job.id = chosen.id AND job.status || '' = 'PENDING'
         -- In the order of `ClaimedRow`.
         RETURNING job.id, job.lease_epoch, job.kind, job.queue, job.client_id, job.payload::text, job.attempt,
                   job.max_attempts, job.timeout_seconds, job.losses, job.results_as IS NOT NULL, job.started_at,
                   job.level, job.seq"
    )
}

impl Store {
    /// Claims the first ready jobs of a queue, in claim order. Nothing from one that is paused, and no more than its
    /// limit leaves room for.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn claim(&self, request: ClaimRequest) -> Result<Vec<ClaimedJob>> {
        let (connection, counts) = (self.claiming.clone(), self.counts.clone());
        self.detached("claim", async move {
            let claimed =
                claim(&connection, &request).await.map_err(|source| Error::database("claim", source))?;
            counts.claim(claimed.len());
            Ok(claimed)
        })
        .await
    }
}

async fn claim(connection: &KeptConnection, request: &ClaimRequest) -> sqlx::Result<Vec<ClaimedJob>> {
    let mut connection = connection.take().await?;
    let claimed = claim_on(&mut connection, request).await?;
    connection.keep();
    Ok(claimed)
}

/// Claims on this connection, which may be in a transaction.
pub(super) async fn claim_on(
    connection: &mut PgConnection,
    request: &ClaimRequest,
) -> sqlx::Result<Vec<ClaimedJob>> {
    // Most queues are FIFO and unlimited: one statement. Only when it gives nothing is it asked why.
    let sql = if request.from_ledger { &LEDGER_CLAIM_SQL } else { &PLAIN_CLAIM_SQL };
    let claimed = claim_with(sql, request)
        .fetch_all(&mut *connection)
        .await?
        .iter()
        .map(|row| in_claim_order(row, ClaimOrder::Fifo))
        .collect::<sqlx::Result<Vec<_>>>()?;
    if !claimed.is_empty() {
        return Ok(sorted(claimed));
    }
    let settings = queue::settings_of(&mut *connection, &request.queue).await?;
    if settings.paused || (settings.claim_order == ClaimOrder::Fifo && settings.max_running.is_none()) {
        return Ok(Vec::new());
    }
    let mut transaction = connection.begin().await?;
    let settings = match settings.max_running {
        Some(_) => queue::lock_settings_of(&mut transaction, &request.queue).await?,
        None => settings,
    };
    if settings.paused {
        transaction.rollback().await?;
        return Ok(Vec::new());
    }
    let sql = match settings.claim_order {
        ClaimOrder::Fifo => &FIFO_CLAIM_SQL,
        ClaimOrder::Lifo => &LIFO_CLAIM_SQL,
    };
    let rows = claim_with(sql, request)
        .bind(settings.max_running.map(i64::from))
        .fetch_all(&mut *transaction)
        .await?;
    let claimed =
        rows.iter().map(|row| in_claim_order(row, settings.claim_order)).collect::<sqlx::Result<Vec<_>>>()?;
    transaction.commit().await?;
    Ok(sorted(claimed))
}

fn claim_with<'q>(
    sql: &'static LazyLock<String>,
    request: &'q ClaimRequest,
) -> sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments> {
    sqlx::query(sql.as_str())
        .bind(request.worker_id)
        .bind(&request.queue)
        .bind(request.limit)
        .bind(request.holds_suspect)
}

/// A claim's place: level, then turn within it.
type Place = (i16, i64);

fn sorted(mut claimed: Vec<(Place, ClaimedJob)>) -> Vec<ClaimedJob> {
    claimed.sort_unstable_by_key(|(place, _)| *place);
    claimed.into_iter().map(|(_, job)| job).collect()
}

/// What a claim returns, by place: to look for each column by its name cost more than to read it.
type ClaimedRow<'r> =
    (Uuid, i32, String, String, String, &'r str, i16, i16, i32, i16, bool, DateTime<Utc>, i16, i64);

/// A row with its place: an UPDATE returns rows in no order.
fn in_claim_order(row: &PgRow, order: ClaimOrder) -> sqlx::Result<(Place, ClaimedJob)> {
    let (
        job_id,
        epoch,
        kind,
        queue,
        client_id,
        payload,
        attempt,
        max_attempts,
        timeout_seconds,
        losses,
        has_results,
        started_at,
        level,
        seq,
    ) = ClaimedRow::from_row(row)?;
    let claimed = ClaimedJob {
        lease: Lease { job_id, epoch },
        kind,
        queue,
        client_id,
        payload: serde_json::from_str(payload).map_err(|error| error.to_string()),
        attempt,
        max_attempts,
        timeout_seconds,
        suspect: losses > 0,
        has_results,
        started_at,
    };
    let turn = match order {
        ClaimOrder::Fifo => seq,
        ClaimOrder::Lifo => -seq,
    };
    Ok(((level, turn), claimed))
}
