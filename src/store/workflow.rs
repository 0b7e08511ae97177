//! Workflows: written at once or not at all, and read.

use std::collections::HashMap;

use entity::workflow::{self, FailurePolicy};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use sqlx::{PgConnection, PgPool, Row};
use uuid::Uuid;

use super::dependency::{self, Parents};
use super::queue_content::StatusCounts;
use super::submit::{KEY_DAYS, Sending, Stopped, insert as insert_jobs, not_sent, sent, settle};
use super::{Store, read};
use crate::error::{Error, Result};
use crate::job::viewer::Viewer;
use crate::job::workflow::NewWorkflow;

/// Jobs of one statement.
const INSERT_AT_ONCE: usize = 1_000;
/// In the place of a kind, in the key of a workflow's request id. No kind is called so.
pub(super) const KEY_KIND: &str = "(workflow)";
/// Workflows that one statement prunes.
const PRUNE_AT_ONCE: i64 = 500;

impl Store {
    /// Writes a workflow and all its jobs, or nothing. The first one where the request id had been used.
    ///
    /// # Errors
    /// `IdempotencyConflict`, `JobGone`, `Unavailable`, `UnknownOutcome`.
    pub async fn submit_workflow(&self, new: NewWorkflow) -> Result<workflow::Model> {
        let pool = self.work.clone();
        let (id, client_id) = (new.id, new.client_id.clone());
        let written = self.detached("submit", async move { settle(|_| write(&pool, &new)).await }).await?;
        let found = self.workflows_by_ids(&Viewer::Client(client_id), &[written]).await?.pop();
        found.ok_or(Error::NotFound { what: "workflow", id: id.to_string() })
    }

    /// The workflow, unless there is none or it is another client's.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn workflow(&self, viewer: &Viewer, id: Uuid) -> Result<Option<workflow::Model>> {
        Ok(self.workflows_by_ids(viewer, &[id]).await?.pop())
    }

    /// Those of the workflows that exist and may be seen, in any order. Workers see none: theirs are the jobs.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn workflows_by_ids(&self, viewer: &Viewer, ids: &[Uuid]) -> Result<Vec<workflow::Model>> {
        let mut query = workflow::Entity::find().filter(workflow::Column::Id.is_in(ids.iter().copied()));
        match viewer {
            Viewer::Operator => {}
            Viewer::Client(own) => query = query.filter(workflow::Column::ClientId.eq(own)),
            Viewer::Worker(_) => return Ok(Vec::new()),
        }
        query.all(&self.orm).await.map_err(|source| Error::orm("read workflows", source))
    }

    /// How many jobs of each workflow are in each state.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn workflow_counts(&self, ids: &[Uuid]) -> Result<HashMap<Uuid, StatusCounts>> {
        let failed = |source| Error::database("count the jobs of workflows", source);
        let rows = sqlx::query(
            "SELECT workflow_id, status, count(*) AS jobs FROM job WHERE workflow_id = ANY($1)
             GROUP BY workflow_id, status",
        )
        .bind(ids)
        .fetch_all(&self.pool)
        .await
        .map_err(failed)?;
        let mut counts: HashMap<Uuid, StatusCounts> = HashMap::new();
        for row in &rows {
            let of = counts.entry(row.try_get("workflow_id").map_err(failed)?).or_default();
            of.add(read::status(row, "status").map_err(failed)?, row.try_get("jobs").map_err(failed)?);
        }
        Ok(counts)
    }
}

/// The id of the workflow that the request stands for now.
async fn write(pool: &PgPool, new: &NewWorkflow) -> std::result::Result<Uuid, Stopped> {
    let mut transaction = pool.begin().await.map_err(not_sent)?;
    if new.keyed {
        let first = take_key(&mut transaction, new).await.map_err(not_sent)?.map_err(Stopped::Refused)?;
        if let Some(first) = first {
            return Ok(first);
        }
    }
    let inserted = insert_row(&mut transaction, new).await.map_err(not_sent)?;
    if !inserted {
        // Sent again, as the outcome was open: it had been written.
        return Ok(new.id);
    }
    let nothing = Parents::default();
    for jobs in new.jobs.chunks(INSERT_AT_ONCE) {
        insert_jobs(&mut transaction, jobs, &nothing, Sending::First).await.map_err(not_sent)?;
    }
    let cancels = new.on_failure == FailurePolicy::Cancel;
    dependency::insert(&mut transaction, new.jobs.iter(), &nothing, cancels).await.map_err(not_sent)?;
    transaction.commit().await.map_err(sent)?;
    Ok(new.id)
}

