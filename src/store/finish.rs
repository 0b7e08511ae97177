//! Finish: how attempts end, many in one statement, each row fenced by its lease epoch.
//!
//! An end that names an older epoch, or comes after the job was taken away, changes nothing and is `LeaseLost`.
//! Results and errors must have passed `json_scan`.

use std::collections::HashMap;
use std::time::Duration;

use entity::attempt::AttemptOutcome;
use futures_util::FutureExt;
use serde_json::Value;
use sqlx::{PgPool, Row};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::group::{GroupSpec, GroupWriter};
use super::kept::KeptConnection;
use super::lease::Lease;
use super::release::Releaser;
use super::{Store, bounded};
use crate::error::{Error, Result};
use crate::job::failure::Failure;

/// The end of one attempt.
#[derive(Clone, Debug)]
pub struct Finish {
    /// The fence.
    pub lease: Lease,
    /// What happened.
    pub end: AttemptEnd,
}

/// How an attempt ends.
#[derive(Clone, Debug)]
pub enum AttemptEnd {
    /// With a result: the job is DONE.
    Done(Value),
    /// Without one: tried again after `retry_after` if the failure is retryable and attempts are left, else ERROR;
    /// CANCELLED when a cancel was requested.
    Failed {
        /// ERROR, TIMEOUT or CANCELLED.
        outcome: AttemptOutcome,
        /// What is shown to people.
        failure: Failure,
        /// The back-off, jitter included.
        retry_after: Duration,
    },
    /// Given back untouched: the attempt is not counted and the place is kept; CANCELLED when a cancel was requested.
    Released,
}

impl AttemptEnd {
    /// A failure that the handler told.
    pub fn failed(failure: Failure, retry_after: Duration) -> AttemptEnd {
        AttemptEnd::Failed { outcome: AttemptOutcome::Error, failure, retry_after }
    }

    /// The outcome that the attempt has.
    fn outcome(&self) -> AttemptOutcome {
        match self {
            AttemptEnd::Done(_) => AttemptOutcome::Done,
            AttemptEnd::Failed { outcome, .. } => *outcome,
            AttemptEnd::Released => AttemptOutcome::Released,
        }
    }
}

impl Store {
    /// Ends an attempt, together with whatever else is ending.
    ///
    /// # Errors
    /// `LeaseLost` when the lease is not the job's present one; `Unavailable`, `Database`.
    pub fn finish_if_leased(&self, finish: Finish) -> impl Future<Output = Result<()>> {
        let outcome = finish.end.outcome();
        self.ends.write(finish).inspect(move |ended| {
            if ended.is_ok() {
                self.counts.ended(outcome, 1);
            }
        })
    }
}

pub(super) fn writer(pool: &PgPool, tasks: &TaskTracker, releaser: &Releaser) -> GroupWriter<Finish, ()> {
    let (connection, releaser) = (KeptConnection::of(pool), releaser.clone());
    GroupWriter::spawn(
        tasks,
        GroupSpec {
            operation: "finish",
            weigh: |finish: &Finish| match &finish.end {
                AttemptEnd::Done(result) => weigh(result),
                AttemptEnd::Failed { .. } | AttemptEnd::Released => 0,
            },
            commit: move |batch| {
                let (connection, releaser) = (connection.clone(), releaser.clone());
                async move { commit_batch(&connection, batch, &releaser).await }
            },
        },
    )
}

/// About how many bytes the value has as text; exact where it matters, in long strings.
fn weigh(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.iter().map(weigh).sum::<usize>() + 2,
        Value::Object(members) => members.iter().map(|(name, value)| name.len() + weigh(value) + 4).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
    }
}

