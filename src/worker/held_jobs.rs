//! The jobs that this worker holds: claimed and waiting for a slot, running, or ended with the end not yet committed.
//!
//! A heartbeat names them all, for a job that is not named for longer than a lease is taken away. A job is held from
//! the answer to its claim until its [`HeldJob`] is dropped, which happens wherever its task ends, panics included.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;

use super::stop::{Stop, StopReason};
use crate::store::claim::ClaimedJob;
use crate::store::lease::{Lease, LeaseState};

/// All that one registration holds.
#[derive(Debug, Default)]
pub(super) struct HeldJobs {
    stops: Mutex<HashMap<Lease, Arc<Stop>>>,
    suspects: AtomicUsize,
    suspect_gone: Notify,
}

/// One job that is held, until this is dropped.
#[derive(Debug)]
pub(super) struct HeldJob {
    /// What was claimed.
    pub(super) job: ClaimedJob,
    /// How it is told to stop.
    pub(super) stop: Arc<Stop>,
    /// When the answer to its claim came.
    pub(super) claimed_at: Instant,
    all: Arc<HeldJobs>,
}

impl HeldJobs {
    /// Holds what was claimed.
    pub(super) fn hold(self: &Arc<Self>, claimed: Vec<ClaimedJob>) -> Vec<HeldJob> {
        let claimed_at = Instant::now();
        let mut stops = self.lock();
        let hold_one = |job: ClaimedJob| {
            let stop = Arc::new(Stop::default());
            stops.insert(job.lease, stop.clone());
            self.suspects.fetch_add(usize::from(job.suspect), Ordering::Relaxed);
            HeldJob { job, stop, claimed_at, all: self.clone() }
        };
        claimed.into_iter().map(hold_one).collect()
    }

    /// What the next heartbeat must name.
    pub(super) fn leases(&self) -> Vec<Lease> {
        self.lock().keys().copied().collect()
    }

    /// True while any attempt of the job is held.
    pub(super) fn holds(&self, job_id: Uuid) -> bool {
        self.lock().keys().any(|lease| lease.job_id == job_id)
    }

    /// True while a job is held that has lost a worker before.
    pub(super) fn holds_suspect(&self) -> bool {
        self.suspects.load(Ordering::Relaxed) > 0
    }

    /// Returns when a suspect is no longer held, so that another one may be claimed. Only the claimer waits for it.
    pub(super) async fn suspect_gone(&self) {
        self.suspect_gone.notified().await;
    }

    /// Tells each job what the heartbeat learned about it, and how many were lost. One that ended meanwhile is
    /// not held any more, or shows as lost when its end was committed but not yet answered; neither is told anything
    /// that matters to it.
    pub(super) fn heed(&self, states: &[(Lease, LeaseState)]) -> usize {
        let stops = self.lock();
        let mut lost = 0;
        for (lease, state) in states {
            let Some(stop) = stops.get(lease) else { continue };
            match state {
                LeaseState::Held => {}
                LeaseState::CancelRequested => stop.ask(StopReason::Cancelled),
                LeaseState::Lost => {
                    stop.lose();
                    lost += 1;
                }
            }
        }
        lost
    }

    /// Asks all handlers to stop.
    pub(super) fn ask_all(&self, reason: StopReason) {
        self.lock().values().for_each(|stop| stop.ask(reason));
    }

    /// Says that all leases are lost.
    pub(super) fn lose_all(&self) {
        self.lock().values().for_each(|stop| stop.lose());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Lease, Arc<Stop>>> {
        self.stops.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for HeldJob {
    fn drop(&mut self) {
        self.all.lock().remove(&self.job.lease);
        if self.job.suspect {
            self.all.suspects.fetch_sub(1, Ordering::Relaxed);
            self.all.suspect_gone.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claimed(job_id: u128, epoch: i32, suspect: bool) -> ClaimedJob {
        ClaimedJob {
            lease: Lease { job_id: Uuid::from_u128(job_id), epoch },
            kind: "echo".to_owned(),
            queue: "default".to_owned(),
            client_id: "default".to_owned(),
            payload: Ok(serde_json::Value::Null),
            attempt: 1,
            max_attempts: 5,
            timeout_seconds: 300,
            suspect,
            has_results: false,
            started_at: chrono::Utc::now(),
        }
    }

    #[tokio::test]
    async fn a_job_is_named_from_its_claim_to_its_drop() {
        let all = Arc::new(HeldJobs::default());
        let mut held = all.hold(vec![claimed(1, 1, false), claimed(2, 4, true)]);
        assert_eq!(all.leases().len(), 2);
        assert!(all.holds(Uuid::from_u128(2)) && all.holds_suspect());
        held.pop();
        assert!(!all.holds(Uuid::from_u128(2)) && !all.holds_suspect());
        held.pop();
        assert!(all.leases().is_empty());
    }

    #[tokio::test]
    async fn what_a_heartbeat_says_reaches_the_attempt_that_it_is_about() {
        let all = Arc::new(HeldJobs::default());
        let held = all.hold(vec![claimed(1, 1, false), claimed(1, 2, false), claimed(2, 1, false)]);
        let gone = Lease { job_id: Uuid::from_u128(9), epoch: 1 };
        let lost = all.heed(&[
            (held[0].job.lease, LeaseState::Lost),
            (held[1].job.lease, LeaseState::Held),
            (held[2].job.lease, LeaseState::CancelRequested),
            (gone, LeaseState::Lost),
        ]);
        assert_eq!(lost, 1);
        let told: Vec<_> = held.iter().map(|job| (job.stop.is_lost(), job.stop.reason())).collect();
        assert_eq!(told, [(true, None), (false, None), (false, Some(StopReason::Cancelled))]);
        // The first reason stays.
        all.ask_all(StopReason::Draining);
        assert_eq!(held[2].stop.reason(), Some(StopReason::Cancelled));
        assert_eq!(held[1].stop.reason(), Some(StopReason::Draining));
    }
}
