//! The place of jobs in their queue, exact and in claim order, from one snapshot.
//!
//! It is read from the ledger: whole levels and whole blocks before the job, what is not folded into them yet, and a count
//! inside the job's own block. With a million pending jobs that is 0.5 ms where a count takes 40 to 70. Of very many jobs
//! at once the queue's index is read once instead.

use std::collections::HashMap;

use entity::JobStatus;
use sqlx::Row;
use uuid::Uuid;

use super::ledger::BLOCK_BITS;
use super::{Store, read, sight};
use crate::error::{Error, Result};
use crate::job::viewer::Viewer;

/// From more jobs than this a count of all that is pending is the cheaper: at a million, 200 times 0.3 ms are as much.
const FROM_LEDGER: usize = 200;

/// Where a job stands in its queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The queue.
    pub queue: String,
    /// Status in the same snapshot.
    pub status: JobStatus,
    /// Pending jobs that will be claimed before this one; 0 unless it is pending.
    pub pending_ahead: i64,
    /// Running jobs of the queue; 0 unless the job is pending.
    pub running_ahead: i64,
    /// Pending and running jobs of the queue; 0 when the job is terminal.
    pub total_active: i64,
}

impl Position {
    /// 1 for the next job to be claimed, 0 while running, none otherwise.
    pub fn position(&self) -> Option<i64> {
        match self.status {
            JobStatus::Pending => Some(self.pending_ahead + 1),
            JobStatus::Running => Some(0),
            _ => None,
        }
    }
}

impl Store {
    /// The positions of those of the jobs that exist and may be seen.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn positions(&self, viewer: &Viewer, ids: &[Uuid]) -> Result<HashMap<Uuid, Position>> {
        let sql = if ids.len() <= FROM_LEDGER { ledger_sql(viewer, ids) } else { count_sql(viewer) };
        let mut connection = self.placing.take().await.map_err(failed)?;
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(ids)
            .bind(sight::bound(viewer))
            .fetch_all(&mut *connection)
            .await
            .map_err(failed)?;
        connection.keep();
        rows.iter()
            .map(|row| {
                let position = Position {
                    queue: row.try_get("queue")?,
                    status: read::status(row, "status")?,
                    pending_ahead: row.try_get("pending_ahead")?,
                    running_ahead: row.try_get("running_ahead")?,
                    total_active: row.try_get("total_active")?,
                };
                Ok((row.try_get("id")?, position))
            })
            .collect::<sqlx::Result<_>>()
            .map_err(failed)
    }
}

/// The positions of the jobs `ids`, which `$1` is, each read from the ledger; a test pins its plan.
pub fn ledger_sql(viewer: &Viewer, ids: &[Uuid]) -> String {
    format!(
        "WITH wanted AS MATERIALIZED (
             SELECT job.id, status, job.queue, level, seq, seq >> {BLOCK_BITS} AS block,
                    COALESCE(claim_order = 'LIFO', false) AS lifo
             FROM job LEFT JOIN queue ON queue.name = job.queue
             WHERE {} AND {}
         ), change AS MATERIALIZED (
             SELECT queue, status, level, block, sum(jobs) AS jobs FROM job_count_change
             WHERE status IN ('PENDING', 'RUNNING') AND queue IN (SELECT queue FROM wanted)
             GROUP BY queue, status, level, block
         )
         SELECT wanted.id, wanted.queue, wanted.status,
                CASE WHEN wanted.status = 'PENDING'
                     THEN COALESCE(counted.levels_before, 0) + COALESCE(changed.before, 0) + inside.before
                     ELSE 0 END::bigint AS pending_ahead,
                CASE WHEN wanted.status = 'PENDING' THEN COALESCE(counted.running, 0) + COALESCE(changed.running, 0)
                     ELSE 0 END::bigint AS running_ahead,
                CASE WHEN wanted.status IN ('DONE', 'ERROR', 'CANCELLED') THEN 0
                     ELSE COALESCE(counted.active, 0) + COALESCE(changed.active, 0) END::bigint AS total_active
         FROM wanted
         CROSS JOIN LATERAL (
             SELECT sum(jobs) AS active, sum(jobs) FILTER (WHERE status = 'RUNNING') AS running,
                    sum(jobs) FILTER (WHERE status = 'PENDING' AND level < wanted.level) AS levels_before
             FROM job_count
             WHERE job_count.queue = wanted.queue AND status IN ('PENDING', 'RUNNING')
         ) AS counted
         CROSS JOIN LATERAL (
             SELECT sum(jobs) AS active, sum(jobs) FILTER (WHERE status = 'RUNNING') AS running,
                    sum(jobs) FILTER (WHERE status = 'PENDING' AND (level < wanted.level OR level = wanted.level
                        AND CASE WHEN lifo THEN change.block > wanted.block ELSE change.block < wanted.block END))
                        AS before
             FROM change
             WHERE change.queue = wanted.queue
         ) AS changed
         CROSS JOIN LATERAL (
             -- Only of a pending job, and only in its queue's order: a branch that is not taken reads nothing.
             SELECT CASE WHEN wanted.status <> 'PENDING' THEN 0 WHEN lifo THEN
                 (SELECT COALESCE(sum(jobs), 0) FROM ready_block AS b
                  WHERE b.queue = wanted.queue AND b.level = wanted.level AND b.block > wanted.block)
                 + (SELECT count(*) FROM job
                    WHERE job.status = 'PENDING' AND job.queue = wanted.queue AND job.level = wanted.level
                        AND job.seq > wanted.seq AND job.seq < (wanted.block + 1) << {BLOCK_BITS})
             ELSE
                 (SELECT COALESCE(sum(jobs), 0) FROM ready_block AS b
                  WHERE b.queue = wanted.queue AND b.level = wanted.level AND b.block < wanted.block)
                 + (SELECT count(*) FROM job
                    WHERE job.status = 'PENDING' AND job.queue = wanted.queue AND job.level = wanted.level
                        AND job.seq < wanted.seq AND job.seq >= wanted.block << {BLOCK_BITS})
             END AS before
         ) AS inside",
        read::is_one_of("job.id", 1, ids),
        sight::sees(viewer, 2)
    )
}

