//! Claims jobs and starts them: the loop that decides what runs next.
//!
//! One claim is on its way at a time, while slots are filled from what was claimed before. Queues take turns, both at
//! being claimed from and at being started from. A queue that gave less than was asked for is dry, and is not asked
//! again until news of it come, or the poll, which suffices alone. The loop registers for the news before its first claim,
//! so that work which comes while a claim looks elsewhere is never missed.
//!
//! Claimed jobs that were not started within a second, because short jobs were followed by long ones or the
//! database does not take the ends, are given back; nothing is claimed ahead from their queue until its rate is
//! measured anew.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::attempt::{self, Left};
use super::claim_budget::{CompletionRate, Completions, Turn};
use super::ending;
use super::held_jobs::HeldJob;
use super::outage::Outage;
use super::registration::Registration;
use super::slots::Slot;
use crate::error::{Error, Result};
use crate::events::WorkNews;
use crate::store::claim::{ClaimRequest, ClaimedJob};
use crate::store::finish::AttemptEnd;

/// Every queue is asked this often, news or not.
const POLL: Duration = Duration::from_secs(1);
/// A claim counts as no slower than this, so that little is claimed ahead that would be given back.
const LONGEST_CLAIM: Duration = Duration::from_millis(500);
/// A claimed job that has waited this long for a slot is given back.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// The loop's state.
pub(super) struct Claimer {
    registration: Arc<Registration>,
    queues: Vec<Queue>,
    /// Index of the queue whose turn to be claimed from is next.
    next_claim: usize,
    /// Index of the queue whose turn to be started from is next.
    next_start: usize,
    claiming: Option<Claiming>,
    ready: broadcast::Receiver<WorkNews>,
    poll_at: Instant,
    not_before: Instant,
    /// How long the latest claim that succeeded took.
    claim_took: Duration,
    outage: Outage,
    held_suspect: bool,
}

struct Queue {
    name: String,
    claimed: VecDeque<HeldJob>,
    completed: Arc<Completions>,
    rate: CompletionRate,
    is_dry: bool,
    /// The latest claim was full, so that what it took may lie before the next one's jobs.
    is_behind: bool,
    /// The next claim looks at the jobs themselves, as it does once after each poll: the ledger is not to be trusted alone.
    is_plain_due: bool,
}

/// A claim that is on its way. Dropping it leaves it to run: what it claims is then not named by any heartbeat, and
/// goes back after a lease.
struct Claiming {
    queue: usize,
    limit: usize,
    from_ledger: bool,
    began_at: Instant,
    answer: Pin<Box<dyn Future<Output = Result<Vec<ClaimedJob>>> + Send>>,
}

impl Claimer {
    /// Registers for the news; nothing is claimed yet.
    pub(super) fn new(registration: Arc<Registration>, ready: broadcast::Receiver<WorkNews>) -> Claimer {
        let now = Instant::now();
        let queue = |name: &String| Queue {
            name: name.clone(),
            claimed: VecDeque::new(),
            completed: Arc::default(),
            rate: CompletionRate::none(now),
            is_dry: false,
            is_behind: false,
            is_plain_due: true,
        };
        Claimer {
            queues: registration.settings.queues.iter().map(queue).collect(),
            registration,
            next_claim: 0,
            next_start: 0,
            claiming: None,
            ready,
            poll_at: now + POLL,
            not_before: now,
            claim_took: Duration::ZERO,
            outage: Outage::default(),
            held_suspect: false,
        }
    }

    /// Claims and starts jobs until `shutdown`, or until the lease is lost.
    pub(super) async fn run(&mut self, shutdown: &CancellationToken) {
        let registration = self.registration.clone();
        while !registration.lost.is_cancelled() && !shutdown.is_cancelled() {
            self.run_once();
            let wake_at = self.wake_at();
            tokio::select! {
                biased;
                () = registration.lost.cancelled() => {}
                () = shutdown.cancelled() => {}
                answer = answer_of(&mut self.claiming) => self.take_answer(answer),
                () = registration.slots.changed() => {}
                () = registration.held.suspect_gone() => {}
                news = news_of(&mut self.ready) => self.take_news(news),
                () = sleep_until(wake_at) => {}
            }
        }
    }

    /// Gives everything back that was claimed and not started, and waits until `deadline` for the claim that is on its
    /// way, to give back what it brings.
    pub(super) async fn give_back(mut self, deadline: Instant) {
        self.give_back_if(|_| true);
        if self.claiming.is_none() {
            return;
        }
        if let Ok(answer) = tokio::time::timeout_at(deadline, answer_of(&mut self.claiming)).await {
            self.take_answer(answer);
            self.give_back_if(|_| true);
        }
    }