async fn commit_batch(
    connection: &KeptConnection,
    mut batch: Vec<Finish>,
    releaser: &Releaser,
) -> Vec<Result<()>> {
    let leases: Vec<Lease> = batch.iter().map(|finish| finish.lease).collect();
    // Statements that lock several jobs lock them in id order.
    batch.sort_unstable_by_key(|finish| finish.lease);
    let (done, others): (Vec<Finish>, Vec<Finish>) =
        batch.into_iter().partition(|finish| matches!(finish.end, AttemptEnd::Done(_)));
    let mut outcomes = HashMap::with_capacity(leases.len());
    let mut noted = false;
    for (ends, part) in [(&done, Part::Done), (&others, Part::Other)] {
        noted |= commit_part(connection, ends, part, &mut outcomes).await;
    }
    if noted {
        releaser.wake();
    }
    leases.iter().map(|lease| outcomes.remove(lease).unwrap_or(Err(Error::LeaseLost))).collect()
}

#[derive(Clone, Copy)]
enum Part {
    Done,
    Other,
}

/// Notes what became of each end; one that is missing afterwards had no lease. True when others depend on one of the jobs.
async fn commit_part(
    connection: &KeptConnection,
    ends: &[Finish],
    part: Part,
    outcomes: &mut HashMap<Lease, Result<()>>,
) -> bool {
    if ends.is_empty() {
        return false;
    }
    match bounded(write_part(connection, ends, part)).await {
        Ok(ended) => {
            let noted = ended.iter().any(|(_, matters)| *matters);
            outcomes.extend(ended.into_iter().map(|(lease, _)| (lease, Ok(()))));
            return noted;
        }
        // An end that the database refuses fails alone.
        Err(sqlx::Error::Database(_)) if ends.len() > 1 => {
            let mut noted = false;
            for end in ends {
                noted |= Box::pin(commit_part(connection, std::slice::from_ref(end), part, outcomes)).await;
            }
            return noted;
        }
        Err(source) => {
            let mut first = Some(Error::database("finish", source));
            for end in ends {
                let error = first.take().unwrap_or(Error::Unavailable { operation: "finish", source: None });
                outcomes.insert(end.lease, Err(error));
            }
        }
    }
    false
}

/// The leases that were ended, each with whether its job's end matters to others.
async fn write_part(
    connection: &KeptConnection,
    ends: &[Finish],
    part: Part,
) -> sqlx::Result<Vec<(Lease, bool)>> {
    let mut connection = connection.take().await?;
    let job_ids: Vec<Uuid> = ends.iter().map(|finish| finish.lease.job_id).collect();
    let epochs: Vec<i32> = ends.iter().map(|finish| finish.lease.epoch).collect();
    let rows = match part {
        Part::Done => {
            let results: Vec<String> = ends
                .iter()
                .map(|finish| match &finish.end {
                    AttemptEnd::Done(result) => result.to_string(),
                    AttemptEnd::Failed { .. } | AttemptEnd::Released => String::new(),
                })
                .collect();
            sqlx::query(DONE_SQL).bind(job_ids).bind(epochs).bind(results).fetch_all(&mut *connection).await?
        }
        Part::Other => {
            let others: Vec<OtherEnd> = ends.iter().map(|finish| OtherEnd::of(&finish.end)).collect();
            sqlx::query(OTHER_SQL)
                .bind(job_ids)
                .bind(epochs)
                .bind(others.iter().map(|end| end.outcome).collect::<Vec<_>>())
                .bind(others.iter().map(|end| end.error.as_deref()).collect::<Vec<_>>())
                .bind(others.iter().map(|end| end.retryable).collect::<Vec<_>>())
                .bind(others.iter().map(|end| end.retry_seconds).collect::<Vec<_>>())
                .fetch_all(&mut *connection)
                .await?
        }
    };
    connection.keep();
    rows.iter()
        .map(|row| {
            let lease = Lease { job_id: row.try_get("id")?, epoch: row.try_get("lease_epoch")? };
            Ok((lease, row.try_get("is_noted")?))
        })
        .collect()
}

/// The columns of an end without a result.
struct OtherEnd {
    outcome: &'static str,
    error: Option<String>,
    retryable: bool,
    retry_seconds: f64,
}

