//! Claims over the API that wait for work: they stand in line, and hold no database connection.
//!
//! ```text
//!  claim ──▶ joins the line ──▶ looks for itself, where nobody is before it ──▶ got something: answered
//!                                         │ nothing
//!                                         ▼
//!                                       waits ◀──────────────┐ nothing
//!                                         │ news of a queue  │
//!                                         ▼                  │
//!                       the first in line is claimed for ────┴──▶ got something: answered
//! ```
//!
//! News that a queue has work, or the poll, which suffices alone, make it *wet*. The first in line is then claimed for;
//! when it gets all that it asked for, the next one is; when one gets less, the queue is dry until the next news. So a
//! job costs two statements, however many wait, and who waits is served in the order of arrival, in this process.
//!
//! While a claim waits its worker counts as alive: its lease is moved, for all who wait in one statement. It ends when
//! its client goes away, at its deadline, and when the process stops. What is claimed for a client that has gone goes
//! back at once, unless the claim has an id: then a repeated one gets it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Events;
use crate::error::{Error, Result};
use crate::store::Store;
use crate::store::external::{ExternalClaim, ExternalClaimed, LeasedJob};
use crate::store::finish::{AttemptEnd, Finish};

/// Every queue for which somebody waits is looked at this often, news or not.
const POLL: Duration = Duration::from_secs(1);
/// Claims that look for themselves at once: many that come together leave connections for ends and heartbeats.
const MOST_LOOKING: usize = 4;
/// How long one may wait for its turn to look.
const LOOK_WITHIN: Duration = Duration::from_secs(20);
/// After a claim that failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Claims that wait in one process.
const MAX_WAITING: usize = 10_000;

type Answer = oneshot::Sender<Vec<LeasedJob>>;

/// See the module.
pub(super) struct ClaimLine {
    state: Mutex<State>,
    changed: Notify,
    looking: Semaphore,
    /// Counts the claims, so that the queues of each take turns.
    turn: AtomicUsize,
}

impl Default for ClaimLine {
    fn default() -> ClaimLine {
        ClaimLine {
            state: Mutex::default(),
            changed: Notify::new(),
            looking: Semaphore::new(MOST_LOOKING),
            turn: AtomicUsize::new(0),
        }
    }
}

#[derive(Default)]
struct State {
    next_ticket: u64,
    waiters: BTreeMap<u64, Waiter>,
    queues: HashMap<String, QueueNews>,
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
    /// A claim is on its way: one at a time, so that nobody is overtaken.
    serving: bool,
}

impl QueueNews {
    fn is_wet(&self) -> bool {
        self.dry_up_to.is_none_or(|dry| dry < self.tick)
    }
}

struct Waiter {
    claim: ExternalClaim,
    worker_id: Uuid,
    /// None while it is claimed for, and while it looks for itself.
    answer: Option<Answer>,
    /// The news at which it got nothing, by queue.
    tried: HashMap<String, u64>,
    /// Its claim id has brought something by way of another process.
    must_look: bool,
    beat_at: Instant,
}

/// A claim for the first in line.
struct Serving {
    ticket: u64,
    claim: ExternalClaim,
    /// The queue and the news that it follows; none when it only looks what its id has brought.
    follows: Option<(String, u64)>,
    answer: Answer,
}

/// What a claim came to.
enum Served {
    Answered {
        full: bool,
    },
    /// Nothing; the answer is given back.
    Nothing(Answer, ExternalClaimed),
    Failed(Answer),
}

enum Done {
    Served(u64, Option<(String, u64)>, Served),
    Prolonged(Result<HashSet<(Uuid, String)>>),
}

/// A place in the line, left when this is dropped.
struct Place<'a> {
    line: &'a ClaimLine,
    ticket: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.line.leave(self.ticket);
    }
}

