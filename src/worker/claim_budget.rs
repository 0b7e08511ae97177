//! How many jobs to claim: enough that no slot waits for the database, never so many that jobs lie here that another
//! process could run.
//!
//! Free slots are always claimed for. Beyond them a queue is claimed ahead only by what will be started within
//! [`AHEAD`] and the time that a claim takes, at the rate at which its jobs complete now, and only while they run for
//! less than [`SHORT`]. Longer ones gain nothing from it. That they are long is measured, not told from a low
//! rate: where claims are slow the rate is low because of them, and claiming less would lower it further.
//! What was claimed ahead when short jobs are followed by long ones is given back by the claimer.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// How far ahead to claim. A claim of 1,000 jobs takes some 20 ms, so that the next is here before the last is used up.
const AHEAD: Duration = Duration::from_millis(50);
/// Most jobs to claim ahead of the slots: what [`AHEAD`] comes to at 80,000 jobs a second. With 1,000 each claim had to wait
/// until half of the one before was used up, and a drain stood still for an eighth of its time.
const MAX_AHEAD: usize = 4_000;
/// Beyond so many jobs ahead, only what is started within [`SURELY`]: where claims are slow, more would wait until it is given back.
const FEW_AHEAD: usize = 1_000;
/// How far ahead many jobs may be claimed, however long a claim takes.
const SURELY: Duration = Duration::from_millis(100);
/// Most jobs of one claim: the first of a larger one would wait longer for their start.
const MAX_CLAIM: usize = 1_000;
/// Jobs that run for longer are not claimed ahead.
const SHORT: Duration = Duration::from_millis(100);
/// The rate follows a change within about this time.
const MEMORY: Duration = Duration::from_millis(100);
/// Shorter spans are too noisy to be measured.
const SHORTEST_SPAN: Duration = Duration::from_millis(5);

/// What the slots count for a queue between two measurements.
#[derive(Debug, Default)]
pub(super) struct Completions {
    jobs: AtomicUsize,
    micros: AtomicU64,
}

impl Completions {
    /// Counts a job that ran for so long.
    pub(super) fn count(&self, ran: Duration) {
        self.jobs.fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(u64::try_from(ran.as_micros()).unwrap_or(u64::MAX >> 16), Ordering::Relaxed);
    }
}

/// How many jobs complete in a second, and how long they run: exponentially weighted moving averages.
#[derive(Debug)]
pub(super) struct CompletionRate {
    per_second: f64,
    run_seconds_per_second: f64,
    measured_at: Instant,
}

impl CompletionRate {
    /// Nothing completed yet.
    pub(super) fn none(now: Instant) -> CompletionRate {
        CompletionRate { per_second: 0.0, run_seconds_per_second: 0.0, measured_at: now }
    }

    /// True when it is time to `measure` again.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.measured_at) >= SHORTEST_SPAN
    }

    /// Takes in what was counted since the last measurement, and sets that back.
    pub(super) fn measure(&mut self, completions: &Completions, now: Instant) {
        let span = now.saturating_duration_since(self.measured_at).as_secs_f64();
        if span > 0.0 {
            let jobs = completions.jobs.swap(0, Ordering::Relaxed) as f64;
            let run_seconds = completions.micros.swap(0, Ordering::Relaxed) as f64 / 1e6;
            let weight = 1.0 - (-span / MEMORY.as_secs_f64()).exp();
            self.per_second += weight * (jobs / span - self.per_second);
            self.run_seconds_per_second += weight * (run_seconds / span - self.run_seconds_per_second);
            self.measured_at = now;
        }
    }

    /// Jobs that will be started within [`AHEAD`] and the time that a claim takes, beyond those that slots are free
    /// for. Without the latter a slow claim would bring less than is started until the next one answers.
    pub(super) fn ahead(&self, claim_took: Duration) -> usize {
        if self.run_seconds_per_second >= self.per_second * SHORT.as_secs_f64() {
            return 0;
        }
        // The casts saturate.
        let surely = (self.per_second * SURELY.as_secs_f64()) as usize;
        let wanted = (self.per_second * (AHEAD + claim_took).as_secs_f64()) as usize;
        wanted.min(surely.max(FEW_AHEAD)).min(MAX_AHEAD)
    }
}

/// What is known when a queue has its turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    /// All slots.
    pub(super) slots: usize,
    /// Slots that are free.
    pub(super) free: usize,
    /// Claimed jobs of all queues that wait for a slot.
    pub(super) buffered: usize,
    /// Those of this queue.
    pub(super) buffered_of_queue: usize,
    /// [`CompletionRate::ahead`] of this queue.
    pub(super) ahead_of_queue: usize,
    /// The same of all queues together.
    pub(super) ahead: usize,
}

