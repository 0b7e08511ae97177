//! Retry by a user: an ERROR or CANCELLED job becomes ready again, with its history and fresh attempts; BLOCKED while a
//! job that it depends on is not DONE.

use entity::{JobStatus, job};
use sqlx::PgPool;
use uuid::Uuid;

use super::{Store, bounded, read, sight};
use crate::error::{Error, Result};
use crate::job::viewer::Viewer;

impl Store {
    /// Makes the job PENDING at the end of its level, or of the level of `priority` where one is given; BLOCKED while it
    /// depends on a job that is not DONE.
    ///
    /// # Errors
    /// `NotFound`, `InvalidTransition` unless it is ERROR or CANCELLED, `Unavailable`.
    pub async fn retry_job(&self, viewer: &Viewer, id: Uuid, priority: Option<i16>) -> Result<job::Model> {
        viewer.may_change_jobs()?;
        let (pool, viewer) = (self.pool.clone(), viewer.clone());
        let store = self.clone();
        self.detached("retry a job", async move {
            loop {
                if let Some(job) = make_ready(&pool, &viewer, id, priority).await? {
                    store.releaser.wake();
                    return Ok(job);
                }
                let job = store.job(&viewer, id).await?.ok_or_else(|| Error::no_job(id))?;
                if !matches!(job.status, JobStatus::Error | JobStatus::Cancelled) {
                    return Err(Error::InvalidTransition { from: job.status, action: "retried" });
                }
                // It ended between the two statements, and can be retried now.
            }
        })
        .await
    }
}

/// The job as this changed it; none where it is not one to be retried.
async fn make_ready(
    pool: &PgPool,
    viewer: &Viewer,
    id: Uuid,
    priority: Option<i16>,
) -> Result<Option<job::Model>> {
    let mut transaction = pool.begin().await.map_err(|source| Error::database("retry a job", source))?;
    let sql = format!(
        "SELECT FROM job WHERE id = $1 AND {} AND status IN ('ERROR', 'CANCELLED') FOR NO KEY UPDATE",
        sight::sees(viewer, 2)
    );
    let change = async {
        let held = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(id).bind(sight::bound(viewer));
        if held.fetch_optional(&mut *transaction).await?.is_none() {
            return Ok(None);
        }
        let job = sqlx::query(AGAIN_SQL)
            .bind([id].as_slice())
            .bind(priority)
            .fetch_optional(&mut *transaction)
            .await
            .and_then(|row| row.as_ref().map(read::job).transpose())?;
        transaction.commit().await?;
        Ok(job)
    };
    bounded(change).await.map_err(|source| Error::after_sending("retry a job", source))
}

/// Makes jobs of `$1`, which are locked by a statement before, ready again; BLOCKED while one that they depend on is not
/// DONE. What is counted here must be counted after the lock: a release that meets a dependency meanwhile waits for
/// the row, and subtracts from what was counted.
pub(super) const AGAIN_SQL: &str = "
    UPDATE job
    -- One that has yet to get results is BLOCKED until it has them, even if it waits for nothing else.
    SET status = CASE WHEN again.waits_for > 0 OR again.awaits_results THEN 'BLOCKED' ELSE 'PENDING' END, version = version + 1,
        waits_for = again.waits_for, has_dependents = again.has_dependents, attempt = 0, losses = 0,
        priority = COALESCE($2, priority), level = COALESCE($2, priority), seq = again.seq,
        run_at = now(), finished_at = NULL, cancel_requested_at = NULL, start_before = NULL,
        error = NULL, progress_fraction = NULL, progress_message = NULL, progress_at = NULL
    FROM (SELECT id, nextval('job_seq') AS seq,
                 CASE WHEN waits_for IS NOT NULL
                      THEN (SELECT count(*)::integer FROM dependency WHERE child = job.id AND NOT met) END AS waits_for,
                 has_dependents OR COALESCE((SELECT true FROM dependency WHERE parent = job.id LIMIT 1), false)
                     AS has_dependents,
                 results_as IS NOT NULL AND NOT payload ? results_as AS awaits_results
          FROM (SELECT id, waits_for, has_dependents, results_as, payload FROM job WHERE id = ANY($1) ORDER BY id) AS job) AS again
    WHERE job.id = again.id
    RETURNING job.*";