/// Takes the key of the request id, or tells whose it is.
async fn take_key(connection: &mut PgConnection, new: &NewWorkflow) -> sqlx::Result<Result<Option<Uuid>>> {
    // Waits for a transaction that holds the same key, and goes on when that one rolls back.
    let taken = sqlx::query(
        "INSERT INTO submit_key (client_id, request_id, job_id, kind, payload_hash, expires_at)
         VALUES ($1, $2, $3, $4, $5, now() + make_interval(days => $6))
         ON CONFLICT DO NOTHING",
    )
    .bind(&new.client_id)
    .bind(&new.request_id)
    .bind(new.id)
    .bind(KEY_KIND)
    .bind(new.content_hash.as_slice())
    .bind(KEY_DAYS)
    .execute(&mut *connection)
    .await?;
    if taken.rows_affected() > 0 {
        return Ok(Ok(None));
    }
    let key = sqlx::query(
        "SELECT job_id, kind, payload_hash, EXISTS (SELECT FROM workflow WHERE id = job_id) AS is_there
         FROM submit_key WHERE client_id = $1 AND request_id = $2",
    )
    .bind(&new.client_id)
    .bind(&new.request_id)
    .fetch_optional(connection)
    .await?;
    let Some(key) = key else { return Ok(Err(Error::Unavailable { operation: "submit", source: None })) };
    let (first, kind): (Uuid, String) = (key.try_get("job_id")?, key.try_get("kind")?);
    let hash: Vec<u8> = key.try_get("payload_hash")?;
    Ok(if kind != KEY_KIND || hash != new.content_hash {
        Err(Error::IdempotencyConflict { job_id: first })
    } else if key.try_get("is_there")? {
        Ok(Some(first))
    } else {
        Err(Error::JobGone { job_id: first, kind })
    })
}

async fn insert_row(connection: &mut PgConnection, new: &NewWorkflow) -> sqlx::Result<bool> {
    let inserted = sqlx::query(
        "INSERT INTO workflow (id, client_id, request_id, name, on_failure, max_payload_bytes, callback_url)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT DO NOTHING",
    )
    .bind(new.id)
    .bind(&new.client_id)
    .bind(&new.request_id)
    .bind(&new.name)
    .bind(new.on_failure.as_str())
    .bind(i32::try_from(new.max_payload_bytes).unwrap_or(i32::MAX))
    .bind(&new.callback_url)
    .execute(connection)
    .await?;
    Ok(inserted.rows_affected() > 0)
}

/// Takes finished workflows below the id `before` that have no jobs any more and nothing left to tell.
pub(super) async fn prune(pool: &PgPool, before: Uuid) -> sqlx::Result<()> {
    let mut after = Uuid::nil();
    loop {
        let rows = sqlx::query(
            "WITH old AS MATERIALIZED (
                 SELECT id FROM workflow
                 WHERE id > $1 AND id < $2 AND status <> 'RUNNING'
                 ORDER BY id
                 LIMIT $3
             ), gone AS (
                 DELETE FROM workflow USING old
                 WHERE workflow.id = old.id AND workflow.status <> 'RUNNING'
                     AND NOT COALESCE((SELECT true FROM job WHERE workflow_id = old.id LIMIT 1), false)
                     AND NOT COALESCE((SELECT true FROM workflow_callback AS callback
                                       WHERE callback.workflow_id = old.id AND callback.status = 'WAITING'), false)
             )
             SELECT id FROM old ORDER BY id",
        )
        .bind(after)
        .bind(before)
        .bind(PRUNE_AT_ONCE)
        .fetch_all(pool)
        .await?;
        match rows.last() {
            Some(row) if i64::try_from(rows.len()).is_ok_and(|rows| rows == PRUNE_AT_ONCE) => {
                after = row.try_get("id")?;
            }
            _ => return Ok(()),
        }
    }
}
