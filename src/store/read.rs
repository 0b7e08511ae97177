//! Reads of single jobs and of what belongs to them.

use entity::{JobStatus, attempt, job, worker};
use sea_orm::{ColumnTrait, EntityTrait, IdenStatic, Iterable, QueryFilter, QueryOrder};
use sqlx::postgres::PgRow;
use sqlx::{ColumnIndex, Decode, PgExecutor, Postgres, Row, Type};
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
        let jobs = by_ids_with(&self.pool, viewer, ids).await;
        jobs.map_err(|source| Error::database("read jobs", source))
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

/// The condition that the column is one of `ids`, which parameter `$n` is. Of a single one by equality, so that PostgreSQL keeps
/// the plan: it takes an array that it does not know for ten ids, and to plan for the one that is there seems cheaper to it
/// each time. That takes 0.4 ms, the read itself 0.03.
pub(super) fn is_one_of(column: &str, n: usize, ids: &[Uuid]) -> String {
    match ids {
        [_] => format!("{column} = (${n}::uuid[])[1]"),
        _ => format!("{column} = ANY(${n})"),
    }
}

/// `jobs_by_ids` perhaps on a connection that is already held, so that it sees what its transaction wrote.
pub(super) async fn by_ids_with(
    executor: impl PgExecutor<'_>,
    viewer: &Viewer,
    ids: &[Uuid],
) -> sqlx::Result<Vec<job::Model>> {
    let sql =
        format!("SELECT job.* FROM job WHERE {} AND {}", is_one_of("job.id", 1, ids), sight::sees(viewer, 2));
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(ids)
        .bind(sight::bound(viewer))
        .fetch_all(executor)
        .await?;
    jobs(&rows)
}

/// Those of the rows that can be read, and the ids of the others, which a newer version may have written: one of them must not
/// keep the rest from who waits for it.
pub(super) fn readable_jobs(rows: &[PgRow]) -> sqlx::Result<(Vec<job::Model>, Vec<Uuid>)> {
    let (mut jobs, mut unreadable) = (Vec::with_capacity(rows.len()), Vec::new());
    let Some(first) = rows.first() else { return Ok((jobs, unreadable)) };
    let places = Places::of_all(first)?;
    for row in rows {
        match places.job(row) {
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

/// Where the columns of `job` stand in the rows of a statement. To look for each of them by its name in each row was a
/// seventh of what a page of 50 cost the server.
pub(super) struct Places(Vec<Option<usize>>);

impl Places {
    /// Of a statement that gives all of them, perhaps with others, by a row of it.
    pub(super) fn of_all(row: &PgRow) -> sqlx::Result<Places> {
        let place = |column: job::Column| column.as_str().index(row).map(Some);
        job::Column::iter().map(place).collect::<sqlx::Result<_>>().map(Places)
    }

    /// Of a statement that gives these, in this order.
    pub(super) fn of(columns: &[job::Column]) -> Places {
        let mut places = vec![None; job::Column::iter().count()];
        for (index, column) in columns.iter().enumerate() {
            if let Some(place) = places.get_mut(*column as usize) {
                *place = Some(index);
            }
        }
        Places(places)
    }

    /// The row as a job. A column that was not read is empty, 0 or null.
    pub(super) fn job(&self, row: &PgRow) -> sqlx::Result<job::Model> {
        let row = Cells { places: self, row };
        Ok(job::Model {
            id: row.get(job::Column::Id)?,
            client_id: row.get(job::Column::ClientId)?,
            request_id: row.get(job::Column::RequestId)?,
            kind: row.get(job::Column::Kind)?,
            queue: row.get(job::Column::Queue)?,
            display_name: row.get(job::Column::DisplayName)?,
            status: row.status()?,
            version: row.get(job::Column::Version)?,
            priority: row.get(job::Column::Priority)?,
            level: row.get(job::Column::Level)?,
            seq: row.get(job::Column::Seq)?,
            payload: row.json(job::Column::Payload)?.unwrap_or_default(),
            result: row.json(job::Column::Result)?,
            error: row.json(job::Column::Error)?,
            progress_fraction: row.get(job::Column::ProgressFraction)?,
            progress_message: row.get(job::Column::ProgressMessage)?,
            progress_at: row.get(job::Column::ProgressAt)?,
            attempt: row.get(job::Column::Attempt)?,
            max_attempts: row.get(job::Column::MaxAttempts)?,
            lease_epoch: row.get(job::Column::LeaseEpoch)?,
            losses: row.get(job::Column::Losses)?,
            timeout_seconds: row.get(job::Column::TimeoutSeconds)?,
            worker_id: row.get(job::Column::WorkerId)?,
            workflow_id: row.get(job::Column::WorkflowId)?,
            created_at: row.get(job::Column::CreatedAt)?,
            run_at: row.get(job::Column::RunAt)?,
            started_at: row.get(job::Column::StartedAt)?,
            finished_at: row.get(job::Column::FinishedAt)?,
            cancel_requested_at: row.get(job::Column::CancelRequestedAt)?,
            start_before: row.get(job::Column::StartBefore)?,
            callback_url: row.get(job::Column::CallbackUrl)?,
            waits_for: row.get(job::Column::WaitsFor)?,
            has_dependents: row.get(job::Column::HasDependents)?,
            workflow_key: row.get(job::Column::WorkflowKey)?,
            results_as: row.get(job::Column::ResultsAs)?,
        })
    }
}

/// A row whose columns are found by their places.
struct Cells<'r> {
    places: &'r Places,
    row: &'r PgRow,
}

impl<'r> Cells<'r> {
    fn get<T>(&self, column: job::Column) -> sqlx::Result<T>
    where
        T: Default + Decode<'r, Postgres> + Type<Postgres>,
    {
        match self.places.0.get(column as usize) {
            Some(Some(place)) => self.row.try_get(*place),
            _ => Ok(T::default()),
        }
    }

    /// What came past all checks may be beyond what can be read, such as 1e400; it is null then, and hides neither the rest of
    /// its job nor the jobs beside it.
    fn json(&self, column: job::Column) -> sqlx::Result<Option<serde_json::Value>> {
        match self.get(column) {
            Err(sqlx::Error::ColumnDecode { .. }) => Ok(None),
            read => read,
        }
    }

    fn status(&self) -> sqlx::Result<JobStatus> {
        match self.places.0.get(job::Column::Status as usize) {
            Some(Some(place)) => status(self.row, *place),
            _ => Ok(JobStatus::Blocked),
        }
    }
}

/// A whole row of `job`.
pub(super) fn job(row: &PgRow) -> sqlx::Result<job::Model> {
    Places::of_all(row)?.job(row)
}

/// Whole rows of `job`.
pub(super) fn jobs(rows: &[PgRow]) -> sqlx::Result<Vec<job::Model>> {
    let Some(first) = rows.first() else { return Ok(Vec::new()) };
    let places = Places::of_all(first)?;
    rows.iter().map(|row| places.job(row)).collect()
}

/// A status column.
pub(super) fn status(row: &PgRow, column: impl ColumnIndex<PgRow>) -> sqlx::Result<JobStatus> {
    let name: &str = row.try_get(column)?;
    JobStatus::from_name(name)
        .ok_or_else(|| sqlx::Error::Decode(format!("unknown job status {name:?}").into()))
}
