//! Deliveries of callbacks: taken by any process, one at a time, and recorded.
//!
//! Whoever takes a delivery puts it off by [`TAKEN_SECONDS`] and counts the attempt in the same statement. A process that
//! dies between the receiver's answer and the record leaves it to be taken again then: a message may come twice, under
//! the same id, and is never lost. What is recorded names the attempt, so a late record of an earlier one, or of an end
//! that a retry has left since, changes nothing.

use std::time::Duration;

use chrono::{DateTime, Utc};
use entity::job;
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row};
use uuid::Uuid;

use super::{Store, read, sight};
use crate::error::{Error, Result};
use crate::job::viewer::Viewer;

/// How long a process has for one attempt.
pub(super) const TAKEN_SECONDS: f64 = 60.0;

/// How far a delivery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryStatus {
    /// It waits for the job's end, or for its next attempt.
    Waiting,
    /// The receiver has it.
    Delivered,
    /// It was given up.
    Failed,
}

/// A delivery as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// How far it is.
    pub status: DeliveryStatus,
    /// Attempts so far.
    pub attempts: i32,
    /// Why the last one failed.
    pub last_error: Option<String>,
    /// When the receiver got it.
    pub delivered_at: Option<DateTime<Utc>>,
}

impl Default for Delivery {
    fn default() -> Delivery {
        Delivery { status: DeliveryStatus::Waiting, attempts: 0, last_error: None, delivered_at: None }
    }
}

/// A delivery that this process has taken.
#[derive(Clone, Debug)]
pub struct DueDelivery {
    /// The job as it ended.
    pub job: job::Model,
    /// Its version then.
    pub event: i32,
    /// Which attempt this is, from 1.
    pub attempt: i32,
}

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// The receiver has it.
    Delivered,
    /// To be tried again after this time, or given up.
    Failed {
        /// Why.
        error: String,
        /// None gives up.
        retry_after: Option<Duration>,
    },
}

