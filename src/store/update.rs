//! Changes by a user of a job that waits: its priority, its time.

use chrono::{DateTime, Utc};
use entity::job;
use uuid::Uuid;

use super::{Store, read, sight};
use crate::error::{Error, Result};
use crate::job::viewer::Viewer;

/// What is to be changed; `None` keeps what is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobChange {
    /// 0 to 32,767; lower runs first. The job keeps its age.
    pub priority: Option<i16>,
    /// Not before; a past instant means now.
    pub run_at: Option<DateTime<Utc>>,
}

impl Store {
    /// Changes a waiting job, and answers with it. A ready job whose time is put off waits for it and becomes ready
    /// anew, at the end of its priority; what changes nothing leaves the version as it is.
    ///
    /// # Errors
    /// `NotFound`, `InvalidTransition` when it does not wait any more, `Unavailable`.
    pub async fn update_job(&self, viewer: &Viewer, id: Uuid, change: JobChange) -> Result<job::Model> {
        viewer.may_change_jobs()?;
        let (pool, viewer) = (self.pool.clone(), viewer.clone());
        let store = self.clone();
        self.detached("update a job", async move {
            let sql = format!(
                "UPDATE job
                 SET version = version + 1,
                     priority = COALESCE($3, priority), level = COALESCE($3, level),
                     run_at = CASE WHEN $4::timestamptz IS NULL OR (status = 'PENDING' AND $4 <= now()) THEN run_at
                                   ELSE GREATEST($4, now()) END,
                     status = CASE WHEN $4 IS NULL OR status = 'BLOCKED' THEN status
                                   WHEN $4 > now() THEN 'SCHEDULED'
                                   ELSE 'PENDING' END,
                     seq = CASE WHEN status = 'SCHEDULED' AND $4 <= now() THEN nextval('job_seq') ELSE seq END
                 WHERE id = $1 AND {}
                     AND status IN ('BLOCKED', 'SCHEDULED', 'PENDING')
                     AND ($3 <> priority
                          OR ($4 <> run_at AND NOT (status = 'PENDING' AND $4 <= now())))
                 RETURNING *",
                sight::sees(&viewer, 2)
            );
            let changed = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(id)
            .bind(sight::bound(&viewer))
            .bind(change.priority)
            .bind(change.run_at)
            .fetch_optional(&pool)
            .await
            .and_then(|row| row.as_ref().map(read::job).transpose())
            .map_err(|source| Error::database("update a job", source))?;
            if let Some(job) = changed {
                return Ok(job);
            }
            let job = store.job(&viewer, id).await?.ok_or_else(|| Error::no_job(id))?;
            if job.status.is_waiting() {
                Ok(job)
            } else {
                Err(Error::InvalidTransition { from: job.status, action: "updated" })
            }
        })
        .await
    }
}
