//! Group commit: concurrent writes meet in a bounded channel and go to the database many in one statement.
//!
//! There is no timer. The writer takes all that is waiting, commits it, answers each caller, and takes what gathered
//! meanwhile; an idle server adds no latency, a busy one fills its batches by itself. A caller is answered after
//! the commit, never before, and may go away at any time: what was handed over is written.
//!
//! One writer for each operation: PostgreSQL commits transactions that notify one after the other anyway, and with two
//! the batches are half as large, while a statement costs about 0.6 ms before its first row.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use crate::error::{Error, Result};

/// Rows that wait at most; beyond them a caller waits for [`FULL_TIMEOUT`] and is then refused.
const CAPACITY: usize = 4_096;
/// Rows of one statement. Beyond some 500 a statement gains nothing and everyone in it waits longer.
const MAX_ROWS: usize = 500;
/// Bytes of one statement.
const MAX_BYTES: usize = 4 << 20;
/// How long a caller waits for room.
const FULL_TIMEOUT: Duration = Duration::from_secs(2);

type Answer<O> = oneshot::Sender<Result<O>>;
type Waiting<I, O> = (I, Answer<O>);

/// The sending side; see the module.
pub struct GroupWriter<I, O> {
    operation: &'static str,
    sender: mpsc::Sender<Waiting<I, O>>,
    counts: Arc<Counts>,
}

/// What a group has done since it was started.
#[derive(Default)]
struct Counts {
    rows: AtomicU64,
    commits: AtomicU64,
}

/// The figures of a group.
#[derive(Clone, Copy, Debug)]
pub struct GroupFigures {
    /// `submit`, `finish`, …
    pub operation: &'static str,
    /// Rows that wait for their turn.
    pub waiting: u64,
    /// Rows that may.
    pub capacity: u64,
    /// Rows that were handed to the database.
    pub rows: u64,
    /// Statements that they went with.
    pub commits: u64,
}

impl<I, O> Clone for GroupWriter<I, O> {
    fn clone(&self) -> Self {
        GroupWriter { operation: self.operation, sender: self.sender.clone(), counts: self.counts.clone() }
    }
}

/// What a group writer does with a batch.
pub struct GroupSpec<I, C> {
    /// For errors: `submit`, `finish`.
    pub operation: &'static str,
    /// Bytes that a row brings along.
    pub weigh: fn(&I) -> usize,
    /// Commits a batch and answers for each row, in order.
    pub commit: C,
}

impl<I: Send + 'static, O: Send + 'static> GroupWriter<I, O> {
    /// Starts the writer. It ends when all senders are gone and the channel is empty.
    pub fn spawn<C, F>(tasks: &TaskTracker, spec: GroupSpec<I, C>) -> GroupWriter<I, O>
    where
        C: Fn(Vec<I>) -> F + Send + Sync + 'static,
        F: Future<Output = Vec<Result<O>>> + Send + 'static,
    {
        let (sender, mut receiver) = mpsc::channel(CAPACITY);
        let counts = Arc::<Counts>::default();
        let counted = counts.clone();
        tasks.spawn(async move {
            let mut batch = Vec::new();
            while receiver.recv_many(&mut batch, MAX_ROWS).await > 0 {
                for part in split_by_weight(std::mem::take(&mut batch), spec.weigh) {
                    let (rows, answers): (Vec<I>, Vec<Answer<O>>) = part.into_iter().unzip();
                    counted.rows.fetch_add(rows.len() as u64, Ordering::Relaxed);
                    counted.commits.fetch_add(1, Ordering::Relaxed);
                    let outcomes = (spec.commit)(rows).await;
                    for (answer, outcome) in answers.into_iter().zip(outcomes) {
                        // The caller may have gone away; its row is written all the same.
                        let _ = answer.send(outcome);
                    }
                }
            }
        });
        GroupWriter { operation: spec.operation, sender, counts }
    }

    /// What it has done, and how much waits.
    pub fn figures(&self) -> GroupFigures {
        GroupFigures {
            operation: self.operation,
            waiting: (CAPACITY - self.sender.capacity().min(CAPACITY)) as u64,
            capacity: CAPACITY as u64,
            rows: self.counts.rows.load(Ordering::Relaxed),
            commits: self.counts.commits.load(Ordering::Relaxed),
        }
    }

    /// Hands a row over at once, and then waits for its commit. What waits is some words, as thousands do.
    ///
    /// # Errors
    /// What the commit says; `Unavailable` when there was no room for two seconds, so that nothing was handed over.
    pub fn write(&self, row: I) -> impl Future<Output = Result<O>> {
        let (answer, outcome) = oneshot::channel();
        let room = match self.sender.try_send((row, answer)) {
            Ok(()) => None,
            Err(TrySendError::Full(waiting) | TrySendError::Closed(waiting)) => {
                Some(Box::pin(self.sender.send_timeout(waiting, FULL_TIMEOUT)))
            }
        };
        async move {
            if let Some(room) = room {
                let unavailable = |_| Error::Unavailable { operation: self.operation, source: None };
                room.await.map_err(unavailable)?;
            }
            outcome.await.unwrap_or(Err(Error::UnknownOutcome { operation: self.operation }))
        }
    }
}

fn split_by_weight<I, A>(batch: Vec<(I, A)>, weigh: fn(&I) -> usize) -> Vec<Vec<(I, A)>> {
    let mut parts: Vec<Vec<(I, A)>> = Vec::new();
    let mut part_bytes = 0;
    for row in batch {
        let bytes = weigh(&row.0);
        match parts.last_mut() {
            Some(part) if part_bytes + bytes <= MAX_BYTES => {
                part.push(row);
                part_bytes += bytes;
            }
            _ => {
                parts.push(vec![row]);
                part_bytes = bytes;
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_holds_at_most_four_mebibytes_and_order_is_kept() {
        let rows: Vec<(usize, ())> =
            [3 << 20, 1 << 20, 1, 5 << 20, 2].into_iter().map(|bytes| (bytes, ())).collect();
        let parts = split_by_weight(rows, |bytes| *bytes);
        let sizes: Vec<Vec<usize>> =
            parts.iter().map(|part| part.iter().map(|(bytes, ())| *bytes).collect()).collect();
        assert_eq!(sizes, [vec![3 << 20, 1 << 20], vec![1], vec![5 << 20], vec![2]]);
    }
}
