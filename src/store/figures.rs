//! What this process has done to jobs since it started, counted where it is done. For `/metrics`: no decision hangs on it.

use std::sync::atomic::{AtomicU64, Ordering};

use entity::attempt::AttemptOutcome;

use super::Store;
use super::callback::DeliveryOutcome;

/// The outcomes, in the order in which they are counted.
const OUTCOMES: [AttemptOutcome; 6] = [
    AttemptOutcome::Done,
    AttemptOutcome::Error,
    AttemptOutcome::Timeout,
    AttemptOutcome::Cancelled,
    AttemptOutcome::WorkerLost,
    AttemptOutcome::Released,
];

/// The counters; those of [`StoreFigures`].
#[derive(Default)]
pub(super) struct Counts {
    claims: AtomicU64,
    claimed: AtomicU64,
    ended: [AtomicU64; OUTCOMES.len()],
    delivered: AtomicU64,
    put_off: AtomicU64,
    given_up: AtomicU64,
    queue_full: AtomicU64,
}

/// What a process has done.
#[derive(Clone, Debug)]
pub struct StoreFigures {
    /// Claims that were answered, with nothing too.
    pub claims: u64,
    /// Jobs that they brought.
    pub claimed: u64,
    /// Attempts that ended, by outcome.
    pub ended: [(AttemptOutcome, u64); OUTCOMES.len()],
    /// Attempts to deliver a callback: taken by the receiver, to be tried again, given up.
    pub deliveries: [(&'static str, u64); 3],
    /// Submits that were refused as the client's queue was full.
    pub queue_full: u64,
}

impl Store {
    /// See [`StoreFigures`].
    pub fn figures(&self) -> StoreFigures {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = &self.counts;
        let mut ended = OUTCOMES.map(|outcome| (outcome, 0));
        for ((_, figure), count) in ended.iter_mut().zip(&counts.ended) {
            *figure = of(count);
        }
        StoreFigures {
            claims: of(&counts.claims),
            claimed: of(&counts.claimed),
            ended,
            deliveries: [
                ("delivered", of(&counts.delivered)),
                ("put_off", of(&counts.put_off)),
                ("given_up", of(&counts.given_up)),
            ],
            queue_full: of(&counts.queue_full),
        }
    }
}

impl Counts {
    /// A claim was answered with so many jobs.
    pub(super) fn claim(&self, jobs: usize) {
        self.claims.fetch_add(1, Ordering::Relaxed);
        self.claimed.fetch_add(jobs as u64, Ordering::Relaxed);
    }

    /// So many attempts ended like this.
    pub(super) fn ended(&self, outcome: AttemptOutcome, attempts: u64) {
        let counted = OUTCOMES.iter().zip(&self.ended).find(|(known, _)| **known == outcome);
        if let Some((_, count)) = counted {
            count.fetch_add(attempts, Ordering::Relaxed);
        }
    }

    /// An attempt to deliver a callback came to this.
    pub(super) fn delivery(&self, outcome: &DeliveryOutcome) {
        let count = match outcome {
            DeliveryOutcome::Delivered => &self.delivered,
            DeliveryOutcome::Failed { retry_after: Some(_), .. } => &self.put_off,
            DeliveryOutcome::Failed { retry_after: None, .. } => &self.given_up,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// A client's queue was full.
    pub(super) fn queue_full(&self) {
        self.queue_full.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_its_own_count() {
        let counts = Counts::default();
        for (number, outcome) in OUTCOMES.into_iter().enumerate() {
            counts.ended(outcome, number as u64 + 1);
        }
        let counted: Vec<u64> = counts.ended.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        assert_eq!(counted, [1, 2, 3, 4, 5, 6]);
    }
}
