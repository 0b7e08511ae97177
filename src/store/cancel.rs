//! Cancel: a waiting job at once, a running one by asking its worker.

use entity::job;
use sqlx::PgPool;
use uuid::Uuid;

use super::{Store, bounded, read, sight};
use crate::error::{Error, Result};
use crate::job::viewer::Viewer;

impl Store {
    /// Cancels a waiting job, asks a running one to stop, leaves a terminal one as it is. Answers with the job.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable`.
    pub async fn cancel_job(&self, viewer: &Viewer, id: Uuid) -> Result<job::Model> {
        viewer.may_change_jobs()?;
        let (pool, viewer) = (self.pool.clone(), viewer.clone());
        let store = self.clone();
        self.detached("cancel a job", async move {
            loop {
                if let Some(job) = ask_or_cancel(&pool, &viewer, id).await? {
                    store.releaser.wake();
                    return Ok(job);
                }
                let job = store.job(&viewer, id).await?.ok_or_else(|| Error::no_job(id))?;
                if job.status.is_terminal() || job.cancel_requested_at.is_some() {
                    return Ok(job);
                }
                // It was retried between the two statements, and can be cancelled now.
            }
        })
        .await
    }
}

/// The job as this changed it; none where there was nothing to change.
async fn ask_or_cancel(pool: &PgPool, viewer: &Viewer, id: Uuid) -> Result<Option<job::Model>> {
    let mut connection = pool.acquire().await.map_err(|source| Error::database("cancel a job", source))?;
    let sql = format!(
                // A claim that commits while this statement waits for the row is seen: the conditions are looked
                // at once more on the row's newest version.
                "WITH changed AS (
                     UPDATE job
                     SET version = version + 1,
                         cancel_requested_at = now(),
                         status = CASE status WHEN 'RUNNING' THEN 'RUNNING' ELSE 'CANCELLED' END,
                         finished_at = CASE status WHEN 'RUNNING' THEN NULL ELSE now() END
                     WHERE id = $1 AND {}
                         AND (status IN ('BLOCKED', 'SCHEDULED', 'PENDING')
                              OR (status = 'RUNNING' AND cancel_requested_at IS NULL))
                     RETURNING *
                 )
                 -- Tells the worker before its next heartbeat would.
                 SELECT changed.*, CASE status WHEN 'RUNNING' THEN pg_notify('jobql_cancel', id::text) END FROM changed",
                sight::sees(viewer, 2)
            );
    let changed = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(id)
        .bind(sight::bound(viewer))
        .fetch_optional(&mut *connection);
    bounded(changed)
        .await
        .and_then(|row| row.as_ref().map(read::job).transpose())
        .map_err(|source| Error::after_sending("cancel a job", source))
}
