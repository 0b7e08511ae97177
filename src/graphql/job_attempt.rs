//! The type `JobAttempt` and the enum `AttemptOutcome`.

use async_graphql::{Enum, SimpleObject};
use entity::{JobStatus, attempt, job};

use super::date_time::DateTime;
use super::job_error::JobError;

/// An attempt that has ended.
#[derive(Clone, Debug, SimpleObject)]
pub struct JobAttempt {
    /// Counts every start of the job, released and lost ones too.
    #[graphql(complexity = 0)]
    number: i32,
    /// When a worker took the job.
    #[graphql(complexity = 0)]
    started_at: DateTime,
    /// When the attempt ended.
    #[graphql(complexity = 0)]
    ended_at: DateTime,
    /// How it ended.
    #[graphql(complexity = 0)]
    outcome: AttemptOutcome,
    /// Why it failed, where it did.
    #[graphql(complexity = "child_complexity")]
    error: Option<JobError>,
    /// The worker that held it.
    #[graphql(complexity = 0)]
    worker_id: String,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "entity::attempt::AttemptOutcome")]
pub enum AttemptOutcome {
    /// With a result.
    Done,
    /// With an error.
    Error,
    /// It ran longer than it may.
    Timeout,
    /// It was asked to stop.
    Cancelled,
    /// Its worker died or lost touch.
    WorkerLost,
    /// Its worker gave it back untouched; no attempt is used up.
    Released,
}

impl JobAttempt {
    /// An attempt that did not end well.
    pub fn from_stored(attempt: &attempt::Model) -> JobAttempt {
        JobAttempt {
            number: attempt.lease_epoch,
            started_at: attempt.started_at.into(),
            ended_at: attempt.ended_at.into(),
            outcome: attempt.outcome.into(),
            error: attempt.error.as_ref().map(JobError::from_stored),
            worker_id: attempt.worker_id.to_string(),
        }
    }

    /// The attempt that ended well, which the job itself tells.
    pub fn that_ended_well(job: &job::Model) -> Option<JobAttempt> {
        if job.status != JobStatus::Done {
            return None;
        }
        Some(JobAttempt {
            number: job.lease_epoch,
            started_at: job.started_at?.into(),
            ended_at: job.finished_at?.into(),
            outcome: AttemptOutcome::Done,
            error: None,
            worker_id: job.worker_id?.to_string(),
        })
    }
}
