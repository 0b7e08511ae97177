//! What a loop does while the database fails: waits longer each time, with jitter so that processes do not come back
//! together, and logs the outage once.

use std::time::Duration;

use rand::Rng;

use crate::error::{Error, cause_of};

/// The wait after the first failure.
const FIRST: Duration = Duration::from_millis(100);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(5);

/// The failures of one loop in a row.
#[derive(Debug, Default)]
pub(super) struct Outage {
    failures: u32,
}

impl Outage {
    /// Takes in a failure and says how long to wait.
    pub(super) fn note(&mut self, error: &Error) -> Duration {
        if self.failures == 0 {
            tracing::warn!(error = %error, source = %cause_of(error), "the worker has no database; trying again");
        }
        self.wait()
    }

    /// Takes in a failure that others log, and says how long to wait.
    pub(super) fn wait(&mut self) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        self.failures += 1;
        whole.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// Takes in a success.
    pub(super) fn end(&mut self, operation: &'static str) {
        if self.failures > 0 {
            tracing::info!(failures = self.failures, "the worker can {operation} again");
            self.failures = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_grows_to_five_seconds_and_starts_over_after_a_success() {
        let mut outage = Outage::default();
        let waits: Vec<Duration> = (0..50).map(|_| outage.wait()).collect();
        assert!(waits[0] <= FIRST && waits[0] >= FIRST / 2);
        assert!(waits[10..].iter().all(|wait| *wait <= LONGEST && *wait >= LONGEST / 2));
        outage.end("claim");
        assert!(outage.wait() <= FIRST);
    }
}
