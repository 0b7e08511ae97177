//! Promote: SCHEDULED jobs whose time has come become PENDING. It runs in every process, without a leader.

use super::{Store, is_due};
use crate::error::{Error, Result};

/// Jobs that one statement promotes.
const BATCH: i64 = 1_000;

const IS_DUE: &str = "SELECT COALESCE((
    SELECT true FROM job WHERE status = 'SCHEDULED' AND run_at <= now() ORDER BY run_at LIMIT 1), false)";

impl Store {
    /// Promotes what is due, in the order of its time, and says how many.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn promote(&self) -> Result<u64> {
        let pool = self.upkeep.clone();
        self.detached("promote", async move {
            let failed = |source| Error::database("promote", source);
            let mut promoted = 0;
            while is_due(&pool, IS_DUE).await.map_err(failed)? {
                let batch = sqlx::query(
                    "WITH due AS MATERIALIZED (
                         SELECT id, run_at FROM job
                         WHERE status = 'SCHEDULED' AND run_at <= now()
                         ORDER BY run_at
                         LIMIT $1
                         FOR UPDATE SKIP LOCKED
                     ), numbered AS (
                         SELECT id, nextval('job_seq') AS seq FROM (SELECT id FROM due ORDER BY run_at, id) AS sorted
                     )
                     -- They are SCHEDULED and stay so, being locked; named again here, the status has the planner
                     -- join all that wait for their time.
                     UPDATE job SET status = 'PENDING', version = version + 1, seq = numbered.seq
                     FROM numbered
                     WHERE job.id = numbered.id",
                )
                .bind(BATCH)
                .execute(&pool)
                .await
                .map_err(failed)?
                .rows_affected();
                promoted += batch;
                if batch < BATCH.unsigned_abs() {
                    break;
                }
            }
            Ok(promoted)
        })
        .await
    }
}
