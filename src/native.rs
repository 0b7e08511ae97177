//! Workers in Rust: typed handlers for kinds with `runner = "native"`.
//!
//! A handler is an async function of a [`Job`] and the payload, which is deserialized for it; what it gives is serialized
//! as the job's result. A payload that does not fit its type fails for good with INVALID_PAYLOAD. Any error is tried
//! again, as the kind is configured, unless it is [`JobError::fatal`]. A panic is one attempt's failure.
//!
//! ```no_run
//! use jobql::native::{Job, JobError, Worker};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize)]
//! struct Greeting { name: String }
//!
//! #[derive(Serialize)]
//! struct Greeted { text: String }
//!
//! async fn greet(job: Job, payload: Greeting) -> Result<Greeted, JobError> {
//!     job.progress(0.5, "thinking of words");
//!     Ok(Greeted { text: format!("Hello {}, at attempt {}", payload.name, job.attempt()) })
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), jobql::native::RunError> {
//!     Worker::new().handle("greet", greet).run().await
//! }
//! ```
//!
//! With `[kinds.greet]` and `runner = "native"` in its `jobql.toml`, this program takes the flags and variables of
//! `jobql work`. It works directly on the database, where `jobql serve` or `jobql migrate` has made the tables, and keeps
//! leases, retries, timeouts, cancellation and drain as any process of jobql does. At SIGTERM it claims nothing more and
//! lets running jobs finish, for `drain_seconds` at most.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use entity::job_log::LogStream;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Config, Kinds, Overrides, Runner};
use crate::events::Events;
use crate::job::failure::Failure;
use crate::job::json_scan;
use crate::store::Store;
use crate::worker::runner::{Context, Handler, Handlers};
use crate::worker::{self, WorkerSettings};
use crate::{log, postgres};

/// Why a worker could not start, or did not end well.
pub type RunError = Box<dyn std::error::Error + Send + Sync>;

/// How long the background work may take to notice the end.
const BACKGROUND_WITHIN: Duration = Duration::from_secs(3);

/// A worker: handlers by kind.
#[derive(Debug, Default)]
pub struct Worker {
    handlers: Handlers,
}

/// The job that a handler works on. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Job(Arc<Context>);

/// How an attempt failed. Any error turns into one that is tried again, by `?`.
#[derive(Debug)]
pub struct JobError(Failure);

/// The command line of [`Worker::run`].
#[derive(Debug, Parser)]
#[command(about = "Runs jobs of native kinds", max_term_width = 110)]
struct Arguments {
    #[command(flatten)]
    overrides: Overrides,
}

impl Worker {
    /// A worker without handlers.
    pub fn new() -> Worker {
        Worker::default()
    }

    /// Runs the jobs of a kind with this handler.
    #[must_use]
    pub fn handle<P, R, H, F>(mut self, kind: &str, handler: H) -> Worker
    where
        P: DeserializeOwned + Send + 'static,
        R: Serialize,
        H: Fn(Job, P) -> F + Send + Sync + 'static,
        F: Future<Output = Result<R, JobError>> + Send + 'static,
    {
        let typed: Handler = Arc::new(move |mut context| {
            let payload = serde_json::from_value(context.payload.take());
            let running = payload.map(|payload| handler(Job(Arc::new(context)), payload));
            Box::pin(async move {
                let refused = |error| Failure::fatal("INVALID_PAYLOAD", format!("payload: {error}"));
                let result = running.map_err(refused)?.await.map_err(|error| error.0)?;
                as_result(&result)
            })
        });
        self.handlers.native.insert(kind.to_owned(), typed);
        self
    }

    /// Works until SIGTERM or SIGINT, by the flags, variables and file that `jobql work` takes.
    ///
    /// # Errors
    /// A configuration that is not fit, a database that cannot be reached or has no tables.
    pub async fn run(self) -> Result<(), RunError> {
        let config = Config::load(&Arguments::parse().overrides)?;
        log::start(config.log_format);
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let shutdown = CancellationToken::new();
        let stopping = shutdown.clone();
        let waiting = tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            stopping.cancel();
        });
        let ran = self.run_until(config, shutdown).await;
        waiting.abort();
        ran
    }

    /// Works until `shutdown`, as configured.
    ///
    /// # Errors
    /// As [`Worker::run`].
    pub async fn run_until(self, config: Config, shutdown: CancellationToken) -> Result<(), RunError> {
        let queues = self.queues(&config.kinds)?;
        let settings = WorkerSettings { queues, handlers: self.handlers, ..WorkerSettings::of(&config) };
        let database = postgres::open(&config).await?;
        let store = Store::of(&database);
        let (background, tasks) = (CancellationToken::new(), TaskTracker::new());
        let events = Events::start(store.clone(), database.listen_options(), &tasks, background.clone());
        let worked = worker::run(store.clone(), events, settings, shutdown).await;
        background.cancel();
        tasks.close();
        if tokio::time::timeout(BACKGROUND_WITHIN, tasks.wait()).await.is_err() {
            tracing::warn!("some background work was given up at the end");
        }
        store.close().await;
        database.close().await;
        Ok(worked?)
    }

    /// The queues all of whose kinds have a handler.
    fn queues(&self, kinds: &Kinds) -> Result<Vec<String>, RunError> {
        let mut queues = BTreeSet::new();
        for kind in self.handlers.native.keys() {
            match kinds.get(kind) {
                Some(known) if known.runner == Runner::Native => queues.insert(known.queue.clone()),
                Some(_) => return Err(format!("the kind {kind:?} is not native in the configuration").into()),
                None => return Err(format!("the configuration has no kind {kind:?}").into()),
            };
        }
        queues.retain(|queue| {
            let without = kinds.of_queue(queue).find(|kind| !self.handlers.native.contains_key(&kind.name));
            if let Some(kind) = without {
                tracing::warn!(queue.name = %queue, job.kind = %kind.name, "the queue is not served, as this kind has no handler");
            }
            without.is_none()
        });
        if queues.is_empty() {
            return Err("there is no queue all of whose kinds have a handler".into());
        }
        Ok(queues.into_iter().collect())
    }
}

