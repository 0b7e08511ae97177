//! How many jobs to claim: enough that no slot waits for the database, never so many that jobs lie here that another
//! process could run.
//!
//! Free slots are always claimed for. Beyond them a queue is claimed ahead only by what will be started within
//! [`AHEAD`] at the rate at which its jobs complete now, and only while that rate shows jobs shorter than [`MEMORY`]:
//! longer ones gain nothing, as a claim takes a few milliseconds, and they may happen to end all at one moment and
//! look like many short ones. So long jobs are never hoarded and short ones flow in large batches. What was
//! claimed ahead when short jobs are followed by long ones is given back by the claimer.

use std::time::Duration;

use tokio::time::Instant;

/// How far ahead to claim. A claim of 1,000 jobs takes some 20 ms, so that the next is here before the last is used up.
const AHEAD: Duration = Duration::from_millis(50);
/// Most jobs to claim ahead of the slots.
const MAX_AHEAD: usize = 1_000;
/// The rate follows a change within about this time.
const MEMORY: Duration = Duration::from_millis(100);
/// Shorter spans are too noisy to be measured.
const SHORTEST_SPAN: Duration = Duration::from_millis(5);

/// How many jobs complete in a second, as an exponentially weighted moving average.
#[derive(Debug)]
pub(super) struct CompletionRate {
    per_second: f64,
    measured_at: Instant,
}

impl CompletionRate {
    /// Nothing completed yet.
    pub(super) fn none(now: Instant) -> CompletionRate {
        CompletionRate { per_second: 0.0, measured_at: now }
    }

    /// True when it is time to `measure` again.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.measured_at) >= SHORTEST_SPAN
    }

    /// Takes in that so many jobs completed since the last measurement.
    pub(super) fn measure(&mut self, completed: usize, now: Instant) {
        let span = now.saturating_duration_since(self.measured_at).as_secs_f64();
        if span > 0.0 {
            let weight = 1.0 - (-span / MEMORY.as_secs_f64()).exp();
            self.per_second += weight * (completed as f64 / span - self.per_second);
            self.measured_at = now;
        }
    }

    /// Jobs that will be started within [`AHEAD`], beyond those that slots are free for.
    pub(super) fn ahead(&self, slots: usize) -> usize {
        // All slots together cannot complete more jobs that are as long as the memory, and one completion in each of
        // them at the same moment lifts the average to just this.
        let of_long_jobs = slots as f64 / MEMORY.as_secs_f64();
        // The cast saturates, at 0 too.
        (((self.per_second - of_long_jobs) * AHEAD.as_secs_f64()) as usize).min(MAX_AHEAD)
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
        idle + refill
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Turn =
        Turn { slots: 8, free: 8, buffered: 0, buffered_of_queue: 0, ahead_of_queue: 0, ahead: 0 };

    fn rate_after(completed_in_ten_ms: usize, rounds: u32) -> CompletionRate {
        let mut now = Instant::now();
        let mut rate = CompletionRate::none(now);
        for _ in 0..rounds {
            now += Duration::from_millis(10);
            rate.measure(completed_in_ten_ms, now);
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
        let full = Turn { free: 2, buffered: 1_000, ahead_of_queue: 1_000, ahead: 2_000, ..IDLE };
        assert_eq!(full.limit(), 2);
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
        assert_eq!(rate_after(0, 100).ahead(8), 0);
        assert_eq!(rate_after(1_000_000, 10).ahead(8), MAX_AHEAD);
        let mut rate = rate_after(100, 100);
        assert_eq!(rate.ahead(8), 495);
        let now = rate.measured_at;
        assert!(!rate.is_due(now + Duration::from_millis(1)) && rate.is_due(now + SHORTEST_SPAN));
        rate.measure(0, now + Duration::from_millis(500));
        assert_eq!(rate.ahead(8), 0);
    }

    #[test]
    fn long_jobs_are_not_claimed_ahead_even_if_all_end_at_one_moment() {
        for slots in [1, 8, 1_000] {
            let mut now = Instant::now();
            let mut rate = CompletionRate::none(now);
            for step in 0..2_000 {
                now += SHORTEST_SPAN;
                // Every slot ends its job of half a second.
                rate.measure(if step % 100 == 99 { slots } else { 0 }, now);
                assert_eq!(rate.ahead(slots), 0);
            }
        }
    }
}
