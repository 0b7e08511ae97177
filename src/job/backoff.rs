//! When a failed attempt is tried again: exponential, with jitter, so that jobs which failed together do not come
//! back together.

use std::time::Duration;

use rand::Rng;

use crate::config::Backoff;

/// The wait after attempt number `attempt` (from 1): `initial * factor^(attempt - 1)`, at most `max`, of which a
/// random part between a half and the whole is taken.
pub fn delay_after(backoff: &Backoff, attempt: i16) -> Duration {
    let whole = whole_seconds(backoff, attempt);
    Duration::from_secs_f64(whole * rand::rng().random_range(0.5..=1.0))
}

fn whole_seconds(backoff: &Backoff, attempt: i16) -> f64 {
    let grown = backoff.initial_seconds * backoff.factor.powi(i32::from(attempt.max(1)) - 1);
    grown.min(backoff.max_seconds).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_grows_to_its_limit_and_is_jittered_within_half() {
        let backoff = Backoff { initial_seconds: 5.0, factor: 2.0, max_seconds: 3600.0 };
        assert_eq!(whole_seconds(&backoff, 1), 5.0);
        assert_eq!(whole_seconds(&backoff, 4), 40.0);
        assert_eq!(whole_seconds(&backoff, 100), 3600.0);
        for _ in 0..1000 {
            let wait = delay_after(&backoff, 4).as_secs_f64();
            assert!((20.0..=40.0).contains(&wait), "{wait}");
        }
    }
}
