//! The hub: marks what may have changed, reads it in one statement a round however many watch, and hands it out.
//!
//! Rounds follow each other without a timer. What is marked while a round reads is read by the next one, so a job
//! that changes a hundred times meanwhile is read once. Rounds are serial, so what a watcher gets never goes back.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use entity::job;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::feeds::{Feeds, Interest, Opened};
use super::figures::HubFigures;
use super::hint::Hint;
use crate::error::Result;
use crate::store::Store;
use crate::store::changes::Horizon;

/// Jobs that one statement reads.
const READ_AT_ONCE: usize = 1_000;
/// Marked jobs beyond which it is simpler to look for everything that changed.
const MARKED_MAX: usize = 100_000;
/// Everything watched is read again after so long, in case of a fault nobody thought of.
const RECONCILE_EVERY: Duration = Duration::from_secs(30);
/// The same while nobody listens.
const POLL_EVERY: Duration = Duration::from_secs(1);
/// Wait after a read that failed.
const RETRY_AFTER: Duration = Duration::from_millis(250);
/// Versions that feeds have seen are remembered for at least so many jobs, so that two hints of one change make
/// one event.
const REMEMBERED: usize = 50_000;

/// What is known of a watched job.
#[derive(Clone, Debug, Default)]
pub(super) enum Seen {
    /// Not read yet.
    #[default]
    Unread,
    /// Its latest state.
    Job(Arc<job::Model>),
    /// It is not there any more.
    Gone,
}

#[derive(Default)]
struct Marked {
    ids: HashSet<Uuid>,
    /// Everything watched by id is to be read.
    all_watched: bool,
    /// What feeds may have missed is to be looked for.
    missed: bool,
    /// Since when there is something.
    since: Option<Instant>,
}

#[derive(Default)]
struct State {
    watched: HashMap<Uuid, watch::Sender<Seen>>,
    feeds: Feeds,
    marked: Marked,
    /// Since when what is being read was marked.
    reading_since: Option<Instant>,
    rounds: u64,
    listening: bool,
    /// What was missed has not been read to its end; a ping says nothing about it.
    catching_up: bool,
    /// How long the latest look for what feeds may have missed took.
    look_took: Duration,
    /// All that ended below it has been heard or read.
    horizon: Option<Horizon>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Hub {
    state: Mutex<State>,
    wake: Notify,
}

/// Versions that the feeds have seen, of the jobs that changed last: two generations, the older one is dropped.
#[derive(Default)]
struct Delivered {
    young: HashMap<Uuid, i32>,
    old: HashMap<Uuid, i32>,
}

impl Delivered {
    /// True, and remembered, when the version is newer than what was delivered of this job.
    fn is_news(&mut self, job: &job::Model) -> bool {
        let known = self.young.get(&job.id).or_else(|| self.old.get(&job.id));
        if known.is_some_and(|version| *version >= job.version) {
            return false;
        }
        if self.young.len() >= REMEMBERED {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(job.id, job.version);
        true
    }
}

impl Hub {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts to watch a job. Do it before reading the job: what changes later then arrives.
    pub(super) fn watch(&self, id: Uuid) -> watch::Receiver<Seen> {
        self.state().watched.entry(id).or_default().subscribe()
    }

    /// To be called after a receiver is gone: the last one takes the job off the list.
    pub(super) fn unwatch(&self, id: Uuid) {
        let mut state = self.state();
        if state.watched.get(&id).is_some_and(|sender| sender.receiver_count() == 0) {
            state.watched.remove(&id);
        }
    }

    /// Opens a feed.
    pub(super) fn open_feed(&self, interest: Interest) -> Opened {
        self.state().feeds.open(interest)
    }

    /// Closes a feed.
    pub(super) fn close_feed(&self, number: u64) {
        self.state().feeds.close(number);
    }

    /// Marks what is watched.
    pub(super) fn mark(&self, hints: impl Iterator<Item = Hint>) {
        let mut state = self.state();
        let state = &mut *state;
        for hint in hints {
            let watched = state.watched.get(&hint.id).is_some_and(|sender| match &*sender.borrow() {
                Seen::Job(job) => job.version < hint.version,
                Seen::Unread | Seen::Gone => true,
            });
            if watched || state.feeds.may_want(hint.status) {
                state.marked.ids.insert(hint.id);
            }
        }
        if state.marked.ids.len() > MARKED_MAX {
            let since = state.marked.since;
            state.marked = Marked { ids: HashSet::new(), all_watched: true, missed: true, since };
            state.catching_up = true;
        }
        if !state.marked.is_empty() {
            state.marked.since.get_or_insert_with(Instant::now);
            self.wake.notify_one();
        }
    }

    /// A ping came through: everything that ended below the horizon has been heard.
    pub(super) fn heard_up_to(&self, horizon: Horizon) {
        let mut state = self.state();
        // Only now is it known that notifications arrive: a listener behind a pooler connects and hears nothing.
        if !std::mem::replace(&mut state.listening, true) {
            // The hub waits for its next poll, which need not be so soon any more.
            self.wake.notify_one();
        }
        if state.catching_up {
            return;
        }
        state.horizon = state.horizon.max(Some(horizon));
    }

    /// The listener listens; whatever happened before is to be read. Polling goes on until a first ping comes back.
    pub(super) fn listener_connected(&self) {
        let mut state = self.state();
        state.marked.all_watched = true;
        state.marked.missed = true;
        state.marked.since.get_or_insert_with(Instant::now);
        state.catching_up = true;
        self.wake.notify_one();
    }

