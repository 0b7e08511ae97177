//! Live updates: one listener a process hears what changes, a hub reads it once for all who watch, and streams
//! hand it on.
//!
//! What is promised: versions of a job never go back for a watcher; the latest state arrives, the terminal one too,
//! also after the listener was lost, the database was away, or the watcher was slow. States in between may be
//! skipped. NOTIFY is a hint that makes this fast; without it the same holds, later by the poll interval.

mod board;
mod claim_line;
mod feeds;
pub mod figures;
mod follow;
mod follow_log;
mod follow_queue;
pub mod hint;
mod hub;
mod listener;
mod log_news;

use std::sync::Arc;

use sqlx::postgres::PgConnectOptions;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::store::Store;

pub use follow::EventFilter;
pub use follow_queue::QueueState;

/// Cancel requests that wait for a worker's look; one that lags behind asks the database instead.
const CANCELS: usize = 1_024;
/// News of queues that wait for a worker's look; one that lags behind asks all of its queues.
const READY: usize = 1_024;

/// Where there may be work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkNews {
    /// In this queue, if it exists.
    Queue(Arc<str>),
    /// Anywhere: news may have been missed.
    Anywhere,
}

/// The process's one source of news. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    store: Store,
    hub: Arc<hub::Hub>,
    ready: broadcast::Sender<WorkNews>,
    tokens: watch::Sender<u64>,
    cancels: broadcast::Sender<Uuid>,
    waits_ended: CancellationToken,
    log_news: Arc<log_news::LogNews>,
    board: Arc<board::Board>,
    claim_line: Arc<claim_line::ClaimLine>,
    heard: Arc<figures::Heard>,
}

impl Events {
    /// Starts the listener and the hub; they run on `tasks` until `shutdown`.
    pub fn start(
        store: Store,
        listen_options: PgConnectOptions,
        tasks: &TaskTracker,
        shutdown: CancellationToken,
    ) -> Events {
        let events = Events {
            hub: Arc::new(hub::Hub::default()),
            ready: broadcast::Sender::new(READY),
            tokens: watch::Sender::new(0),
            cancels: broadcast::Sender::new(CANCELS),
            waits_ended: CancellationToken::new(),
            log_news: Arc::default(),
            board: Arc::default(),
            claim_line: Arc::default(),
            heard: Arc::default(),
            store,
        };
        let hub = events.hub.clone();
        let store = events.store.clone();
        let stop = shutdown.clone();
        tasks.spawn(async move { hub.run(&store, &stop).await });
        let (board, counting, stop) = (events.board.clone(), events.store.clone(), shutdown.clone());
        tasks.spawn(async move { board.run(&counting, &stop).await });
        let (line, claiming, stop) = (events.claim_line.clone(), events.store.clone(), shutdown.clone());
        tasks.spawn(async move { line.run(&claiming, &stop).await });
        let listening = events.clone();
        tasks.spawn(async move { listener::run(&listening, &listen_options, &shutdown).await });
        events
    }

    /// True while notifications are known to arrive; else changes are polled for.
    pub fn is_listening(&self) -> bool {
        self.hub.is_listening()
    }

    /// Ends every `await_terminal` and every claim that waits, now and later: the process is about to stop.
    pub fn end_waits(&self) {
        self.waits_ended.cancel();
    }

    /// Which queues may have got work. Register first, look then, wait last.
    pub fn ready(&self) -> broadcast::Receiver<WorkNews> {
        self.ready.subscribe()
    }

    /// Ticks when tokens may have been made or revoked.
    pub fn token_news(&self) -> watch::Receiver<u64> {
        self.tokens.subscribe()
    }

    /// Ids of running jobs that were asked to stop.
    pub fn cancels(&self) -> broadcast::Receiver<Uuid> {
        self.cancels.subscribe()
    }
}
