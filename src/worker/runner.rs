//! Runs one attempt of a job: the one place where a kind's runner is looked at.
//!
//! A handler gets a [`Context`] and answers with a result or a [`Failure`]; it never sees the database, nor
//! leases, but for an http kind, which hands its lease on.
//! It must heed `context.stop`: once that is cancelled it has [`STOP_GRACE`] to end, after which it is dropped.
//! It may be dropped at any other moment too, when the lease is lost, and must leave nothing running then.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::command::Spawner;
use super::http_call::{self, HttpCaller};
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
    /// How long the attempt may take.
    pub timeout_seconds: i32,
    /// Counts every start of the job.
    pub epoch: i32,
    /// Shows the lease, for whom the job may be handed over to; only an http kind has it.
    pub lease_token: Option<String>,
    /// Starts programs.
    pub spawner: Spawner,
}

/// What a handler comes to when nothing goes wrong.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The job's result.
    Result(Value),
    /// Somebody else has the job now, and ends it with its lease.
    HandedOver,
}

/// A handler that a program registered.
pub type Handler = Arc<dyn Fn(Context) -> BoxFuture<'static, Result<Value, Failure>> + Send + Sync>;

/// What runs jobs beside what is compiled in.
#[derive(Clone, Default)]
pub struct Handlers {
    /// By kind.
    pub native: HashMap<String, Handler>,
    /// Calls the URLs of http kinds.
    pub http: HttpCaller,
}

impl std::fmt::Debug for Handlers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.native.keys()).finish()
    }
}

/// Runs the kind's handler to its end.
///
/// # Errors
/// What the handler says went wrong; for one that stopped because it was asked to, [`stopped`].
pub async fn run(kind: &Kind, context: Context, handlers: &Handlers) -> Result<Answer, Failure> {
    match &kind.runner {
        Runner::Builtin(which) => builtin::run(*which, context).await.map(Answer::Result),
        // These wait with kilobytes of state, which every attempt would have room for.
        Runner::Command(argv) => Box::pin(command::run(&kind.name, argv, context)).await.map(Answer::Result),
        Runner::Http(target) => Box::pin(http_call::run(&kind.name, target, &handlers.http, context)).await,
        Runner::Native => match handlers.native.get(&kind.name) {
            Some(handler) => handler(context).await.map(Answer::Result),
            None => Err(cannot_run()),
        },
        Runner::External => Err(cannot_run()),
    }
}

/// Its queue is not served here; another process's configuration must have said otherwise.
fn cannot_run() -> Failure {
    Failure::retryable("UNKNOWN_KIND", "the worker that took the job cannot run its kind")
}

/// The failure of a handler that ended because it was asked to. Why it was asked decides what becomes of the job, so
/// that nobody sees this one.
pub fn stopped() -> Failure {
    Failure::retryable("CANCELLED", "stopped on request")
}
