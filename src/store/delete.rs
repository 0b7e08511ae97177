//! Delete by a user: a terminal job and all that belongs to it, unless an unfinished one depends on it. Its idempotency
//! key stays for its time.

use uuid::Uuid;

use super::dependency::IS_NEEDED;
use super::{Store, sight};
use crate::error::{Error, Result};
use crate::job::viewer::Viewer;

impl Store {
    /// Deletes a terminal job.
    ///
    /// # Errors
    /// `NotFound`, `InvalidTransition` unless it is terminal and no unfinished job depends on it, `Unavailable`.
    pub async fn delete_job(&self, viewer: &Viewer, id: Uuid) -> Result<()> {
        viewer.may_change_jobs()?;
        let (pool, viewer) = (self.pool.clone(), viewer.clone());
        let store = self.clone();
        self.detached("delete a job", async move {
            let failed = |source| Error::database("delete a job", source);
            let mut transaction = pool.begin().await.map_err(failed)?;
            let sql = format!(
                "SELECT FROM job WHERE id = $1 AND {} AND status IN ('DONE', 'ERROR', 'CANCELLED') FOR UPDATE",
                sight::sees(&viewer, 2)
            );
            let held = sqlx::query(sqlx::AssertSqlSafe(sql))
                .bind(id)
                .bind(sight::bound(&viewer))
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
            let sql = format!("DELETE FROM job WHERE id = $1 AND NOT {IS_NEEDED}");
            if held.rows_affected() > 0 {
                let deleted =
                    sqlx::query(sqlx::AssertSqlSafe(sql)).bind(id).execute(&mut *transaction).await.map_err(failed)?;
                transaction.commit().await.map_err(failed)?;
                if deleted.rows_affected() > 0 {
                    return Ok(());
                }
            }
            let job = store.job(&viewer, id).await?.ok_or_else(|| Error::no_job(id))?;
            let action = if job.status.is_terminal() {
                "deleted while a job that depends on it is not finished"
            } else {
                "deleted"
            };
            Err(Error::InvalidTransition { from: job.status, action })
        })
        .await
    }
}
