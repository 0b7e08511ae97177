//! The board: positions and queues as they stand, computed once a round for all who watch.
//!
//! A round follows a change that was announced, or a poll, and none comes within half a second of the one before; with
//! nobody watching there is none. Rounds are numbered as they start. A watcher that has read for itself heeds only
//! rounds that started later, so what it is told never goes back.
//!
//! A round of queues that took long is followed by a pause of several times that: a slow database is not kept busy by
//! those who watch it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use entity::queue::Model as Settings;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::error::Result;
use crate::job::viewer::Viewer;
use crate::store::Store;
use crate::store::position::Position;
use crate::store::queue_content::QueueContent;

/// Between the starts of two rounds.
const ROUND_EVERY: Duration = Duration::from_millis(500);
/// A round without news, in case they got lost.
const POLL_EVERY: Duration = Duration::from_secs(2);
/// A pause after a round's queues is at least so many times their reading.
const PAUSE_FACTOR: u32 = 5;
/// Positions of one statement.
const READ_AT_ONCE: usize = 10_000;

/// What the board says of one thing, and since which round; round 0 has said nothing.
#[derive(Clone, Debug)]
pub(super) struct Said<T> {
    pub(super) round: u64,
    pub(super) what: T,
}

/// All known queues, each with what is in it.
pub(super) type Queues = Arc<Vec<(Settings, Arc<QueueContent>)>>;

/// A job's position; none when the job is gone.
type SaidPosition = Said<Option<Position>>;

#[derive(Default)]
struct State {
    started: u64,
    positions: HashMap<Uuid, watch::Sender<SaidPosition>>,
    queues: Option<watch::Sender<Said<Queues>>>,
    configured: Vec<String>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Board {
    state: Mutex<State>,
    news: Notify,
}

/// A job whose position is watched, until this is dropped.
pub(super) struct PositionWatch {
    board: Arc<Board>,
    id: Uuid,
    receiver: Option<watch::Receiver<SaidPosition>>,
    /// Rounds up to this one are not heeded.
    heard: u64,
}

impl Board {
    /// Something changed.
    pub(super) fn tell(&self) {
        self.news.notify_one();
    }

    /// Starts to watch a job's position.
    pub(super) fn watch_position(self: &Arc<Board>, id: Uuid) -> PositionWatch {
        let mut state = self.lock();
        let sender =
            state.positions.entry(id).or_insert_with(|| watch::Sender::new(Said { round: 0, what: None }));
        PositionWatch { receiver: Some(sender.subscribe()), board: self.clone(), id, heard: 0 }
    }

    /// Starts to watch all queues; `configured` are those that the configuration names.
    pub(super) fn watch_queues(&self, configured: &[String]) -> watch::Receiver<Said<Queues>> {
        let receiver = {
            let mut state = self.lock();
            state.configured = configured.to_vec();
            let nothing = || watch::Sender::new(Said { round: 0, what: Queues::default() });
            state.queues.get_or_insert_with(nothing).subscribe()
        };
        self.tell();
        receiver
    }

    /// Rounds, until shutdown.
    pub(super) async fn run(&self, store: &Store, shutdown: &CancellationToken) {
        let mut queues_not_before = Instant::now();
        loop {
            tokio::select! {
                () = self.news.notified() => {}
                () = tokio::time::sleep(POLL_EVERY) => {}
                () = shutdown.cancelled() => return,
            }
            let started_at = Instant::now();
            let round = self.start_round();
            if let Err(error) = self.read_positions(store, round).await {
                tracing::debug!(error = %error, "positions could not be read; trying again");
            }
            if Instant::now() >= queues_not_before {
                let reading_at = Instant::now();
                if let Err(error) = self.read_queues(store, round).await {
                    tracing::debug!(error = %error, "queues could not be read; trying again");
                }
                queues_not_before = Instant::now() + reading_at.elapsed() * PAUSE_FACTOR;
            }
            let next = tokio::time::sleep_until(started_at + ROUND_EVERY);
            if shutdown.run_until_cancelled(next).await.is_none() {
                return;
            }
        }
    }

    fn start_round(&self) -> u64 {
        let mut state = self.lock();
        state.started += 1;
        state.started
    }

    async fn read_positions(&self, store: &Store, round: u64) -> Result<()> {
        let ids: Vec<Uuid> = self.lock().positions.keys().copied().collect();
        for some in ids.chunks(READ_AT_ONCE) {
            let positions = store.positions(&Viewer::Operator, some).await?;
            let state = self.lock();
            for id in some {
                let what = positions.get(id).cloned();
                if let Some(sender) = state.positions.get(id) {
                    sender.send_replace(Said { round, what });
                }
            }
        }
        Ok(())
    }

    async fn read_queues(&self, store: &Store, round: u64) -> Result<()> {
        let configured = {
            let mut state = self.lock();
            if state.queues.as_ref().is_none_or(|sender| sender.receiver_count() == 0) {
                state.queues = None;
                return Ok(());
            }
            state.configured.clone()
        };
        let settings = store.queues(&configured).await?;
        let names: Vec<String> = settings.iter().map(|queue| queue.name.clone()).collect();
        let mut content = store.queue_content(&names).await?;
        let queues = settings.into_iter().map(|queue| {
            let content = content.remove(&queue.name).unwrap_or_default();
            (queue, Arc::new(content))
        });
        let what = Arc::new(queues.collect());
        if let Some(sender) = &self.lock().queues {
            sender.send_replace(Said { round, what });
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PositionWatch {
    /// The watcher has read the position for itself: what rounds say that started before is not newer. A round that
    /// starts now tells whether anything has changed since.
    pub(super) fn has_read(&mut self) {
        self.heard = self.board.lock().started;
        self.board.tell();
    }

    /// The position as the next round finds it; none when the job is gone.
    pub(super) async fn next(&mut self) -> Option<Position> {
        let heard = self.heard;
        let said = self.receiver.as_mut()?.wait_for(|said| said.round > heard).await.ok()?.clone();
        self.heard = said.round;
        said.what
    }
}

impl Drop for PositionWatch {
    fn drop(&mut self) {
        self.receiver = None;
        let mut state = self.board.lock();
        if state.positions.get(&self.id).is_some_and(|sender| sender.receiver_count() == 0) {
            state.positions.remove(&self.id);
        }
    }
}