    /// What there is to do now, without waiting for anything.
    fn run_once(&mut self) {
        let now = Instant::now();
        for queue in &mut self.queues {
            if queue.rate.is_due(now) {
                queue.rate.measure(&queue.completed, now);
            }
        }
        let holds_suspect = self.registration.held.holds_suspect();
        // Without the suspect, others that were passed over because of it may be claimed.
        if now >= self.poll_at || (self.held_suspect && !holds_suspect) {
            self.poll_at = now + POLL;
            self.expect_work();
            self.queues.iter_mut().for_each(|queue| queue.is_plain_due = true);
        }
        self.held_suspect = holds_suspect;
        self.start_jobs();
        self.give_back_if(|held| held.claimed_at + LONGEST_WAIT <= now);
        if self.claiming.is_none() && now >= self.not_before {
            self.begin_claim();
        }
    }

    /// When there is something to do even if nothing happens.
    fn wake_at(&self) -> Instant {
        let oldest =
            self.queues.iter().filter_map(|queue| queue.claimed.front()).map(|held| held.claimed_at).min();
        let give_back_at = oldest.map_or(self.poll_at, |claimed_at| claimed_at + LONGEST_WAIT);
        let try_again_at = if self.not_before > Instant::now() { self.not_before } else { self.poll_at };
        self.poll_at.min(give_back_at).min(try_again_at)
    }

    fn expect_work(&mut self) {
        self.queues.iter_mut().for_each(|queue| queue.is_dry = false);
    }

    /// A queue that the news do not name stays dry: a process with ten queues would ask nine of them for nothing, each time.
    fn take_news(&mut self, news: WorkNews) {
        let mut next = Some(news);
        while let Some(news) = next {
            match news {
                WorkNews::Queue(name) => {
                    self.queues
                        .iter_mut()
                        .filter(|queue| *queue.name == *name)
                        .for_each(|queue| queue.is_dry = false);
                }
                WorkNews::Anywhere => self.expect_work(),
            }
            // What has come meanwhile.
            next = news_of(&mut self.ready).now_or_never();
        }
    }

    fn set_dry(&mut self, index: usize, is_dry: bool) {
        if let Some(queue) = self.queues.get_mut(index) {
            queue.is_dry = is_dry;
        }
    }

    /// Fills the free slots from the queues in turn.
    fn start_jobs(&mut self) {
        while self.registration.slots.free() > 0 {
            let Some((held, completed)) = self.take_next() else { return };
            if Instant::now() >= self.registration.valid_until() {
                // The process was stopped for a while, and the heartbeat has not noticed yet.
                return self.registration.lose();
            }
            if !held.stop.is_lost() {
                let slot = self.registration.slots.take();
                let registration = self.registration.clone();
                self.registration.jobs.spawn(run_job(registration, held, slot, completed));
            }
        }
    }

    fn take_next(&mut self) -> Option<(HeldJob, Arc<Completions>)> {
        for _ in 0..self.queues.len() {
            let index = self.next_start;
            self.next_start = (index + 1) % self.queues.len();
            if let Some(queue) = self.queues.get_mut(index)
                && let Some(held) = queue.claimed.pop_front()
            {
                return Some((held, queue.completed.clone()));
            }
        }
        None
    }

    /// Gives back the first of each queue for as long as the condition holds.
    fn give_back_if(&mut self, is_due: impl Fn(&HeldJob) -> bool) {
        for queue in &mut self.queues {
            let mut given_back = 0;
            while let Some(held) = queue.claimed.pop_front_if(|held| is_due(held)) {
                given_back += 1;
                let registration = self.registration.clone();
                let ending = registration.slots.ending(0);
                self.registration.jobs.spawn(async move {
                    if !held.stop.is_lost() {
                        ending::write(&registration, held, AttemptEnd::Released, ending).await;
                    }
                });
            }
            if given_back > 0 {
                queue.rate = CompletionRate::none(Instant::now());
                tracing::debug!(
                    queue.name = queue.name,
                    jobs = given_back,
                    "gave back jobs that waited for a slot"
                );
            }
        }
    }

