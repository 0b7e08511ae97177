//! The log of a running job: handlers say lines at any pace, the database gets them in batches, a few times a second.
//!
//! What one attempt may say is bounded, and with it what waits here: beyond [`MAX_LINES`] or [`MAX_BYTES`] a last line
//! says that the log is full, and the rest is dropped. A handler is never slowed down. All that was said is written
//! before the end of the attempt, unless the database does not take it in time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use entity::job_log::LogStream;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::registration::Registration;
use crate::error::Error;
use crate::store::lease::Lease;
use crate::store::log::{LOG_IS_FULL, LogBatch, MAX_BYTES, MAX_LINES, NewLine};

/// Lines of one write.
const BATCH: usize = 500;
/// Between two writes about one job.
const PAUSE: Duration = Duration::from_millis(200);
/// Between two tries while the database is away.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Where a handler says its lines. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct JobLog {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    news: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<(i32, LogStream, String, Instant)>,
    said: i32,
    bytes: usize,
    is_full: bool,
    is_closed: bool,
}

impl JobLog {
    /// Says a line; returns at once. It must hold no NUL.
    pub fn say(&self, stream: LogStream, text: String) {
        {
            let mut state = self.state();
            if state.is_full || state.is_closed {
                return;
            }
            state.bytes += text.len();
            let (stream, text) = if state.said >= MAX_LINES || state.bytes > MAX_BYTES {
                state.is_full = true;
                (LogStream::System, LOG_IS_FULL.to_owned())
            } else {
                (stream, text)
            };
            state.said += 1;
            let number = state.said;
            state.waiting.push_back((number, stream, text, Instant::now()));
        }
        self.shared.news.notify_one();
    }

    /// False when whatever is said is dropped.
    pub(super) fn takes_more(&self) -> bool {
        let state = self.state();
        !state.is_full && !state.is_closed
    }

    /// Says that nothing more will be said: what waits is written without a pause.
    pub(super) fn close(&self) {
        self.state().is_closed = true;
        self.shared.news.notify_one();
    }

    /// Writes what is said until the log is closed and all of it is written, or the lease is lost.
    pub(super) async fn write_all(&self, registration: &Registration, lease: Lease) {
        let mut not_before = Instant::now();
        loop {
            let batch = self.next_batch();
            if batch.is_empty() {
                if self.state().is_closed {
                    return;
                }
                self.shared.news.notified().await;
                Box::pin(self.pause_until(not_before)).await;
                continue;
            }
            let count = batch.len();
            match Box::pin(registration.store.append_logs_if_leased(LogBatch { lease, lines: batch })).await {
                Ok(()) => not_before = Instant::now() + PAUSE,
                Err(Error::Unavailable { .. } | Error::UnknownOutcome { .. }) => {
                    // The lines stay at the front; those that were written are left as they are.
                    tokio::time::sleep(RETRY_AFTER).await;
                    continue;
                }
                Err(error) => {
                    tracing::debug!(job.id = %lease.job_id, error = %error, "log lines were not written");
                }
            }
            self.written(count);
            if !self.state().is_closed {
                Box::pin(self.pause_until(not_before)).await;
            }
        }
    }

    /// Waits for the pause's end, or for the close.
    async fn pause_until(&self, not_before: Instant) {
        loop {
            if self.state().is_closed {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep_until(not_before) => return,
                () = self.shared.news.notified() => {}
            }
        }
    }

    /// The first lines that wait; they stay until they are written.
    fn next_batch(&self) -> Vec<NewLine> {
        let state = self.state();
        let lines = state.waiting.iter().take(BATCH);
        lines
            .map(|(number, stream, text, said_at)| NewLine {
                number: *number,
                stream: *stream,
                text: text.clone(),
                age: said_at.elapsed(),
            })
            .collect()
    }

    /// Drops the first lines.
    fn written(&self, count: usize) {
        self.state().waiting.drain(..count);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl JobLog {
    /// All that waits, as text.
    pub(super) fn lines(&self) -> Vec<(LogStream, String)> {
        self.state().waiting.iter().map(|(_, stream, text, _)| (*stream, text.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_says_so_much_and_no_more() {
        let log = JobLog::default();
        for _ in 0..MAX_LINES + 10 {
            log.say(LogStream::Stderr, "x".to_owned());
        }
        let lines = log.lines();
        assert_eq!(lines.len(), 1 + MAX_LINES as usize);
        assert_eq!(lines.last().unwrap().0, LogStream::System);
        let log = JobLog::default();
        for _ in 0..5 {
            log.say(LogStream::Stdout, "x".repeat(MAX_BYTES / 2));
        }
        let streams: Vec<LogStream> = log.lines().iter().map(|(stream, _)| *stream).collect();
        assert_eq!(streams, [LogStream::Stdout, LogStream::Stdout, LogStream::System]);
    }
}
