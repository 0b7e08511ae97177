//! Reads of single jobs and of what belongs to them.

use entity::{JobStatus, attempt, job, worker};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::{Store, sight};
use crate::error::{Error, Result};
use crate::job::viewer::Viewer;

impl Store {
    /// The job, unless there is none or it is another client's.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn job(&self, viewer: &Viewer, id: Uuid) -> Result<Option<job::Model>> {
        Ok(self.jobs_by_ids(viewer, &[id]).await?.pop())
    }

    /// Those of the jobs that exist and may be seen, in any order, from one snapshot.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn jobs_by_ids(&self, viewer: &Viewer, ids: &[Uuid]) -> Result<Vec<job::Model>> {
        let failed = |source| Error::database("read jobs", source);
        let mut connection = self.pool.acquire().await.map_err(failed)?;
        by_ids_with(&mut connection, viewer, ids).await.map_err(failed)
    }

    /// The job that a client submitted under its own request id, or under the one that the server made.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn job_by_request(
        &self,
        viewer: &Viewer,
        client_id: &str,
        request_id: &str,
    ) -> Result<Option<job::Model>> {
        let sql = format!(
            "SELECT job.* FROM job
             WHERE id = COALESCE((SELECT job_id FROM submit_key WHERE client_id = $1 AND request_id = $2), $3)
                 AND client_id = $1 AND request_id = $2 AND {}",
            sight::sees(viewer, 4)
        );
        let row = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(client_id)
            .bind(request_id)
            .bind(Uuid::parse_str(request_id).ok())
            .bind(sight::bound(viewer))
            .fetch_optional(&self.pool)
            .await
            .and_then(|row| row.as_ref().map(job).transpose());
        row.map_err(|source| Error::database("read a job by its request", source))
    }

    /// The attempts of these jobs that did not end well, oldest first.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn attempts(&self, viewer: &Viewer, job_ids: &[Uuid]) -> Result<Vec<attempt::Model>> {
        let mut query = attempt::Entity::find().filter(attempt::Column::JobId.is_in(job_ids.iter().copied()));
        if let Some(visible) = sight::visible_of(viewer, job_ids) {
            query = query.filter(attempt::Column::JobId.in_subquery(visible));
        }
        query
            .order_by_asc(attempt::Column::JobId)
            .order_by_asc(attempt::Column::LeaseEpoch)
            .all(&self.orm)
            .await
            .map_err(|source| Error::orm("read attempts", source))
    }

    /// All registered workers, oldest first.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn workers(&self) -> Result<Vec<worker::Model>> {
        worker::Entity::find()
            .order_by_asc(worker::Column::Id)
            .all(&self.orm)
            .await
            .map_err(|source| Error::orm("read workers", source))
    }
}

/// `jobs_by_ids` on a connection that is already held, so that it sees what its transaction wrote.
pub(super) async fn by_ids_with(
    connection: &mut PgConnection,
    viewer: &Viewer,
    ids: &[Uuid],
) -> sqlx::Result<Vec<job::Model>> {
    let sql = format!("SELECT job.* FROM job WHERE id = ANY($1) AND {}", sight::sees(viewer, 2));
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(ids)
        .bind(sight::bound(viewer))
        .fetch_all(connection)
        .await?;
    rows.iter().map(job).collect()
}

/// Those of the rows that can be read, and the ids of the others, which a newer version may have written: one of them must not
/// keep the rest from who waits for it.
pub(super) fn readable_jobs(rows: &[PgRow]) -> sqlx::Result<(Vec<job::Model>, Vec<Uuid>)> {
    let (mut jobs, mut unreadable) = (Vec::with_capacity(rows.len()), Vec::new());
    for row in rows {
        match job(row) {
            Ok(job) => jobs.push(job),
            Err(error) => {
                let id: Uuid = row.try_get("id")?;
                tracing::debug!(job.id = %id, error.cause = %error, "a job cannot be read by this version");
                unreadable.push(id);
            }
        }
    }
    Ok((jobs, unreadable))
}

/// A JSON column. What came past all checks may be beyond what can be read, such as 1e400; it is null then, and hides neither
/// the rest of its job nor the jobs beside it.
fn json(row: &PgRow, column: &str) -> sqlx::Result<Option<serde_json::Value>> {
    match row.try_get(column) {
        Err(sqlx::Error::ColumnDecode { .. }) => Ok(None),
        read => read,
    }
}

/// A whole row of `job`.
pub(super) fn job(row: &PgRow) -> sqlx::Result<job::Model> {
    Ok(job::Model {
        id: row.try_get("id")?,
        client_id: row.try_get("client_id")?,
        request_id: row.try_get("request_id")?,
        kind: row.try_get("kind")?,
        queue: row.try_get("queue")?,
        display_name: row.try_get("display_name")?,
        status: status(row, "status")?,
        version: row.try_get("version")?,
        priority: row.try_get("priority")?,
        level: row.try_get("level")?,
        seq: row.try_get("seq")?,
        payload: json(row, "payload")?.unwrap_or_default(),
        result: json(row, "result")?,
        error: json(row, "error")?,
        progress_fraction: row.try_get("progress_fraction")?,
        progress_message: row.try_get("progress_message")?,
        progress_at: row.try_get("progress_at")?,
        attempt: row.try_get("attempt")?,
        max_attempts: row.try_get("max_attempts")?,
        lease_epoch: row.try_get("lease_epoch")?,
        losses: row.try_get("losses")?,
        timeout_seconds: row.try_get("timeout_seconds")?,
        worker_id: row.try_get("worker_id")?,
        workflow_id: row.try_get("workflow_id")?,
        created_at: row.try_get("created_at")?,
        run_at: row.try_get("run_at")?,
        started_at: row.try_get("started_at")?,
        finished_at: row.try_get("finished_at")?,
        cancel_requested_at: row.try_get("cancel_requested_at")?,
        start_before: row.try_get("start_before")?,
        callback_url: row.try_get("callback_url")?,
        waits_for: row.try_get("waits_for")?,
        has_dependents: row.try_get("has_dependents")?,
        workflow_key: row.try_get("workflow_key")?,
        results_as: row.try_get("results_as")?,
    })
}

/// A status column.
pub(super) fn status(row: &PgRow, column: &str) -> sqlx::Result<JobStatus> {
    let name: &str = row.try_get(column)?;
    JobStatus::from_name(name)
        .ok_or_else(|| sqlx::Error::Decode(format!("unknown job status {name:?}").into()))
}
