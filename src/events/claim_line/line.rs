//! Who waits, in which order, for which queues, and what is known of these: the line itself, without a clock of its own and
//! without a database.
//!
//! News that a queue may have work move its *tick*. A queue is *wet* while its tick is beyond that up to which nothing
//! was left. One claim is on its way for each queue at a time, so that nobody in line is overtaken.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::store::external_claim::{ExternalClaim, ExternalClaimed, LeasedJob};

/// Claims that wait in one process.
const MAX_WAITING: usize = 10_000;
/// Workers whose last end is remembered.
const MAX_REMEMBERED: usize = 10_000;
/// After a claim that failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Where a claim that waits gets what was claimed for it.
pub(super) type Answer = oneshot::Sender<Vec<LeasedJob>>;

/// A queue, and the tick that a claim from it follows.
pub(super) type Tick = (String, u64);

/// See the module.
#[derive(Default)]
pub(super) struct Line {
    next_ticket: u64,
    waiters: BTreeMap<u64, Waiter>,
    queues: HashMap<String, QueueNews>,
    /// Workers with claims that wait and are restricted.
    restricted: HashSet<Uuid>,
    /// When workers last ended a job; those that are forgotten are served by the poll.
    ended_at: HashMap<Uuid, Instant>,
    /// Nothing is claimed before, as the database failed.
    not_before: Option<Instant>,
}

/// A queue for which somebody waits.
#[derive(Default)]
struct QueueNews {
    waiting: usize,
    /// Counts the news.
    tick: u64,
    /// The news up to which nothing is left.
    dry_up_to: Option<u64>,
    /// There were news since it was dry, not just the poll.
    heard: bool,
    /// A claim is on its way.
    serving: bool,
}

impl QueueNews {
    fn is_open(&self) -> bool {
        !self.serving && self.dry_up_to.is_none_or(|dry| dry < self.tick)
    }
}

struct Waiter {
    claim: ExternalClaim,
    worker_id: Uuid,
    /// None while it is claimed for, and while it looks for itself.
    answer: Option<Answer>,
    /// The news at which it got nothing, by queue.
    tried: HashMap<String, u64>,
    /// Got nothing, or not all, for reasons of its worker's own.
    is_restricted: bool,
    /// The worker has ended a job since, which may have been the reason.
    may_try_again: bool,
    /// When the latest claim for it began.
    began_at: Instant,
    /// Its claim id has brought something by way of another process.
    must_look: bool,
    beat_at: Instant,
}

/// A claim for the first in line.
pub(super) struct Serving {
    pub(super) ticket: u64,
    pub(super) claim: ExternalClaim,
    /// The queue and the news that it follows; none when it only looks what its id has brought.
    pub(super) follows: Option<Tick>,
    /// Somebody told of work, which the poll does not.
    pub(super) heard: bool,
    pub(super) answer: Answer,
}

/// What a claim came to.
pub(super) enum Served {
    /// Something, which is on its way to the waiter.
    Answered {
        /// The queue may have more.
        more: bool,
    },
    /// Nothing; the answer is given back.
    Nothing(Answer, ExternalClaimed),
    /// The database failed.
    Failed(Answer),
}

impl Line {
    /// The queue may have got work. False when nobody waits for it.
    pub(super) fn tell(&mut self, queue: &str) -> bool {
        let Some(news) = self.queues.get_mut(queue) else { return false };
        news.tick += 1;
        news.heard = true;
        true
    }

    /// Every queue may have, for all that is known.
    pub(super) fn tell_all(&mut self) {
        self.queues.values_mut().for_each(|news| news.tick += 1);
    }

    /// The worker has ended a job. False when that cannot matter to a claim of it that waits.
    pub(super) fn tell_of_an_end(&mut self, worker_id: Uuid, now: Instant) -> bool {
        if self.ended_at.len() >= MAX_REMEMBERED {
            self.ended_at.clear();
        }
        self.ended_at.insert(worker_id, now);
        if !self.restricted.contains(&worker_id) {
            return false;
        }
        for waiter in self.waiters.values_mut().filter(|waiter| waiter.worker_id == worker_id) {
            waiter.may_try_again = waiter.is_restricted;
        }
        true
    }

