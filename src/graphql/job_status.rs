//! The enum `JobStatus`.

use async_graphql::Enum;

/// Where a job stands. DONE, ERROR and CANCELLED are terminal; DONE is final, the others are left only by retryJob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "entity::JobStatus")]
pub enum JobStatus {
    /// Waits for jobs it depends on.
    Blocked,
    /// Waits for its time: a start time in the future, or the back-off before the next attempt.
    Scheduled,
    /// Ready; waits for a worker.
    Pending,
    /// Held by a worker under a lease.
    Running,
    /// Finished with a result.
    Done,
    /// Finished with an error: attempts used up, or the error is not retryable.
    Error,
    /// Stopped before it could finish.
    Cancelled,
}