impl OtherEnd {
    fn of(end: &AttemptEnd) -> OtherEnd {
        match end {
            AttemptEnd::Failed { outcome, failure, retry_after } => OtherEnd {
                outcome: outcome.as_str(),
                error: Some(serde_json::json!(failure).to_string()),
                retryable: failure.retryable,
                retry_seconds: retry_after.as_secs_f64(),
            },
            AttemptEnd::Released | AttemptEnd::Done(_) => OtherEnd {
                outcome: AttemptOutcome::Released.as_str(),
                error: None,
                retryable: true,
                retry_seconds: 0.0,
            },
        }
    }
}

/// Ends with a result. A test pins its plan, as the others' is the same: the jobs are found by their ids. In a subquery the
/// planner does not count them: with a number that it knows it would plan each statement anew, which takes 0.7 ms. `|| ''` keeps the
/// planner from the index of running jobs. That is nearly empty in its statistics, and between two vacuums holds an entry
/// for every job that ran: at 5,000 jobs a second an end was seen to read 6,000 of them.
pub const DONE_SQL: &str = "
    UPDATE job
    SET status = 'DONE', version = version + 1, result = ended.result::jsonb, finished_at = now(),
        progress_fraction = CASE WHEN progress_at IS NULL THEN NULL ELSE 1 END
    FROM unnest((SELECT $1::uuid[]), $2::integer[], $3::text[]) AS ended(id, epoch, result)
    WHERE job.id = ended.id AND job.status || '' = 'RUNNING' AND job.lease_epoch = ended.epoch
    RETURNING job.id, job.lease_epoch, job.has_dependents OR job.workflow_id IS NOT NULL AS is_noted";

const OTHER_SQL: &str = "
    WITH ended AS (
        SELECT * FROM unnest($1::uuid[], $2::integer[], $3::text[], $4::text[], $5::boolean[], $6::float8[])
            AS e(id, epoch, outcome, error, retryable, retry_seconds)
    ), held AS MATERIALIZED (
        -- Locked first, so that what follows is decided on the newest version of each job.
        SELECT job.id, job.attempt, job.max_attempts, job.cancel_requested_at, ended.outcome,
               ended.error::jsonb AS error, ended.retryable, ended.retry_seconds
        FROM job JOIN ended USING (id)
        WHERE job.status || '' = 'RUNNING' AND job.lease_epoch = ended.epoch
        ORDER BY job.id
        FOR UPDATE OF job
    ), decided AS (
        SELECT held.*,
               CASE WHEN cancel_requested_at IS NOT NULL THEN 'CANCELLED'
                    WHEN outcome = 'RELEASED' THEN 'PENDING'
                    WHEN retryable AND attempt < max_attempts THEN 'SCHEDULED'
                    ELSE 'ERROR' END AS next
        FROM held
    ), changed AS (
        UPDATE job
        SET status = next, version = version + 1,
            attempt = job.attempt - CASE next WHEN 'PENDING' THEN 1 ELSE 0 END,
            error = CASE next WHEN 'ERROR' THEN decided.error END,
            run_at = CASE next WHEN 'SCHEDULED' THEN now() + make_interval(secs => retry_seconds) ELSE run_at END,
            finished_at = CASE WHEN next IN ('ERROR', 'CANCELLED') THEN now() END
        FROM decided
        WHERE job.id = decided.id
        RETURNING job.id, job.lease_epoch, job.started_at, job.worker_id,
                  job.has_dependents OR job.workflow_id IS NOT NULL AS is_noted, decided.outcome, decided.error
    ), noted AS (
        INSERT INTO attempt (job_id, lease_epoch, started_at, ended_at, outcome, error, worker_id)
        SELECT id, lease_epoch, started_at, now(), outcome, error, worker_id FROM changed
    )
    SELECT id, lease_epoch, is_noted FROM changed";
