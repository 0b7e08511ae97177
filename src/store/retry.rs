//! Retry by a user: an ERROR or CANCELLED job becomes ready again, with its history and fresh attempts.

use entity::{JobStatus, job};
use sqlx::PgPool;
use uuid::Uuid;

use super::{Store, bounded, read, sight};
use crate::error::{Error, Result};
use crate::job::viewer::Viewer;

impl Store {
    /// Makes the job PENDING at the end of its level, or of the level of `priority` where one is given.
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
    let mut connection = pool.acquire().await.map_err(|source| Error::database("retry a job", source))?;
    let sql = format!(
        "UPDATE job
                 SET status = 'PENDING', version = version + 1, attempt = 0, losses = 0,
                     priority = COALESCE($3, priority), level = COALESCE($3, priority),
                     seq = nextval('job_seq'), run_at = now(), finished_at = NULL, cancel_requested_at = NULL,
                     start_before = NULL,
                     error = NULL, progress_fraction = NULL, progress_message = NULL, progress_at = NULL
                 WHERE id = $1 AND {} AND status IN ('ERROR', 'CANCELLED')
                 RETURNING *",
        sight::sees(viewer, 2)
    );
    let changed = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(id)
        .bind(sight::bound(viewer))
        .bind(priority)
        .fetch_optional(&mut *connection);
    bounded(changed)
        .await
        .and_then(|row| row.as_ref().map(read::job).transpose())
        .map_err(|source| Error::after_sending("retry a job", source))
}