impl Store {
    /// Takes at most `limit` deliveries that are due.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn take_due_callbacks(&self, limit: i64) -> Result<Vec<DueDelivery>> {
        let pool = self.upkeep.clone();
        self.detached("take callbacks", async move {
            let failed = |source| Error::database("take callbacks", source);
            let rows = sqlx::query(
                "WITH due AS MATERIALIZED (
                     SELECT job_id FROM callback_delivery
                     WHERE status = 'WAITING' AND next_at IS NOT NULL AND next_at <= now()
                     ORDER BY next_at
                     LIMIT $1
                     FOR UPDATE SKIP LOCKED
                 ), taken AS (
                     UPDATE callback_delivery
                     SET attempts = attempts + 1, next_at = now() + make_interval(secs => $2)
                     FROM due WHERE callback_delivery.job_id = due.job_id
                     RETURNING callback_delivery.job_id, attempts AS delivery_attempt, event
                 )
                 SELECT job.*, taken.delivery_attempt, taken.event FROM taken JOIN job ON job.id = taken.job_id",
            )
            .bind(limit)
            .bind(TAKEN_SECONDS)
            .fetch_all(&pool)
            .await
            .map_err(failed)?;
            rows.iter()
                .map(|row| {
                    Ok(DueDelivery {
                        job: read::job(row)?,
                        event: row.try_get("event")?,
                        attempt: row.try_get("delivery_attempt")?,
                    })
                })
                .collect::<sqlx::Result<_>>()
                .map_err(failed)
        })
        .await
    }

    /// Records what became of an attempt.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn record_delivery(
        &self,
        job_id: Uuid,
        (event, attempt): (i32, i32),
        outcome: DeliveryOutcome,
    ) -> Result<()> {
        self.counts.delivery(&outcome);
        let pool = self.pool.clone();
        self.detached("record a delivery", async move {
            record(&pool, ("callback_delivery", "job_id"), job_id, (event, attempt), outcome).await
        })
        .await
    }

    /// The delivery of a job that has a callback.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn delivery(&self, viewer: &Viewer, job_id: Uuid) -> Result<Delivery> {
        let failed = |source| Error::database("read a delivery", source);
        let sql = format!(
            "SELECT d.status, attempts, last_error, delivered_at
             FROM callback_delivery AS d JOIN job ON job.id = d.job_id
             WHERE d.job_id = $1 AND {}",
            sight::sees(viewer, 2)
        );
        let row = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(job_id)
            .bind(sight::bound(viewer))
            .fetch_optional(&self.pool)
            .await
            .map_err(failed)?;
        row.as_ref().map_or_else(|| Ok(Delivery::default()), delivery_of).map_err(failed)
    }

    /// Makes the delivery of a terminal job due once more, with its whole schedule.
    ///
    /// # Errors
    /// `NotFound` also where the job has no callback, `InvalidTransition` unless the job is terminal, `Unavailable`.
    pub async fn redeliver_callback(&self, viewer: &Viewer, job_id: Uuid) -> Result<job::Model> {
        viewer.may_change_jobs()?;
        let job = self.job(viewer, job_id).await?.ok_or_else(|| Error::no_job(job_id))?;
        if job.callback_url.is_none() {
            return Err(Error::NotFound { what: "callback of job", id: job_id.to_string() });
        }
        if !job.status.is_terminal() {
            return Err(Error::InvalidTransition { from: job.status, action: "told to its receiver" });
        }
        let pool = self.pool.clone();
        let redelivered = self
            .detached("redeliver a callback", async move {
                sqlx::query(
                    "WITH held AS MATERIALIZED (
                     -- Against a prune, which looks at the deliveries of the jobs that it holds.
                     SELECT id FROM job WHERE id = $1 AND status IN ('DONE', 'ERROR', 'CANCELLED') FOR SHARE
                 )
                 UPDATE callback_delivery
                 SET status = 'WAITING', attempts = 0, next_at = now(), last_error = NULL, delivered_at = NULL
                 FROM held
                 WHERE callback_delivery.job_id = held.id",
                )
                .bind(job_id)
                .execute(&pool)
                .await
                .map_err(|source| Error::database("redeliver a callback", source))
            })
            .await?;
        if redelivered.rows_affected() == 0 {
            // It was retried, pruned or deleted between the two statements.
            let job = self.job(viewer, job_id).await?.ok_or_else(|| Error::no_job(job_id))?;
            return Err(Error::InvalidTransition { from: job.status, action: "told to its receiver" });
        }
        Ok(job)
    }
}

/// Records what became of an attempt, in this table with this key.
pub(super) async fn record(
    pool: &PgPool,
    (table, key): (&'static str, &'static str),
    id: Uuid,
    (event, attempt): (i32, i32),
    outcome: DeliveryOutcome,
) -> Result<()> {
    let (status, error, wait) = match outcome {
        DeliveryOutcome::Delivered => ("DELIVERED", None, None),
        DeliveryOutcome::Failed { error, retry_after: None } => ("FAILED", Some(error), None),
        DeliveryOutcome::Failed { error, retry_after: Some(wait) } => {
            ("WAITING", Some(error), Some(wait.as_secs_f64()))
        }
    };
    let sql = format!(
        "UPDATE {table}
         SET status = $4, last_error = $5, next_at = now() + make_interval(secs => $6),
             delivered_at = CASE $4 WHEN 'DELIVERED' THEN now() END
         WHERE {key} = $1 AND event = $2 AND attempts = $3 AND status = 'WAITING' AND next_at IS NOT NULL"
    );
    sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(id)
        .bind(event)
        .bind(attempt)
        .bind(status)
        .bind(error)
        .bind(wait)
        .execute(pool)
        .await
        .map(drop)
        .map_err(|source| Error::database("record a delivery", source))
}

/// A delivery as a row has it.
pub(super) fn delivery_of(row: &PgRow) -> sqlx::Result<Delivery> {
    let status: String = row.try_get("status")?;
    Ok(Delivery {
        status: match status.as_str() {
            "DELIVERED" => DeliveryStatus::Delivered,
            "FAILED" => DeliveryStatus::Failed,
            _ => DeliveryStatus::Waiting,
        },
        attempts: row.try_get("attempts")?,
        last_error: row.try_get("last_error")?,
        delivered_at: row.try_get("delivered_at")?,
    })
}
