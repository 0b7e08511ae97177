//! The place of jobs in their queue, exact and in claim order, from one snapshot.

use std::collections::HashMap;

use entity::JobStatus;
use sqlx::Row;
use uuid::Uuid;

use super::{Store, read, sight};
use crate::error::{Error, Result};
use crate::job::viewer::Viewer;

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
        let sql = format!(
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
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(ids)
            .bind(sight::bound(viewer))
            .fetch_all(&self.pool)
            .await
            .map_err(failed)?;
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

fn failed(source: sqlx::Error) -> Error {
    Error::database("read queue positions", source)
}