    /// What it holds, and how far behind it is.
    pub(super) fn figures(&self) -> HubFigures {
        let state = self.state();
        let (feeds, overflown_feeds) = state.feeds.figures();
        let oldest = state.reading_since.into_iter().chain(state.marked.since).min();
        HubFigures {
            watched_jobs: state.watched.len() as u64,
            watchers: state.watched.values().map(|sender| sender.receiver_count() as u64).sum(),
            feeds: feeds as u64,
            overflown_feeds,
            marked: state.marked.ids.len() as u64,
            rounds: state.rounds,
            lag: oldest.map(|since| since.elapsed()).unwrap_or_default(),
        }
    }

    /// A ping has come through, and the listener has not been lost since.
    pub(super) fn is_listening(&self) -> bool {
        self.state().listening
    }

    /// Nobody listens; the hub polls.
    pub(super) fn listener_lost(&self) {
        self.state().listening = false;
        self.wake.notify_one();
    }

    /// Rounds, until shutdown.
    pub(super) async fn run(&self, store: &Store, shutdown: &CancellationToken) {
        let mut delivered = Delivered::default();
        let mut polled_at = Instant::now();
        loop {
            let poll_every = {
                let state = self.state();
                // Looking for what feeds may have missed reads the whole table; it gets a tenth of the time.
                if state.listening { RECONCILE_EVERY } else { POLL_EVERY.max(state.look_took * 10) }
            };
            tokio::select! {
                () = self.wake.notified() => {}
                // Counted from the last poll, however often marks wake us in between.
                () = tokio::time::sleep_until(polled_at + poll_every) => {
                    polled_at = Instant::now();
                    let mut state = self.state();
                    state.marked.all_watched = true;
                    // A healthy listener misses nothing, and looking for it reads the whole table.
                    state.marked.missed |= !state.listening;
                    state.catching_up |= state.marked.missed;
                }
                () = shutdown.cancelled() => return,
            }
            while !self.state().marked.is_empty() {
                let Some(outcome) = shutdown.run_until_cancelled(self.round(store, &mut delivered)).await
                else {
                    return;
                };
                if let Err(error) = outcome {
                    tracing::debug!(error = %error, "changed jobs could not be read; trying again");
                    if shutdown.run_until_cancelled(tokio::time::sleep(RETRY_AFTER)).await.is_none() {
                        return;
                    }
                }
            }
        }
    }

    /// Reads what is marked and hands it out. On an error it stays marked.
    async fn round(&self, store: &Store, delivered: &mut Delivered) -> Result<()> {
        let (marked, ids, horizon) = {
            let mut state = self.state();
            let marked = std::mem::take(&mut state.marked);
            (state.reading_since, state.rounds) = (marked.since, state.rounds + 1);
            let mut ids: HashSet<Uuid> = marked.ids.clone();
            if marked.all_watched {
                ids.extend(state.watched.keys());
            }
            (marked, ids, state.horizon)
        };
        let outcome = self.read(store, &marked, &ids, horizon, delivered).await;
        let mut state = self.state();
        state.reading_since = None;
        if outcome.is_err() {
            state.marked.since = marked.since.into_iter().chain(state.marked.since).min();
            state.marked.ids.extend(marked.ids);
            state.marked.all_watched |= marked.all_watched;
            state.marked.missed |= marked.missed;
        }
        outcome
    }

    async fn read(
        &self,
        store: &Store,
        marked: &Marked,
        ids: &HashSet<Uuid>,
        horizon: Option<Horizon>,
        delivered: &mut Delivered,
    ) -> Result<()> {
        let ids: Vec<Uuid> = ids.iter().copied().collect();
        for some in ids.chunks(READ_AT_ONCE) {
            let (jobs, unreadable) = store.watched_jobs(some).await?;
            let found: HashSet<Uuid> = jobs.iter().map(|job| job.id).chain(unreadable).collect();
            self.hand_out(jobs, delivered);
            self.tell_gone(some, &found);
        }
        if marked.missed {
            // Taken before the rows are read: what is written between the two is then looked at once more.
            let next = store.horizon().await?;
            let began_at = Instant::now();
            let anyone = !self.state().feeds.is_empty();
            if let (Some(horizon), true) = (horizon, anyone) {
                let mut after = Uuid::nil();
                loop {
                    let (jobs, last) = store.jobs_changed_since(horizon, after, READ_AT_ONCE as i64).await?;
                    self.hand_out(jobs, delivered);
                    match last {
                        Some(last) => after = last,
                        None => break,
                    }
                }
            }
            let mut state = self.state();
            state.look_took = began_at.elapsed();
            state.horizon = state.horizon.max(Some(next));
            state.catching_up = state.marked.missed;
        }
        Ok(())
    }

    fn hand_out(&self, jobs: Vec<job::Model>, delivered: &mut Delivered) {
        let state = self.state();
        for job in jobs {
            let job = Arc::new(job);
            if let Some(sender) = state.watched.get(&job.id) {
                sender.send_if_modified(|seen| {
                    let news = match seen {
                        Seen::Job(known) => known.version < job.version,
                        Seen::Unread | Seen::Gone => true,
                    };
                    if news {
                        *seen = Seen::Job(job.clone());
                    }
                    news
                });
            }
            if state.feeds.is_empty() || !delivered.is_news(&job) {
                continue;
            }
            state.feeds.offer(&job);
        }
    }

    /// Ends the watch of those jobs that were asked for and are not there any more.
    fn tell_gone(&self, asked: &[Uuid], found: &HashSet<Uuid>) {
        let state = self.state();
        for id in asked.iter().filter(|id| !found.contains(id)) {
            if let Some(sender) = state.watched.get(id) {
                sender.send_replace(Seen::Gone);
            }
        }
    }
}

impl Marked {
    fn is_empty(&self) -> bool {
        self.ids.is_empty() && !self.all_watched && !self.missed
    }
}
