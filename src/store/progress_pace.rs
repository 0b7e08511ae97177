//! Progress that workers over the API report, at the pace of all progress: at most four writes a second about one job,
//! of which the latest counts.
//!
//! A report that comes too soon waits for its turn, which slows down a worker that reports one after the other. One
//! that is overtaken meanwhile is not written: the newer one carries what it said. Each process keeps its own pace.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::Store;
use super::lease::Lease;
use super::progress::Progress;
use crate::error::Result;

/// Between two writes about one job.
const PAUSE: Duration = Duration::from_millis(250);
/// Leases that are remembered before those that need not be are forgotten.
const REMEMBERED: usize = 1_024;

/// What is said and not written yet, by lease.
#[derive(Clone, Debug, Default)]
pub(super) struct ProgressPace {
    leases: Arc<Mutex<HashMap<Lease, Pace>>>,
}

#[derive(Debug)]
struct Pace {
    not_before: Instant,
    waiting: Option<Progress>,
}

impl Store {
    /// Notes the progress when its turn comes; false when a newer report was noted in its place.
    ///
    /// # Errors
    /// `LeaseLost`, `Unavailable`, `Database`.
    pub async fn report_progress_at_pace(&self, progress: Progress) -> Result<bool> {
        let lease = progress.lease;
        sleep_until(self.progress_pace.say(progress, Instant::now())).await;
        match self.progress_pace.take(lease) {
            Some(latest) => self.report_progress_if_leased(latest).await.map(|()| true),
            None => Ok(false),
        }
    }
}

impl ProgressPace {
    /// Keeps what is said, and when it may be written.
    fn say(&self, said: Progress, now: Instant) -> Instant {
        let mut leases = self.lock();
        if leases.len() >= REMEMBERED {
            leases.retain(|_, pace| pace.waiting.is_some() || pace.not_before > now);
        }
        let pace = leases.entry(said.lease).or_insert(Pace { not_before: now, waiting: None });
        let before = pace.waiting.take();
        let (fraction, message) = before.map_or((None, None), |before| (before.fraction, before.message));
        pace.waiting = Some(Progress {
            fraction: said.fraction.or(fraction),
            message: said.message.or(message),
            lease: said.lease,
        });
        pace.not_before
    }

    /// What is to be written now; none when another caller has taken it.
    fn take(&self, lease: Lease) -> Option<Progress> {
        let mut leases = self.lock();
        let pace = leases.get_mut(&lease)?;
        let latest = pace.waiting.take()?;
        pace.not_before = Instant::now() + PAUSE;
        Some(latest)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Lease, Pace>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(fraction: Option<f64>, message: Option<&str>) -> Progress {
        let lease = Lease { job_id: uuid::Uuid::nil(), epoch: 1 };
        Progress { lease, fraction, message: message.map(str::to_owned) }
    }

    #[tokio::test]
    async fn reports_that_come_too_soon_wait_and_the_latest_is_written_once() {
        let pace = ProgressPace::default();
        let first = pace.say(said(Some(0.1), None), Instant::now());
        assert!(first <= Instant::now());
        assert_eq!(pace.take(said(None, None).lease), Some(said(Some(0.1), None)));
        let second = pace.say(said(Some(0.2), Some("reading")), Instant::now());
        let third = pace.say(said(Some(0.3), None), Instant::now());
        assert!(second > Instant::now() && third == second);
        assert_eq!(pace.take(said(None, None).lease), Some(said(Some(0.3), Some("reading"))));
        assert_eq!(pace.take(said(None, None).lease), None);
    }

    #[tokio::test]
    async fn leases_that_are_silent_are_forgotten() {
        let pace = ProgressPace::default();
        for job_id in 0..REMEMBERED as u128 {
            let lease = Lease { job_id: uuid::Uuid::from_u128(job_id), epoch: 1 };
            pace.say(Progress { lease, ..said(None, None) }, Instant::now());
            pace.take(lease);
        }
        pace.say(said(None, None), Instant::now() + PAUSE * 2);
        assert!(pace.lock().len() <= 2);
    }
}