impl Turn {
    /// Jobs to claim from the queue now; 0 when there is no need yet.
    pub(super) fn limit(self) -> usize {
        let idle = self.free.saturating_sub(self.buffered);
        // A queue whose jobs do not run yet has no rate, and while others keep all slots busy it never would: it may
        // claim ahead what fits into the slots, as far as slots become free soon.
        let newcomer = self.ahead.min(self.slots);
        let wanted =
            self.ahead_of_queue.max(newcomer).min((MAX_AHEAD + self.free).saturating_sub(self.buffered));
        // Refilled at the half, so that claims are large.
        let refill = if self.buffered_of_queue * 2 <= wanted {
            wanted.saturating_sub(self.buffered_of_queue)
        } else {
            0
        };
        (idle + refill).min(MAX_CLAIM.max(self.free))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Turn =
        Turn { slots: 8, free: 8, buffered: 0, buffered_of_queue: 0, ahead_of_queue: 0, ahead: 0 };

    fn completions(jobs: usize, each_ran: Duration) -> Completions {
        let completions = Completions::default();
        (0..jobs).for_each(|_| completions.count(each_ran));
        completions
    }

    fn rate_after(completed_in_ten_ms: usize, rounds: u32) -> CompletionRate {
        let mut now = Instant::now();
        let mut rate = CompletionRate::none(now);
        for _ in 0..rounds {
            now += Duration::from_millis(10);
            rate.measure(&completions(completed_in_ten_ms, Duration::from_micros(20)), now);
        }
        rate
    }

    #[test]
    fn without_a_rate_only_free_slots_are_claimed_for() {
        assert_eq!(IDLE.limit(), 8);
        assert_eq!(Turn { free: 3, buffered: 1, buffered_of_queue: 1, ..IDLE }.limit(), 2);
        assert_eq!(Turn { free: 0, ..IDLE }.limit(), 0);
    }

    #[test]
    fn short_jobs_are_claimed_ahead_and_refilled_at_the_half() {
        let busy = Turn { free: 0, ahead_of_queue: 600, ahead: 600, ..IDLE };
        assert_eq!(busy.limit(), 600);
        assert_eq!(Turn { buffered: 301, buffered_of_queue: 301, ..busy }.limit(), 0);
        assert_eq!(Turn { buffered: 300, buffered_of_queue: 300, ..busy }.limit(), 300);
    }

    #[test]
    fn what_waits_for_a_slot_is_bounded_over_all_queues() {
        let full =
            Turn { free: 2, buffered: MAX_AHEAD, ahead_of_queue: MAX_AHEAD, ahead: 2 * MAX_AHEAD, ..IDLE };
        assert_eq!(full.limit(), 2);
    }

    #[test]
    fn a_claim_is_bounded_but_for_the_slots_and_the_next_begins_while_much_is_left() {
        let busy = Turn { free: 0, ahead_of_queue: 3_000, ahead: 3_000, ..IDLE };
        assert_eq!(busy.limit(), MAX_CLAIM);
        assert_eq!(Turn { buffered: 1_300, buffered_of_queue: 1_300, ..busy }.limit(), MAX_CLAIM);
        assert_eq!(Turn { buffered: 1_600, buffered_of_queue: 1_600, ..busy }.limit(), 0);
        assert_eq!(Turn { slots: 2_500, free: 2_500, ..IDLE }.limit(), 2_500);
    }

    #[test]
    fn a_queue_that_does_not_run_yet_gets_its_turn_beside_a_busy_one() {
        let beside = Turn { free: 0, buffered: 500, ahead: 900, ..IDLE };
        assert_eq!(beside.limit(), 8, "as much as fits into the slots");
        let beside_a_slow_one = Turn { ahead: 0, buffered: 0, ..beside };
        assert_eq!(beside_a_slow_one.limit(), 0);
    }

    #[test]
    fn the_rate_follows_within_tenths_of_a_second_both_ways() {
        assert_eq!(rate_after(0, 100).ahead(Duration::ZERO), 0);
        assert_eq!(rate_after(10_000, 10).ahead(Duration::ZERO), MAX_AHEAD);
        let mut rate = rate_after(100, 100);
        assert!((499..=500).contains(&rate.ahead(Duration::ZERO)));
        let now = rate.measured_at;
        assert!(!rate.is_due(now + Duration::from_millis(1)) && rate.is_due(now + SHORTEST_SPAN));
        rate.measure(&Completions::default(), now + Duration::from_millis(500));
        assert!(rate.ahead(Duration::ZERO) < 5);
    }

    #[test]
    fn long_jobs_are_not_claimed_ahead_even_if_all_end_at_one_moment() {
        for slots in [1, 8, 1_000] {
            let mut now = Instant::now();
            let mut rate = CompletionRate::none(now);
            for step in 0..2_000 {
                now += SHORTEST_SPAN;
                // Every slot ends its job of half a second.
                let ended = if step % 100 == 99 { slots } else { 0 };
                rate.measure(&completions(ended, Duration::from_millis(500)), now);
                assert_eq!(rate.ahead(Duration::from_millis(100)), 0);
            }
        }
    }

    #[test]
    fn a_slow_claim_does_not_let_the_rate_fall() {
        for (claim_took, most) in [(20, MAX_AHEAD), (70, MAX_AHEAD), (160, FEW_AHEAD), (500, FEW_AHEAD)] {
            let claim_took = Duration::from_millis(claim_took);
            let (mut now, mut claimed) = (Instant::now(), 8);
            let mut rate = CompletionRate::none(now);
            for _ in 0..200 {
                // Short jobs: all that one claim brought are over when the next one answers.
                now += claim_took;
                rate.measure(&completions(claimed, Duration::from_micros(20)), now);
                claimed = 8 + rate.ahead(claim_took);
            }
            assert_eq!(claimed, 8 + most, "{claim_took:?}");
        }
    }
}
