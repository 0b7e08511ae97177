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
//! A worker that got less than it asked for, because it holds a job that has lost a worker before, leaves the queue wet for
//! those behind it, and is claimed for again when it has ended a job.
//!
//! Who stands where is the line's own affair ([`line`]); what is here claims for those in it.
//!
//! While a claim waits its worker counts as alive: its lease is moved, for all who wait in one statement. It ends when
//! its client goes away, at its deadline, and when the process stops. What is claimed for a client that has gone goes
//! back at once, unless the claim has an id: then a repeated one gets it.

mod line;

use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::line::{Line, Served, Serving, Tick};
use super::Events;
use crate::error::{Error, Result};
use crate::store::Store;
use crate::store::external_claim::{ExternalClaim, ExternalClaimed, LeasedJob};
use crate::store::finish::{AttemptEnd, Finish};

/// Every queue for which somebody waits is looked at this often, news or not.
const POLL: Duration = Duration::from_secs(1);
/// Claims that look for themselves at once: many that come together leave connections for ends and heartbeats.
const MOST_LOOKING: usize = 4;
/// How long one may wait for its turn to look.
const LOOK_WITHIN: Duration = Duration::from_secs(20);

/// See the module.
pub(super) struct ClaimLine {
    line: Mutex<Line>,
    changed: Notify,
    looking: Semaphore,
    /// Counts the claims, so that the queues of each take turns.
    turn: AtomicUsize,
}

impl Default for ClaimLine {
    fn default() -> ClaimLine {
        ClaimLine {
            line: Mutex::default(),
            changed: Notify::new(),
            looking: Semaphore::new(MOST_LOOKING),
            turn: AtomicUsize::new(0),
        }
    }
}

/// Something that was on its way for the line.
enum Done {
    Served(u64, Option<Tick>, Served),
    Prolonged(Result<HashSet<(Uuid, String)>>),
}

/// A place in the line, left when this is dropped.
struct Place<'a> {
    line: &'a ClaimLine,
    ticket: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.line.lock().leave(self.ticket);
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
        let (place, queues, looked_at) = self.claim_line.join(&claim)?;
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
    /// A worker over the API has ended a job, by way of this process.
    pub fn ended_externally(&self, worker_id: Uuid) {
        self.claim_line.tell_of_an_end(worker_id);
    }

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
        if self.lock().tell(queue) {
            self.changed.notify_one();
        }
    }

    /// The worker has ended a job: if it held one that had lost a worker before, it may hold another now.
    fn tell_of_an_end(&self, worker_id: Uuid) {
        if self.lock().tell_of_an_end(worker_id, Instant::now()) {
            self.changed.notify_one();
        }
    }

    /// Every queue may have.
    pub(super) fn tell_all(&self) {
        self.lock().tell_all();
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
            let (is_empty, not_before) = self.outlook();
            let wake_at = not_before.map_or(poll_at, |not_before| poll_at.min(not_before));
            tokio::select! {
                Some(done) = running.next() => match done {
                    Done::Served(ticket, follows, served) => {
                        self.lock().take(ticket, follows, served, Instant::now());
                    }
                    Done::Prolonged(found) => {
                        prolonging = false;
                        self.take_found(found);
                    }
                },
                () = self.changed.notified() => {}
                () = sleep_until(wake_at), if !is_empty => {
                    if Instant::now() < poll_at {
                        continue;
                    }
                    poll_at = Instant::now() + POLL;
                    self.tell_all();
                    let (workers, claims) = self.lock().due_for_a_sign_of_life(Instant::now());
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

    /// A place at the end, the queues of the claim at which nobody is before it, and the news that a look at them follows.
    fn join(&self, claim: &ExternalClaim) -> Result<(Place<'_>, Vec<String>, Vec<Tick>)> {
        let mut line = self.lock();
        let (ticket, queues) = line.join(claim, Instant::now())?;
        let looked_at = line.ticks_of(&queues);
        Ok((Place { line: self, ticket }, queues, looked_at))
    }

    /// Waits from now on, having found nothing.
    fn wait(
        &self,
        ticket: u64,
        found: &ExternalClaimed,
        looked_at: Vec<Tick>,
    ) -> tokio::sync::oneshot::Receiver<Vec<LeasedJob>> {
        let receiver = self.lock().wait(ticket, found, looked_at);
        self.changed.notify_one();
        receiver
    }

    fn next_to_serve(&self) -> Option<Serving> {
        self.lock().next_to_serve(Instant::now())
    }

    /// Whether nobody waits, and when a failure is over.
    fn outlook(&self) -> (bool, Option<Instant>) {
        let line = self.lock();
        (line.is_empty(), line.not_before())
    }

    fn take_found(&self, found: Result<HashSet<(Uuid, String)>>) {
        match found {
            Ok(found) => self.lock().take_found(&found),
            Err(error) => tracing::debug!(error = %error, "the leases of waiting claims were not moved"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn serve(store: &Store, serving: Serving) -> Done {
    let Serving { ticket, claim, follows, heard, answer } = serving;
    if let Some((queue, _)) = &follows {
        let why = if heard { "there was news of work" } else { "looking again without news" };
        tracing::debug!(queue.name = queue, why, "claiming for the first in line");
    }
    let served = match store.claim_externally(claim.clone()).await {
        Err(error) => {
            tracing::debug!(error = %error, "a claim that waits could not be served; trying again");
            Served::Failed(answer)
        }
        Ok(claimed) if claimed.leased.is_empty() && !claimed.repeated => Served::Nothing(answer, claimed),
        Ok(claimed) => {
            let is_full = i64::try_from(claimed.leased.len()).unwrap_or(i64::MAX) >= claim.limit;
            if let Err(leased) = answer.send(claimed.leased)
                && claim.claim_id.is_none()
            {
                give_back(store, leased).await;
            }
            Served::Answered { more: is_full || claimed.is_restricted }
        }
    };
    Done::Served(ticket, follows, served)
}
