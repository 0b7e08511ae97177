//! Runs one attempt of a job: the one place where a kind's runner is looked at.
//!
//! A handler gets a [`Context`] and answers with a result or a [`Failure`]; it never sees leases or the database.
//! It must heed `context.stop`: once that is cancelled it has [`STOP_GRACE`] to end, after which it is dropped.
//! It may be dropped at any other moment too, when the lease is lost, and must leave nothing running then.

use std::time::Duration;

use serde_json::Value;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::command::Spawner;
use super::job_log::JobLog;
use super::progress::ProgressReporter;
use super::{builtin, command};
use crate::config::{Kind, Runner};
use crate::job::failure::Failure;

/// How long a handler that was asked to stop may take.
pub const STOP_GRACE: Duration = Duration::from_secs(3);

/// What a handler works with.
#[derive(Clone, Debug)]
pub struct Context {
    /// The job, for people and programs outside.
    pub job_id: Uuid,
    /// Which attempt this is, from 1.
    pub attempt: i16,
    /// Input.
    pub payload: Value,
    /// Cancelled when the handler is to stop: on request, at its timeout, or at the end of a drain.
    pub stop: CancellationToken,
    /// Where it says how far it is.
    pub progress: ProgressReporter,
    /// Where it says lines of its log.
    pub log: JobLog,
    /// Largest result in bytes.
    pub max_result_bytes: usize,
    /// Starts programs.
    pub spawner: Spawner,
}

/// Runs the kind's handler to its end.
///
/// # Errors
/// What the handler says went wrong; for one that stopped because it was asked to, [`stopped`].
pub async fn run(kind: &Kind, context: Context) -> Result<Value, Failure> {
    match &kind.runner {
        Runner::Builtin(which) => builtin::run(*which, context).await,
        Runner::Command(argv) => command::run(&kind.name, argv, context).await,
        // Its queue is not served here; another process's configuration must have said otherwise.
        Runner::External | Runner::Native => {
            Err(Failure::retryable("UNKNOWN_KIND", "the worker that took the job cannot run its kind"))
        }
    }
}

/// The failure of a handler that ended because it was asked to. Why it was asked decides what becomes of the job, so
/// that nobody sees this one.
pub fn stopped() -> Failure {
    Failure::retryable("CANCELLED", "stopped on request")
}