impl Events {
    /// Claims for a worker over the API; where there is nothing, waits until there is, until `wait` is over, until
    /// `gone`, or until the process is about to stop.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn claim(
        &self,
        mut claim: ExternalClaim,
        wait: Duration,
        gone: &CancellationToken,
    ) -> Result<Vec<LeasedJob>> {
        let deadline = Instant::now() + wait;
        let turn = self.claim_line.turn.fetch_add(1, Ordering::Relaxed);
        let first = turn.checked_rem(claim.queues.len()).unwrap_or_default();
        claim.queues.rotate_left(first);
        if wait.is_zero() {
            let Some(claimed) = self.look(claim.clone(), gone).await? else { return Ok(Vec::new()) };
            return Ok(unless_gone(&self.store, &claim, claimed.leased, gone).await);
        }
        let (place, queues) = self.claim_line.join(&claim)?;
        let looked_at = self.claim_line.news_of(&queues);
        let looking = ExternalClaim { queues, ..claim.clone() };
        let Some(first) = self.look(looking, gone).await? else { return Ok(Vec::new()) };
        if !first.leased.is_empty() || first.repeated {
            return Ok(unless_gone(&self.store, &claim, first.leased, gone).await);
        }
        let mut answer = self.claim_line.wait(place.ticket, &first, looked_at);
        tokio::select! {
            biased;
            leased = &mut answer => return Ok(leased.unwrap_or_default()),
            () = gone.cancelled() => return Ok(Vec::new()),
            () = sleep_until(deadline) => {}
            () = self.waits_ended.cancelled() => {}
        }
        // Whoever is being claimed for just now waits for that.
        drop(place);
        Ok(answer.await.unwrap_or_default())
    }
}

impl Events {
    /// Claims now, in its turn; none when nobody waits for the answer any more.
    async fn look(&self, claim: ExternalClaim, gone: &CancellationToken) -> Result<Option<ExternalClaimed>> {
        let turn = tokio::select! {
            biased;
            () = gone.cancelled() => return Ok(None),
            () = self.waits_ended.cancelled() => return Ok(None),
            turn = self.claim_line.looking.acquire() => turn.ok(),
            () = tokio::time::sleep(LOOK_WITHIN) => None,
        };
        let _turn = turn.ok_or(Error::Unavailable { operation: "claim", source: None })?;
        self.store.claim_externally(claim).await.map(Some)
    }
}

/// What was claimed, unless nobody is there to take it.
async fn unless_gone(
    store: &Store,
    claim: &ExternalClaim,
    leased: Vec<LeasedJob>,
    gone: &CancellationToken,
) -> Vec<LeasedJob> {
    if gone.is_cancelled() && claim.claim_id.is_none() {
        give_back(store, leased).await;
        return Vec::new();
    }
    leased
}

async fn give_back(store: &Store, leased: Vec<LeasedJob>) {
    let ends = leased.iter().map(|leased| {
        let lease = crate::store::lease::Lease { job_id: leased.job.id, epoch: leased.job.lease_epoch };
        store.finish_if_leased(Finish { lease, end: AttemptEnd::Released })
    });
    for outcome in futures_util::future::join_all(ends).await {
        if let Err(error) = outcome {
            tracing::debug!(error = %error, "a job whose claimer had gone goes back when its lease runs out");
        }
    }
}

impl ClaimLine {
    /// The queue may have got work.
    pub(super) fn tell(&self, queue: &str) {
        if let Some(news) = self.lock().queues.get_mut(queue) {
            news.tick += 1;
            self.changed.notify_one();
        }
    }

    /// Every queue may have.
    pub(super) fn tell_all(&self) {
        self.lock().queues.values_mut().for_each(|news| news.tick += 1);
        self.changed.notify_one();
    }

