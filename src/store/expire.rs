//! Expire: jobs that no worker has started by their `startBefore` are given up. It runs in every process, without a
//! leader.
//!
//! Such a job is CANCELLED, and its error says EXPIRED. A job that was started once is never given up, whatever became
//! of that attempt; a retry by a user lifts the time.

use super::{Store, is_due};
use crate::error::{Error, Result};
use crate::job::failure::Failure;

/// Jobs that one statement gives up.
const BATCH: i64 = 500;

const IS_DUE: &str = "SELECT COALESCE((
    SELECT true FROM job
    WHERE start_before <= now() AND start_before IS NOT NULL AND lease_epoch = 0
        AND status IN ('BLOCKED', 'SCHEDULED', 'PENDING')
    ORDER BY start_before LIMIT 1), false)";

impl Store {
    /// Gives up what is due, and says how many.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn expire(&self) -> Result<u64> {
        let (pool, releaser) = (self.upkeep.clone(), self.releaser.clone());
        self.detached("expire jobs", async move {
            let failed = |source| Error::database("expire jobs", source);
            let mut expired = 0;
            while is_due(&pool, IS_DUE).await.map_err(failed)? {
                let batch = sqlx::query(
                    "WITH due AS MATERIALIZED (
                         SELECT id FROM job
                         WHERE start_before <= now() AND start_before IS NOT NULL AND lease_epoch = 0
                             AND status IN ('BLOCKED', 'SCHEDULED', 'PENDING')
                         ORDER BY start_before
                         LIMIT $1
                         -- One that is being claimed just now was in time.
                         FOR UPDATE SKIP LOCKED
                     )
                     UPDATE job
                     SET status = 'CANCELLED', version = version + 1, finished_at = now(), error = $2
                     FROM due
                     WHERE job.id = due.id AND job.status IN ('BLOCKED', 'SCHEDULED', 'PENDING')",
                )
                .bind(BATCH)
                .bind(serde_json::json!(Failure::retryable(
                    "EXPIRED",
                    "no worker started it by its startBefore"
                )))
                .execute(&pool)
                .await
                .map_err(failed)?
                .rows_affected();
                expired += batch;
                if batch < BATCH.unsigned_abs() {
                    break;
                }
            }
            if expired > 0 {
                releaser.wake();
            }
            Ok(expired)
        })
        .await
    }
}