    /// Claims from the first queue in turn that has need and may have work.
    fn begin_claim(&mut self) {
        let slots = &self.registration.slots;
        let buffered = self.queues.iter().map(|queue| queue.claimed.len()).sum();
        let ahead = self.queues.iter().map(|queue| queue.rate.ahead(self.claim_took)).sum();
        for offset in 0..self.queues.len() {
            let index = (self.next_claim + offset) % self.queues.len();
            let Some(queue) = self.queues.get(index).filter(|queue| !queue.is_dry) else { continue };
            let turn = Turn {
                slots: self.registration.settings.slots,
                free: slots.free(),
                buffered,
                buffered_of_queue: queue.claimed.len(),
                ahead_of_queue: queue.rate.ahead(self.claim_took),
                ahead,
            };
            let limit = turn.limit();
            if limit == 0 || slots.is_choked() {
                continue;
            }
            let request = ClaimRequest {
                worker_id: self.registration.worker_id,
                queue: queue.name.clone(),
                limit: i64::try_from(limit).unwrap_or(i64::MAX),
                holds_suspect: self.held_suspect,
                from_ledger: queue.is_behind && !queue.is_plain_due,
            };
            let from_ledger = request.from_ledger;
            if let Some(queue) = self.queues.get_mut(index) {
                queue.is_plain_due &= from_ledger;
            }
            self.next_claim = (index + 1) % self.queues.len();
            // Until the answer says otherwise, or news that come while it is on its way and that it may not know of.
            self.set_dry(index, true);
            let answer = Box::pin(claim(self.registration.clone(), request));
            let began_at = Instant::now();
            self.claiming = Some(Claiming { queue: index, limit, from_ledger, began_at, answer });
            return;
        }
    }

    fn take_answer(&mut self, answer: Result<Vec<ClaimedJob>>) {
        let Some(claiming) = self.claiming.take() else { return };
        match answer {
            Ok(claimed) => {
                self.outage.end("claim");
                self.claim_took = claiming.began_at.elapsed().min(LONGEST_CLAIM);
                let has_suspect = claimed.iter().any(|job| job.suspect);
                let is_short = claimed.len() < claiming.limit;
                // Beside a suspect others were passed over, and there may be more; and that nothing is left is for the
                // jobs to say, not for the ledger.
                if !is_short || has_suspect || claiming.from_ledger {
                    self.set_dry(claiming.queue, false);
                }
                let held = self.registration.held.hold(claimed);
                if let Some(queue) = self.queues.get_mut(claiming.queue) {
                    queue.claimed.extend(held);
                    queue.is_behind = !is_short;
                }
            }
            Err(error) => {
                self.set_dry(claiming.queue, false);
                self.not_before = Instant::now() + self.outage.note(&error);
            }
        }
    }
}

/// A claim that hangs for a whole lease is given up; what it claimed, if anything, goes back.
async fn claim(registration: Arc<Registration>, request: ClaimRequest) -> Result<Vec<ClaimedJob>> {
    match timeout(registration.settings.lease(), registration.store.claim(request)).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::Unavailable { operation: "claim", source: None }),
    }
}

/// The answer to the claim that is on its way; never, when there is none.
async fn answer_of(claiming: &mut Option<Claiming>) -> Result<Vec<ClaimedJob>> {
    match claiming {
        Some(claiming) => claiming.answer.as_mut().await,
        None => std::future::pending().await,
    }
}

async fn news_of(ready: &mut broadcast::Receiver<WorkNews>) -> WorkNews {
    match ready.recv().await {
        Ok(news) => news,
        Err(RecvError::Lagged(_)) => WorkNews::Anywhere,
        // Nobody announces any more; the poll goes on.
        Err(RecvError::Closed) => std::future::pending().await,
    }
}

/// A job in its slot, and then its end without one.
async fn run_job(
    registration: Arc<Registration>,
    mut held: HeldJob,
    slot: Slot,
    completed: Arc<Completions>,
) {
    let started_at = Instant::now();
    // Thousands of ends wait for their commit at a time, and none of them needs the room that its handler had.
    let left = Box::pin(attempt::run(&registration, &mut held)).await;
    let took = started_at.elapsed();
    registration.durations.add(&held.job.kind, took);
    completed.count(took);
    match left {
        Some(Left::Ended(end, bytes)) => {
            let ending = slot.into_ending(bytes);
            ending::write(&registration, held, end, ending).await;
        }
        Some(Left::HandedOver) => {
            let ending = slot.into_ending(0);
            // Few jobs are, and the others need not have room for it.
            Box::pin(ending::hand_over(&registration, held, ending)).await;
        }
        None => {}
    }
}
