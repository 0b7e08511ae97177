//! Leaves in good order: nothing new is claimed, what waits goes back at once, what runs may finish.
//!
//! At the deadline the handlers that still run are asked to stop, and their jobs go back as well. Neither uses up an
//! attempt. Heartbeats go on until the end. The database may be away all the while: a few seconds after the
//! deadline the process leaves whatever is unwritten, and the jobs go to others once the lease runs out.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use super::claimer::Claimer;
use super::registration::Registration;
use super::runner::STOP_GRACE;
use super::stop::StopReason;

/// How long a note about the worker itself may take; it is for people, and the work does not depend on it.
const NOTE_PATIENCE: Duration = Duration::from_secs(2);
/// How long the ends may take after the last handler was stopped.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// Drains the registration; returns once it holds nothing, or when it must not wait any longer.
pub(super) async fn drain(registration: &Arc<Registration>, claimer: Claimer) {
    let deadline = Instant::now() + Duration::from_secs(registration.settings.drain_seconds.into());
    let worker_id = registration.worker_id;
    tracing::info!(worker.id = %worker_id, jobs = registration.held.leases().len(), "draining");
    // However little time there is: what a claim on its way brings would cost an attempt each if it were left.
    let given_back = claimer.give_back(deadline.max(Instant::now() + END_PATIENCE));
    let noted = timeout(NOTE_PATIENCE, registration.store.drain_worker(worker_id));
    tokio::select! {
        // The note stops a claim that is on its way, if it comes first; so both at the same time.
        _ = async { tokio::join!(given_back, noted) } => {}
        () = registration.lost.cancelled() => return,
    }
    registration.jobs.close();
    let finished = timeout_at(deadline, unless_lost(registration)).await.is_ok();
    if !finished {
        registration.held.ask_all(StopReason::Draining);
        let released = timeout(STOP_GRACE + END_PATIENCE, unless_lost(registration)).await.is_ok();
        if !released {
            tracing::warn!(
                worker.id = %worker_id, jobs = registration.held.leases().len(),
                "stopping without having given back all jobs; they go to others when the lease runs out"
            );
        }
    }
    if !registration.lost.is_cancelled() {
        // Whatever is still here is not written any more; the row's absence sends the jobs to others at once.
        registration.lose();
        let removed = timeout(NOTE_PATIENCE, registration.store.remove_worker(worker_id)).await;
        if !matches!(removed, Ok(Ok(()))) {
            tracing::warn!(worker.id = %worker_id, "the worker's row was not removed; it expires by itself");
        }
    }
}

/// Waits for the last job to end, or for the loss of all of them.
async fn unless_lost(registration: &Registration) {
    tokio::select! {
        () = registration.jobs.wait() => {}
        () = registration.lost.cancelled() => {}
    }
}
