//! Keeps the lease of a registration, and hears from the database which jobs are lost and which are to stop.
//!
//! A heartbeat goes out three times a lease, at least every ten seconds, and at once when a job that is held is
//! cancelled. The lease is counted from *before* the last successful heartbeat was sent, by this machine's monotonic
//! clock: the database starts counting later, so here it ends first. When it ends, or a heartbeat is told that the
//! worker was found dead, everything is lost; see the state diagram in [`worker`](super).
//!
//! A process that was stopped for longer than its lease finds the end of the lease behind it as soon as it runs on, and
//! looks at that before anything else. Handlers may run for a moment until then; their ends are refused by the epoch.

use std::time::Duration;

use tokio::sync::broadcast;
use tokio::time::{Instant, sleep_until, timeout};
use uuid::Uuid;

use super::held_jobs::HeldJobs;
use super::outage::Outage;
use super::registration::Registration;
use crate::error::{Error, Result};
use crate::store::lease::{Lease, LeaseState};

/// However long the lease is: a cancel that was not announced is heard within this time.
const LONGEST_PERIOD: Duration = Duration::from_secs(10);
/// Between two heartbeats, however many cancels are announced.
const SHORTEST_PERIOD: Duration = Duration::from_millis(100);

/// Keeps the lease until it is lost, and says so to the registration then.
pub(super) async fn keep_lease(registration: &Registration, mut cancels: broadcast::Receiver<Uuid>) {
    let period = period(registration.settings.lease());
    let mut sent_at = registration.valid_until() - registration.settings.lease();
    let mut due = sent_at + period;
    let mut outage = Outage::default();
    loop {
        let valid_until = registration.valid_until();
        tokio::select! {
            biased;
            () = sleep_until(valid_until) => return ran_out(registration),
            () = sleep_until(due) => {}
            () = cancel_of_held(&mut cancels, &registration.held) => {
                due = due.min(sent_at + SHORTEST_PERIOD);
                continue;
            }
        }
        sent_at = Instant::now();
        let answer = tokio::select! {
            biased;
            () = sleep_until(valid_until) => return ran_out(registration),
            answer = send(registration, period) => answer,
        };
        due = match answer {
            Ok(states) => {
                registration.prolong(sent_at + registration.settings.lease());
                outage.end("send heartbeats");
                let lost = registration.held.heed(&states);
                if lost > 0 {
                    // Mostly ends that were committed while the heartbeat was on its way.
                    tracing::debug!(worker.id = %registration.worker_id, jobs = lost, "jobs are no longer held");
                }
                sent_at + period
            }
            Err(error @ Error::LeaseLost) => {
                tracing::warn!(
                    worker.id = %registration.worker_id, error = %error,
                    "the worker was found dead; its jobs are stopped, others run them"
                );
                return registration.lose();
            }
            Err(error) => Instant::now() + outage.note(&error).min(period),
        };
    }
}

/// One heartbeat. One that hangs is given up, as another connection may do better.
async fn send(registration: &Registration, patience: Duration) -> Result<Vec<(Lease, LeaseState)>> {
    let held = registration.held.leases();
    let heartbeat =
        registration.store.heartbeat(registration.worker_id, held, registration.settings.lease_seconds_i32());
    match timeout(patience, heartbeat).await {
        Ok(answer) => answer.map(|heartbeat| heartbeat.states),
        Err(_) => Err(Error::Unavailable { operation: "send a heartbeat", source: None }),
    }
}

/// Others may run the jobs from now on.
fn ran_out(registration: &Registration) {
    tracing::warn!(
        worker.id = %registration.worker_id,
        "no heartbeat succeeded for a whole lease; the worker's jobs are stopped"
    );
    registration.lose();
}

fn period(lease: Duration) -> Duration {
    (lease / 3).min(LONGEST_PERIOD)
}

/// Returns when a job that is held may have been asked to stop.
async fn cancel_of_held(cancels: &mut broadcast::Receiver<Uuid>, held: &HeldJobs) {
    loop {
        match cancels.recv().await {
            Ok(job_id) if held.holds(job_id) => return,
            Ok(_) => {}
            // Some were missed; the heartbeat tells them all.
            Err(broadcast::error::RecvError::Lagged(_)) => return,
            // Nobody announces any more; the periodic heartbeat still tells.
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_least_three_heartbeats_a_lease_and_one_in_ten_seconds() {
        assert_eq!(period(Duration::from_secs(6)), Duration::from_secs(2));
        assert_eq!(period(Duration::from_secs(30)), Duration::from_secs(10));
        assert_eq!(period(Duration::from_secs(3_600)), Duration::from_secs(10));
    }

    #[tokio::test]
    async fn announced_cancels_of_other_workers_jobs_are_passed_over() {
        let (sender, mut cancels) = broadcast::channel(2);
        let held = HeldJobs::default();
        sender.send(Uuid::from_u128(1)).unwrap();
        let heard = tokio::select! {
            biased;
            () = cancel_of_held(&mut cancels, &held) => true,
            () = tokio::task::yield_now() => false,
        };
        assert!(!heard);
        // Lagging behind counts as having heard: what was missed may have been ours.
        for id in 2..6 {
            sender.send(Uuid::from_u128(id)).unwrap();
        }
        let heard = timeout(Duration::from_secs(5), cancel_of_held(&mut cancels, &held)).await;
        assert!(heard.is_ok());
    }
}