/// The same by counting, once for all of them.
fn count_sql(viewer: &Viewer) -> String {
    format!(
        "WITH wanted AS MATERIALIZED (
             SELECT job.id, status, job.queue, level, seq, COALESCE(claim_order = 'LIFO', false) AS lifo,
                    CASE claim_order WHEN 'LIFO' THEN -seq ELSE seq END AS turn
             FROM job LEFT JOIN queue ON queue.name = job.queue
             WHERE job.id = ANY($1) AND {}
         ), step AS (
             -- Between one wanted job and the next of its queue, so that the index is read once per queue
             -- however many are wanted.
             SELECT id, queue, level, seq, turn, lifo,
                    COALESCE(lag(level) OVER claim_order, -1::smallint) AS level_before,
                    COALESCE(lag(seq) OVER claim_order, 0) AS seq_before
             FROM wanted WHERE status = 'PENDING'
             WINDOW claim_order AS (PARTITION BY queue ORDER BY level, turn)
         ), counted AS MATERIALIZED (
             -- Here and below: inlined, it was seen to be counted anew for each wanted job of a join.
             SELECT step.*, CASE WHEN NOT lifo THEN
                    (SELECT count(*) FROM job
                     WHERE job.queue = step.queue AND job.status = 'PENDING'
                         AND (job.level, job.seq) < (step.level, step.seq)
                         AND (job.level, job.seq) >= (level_before, seq_before))
                 WHEN level = level_before THEN
                    (SELECT count(*) FROM job
                     WHERE job.queue = step.queue AND job.status = 'PENDING' AND job.level = step.level
                         AND job.seq > step.seq AND job.seq <= seq_before)
                 ELSE
                    -- What is left of the level before, the levels between, and the start of its own.
                    (SELECT count(*) FROM job
                     WHERE job.queue = step.queue AND job.status = 'PENDING' AND job.level = level_before
                         AND job.seq <= seq_before)
                    + (SELECT count(*) FROM job
                       WHERE job.queue = step.queue AND job.status = 'PENDING'
                           AND job.level > level_before AND job.level < step.level)
                    + (SELECT count(*) FROM job
                       WHERE job.queue = step.queue AND job.status = 'PENDING' AND job.level = step.level
                           AND job.seq > step.seq)
                 END AS between
             FROM step
         ), ahead AS MATERIALIZED (
             SELECT id, sum(between) OVER (PARTITION BY queue ORDER BY level, turn)::bigint AS pending_ahead
             FROM counted
         ), active AS MATERIALIZED (
             SELECT queue,
                    (SELECT count(*) FROM job WHERE job.queue = queues.queue AND job.status = 'PENDING') AS pending,
                    (SELECT count(*) FROM job WHERE job.queue = queues.queue AND job.status = 'RUNNING') AS running
             FROM (SELECT DISTINCT queue FROM wanted
                   WHERE status NOT IN ('DONE', 'ERROR', 'CANCELLED')) AS queues
         )
         SELECT wanted.id, wanted.queue, wanted.status, COALESCE(pending_ahead, 0) AS pending_ahead,
                CASE WHEN wanted.status = 'PENDING' THEN active.running ELSE 0 END AS running_ahead,
                CASE WHEN wanted.status IN ('DONE', 'ERROR', 'CANCELLED') THEN 0
                     ELSE active.pending + active.running END AS total_active
         FROM wanted LEFT JOIN ahead USING (id) LEFT JOIN active USING (queue)",
        sight::sees(viewer, 2)
    )
}

fn failed(source: sqlx::Error) -> Error {
    Error::database("read queue positions", source)
}
