//! One registration of this process as a worker, with all that is bound to it: its id, its lease, what it holds.
//!
//! A registration ends in one of two ways: drained, or with its lease lost. A process that goes on after a loss
//! registers anew and starts from nothing, so that nothing of the old registration, such as a claim whose answer is
//! still on its way, can be mistaken for the new one's.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::WorkerSettings;
use super::command::Spawner;
use super::held_jobs::HeldJobs;
use super::slots::Slots;
use crate::error::{Error, Result};
use crate::store::Store;
use crate::store::worker::NewWorker;

/// A registered worker.
pub(super) struct Registration {
    /// Fresh per registration.
    pub(super) worker_id: Uuid,
    /// The way to the jobs.
    pub(super) store: Store,
    /// Those of the process.
    pub(super) settings: Arc<WorkerSettings>,
    /// Starts programs; the process's one.
    pub(super) spawner: Spawner,
    /// What a heartbeat must name.
    pub(super) held: Arc<HeldJobs>,
    /// Where handlers run.
    pub(super) slots: Arc<Slots>,
    /// The tasks of held jobs that are not waiting for a slot.
    pub(super) jobs: TaskTracker,
    /// Cancelled once the lease is lost.
    pub(super) lost: CancellationToken,
    valid_until: Mutex<Instant>,
}

impl Registration {
    /// Registers the process under a fresh id; once, without trying again.
    pub(super) async fn make(
        store: &Store,
        settings: &Arc<WorkerSettings>,
        spawner: &Spawner,
    ) -> Result<Arc<Registration>> {
        let worker_id = Uuid::now_v7();
        let served = settings.kinds.iter().filter(|kind| settings.queues.contains(&kind.queue));
        let sent_at = Instant::now();
        let registering = store.register_worker(NewWorker {
            id: worker_id,
            name: process_name(),
            queues: settings.queues.clone(),
            kinds: served.map(|kind| kind.name.clone()).collect(),
            slots: i32::try_from(settings.slots).unwrap_or(i32::MAX),
            lease_seconds: settings.lease_seconds_i32(),
        });
        match timeout(settings.lease(), registering).await {
            Ok(registered) => registered?,
            // The row, if it comes to be, expires by itself.
            Err(_) => return Err(Error::Unavailable { operation: "register a worker", source: None }),
        }
        tracing::info!(worker.id = %worker_id, worker.slots = settings.slots, "registered as a worker");
        Ok(Arc::new(Registration {
            worker_id,
            store: store.clone(),
            settings: settings.clone(),
            spawner: spawner.clone(),
            held: Arc::default(),
            slots: Arc::new(Slots::new(settings.slots)),
            jobs: TaskTracker::new(),
            lost: CancellationToken::new(),
            valid_until: Mutex::new(sent_at + settings.lease()),
        }))
    }

    /// End of the lease by this machine's clock, unless a heartbeat moves it.
    pub(super) fn valid_until(&self) -> Instant {
        *self.valid_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves the end of the lease.
    pub(super) fn prolong(&self, valid_until: Instant) {
        *self.valid_until.lock().unwrap_or_else(PoisonError::into_inner) = valid_until;
    }

    /// Says that everything is lost: handlers are dropped where they stand, and nothing more is written.
    pub(super) fn lose(&self) {
        self.lost.cancel();
        self.held.lose_all();
    }
}

/// Host and process, for people.
fn process_name() -> String {
    let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned());
    format!("{}:{}", host.as_deref().unwrap_or("localhost"), std::process::id())
}