/// What a handler gave, as a result that can be kept.
fn as_result(given: &impl Serialize) -> Result<Value, Failure> {
    let refused = |problem: String| {
        Failure::fatal("INVALID_RESULT", format!("the result cannot be kept as JSON: {problem}"))
    };
    let value = serde_json::to_value(given).map_err(|error| refused(error.to_string()))?;
    json_scan::check_value(&value).map_err(|error| refused(error.to_string()))?;
    Ok(value)
}

impl Job {
    /// The job's id.
    pub fn id(&self) -> uuid::Uuid {
        self.0.job_id
    }

    /// Which attempt this is, from 1.
    pub fn attempt(&self) -> i16 {
        self.0.attempt
    }

    /// Cancelled when the handler is to stop: the job was cancelled, has run for longer than it may, or the worker
    /// must leave. It has three seconds then, and is dropped at its next await after that. It may be dropped at once
    /// too, when the lease is lost; what it then leaves undone must not matter.
    pub fn stopped(&self) -> &CancellationToken {
        &self.0.stop
    }

    /// Says how far the job is, from 0 to 1, and in words. Call it as often as you like: the latest is kept.
    pub fn progress(&self, fraction: f64, message: impl Into<String>) {
        self.0.progress.report(Some(fraction), Some(message.into()));
    }

    /// Adds a line to the job's log.
    pub fn log(&self, line: impl Into<String>) {
        self.0.log.say(LogStream::Stdout, line.into().replace('\0', "\u{fffd}"));
    }
}

impl JobError {
    /// A failure that another attempt may get past. The code is for programs, the message for people.
    pub fn retryable(code: &str, message: impl Into<String>) -> JobError {
        JobError(Failure::retryable(code, message))
    }

    /// A failure that another attempt cannot get past.
    pub fn fatal(code: &str, message: impl Into<String>) -> JobError {
        JobError(Failure::fatal(code, message))
    }

    /// No other attempt before so long is over; the kind's back-off when that is longer.
    #[must_use]
    pub fn not_before(mut self, wait: Duration) -> JobError {
        self.0.retry_after = Some(wait);
        self
    }
}

impl<E: std::error::Error> From<E> for JobError {
    fn from(error: E) -> JobError {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message = format!("{message}: {cause}");
            source = cause.source();
        }
        JobError::retryable("FAILED", message)
    }
}