    /// Nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// Takes a place at the end, and tells at which of the claim's queues nobody is before it.
    ///
    /// # Errors
    /// `Unavailable` when the line is full.
    pub(super) fn join(&mut self, claim: &ExternalClaim, now: Instant) -> Result<(u64, Vec<String>)> {
        if self.waiters.len() >= MAX_WAITING {
            return Err(Error::Unavailable { operation: "let one more claim wait", source: None });
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let mut first_at = Vec::new();
        for queue in &claim.queues {
            let news = self.queues.entry(queue.clone()).or_default();
            if news.waiting == 0 {
                first_at.push(queue.clone());
            }
            news.waiting += 1;
        }
        let waiter = Waiter {
            worker_id: Uuid::nil(),
            answer: None,
            tried: HashMap::new(),
            is_restricted: false,
            may_try_again: false,
            began_at: now,
            must_look: false,
            beat_at: now + beat(claim),
            claim: claim.clone(),
        };
        self.waiters.insert(ticket, waiter);
        Ok((ticket, first_at))
    }

    /// The news that a look at these queues follows.
    pub(super) fn ticks_of(&self, queues: &[String]) -> Vec<Tick> {
        let tick = |queue: &String| self.queues.get(queue).map(|news| (queue.clone(), news.tick));
        queues.iter().filter_map(tick).collect()
    }

    /// Waits from now on, having looked and found nothing.
    pub(super) fn wait(
        &mut self,
        ticket: u64,
        found: &ExternalClaimed,
        looked_at: Vec<Tick>,
    ) -> oneshot::Receiver<Vec<LeasedJob>> {
        let (sender, receiver) = oneshot::channel();
        if !found.is_restricted {
            looked_at.iter().for_each(|tick| self.dry(tick));
        }
        if let Some(waiter) = self.waiters.get_mut(&ticket) {
            waiter.tried.extend(looked_at);
            waiter.answer = Some(sender);
        }
        self.note_worker(ticket, found);
        receiver
    }

    /// Leaves the line. Who is being claimed for just now gets the answer all the same.
    pub(super) fn leave(&mut self, ticket: u64) {
        let Some(waiter) = self.waiters.remove(&ticket) else { return };
        if waiter.is_restricted {
            self.restricted.remove(&waiter.worker_id);
        }
        for queue in &waiter.claim.queues {
            if let Some(news) = self.queues.get_mut(queue) {
                news.waiting -= 1;
            }
            self.forget_unless_needed(queue);
        }
    }

    /// The first in line for whom there may be something, and whom nobody is claiming for.
    pub(super) fn next_to_serve(&mut self, now: Instant) -> Option<Serving> {
        if self.not_before.is_some_and(|not_before| not_before > now) {
            return None;
        }
        self.not_before = None;
        let Line { waiters, queues, .. } = self;
        let is_open = queues.values().any(QueueNews::is_open);
        if !is_open && !waiters.values().any(|waiter| waiter.must_look && waiter.answer.is_some()) {
            return None;
        }
        for (ticket, waiter) in waiters.iter_mut().filter(|(_, waiter)| waiter.answer.is_some()) {
            let follows = waiter.open_queue(queues);
            if follows.is_none() && !waiter.must_look {
                continue;
            }
            let mut heard = false;
            if let Some(news) = follows.as_ref().and_then(|(queue, _)| queues.get_mut(queue)) {
                news.serving = true;
                heard = news.heard;
            }
            heard |= std::mem::take(&mut waiter.may_try_again);
            (waiter.must_look, waiter.began_at) = (false, now);
            let answer = waiter.answer.take()?;
            let queues = follows.iter().map(|(queue, _)| queue.clone()).collect();
            let claim = ExternalClaim { queues, ..waiter.claim.clone() };
            return Some(Serving { ticket: *ticket, claim, follows, heard, answer });
        }
        None
    }

    /// When a failure is over, if there is one.
    pub(super) fn not_before(&self) -> Option<Instant> {
        self.not_before
    }

    /// Takes in what a claim came to.
    pub(super) fn take(&mut self, ticket: u64, follows: Option<Tick>, served: Served, now: Instant) {
        let (answer, found, is_dry) = match served {
            Served::Answered { more } => (None, None, !more),
            Served::Nothing(answer, found) => {
                let is_dry = !found.is_restricted;
                (Some(answer), Some(found), is_dry)
            }
            Served::Failed(answer) => {
                self.not_before = Some(now + RETRY_AFTER);
                (Some(answer), None, false)
            }
        };
        if let Some(tick) = &follows {
            if let Some(news) = self.queues.get_mut(&tick.0) {
                news.serving = false;
            }
            if is_dry {
                self.dry(tick);
            }
            self.forget_unless_needed(&tick.0);
        }
        if let (Some(answer), Some(waiter)) = (answer, self.waiters.get_mut(&ticket)) {
            waiter.answer = Some(answer);
            if let Some(found) = found {
                waiter.tried.extend(follows);
                self.note_worker(ticket, &found);
            }
        }
    }

    /// Whose the claim is, and whether that keeps it from what others may get.
    fn note_worker(&mut self, ticket: u64, found: &ExternalClaimed) {
        let Some(waiter) = self.waiters.get_mut(&ticket) else { return };
        self.restricted.remove(&waiter.worker_id);
        (waiter.worker_id, waiter.is_restricted) = (found.worker_id, found.is_restricted);
        if found.is_restricted {
            self.restricted.insert(found.worker_id);
            // It may have ended while the claim was on its way.
            let ended_at = self.ended_at.get(&found.worker_id);
            waiter.may_try_again = ended_at.is_some_and(|ended_at| *ended_at >= waiter.began_at);
        }
    }

    /// These claim ids have brought something by way of another process.
    pub(super) fn take_found(&mut self, found: &HashSet<(Uuid, String)>) {
        for waiter in self.waiters.values_mut() {
            let claim_id = waiter.claim.claim_id.as_ref();
            waiter.must_look = claim_id.is_some_and(|id| found.contains(&(waiter.worker_id, id.clone())));
        }
    }

    /// Workers whose lease should be moved now, and the ids of all claims.
    pub(super) fn due_for_a_sign_of_life(&mut self, now: Instant) -> (Vec<Uuid>, Vec<(Uuid, String)>) {
        let (mut workers, mut claims) = (Vec::new(), Vec::new());
        for waiter in self.waiters.values_mut().filter(|waiter| !waiter.worker_id.is_nil()) {
            if waiter.beat_at <= now {
                waiter.beat_at = now + beat(&waiter.claim);
                workers.push(waiter.worker_id);
            }
            if let Some(claim_id) = &waiter.claim.claim_id {
                claims.push((waiter.worker_id, claim_id.clone()));
            }
        }
        (workers, claims)
    }

    /// Nothing is left that was there at this tick.
    fn dry(&mut self, (queue, tick): &Tick) {
        if let Some(news) = self.queues.get_mut(queue) {
            news.dry_up_to = news.dry_up_to.max(Some(*tick));
            news.heard &= news.tick != *tick;
        }
    }

    fn forget_unless_needed(&mut self, queue: &str) {
        if self.queues.get(queue).is_some_and(|news| news.waiting == 0 && !news.serving) {
            self.queues.remove(queue);
        }
    }
}

impl Waiter {
    /// The first of its queues that may have something for it.
    fn open_queue(&self, queues: &HashMap<String, QueueNews>) -> Option<Tick> {
        if self.must_look {
            return None;
        }
        self.claim.queues.iter().find_map(|queue| {
            let news = queues.get(queue)?;
            let may = news.is_open() && (self.may_try_again || self.tried.get(queue) != Some(&news.tick));
            may.then(|| (queue.clone(), news.tick))
        })
    }
}

/// Between two signs of life of a claim that waits.
fn beat(claim: &ExternalClaim) -> Duration {
    Duration::from_secs(u64::from(claim.lease_seconds.unsigned_abs())) / 3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::external::ExternalWorker;

    fn claim(queues: &[&str]) -> ExternalClaim {
        let queues: Vec<String> = queues.iter().map(|queue| (*queue).to_owned()).collect();
        ExternalClaim {
            worker: ExternalWorker { owner: String::new(), name: "w".to_owned() },
            claim_id: None,
            serves: queues.clone(),
            queues,
            kinds: [].into(),
            limit: 1,
            lease_seconds: 30,
        }
    }

    /// One that has looked, found nothing, and waits.
    fn waiting(line: &mut Line, queues: &[&str]) -> (u64, oneshot::Receiver<Vec<LeasedJob>>) {
        let (ticket, first_at) = line.join(&claim(queues), Instant::now()).unwrap();
        let looked_at = line.ticks_of(&first_at);
        (ticket, line.wait(ticket, &ExternalClaimed::default(), looked_at))
    }

    fn nothing(serving: Serving) -> (u64, Option<Tick>, Served) {
        (serving.ticket, serving.follows, Served::Nothing(serving.answer, ExternalClaimed::default()))
    }

    #[test]
    fn one_piece_of_news_wakes_one_of_many_and_the_next_only_when_there_is_more() {
        let (mut line, now) = (Line::default(), Instant::now());
        let waiting: Vec<_> = (0..500).map(|_| waiting(&mut line, &["a"])).collect();
        assert!(line.next_to_serve(now).is_none(), "nobody has news");
        assert!(line.tell("a") && !line.tell("b"));
        let first = line.next_to_serve(now).unwrap();
        assert_eq!(first.ticket, waiting[0].0);
        assert!(line.next_to_serve(now).is_none(), "one at a time");
        line.take(first.ticket, first.follows, Served::Answered { more: true }, now);
        line.leave(first.ticket);
        let second = line.next_to_serve(now).unwrap();
        assert_eq!(second.ticket, waiting[1].0);
        let (ticket, follows, served) = nothing(second);
        line.take(ticket, follows, served, now);
        assert!(line.next_to_serve(now).is_none(), "dry until there are news");
        line.tell_all();
        assert_eq!(line.next_to_serve(now).unwrap().ticket, waiting[1].0, "it kept its place");
    }

    #[test]
    fn news_that_come_while_a_claim_is_on_its_way_are_kept() {
        let (mut line, now) = (Line::default(), Instant::now());
        let _waiting = waiting(&mut line, &["a"]);
        line.tell("a");
        let serving = line.next_to_serve(now).unwrap();
        line.tell("a");
        let (ticket, follows, served) = nothing(serving);
        line.take(ticket, follows, served, now);
        assert!(line.next_to_serve(now).is_some());
    }

    #[test]
    fn one_who_may_have_nothing_does_not_keep_it_from_those_behind() {
        let (mut line, now) = (Line::default(), Instant::now());
        let waiting: Vec<_> = (0..2).map(|_| waiting(&mut line, &["a"])).collect();
        line.tell("a");
        let Serving { ticket, follows, answer, .. } = line.next_to_serve(now).unwrap();
        let restricted = ExternalClaimed { is_restricted: true, ..ExternalClaimed::default() };
        line.take(ticket, follows, Served::Nothing(answer, restricted), now);
        assert_eq!(line.next_to_serve(now).unwrap().ticket, waiting[1].0);
    }

    #[test]
    fn one_whose_worker_was_the_reason_tries_again_when_that_has_ended_a_job() {
        let (mut line, mut now) = (Line::default(), Instant::now());
        let _waiting = waiting(&mut line, &["a"]);
        line.tell("a");
        let worker_id = Uuid::from_u128(1);
        let restricted = ExternalClaimed { worker_id, is_restricted: true, ..ExternalClaimed::default() };
        // The end comes while the claim is on its way, and is not forgotten.
        let Serving { ticket, follows, answer, .. } = line.next_to_serve(now).unwrap();
        assert!(!line.tell_of_an_end(worker_id, now));
        line.take(ticket, follows, Served::Nothing(answer, restricted.clone()), now);
        now += Duration::from_millis(1);
        let Serving { ticket, follows, answer, .. } = line.next_to_serve(now).unwrap();
        line.take(ticket, follows, Served::Nothing(answer, restricted), now);
        // And one that comes while it waits.
        assert!(line.next_to_serve(now).is_none());
        assert!(!line.tell_of_an_end(Uuid::from_u128(2), now), "another worker's end is nothing to it");
        assert!(line.next_to_serve(now).is_none());
        assert!(line.tell_of_an_end(worker_id, now));
        let again = line.next_to_serve(now).unwrap();
        assert!(again.ticket == ticket && again.heard);
        let (ticket, follows, served) = nothing(again);
        line.take(ticket, follows, served, now);
        assert!(!line.tell_of_an_end(worker_id, now), "it is not restricted any more, and the queue is dry");
        assert!(line.next_to_serve(now).is_none());
    }

    #[test]
    fn after_a_failure_nothing_is_claimed_for_a_while_and_then_by_the_same() {
        let (mut line, now) = (Line::default(), Instant::now());
        let _waiting: Vec<_> = (0..2).map(|_| waiting(&mut line, &["a"])).collect();
        line.tell("a");
        let Serving { ticket, follows, answer, .. } = line.next_to_serve(now).unwrap();
        line.take(ticket, follows, Served::Failed(answer), now);
        assert!(line.next_to_serve(now).is_none());
        assert_eq!(line.next_to_serve(line.not_before().unwrap()).unwrap().ticket, ticket);
    }

    #[test]
    fn what_nobody_waits_for_is_forgotten() {
        let (mut line, now) = (Line::default(), Instant::now());
        let (ticket, _answer) = waiting(&mut line, &["a", "b"]);
        line.tell("b");
        let serving = line.next_to_serve(now).unwrap();
        line.leave(ticket);
        assert!(line.is_empty() && line.tell("b") && !line.tell("a"), "b is being claimed from");
        line.take(ticket, serving.follows, Served::Answered { more: false }, now);
        assert!(!line.tell("b"));
    }
}
