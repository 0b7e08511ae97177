//! The worker: claims jobs, runs them in slots, and says how they ended.
//!
//! # Leases
//!
//! What is promised: an attempt whose worker dies or loses touch is run again by another, and whatever the first
//! one still says is refused. Execution is at least once, the record effectively once.
//!
//! A process registers as a worker under a fresh id, and holds one lease for all its jobs: the row's `expires_at`,
//! which each heartbeat moves. A job that runs names its worker and its *epoch*, which counts the starts of the
//! job. Every write about a running job names the epoch, and changes nothing when the job has started again or
//! ended since. So the epoch keeps the record right whatever a worker believes; what follows only keeps two handlers
//! from running the same job for long.
//!
//! ```text
//!                    register
//!                       |
//!                       v           heartbeat ok: expires_at moves
//!   +--------------> HOLDING <----------------------------------+
//!   |                |  |  |                                    |
//!   |                |  |  +-- heartbeat fails: tried again ----+
//!   |                |  |
//!   |                |  +-- told LeaseLost, or no success for a lease --> LOST
//!   |  shutdown      |                                                     |
//!   |                v                                                     | handlers dropped,
//!   |             DRAINING -- told LeaseLost, or no success -----> LOST    | nothing written
//!   |                |                                               |     |
//!   |                | all ended or given back, or deadline          v     |
//!   |                v                                              gone   |
//!   |              gone (row removed)                                      |
//!   +----------------------- register anew, fresh id ----------------------+
//! ```
//!
//! - **Two clocks.** The database decides by its own clock when the lease has run out. The worker counts the same
//!   time by its monotonic clock from before the heartbeat was sent, so it stops first. The monotonic clock of Linux
//!   stands still while the machine sleeps: a laptop that wakes up finds out with its next heartbeat, and the epoch
//!   covers the time until then.
//! - **One job lost.** A heartbeat names every job that is held and is told the state of each: held, lost (its handler
//!   is dropped, nothing is written), or to be cancelled (its handler is asked to stop; the end is CANCELLED). A job
//!   that was claimed but never arrived here is not named, and goes back after a lease.
//! - **All jobs lost.** A database that is away for a whole lease costs the attempts that ran: others may have them. They
//!   are not given back uncounted, lest a job that blocks the process until its lease is lost comes back for ever.
//! - **The end of an attempt** is written again until it is answered or the lease is lost; the slot is free meanwhile.
//! - **Suspects.** A job that has lost a worker before is held one at a time per process.
//!
//! # What runs where
//!
//! One task claims and starts, one sends heartbeats, and each started job has its own. They share the
//! registration and end with it. No transaction is open while a handler runs.

mod registration;

mod claimer;

mod claim_budget;

mod slots;

mod held_jobs;

mod stop;

mod heartbeat;

mod attempt;

mod ending;

mod outage;

mod drain;

mod durations;

pub mod runner;

pub mod builtin;

pub mod command;

pub mod http_call;

pub mod progress;

pub mod job_log;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::claimer::Claimer;
use self::command::Spawner;
use self::outage::Outage;
use self::registration::Registration;
use self::runner::Handlers;
use crate::config::{Config, Kinds};
use crate::error::{Error, Result};
use crate::events::Events;
use crate::store::Store;

/// How long the tasks of lost jobs may take to notice.
const LOSS_PATIENCE: Duration = Duration::from_secs(2);

/// What a worker goes by; [`Config`] has the meaning and the range of each.
#[derive(Clone, Debug)]
pub struct WorkerSettings {
    /// Jobs run at once; with 0 nothing is registered and nothing runs.
    pub slots: usize,
    /// Length of the lease.
    pub lease_seconds: u32,
    /// Time for running jobs to finish at a stop.
    pub drain_seconds: u32,
    /// Largest result.
    pub max_result_bytes: usize,
    /// The queues that are served, in turn.
    pub queues: Vec<String>,
    /// What can be run.
    pub kinds: Kinds,
    /// How programs are started.
    pub spawner: Spawner,
    /// By what, beside what is compiled in.
    pub handlers: Handlers,
}

impl WorkerSettings {
    /// The part of the configuration that is the worker's.
    pub fn of(config: &Config) -> WorkerSettings {
        WorkerSettings {
            slots: config.slots,
            lease_seconds: config.lease_seconds,
            drain_seconds: config.drain_seconds,
            max_result_bytes: config.max_result_bytes,
            queues: config.queues.clone(),
            kinds: config.kinds.clone(),
            spawner: Spawner::default(),
            handlers: Handlers::default(),
        }
    }

    fn lease(&self) -> Duration {
        Duration::from_secs(self.lease_seconds.into())
    }

    fn lease_seconds_i32(&self) -> i32 {
        i32::try_from(self.lease_seconds).unwrap_or(i32::MAX)
    }
}

/// Works until `shutdown`, and returns once drained: at most the drain's seconds and some seven more, also when the
/// database is away.
///
/// # Errors
/// `Database` when the first registration is refused, as without the tables. Anything later is tried again.
pub async fn run(
    store: Store,
    events: Events,
    settings: WorkerSettings,
    shutdown: CancellationToken,
) -> Result<()> {
    if settings.slots == 0 {
        shutdown.cancelled().await;
        return Ok(());
    }
    let process =
        Process { store, events, spawner: settings.spawner.clone(), settings: Arc::new(settings), shutdown };
    let mut registration = process.register(|error| matches!(error, Error::Database { .. })).await?;
    while let Some(registered) = registration {
        process.serve(&registered).await;
        registration = process.register(|_| false).await?;
    }
    Ok(())
}

/// What outlives a registration.
struct Process {
    store: Store,
    events: Events,
    settings: Arc<WorkerSettings>,
    spawner: Spawner,
    shutdown: CancellationToken,
}

impl Process {
    /// Registers, trying again unless the error is final; none when the process is to stop.
    async fn register(&self, is_final: fn(&Error) -> bool) -> Result<Option<Arc<Registration>>> {
        let mut outage = Outage::default();
        while !self.shutdown.is_cancelled() {
            let registering = Registration::make(&self.store, &self.settings, &self.spawner);
            let wait = match self.shutdown.run_until_cancelled(registering).await {
                None => return Ok(None),
                Some(Ok(registration)) => {
                    outage.end("register");
                    return Ok(Some(registration));
                }
                Some(Err(error)) if is_final(&error) => return Err(error),
                Some(Err(error)) => outage.note(&error),
            };
            self.shutdown.run_until_cancelled(tokio::time::sleep(wait)).await;
        }
        Ok(None)
    }

    /// Works under one registration, until it is drained or lost.
    async fn serve(&self, registration: &Arc<Registration>) {
        let mut claimer = Claimer::new(registration.clone(), self.events.ready());
        let beating = tokio::spawn({
            let (registration, cancels) = (registration.clone(), self.events.cancels());
            async move { heartbeat::keep_lease(&registration, cancels).await }
        });
        let writing = tokio::spawn({
            let registration = registration.clone();
            async move { registration.durations.keep_writing(&registration.store).await }
        });
        claimer.run(&self.shutdown).await;
        if !registration.lost.is_cancelled() {
            drain::drain(registration, claimer).await;
        }
        beating.abort();
        // It was aborted, or had ended by itself.
        let _ = beating.await;
        writing.abort();
        let _ = writing.await;
        registration.jobs.close();
        if timeout(LOSS_PATIENCE, registration.jobs.wait()).await.is_err() {
            tracing::warn!(worker.id = %registration.worker_id, "handlers of lost jobs do not stop");
        }
    }
}
