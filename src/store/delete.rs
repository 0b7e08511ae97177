//! Delete by a user: a terminal job and all that belongs to it. Its idempotency key stays for its time.

use uuid::Uuid;

use super::{Store, sight};
use crate::error::{Error, Result};
use crate::job::viewer::Viewer;

impl Store {
    /// Deletes a terminal job.
    ///
    /// # Errors
    /// `NotFound`, `InvalidTransition` unless it is terminal, `Unavailable`.
    pub async fn delete_job(&self, viewer: &Viewer, id: Uuid) -> Result<()> {
        viewer.may_change_jobs()?;
        let (pool, viewer) = (self.pool.clone(), viewer.clone());
        let store = self.clone();
        self.detached("delete a job", async move {
            let sql = format!(
                "DELETE FROM job WHERE id = $1 AND {} AND status IN ('DONE', 'ERROR', 'CANCELLED')",
                sight::sees(&viewer, 2)
            );
            let deleted = sqlx::query(sqlx::AssertSqlSafe(sql))
                .bind(id)
                .bind(sight::bound(&viewer))
                .execute(&pool)
                .await
                .map_err(|source| Error::database("delete a job", source))?;
            if deleted.rows_affected() > 0 {
                return Ok(());
            }
            let job = store.job(&viewer, id).await?.ok_or_else(|| Error::no_job(id))?;
            Err(Error::InvalidTransition { from: job.status, action: "deleted" })
        })
        .await
    }
}