    /// Claims for those that wait, until shutdown.
    pub(super) async fn run(&self, store: &Store, shutdown: &CancellationToken) {
        let mut running: FuturesUnordered<Pin<Box<dyn Future<Output = Done> + Send + '_>>> =
            FuturesUnordered::new();
        let (mut poll_at, mut prolonging) = (Instant::now() + POLL, false);
        loop {
            while let Some(serving) = self.next_to_serve() {
                running.push(Box::pin(serve(store, serving)));
            }
            let has_waiters = !self.lock().waiters.is_empty();
            let wake_at = self.lock().not_before.map_or(poll_at, |not_before| poll_at.min(not_before));
            tokio::select! {
                Some(done) = running.next() => match done {
                    Done::Served(ticket, follows, served) => self.take(ticket, follows, served),
                    Done::Prolonged(found) => {
                        prolonging = false;
                        self.take_found(found);
                    }
                },
                () = self.changed.notified() => {}
                () = sleep_until(wake_at), if has_waiters => {
                    if Instant::now() < poll_at {
                        continue;
                    }
                    poll_at = Instant::now() + POLL;
                    self.tell_all();
                    let (workers, claims) = self.due_for_a_sign_of_life();
                    let has_work = !workers.is_empty() || !claims.is_empty();
                    if has_work && !prolonging {
                        prolonging = true;
                        running.push(Box::pin(async { Done::Prolonged(store.prolong_waiting(workers, claims).await) }));
                    }
                }
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// Takes a place at the end of the line, and tells at which of its queues nobody is before it.
    fn join(&self, claim: &ExternalClaim) -> Result<(Place<'_>, Vec<String>)> {
        let mut state = self.lock();
        if state.waiters.len() >= MAX_WAITING {
            return Err(Error::Unavailable { operation: "let one more claim wait", source: None });
        }
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        let mut first_at = Vec::new();
        for queue in &claim.queues {
            let news = state.queues.entry(queue.clone()).or_default();
            if news.waiting == 0 {
                first_at.push(queue.clone());
            }
            news.waiting += 1;
        }
        let waiter = Waiter {
            worker_id: Uuid::nil(),
            answer: None,
            tried: HashMap::new(),
            must_look: false,
            beat_at: Instant::now() + beat(claim),
            claim: claim.clone(),
        };
        state.waiters.insert(ticket, waiter);
        Ok((Place { line: self, ticket }, first_at))
    }

    /// The news that a look at these queues follows.
    fn news_of(&self, queues: &[String]) -> Vec<(String, u64)> {
        let state = self.lock();
        let news = |queue: &String| state.queues.get(queue).map(|news| (queue.clone(), news.tick));
        queues.iter().filter_map(news).collect()
    }

    /// Waits from now on, having found nothing.
    fn wait(
        &self,
        ticket: u64,
        first: &ExternalClaimed,
        looked_at: Vec<(String, u64)>,
    ) -> oneshot::Receiver<Vec<LeasedJob>> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.lock();
        for (queue, tick) in &looked_at {
            if let Some(news) = state.queues.get_mut(queue).filter(|_| !first.is_restricted) {
                news.dry_up_to = news.dry_up_to.max(Some(*tick));
            }
        }
        if let Some(waiter) = state.waiters.get_mut(&ticket) {
            waiter.worker_id = first.worker_id;
            waiter.tried.extend(looked_at);
            waiter.answer = Some(sender);
        }
        drop(state);
        self.changed.notify_one();
        receiver
    }

    fn leave(&self, ticket: u64) {
        let mut state = self.lock();
        let Some(waiter) = state.waiters.remove(&ticket) else { return };
        for queue in &waiter.claim.queues {
            if let Some(news) = state.queues.get_mut(queue) {
                news.waiting -= 1;
                if news.waiting == 0 && !news.serving {
                    state.queues.remove(queue);
                }
            }
        }
    }

    /// The first in line for whom there may be something, and whom nobody is claiming for.
    fn next_to_serve(&self) -> Option<Serving> {
        let mut state = self.lock();
        if state.not_before.is_some_and(|not_before| not_before > Instant::now()) {
            return None;
        }
        state.not_before = None;
        let State { waiters, queues, .. } = &mut *state;
        let open = queues.values().any(|news| news.is_wet() && !news.serving);
        if !open && !waiters.values().any(|waiter| waiter.must_look && waiter.answer.is_some()) {
            return None;
        }
        for (ticket, waiter) in waiters.iter_mut().filter(|(_, waiter)| waiter.answer.is_some()) {
            let follows = if waiter.must_look {
                None
            } else {
                let wanted = waiter.claim.queues.iter().find_map(|queue| {
                    let news = queues.get(queue)?;
                    let may = news.is_wet() && !news.serving && waiter.tried.get(queue) != Some(&news.tick);
                    may.then(|| (queue.clone(), news.tick))
                });
                let Some(wanted) = wanted else { continue };
                Some(wanted)
            };
            if let Some(news) = follows.as_ref().and_then(|(queue, _)| queues.get_mut(queue)) {
                news.serving = true;
            }
            waiter.must_look = false;
            let answer = waiter.answer.take()?;
            let queues = follows.iter().map(|(queue, _)| queue.clone()).collect();
            let claim = ExternalClaim { queues, ..waiter.claim.clone() };
            return Some(Serving { ticket: *ticket, claim, follows, answer });
        }
        None
    }

    /// Takes in what a claim came to.
    fn take(&self, ticket: u64, follows: Option<(String, u64)>, served: Served) {
        let mut state = self.lock();
        let (answer, is_restricted, worker_id, full) = match served {
            Served::Answered { full } => (None, false, None, full),
            Served::Nothing(answer, claimed) => {
                (Some(answer), claimed.is_restricted, Some(claimed.worker_id), false)
            }
            Served::Failed(answer) => {
                state.not_before = Some(Instant::now() + RETRY_AFTER);
                (Some(answer), true, None, false)
            }
        };
        if let Some((queue, tick)) = &follows
            && let Some(news) = state.queues.get_mut(queue)
        {
            news.serving = false;
            if !full && !is_restricted {
                news.dry_up_to = news.dry_up_to.max(Some(*tick));
            }
            if news.waiting == 0 && !news.serving {
                state.queues.remove(queue);
            }
        }
        let failed = state.not_before.is_some();
        if let (Some(answer), Some(waiter)) = (answer, state.waiters.get_mut(&ticket)) {
            waiter.answer = Some(answer);
            waiter.worker_id = worker_id.unwrap_or(waiter.worker_id);
            if let Some((queue, tick)) = follows.filter(|_| !failed) {
                waiter.tried.insert(queue, tick);
            }
        }
    }

    fn take_found(&self, found: Result<HashSet<(Uuid, String)>>) {
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(error = %error, "the leases of waiting claims were not moved");
                return;
            }
        };
        for waiter in self.lock().waiters.values_mut() {
            waiter.must_look = waiter
                .claim
                .claim_id
                .as_ref()
                .is_some_and(|claim_id| found.contains(&(waiter.worker_id, claim_id.clone())));
        }
    }

