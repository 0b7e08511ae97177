//! When waiting jobs will probably start: the queue is played forward, slot by slot.
//!
//! Each slot is free at once or when its running job ends; each waiting job, in claim order, takes the slot that is free
//! first and holds it for as long as its kind took lately. Beyond the jobs that are looked at one by one their average
//! goes on. Jobs that will come and go first are not foreseen. From the first job of a kind without history on, nothing
//! is said: it would be a guess.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Jobs that are played one by one.
pub const LOOK_AHEAD: usize = 1_000;
/// What is left of a job that has run for longer than its kind usually does, as a part of that.
const OVERDUE_PART: f64 = 0.25;

/// Seconds from now until the jobs of a queue start, by position.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Forecast {
    /// Of the first positions.
    starts: Vec<f64>,
    /// Seconds from one to the next beyond them; none when nothing can be told there.
    pace: Option<f64>,
}

/// What is known of a running job.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Running {
    /// Seconds since it was started.
    pub elapsed: f64,
    /// What its kind takes; none without history.
    pub usual: Option<f64>,
}

/// What a forecast is made from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outlook {
    /// Jobs of the queue that can run at once.
    pub slots: usize,
    /// Those that do.
    pub running: Vec<Running>,
    /// What the waiting ones take, in claim order, at most [`LOOK_AHEAD`]; none without history.
    pub waiting: Vec<Option<f64>>,
}

impl Forecast {
    /// Plays the queue forward. Without slots nothing can be told.
    pub fn of(outlook: &Outlook) -> Forecast {
        let Some(mut free_at) = slots_free_at(outlook) else { return Forecast::default() };
        let mut forecast = Forecast::default();
        let mut work = 0.0;
        for usual in &outlook.waiting {
            let Some(Reverse(Seconds(start))) = free_at.pop() else { return forecast };
            forecast.starts.push(start);
            // Its own length does not matter to it, but to all behind it.
            let Some(usual) = usual else { return forecast };
            work += usual;
            free_at.push(Reverse(Seconds(start + usual)));
        }
        if !outlook.waiting.is_empty() {
            forecast.pace = Some(work / outlook.waiting.len() as f64 / outlook.slots as f64);
        }
        forecast
    }

    /// Seconds from now until the job at this position, from 1, starts; none where it cannot be told.
    pub fn seconds_until(&self, position: i64) -> Option<f64> {
        let index = usize::try_from(position.checked_sub(1)?).ok()?;
        match self.starts.get(index) {
            Some(start) => Some(*start),
            None => {
                let beyond = index.checked_sub(self.starts.len())? + 1;
                Some(self.starts.last()? + self.pace? * beyond as f64)
            }
        }
    }
}

/// When each slot is free, in seconds from now; none without slots or when a running job's kind has no history.
fn slots_free_at(outlook: &Outlook) -> Option<BinaryHeap<Reverse<Seconds>>> {
    if outlook.slots == 0 {
        return None;
    }
    let mut free_at = BinaryHeap::new();
    for Running { elapsed, usual } in &outlook.running {
        let usual = (*usual)?;
        free_at.push(Reverse(Seconds((usual - elapsed).max(usual * OVERDUE_PART))));
    }
    // More may run than there are slots, as after a limit was lowered: the first ends then free none.
    while free_at.len() > outlook.slots {
        free_at.pop();
    }
    while free_at.len() < outlook.slots {
        free_at.push(Reverse(Seconds(0.0)));
    }
    Some(free_at)
}

/// Seconds that can be ordered; none of them is NaN.
#[derive(Clone, Copy, Debug)]
struct Seconds(f64);

