//! Deliveries of the ends of workflows, as [`callback`](super::callback) has them of jobs.

use entity::workflow;
use sqlx::Row;
use uuid::Uuid;

use super::Store;
use super::callback::{Delivery, DeliveryOutcome, TAKEN_SECONDS, delivery_of, record};
use super::queue_content::StatusCounts;
use crate::error::{Error, Result};
use crate::job::viewer::Viewer;

/// A delivery that this process has taken.
#[derive(Clone, Debug)]
pub struct DueWorkflowDelivery {
    /// The workflow as it ended.
    pub workflow: workflow::Model,
    /// Its jobs by status.
    pub counts: StatusCounts,
    /// The number of its end.
    pub event: i32,
    /// Which attempt this is, from 1.
    pub attempt: i32,
}

impl Store {
    /// Takes at most `limit` deliveries that are due.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn take_due_workflow_callbacks(&self, limit: i64) -> Result<Vec<DueWorkflowDelivery>> {
        let pool = self.upkeep.clone();
        let rows = self
            .detached("take callbacks", async move {
                sqlx::query(
                    "WITH due AS MATERIALIZED (
                         SELECT workflow_id FROM workflow_callback
                         WHERE status = 'WAITING' AND next_at IS NOT NULL AND next_at <= now()
                         ORDER BY next_at
                         LIMIT $1
                         FOR UPDATE SKIP LOCKED
                     )
                     UPDATE workflow_callback AS callback
                     SET attempts = attempts + 1, next_at = now() + make_interval(secs => $2)
                     FROM due WHERE callback.workflow_id = due.workflow_id
                     RETURNING callback.workflow_id, attempts, event",
                )
                .bind(limit)
                .bind(TAKEN_SECONDS)
                .fetch_all(&pool)
                .await
                .map_err(|source| Error::database("take callbacks", source))
            })
            .await?;
        let mut due = Vec::with_capacity(rows.len());
        for row in &rows {
            let failed = |source| Error::database("take callbacks", source);
            let id: Uuid = row.try_get("workflow_id").map_err(failed)?;
            let Some(workflow) = self.workflow(&Viewer::Operator, id).await? else { continue };
            due.push(DueWorkflowDelivery {
                workflow,
                counts: self.workflow_counts(&[id]).await?.remove(&id).unwrap_or_default(),
                event: row.try_get("event").map_err(failed)?,
                attempt: row.try_get("attempts").map_err(failed)?,
            });
        }
        Ok(due)
    }

    /// Records what became of an attempt.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn record_workflow_delivery(
        &self,
        id: Uuid,
        (event, attempt): (i32, i32),
        outcome: DeliveryOutcome,
    ) -> Result<()> {
        self.counts.delivery(&outcome);
        let pool = self.pool.clone();
        self.detached("record a delivery", async move {
            record(&pool, ("workflow_callback", "workflow_id"), id, (event, attempt), outcome).await
        })
        .await
    }

    /// The delivery of a workflow that has a callback.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn workflow_delivery(&self, viewer: &Viewer, id: Uuid) -> Result<Delivery> {
        if self.workflow(viewer, id).await?.is_none() {
            return Ok(Delivery::default());
        }
        let row = sqlx::query(
            "SELECT status, attempts, last_error, delivered_at FROM workflow_callback WHERE workflow_id = $1",
        )
        .bind(id)
        .fetch_optional(&self.pool)
        .await;
        row.and_then(|row| row.as_ref().map_or_else(|| Ok(Delivery::default()), delivery_of))
            .map_err(|source| Error::database("read a delivery", source))
    }
}