    /// Workers whose lease should be moved now, and the ids of claims.
    fn due_for_a_sign_of_life(&self) -> (Vec<Uuid>, Vec<(Uuid, String)>) {
        let (mut workers, mut claims, now) = (Vec::new(), Vec::new(), Instant::now());
        for waiter in self.lock().waiters.values_mut().filter(|waiter| !waiter.worker_id.is_nil()) {
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

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Between two signs of life of a claim that waits.
fn beat(claim: &ExternalClaim) -> Duration {
    Duration::from_secs(u64::from(claim.lease_seconds.unsigned_abs())) / 3
}

async fn serve(store: &Store, serving: Serving) -> Done {
    let Serving { ticket, claim, follows, answer } = serving;
    let served = match store.claim_externally(claim.clone()).await {
        Err(error) => {
            tracing::debug!(error = %error, "a claim that waits could not be served; trying again");
            Served::Failed(answer)
        }
        Ok(claimed) if claimed.leased.is_empty() && !claimed.repeated => Served::Nothing(answer, claimed),
        Ok(claimed) => {
            let full = i64::try_from(claimed.leased.len()).unwrap_or(i64::MAX) >= claim.limit;
            if let Err(leased) = answer.send(claimed.leased)
                && claim.claim_id.is_none()
            {
                give_back(store, leased).await;
            }
            Served::Answered { full }
        }
    };
    Done::Served(ticket, follows, served)
}