impl PartialEq for Seconds {
    fn eq(&self, other: &Seconds) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Seconds {}

impl PartialOrd for Seconds {
    fn partial_cmp(&self, other: &Seconds) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Seconds {
    fn cmp(&self, other: &Seconds) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn free_slots_are_taken_at_once_and_then_one_waits_for_the_next_end() {
        let running = |elapsed| Running { elapsed, usual: Some(10.0) };
        let outlook = Outlook {
            slots: 3,
            running: vec![running(4.0), running(25.0)],
            waiting: vec![Some(10.0), Some(2.0), Some(2.0), Some(2.0)],
        };
        let forecast = Forecast::of(&outlook);
        let starts: Vec<Option<f64>> = (0..=6).map(|position| forecast.seconds_until(position)).collect();
        // The one that runs late is given a quarter of the usual time.
        let then = 6.0 + 16.0 / 4.0 / 3.0;
        assert_eq!(
            starts,
            [None, Some(0.0), Some(2.5), Some(4.5), Some(6.0), Some(then), Some(then + 4.0 / 3.0)]
        );
    }

    #[test]
    fn where_it_would_be_a_guess_nothing_is_told() {
        let outlook = |slots, waiting| Outlook { slots, running: vec![], waiting };
        assert_eq!(Forecast::of(&outlook(0, vec![Some(1.0)])).seconds_until(1), None, "no slots");
        let unknown = Forecast::of(&outlook(1, vec![Some(1.0), None, Some(1.0)]));
        let told: Vec<Option<f64>> = (1..=4).map(|position| unknown.seconds_until(position)).collect();
        assert_eq!(told, [Some(0.0), Some(1.0), None, None], "behind a kind without history");
        let running = vec![Running { elapsed: 1.0, usual: None }];
        assert_eq!(Forecast::of(&Outlook { running, ..outlook(1, vec![Some(1.0)]) }).seconds_until(1), None);
        let lowered = Outlook {
            running: vec![
                Running { elapsed: 0.0, usual: Some(1.0) },
                Running { elapsed: 0.0, usual: Some(3.0) },
            ],
            ..outlook(1, vec![Some(1.0)])
        };
        assert_eq!(Forecast::of(&lowered).seconds_until(1), Some(3.0), "two run where one may");
    }

    /// A job of a simulated queue.
    struct Simulated {
        arrives_at: f64,
        kind: usize,
        takes: f64,
    }

    #[test]
    fn at_a_steady_load_half_of_the_estimates_are_within_a_quarter() {
        const SLOTS: usize = 4;
        const MEANS: [f64; 3] = [1.0, 4.0, 9.0];
        let mut random = StdRng::seed_from_u64(20_261_122);
        // Arrivals at about what the slots can do, after a backlog: the queue stays some hundred jobs long.
        let mut clock = 0.0;
        let jobs: Vec<Simulated> = (0..4_000)
            .map(|index| {
                let kind = random.random_range(0..MEANS.len());
                if index > 300 {
                    clock +=
                        -(1.0 - random.random::<f64>()).ln() * MEANS.iter().sum::<f64>() / 3.0 / SLOTS as f64;
                }
                // Of one kind some take five times as long as others.
                let takes = MEANS[kind] * random.random_range(1.0 / 3.0..5.0 / 3.0);
                Simulated { arrives_at: clock, kind, takes }
            })
            .collect();
        // What happens: first come, first served.
        let mut free_at: BinaryHeap<Reverse<Seconds>> = (0..SLOTS).map(|_| Reverse(Seconds(0.0))).collect();
        let starts: Vec<f64> = jobs
            .iter()
            .map(|job| {
                let start = free_at.pop().unwrap().0.0.max(job.arrives_at);
                free_at.push(Reverse(Seconds(start + job.takes)));
                start
            })
            .collect();
        // What is foretold to each as it arrives, from what had ended by then.
        let (mut told, mut good) = (0, 0);
        for (index, job) in jobs.iter().enumerate().skip(1_000) {
            let now = job.arrives_at;
            let usual = |kind: usize| {
                let ended =
                    (0..index).filter(|n| jobs[*n].kind == kind && starts[*n] + jobs[*n].takes <= now);
                let lately: Vec<f64> = ended.rev().take(100).map(|n| jobs[n].takes).collect();
                (!lately.is_empty()).then(|| lately.iter().sum::<f64>() / lately.len() as f64)
            };
            let usual: Vec<Option<f64>> = (0..MEANS.len()).map(usual).collect();
            let started = (0..index).filter(|n| starts[*n] <= now);
            let running = started.filter(|n| starts[*n] + jobs[*n].takes > now);
            let outlook = Outlook {
                slots: SLOTS,
                running: running
                    .map(|n| Running { elapsed: now - starts[n], usual: usual[jobs[n].kind] })
                    .collect(),
                waiting: (0..=index).filter(|n| starts[*n] > now).map(|n| usual[jobs[n].kind]).collect(),
            };
            if outlook.waiting.is_empty() {
                continue;
            }
            let estimate = Forecast::of(&outlook).seconds_until(outlook.waiting.len() as i64).unwrap();
            let wait = starts[index] - now;
            told += 1;
            good += usize::from((estimate - wait).abs() <= wait * 0.25);
        }
        assert!(told > 1_000, "{told} jobs waited");
        assert!(good * 2 >= told, "{good} of {told} within a quarter");
    }
}
