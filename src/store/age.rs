//! Ageing: a job that has been ready for too long goes to the front level of its queue, so that a stream of more urgent
//! ones cannot hold it back for ever. It runs in every process, for the queues that are configured so.
//!
//! Claim and position order by the level, so both follow at once. Of each level the first jobs by age are looked at, as
//! the others became ready later.

use super::Store;
use crate::error::{Error, Result};

/// Jobs of a level that one statement looks at.
const BATCH: i64 = 500;

impl Store {
    /// Brings the pending jobs of the queue that have been ready for longer than this to level 0, and says how many.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn age_queue(&self, queue: &str, seconds: i32) -> Result<u64> {
        let (pool, queue) = (self.pool.clone(), queue.to_owned());
        self.detached("age a queue", async move {
            sqlx::query(
                "WITH RECURSIVE levels(level) AS (
                     (SELECT level FROM job WHERE status = 'PENDING' AND queue = $1 AND level > 0
                      ORDER BY queue, level LIMIT 1)
                     UNION ALL
                     SELECT (SELECT job.level FROM job
                             WHERE status = 'PENDING' AND queue = $1 AND job.level > levels.level
                             ORDER BY queue, job.level LIMIT 1)
                     FROM levels WHERE level IS NOT NULL
                 ), oldest AS MATERIALIZED (
                     SELECT first.id FROM levels CROSS JOIN LATERAL (
                         SELECT id, run_at FROM job
                         WHERE status = 'PENDING' AND queue = $1 AND job.level = levels.level
                         ORDER BY queue, job.level, seq
                         LIMIT $3
                     ) AS first
                     WHERE first.run_at < now() - make_interval(secs => $2)
                 ), held AS MATERIALIZED (
                     -- As an array, so that they are found by their ids: joined, they were taken for so many that all
                     -- 600,000 that were ready were read.
                     SELECT job.id FROM job
                     WHERE job.id = ANY (ARRAY(SELECT id FROM oldest)) AND job.status = 'PENDING'
                     ORDER BY job.id
                     -- One that is being claimed needs no help.
                     FOR UPDATE OF job SKIP LOCKED
                 )
                 UPDATE job SET level = 0, version = version + 1
                 FROM held
                 WHERE job.id = held.id AND job.status = 'PENDING'",
            )
            .bind(queue)
            .bind(f64::from(seconds))
            .bind(BATCH)
            .execute(&pool)
            .await
            .map(|done| done.rows_affected())
            .map_err(|source| Error::database("age a queue", source))
        })
        .await
    }
}
