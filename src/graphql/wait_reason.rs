//! The enum `WaitReason`.

use async_graphql::Enum;
use entity::{JobStatus, job};

use crate::store::queue::QueueWait;

/// Why a job is not running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum WaitReason {
    /// Others go first, or a worker is about to take it.
    AheadInQueue,
    /// Its queue is paused.
    QueuePaused,
    /// As many jobs of its queue run as may.
    ConcurrencyLimit,
    /// Its time has not come.
    Scheduled,
    /// An attempt failed; the next one waits.
    BackOff,
    /// It depends on jobs that are not DONE.
    Dependency,
    /// A job that it depends on, perhaps by way of others, is ERROR or CANCELLED: it waits until that one is retried.
    DependencyFailed,
    /// No worker that lives serves its queue.
    NoLiveWorker,
}

impl WaitReason {
    /// Of a job that waits for its time; none when it is not waiting, or for its queue, or for other jobs.
    pub fn of_its_own(job: &job::Model) -> Option<WaitReason> {
        match job.status {
            JobStatus::Scheduled if job.attempt > 0 => Some(WaitReason::BackOff),
            JobStatus::Scheduled => Some(WaitReason::Scheduled),
            JobStatus::Blocked
            | JobStatus::Pending
            | JobStatus::Running
            | JobStatus::Done
            | JobStatus::Error
            | JobStatus::Cancelled => None,
        }
    }

    /// Of a blocked job.
    pub fn of_blocked(held_by_failure: bool) -> WaitReason {
        if held_by_failure { WaitReason::DependencyFailed } else { WaitReason::Dependency }
    }

    /// Of a pending job in this queue; the first that applies.
    pub fn in_queue(queue: &QueueWait) -> WaitReason {
        if queue.paused {
            WaitReason::QueuePaused
        } else if !queue.served {
            WaitReason::NoLiveWorker
        } else if queue.full {
            WaitReason::ConcurrencyLimit
        } else {
            WaitReason::AheadInQueue
        }
    }
}
