//! The slots of a worker, and the ends that are being committed.
//!
//! A slot is taken while a handler runs. It is free again as soon as the handler has ended, while the end is
//! still being committed: ends are committed many at a time, and a slot that waited for its commit would stand
//! idle for most of its life when jobs are short. How many ends, and how many bytes of results, may wait is bounded;
//! beyond that no handler is started, so a database that is slow or away stops the work.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Ends that may wait for their commit while handlers are started.
const MAX_ENDING: usize = 2_000;
/// Bytes of results that may wait for their commit while handlers are started.
const MAX_ENDING_BYTES: usize = 64 << 20;

/// The slots of one registration.
#[derive(Debug)]
pub(super) struct Slots {
    total: usize,
    running: AtomicUsize,
    ending: AtomicUsize,
    ending_bytes: AtomicUsize,
    changed: Notify,
}

/// A slot in use, until this is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Arc<Slots>,
}

/// An end that is being committed, until this is dropped.
#[derive(Debug)]
pub(super) struct Ending {
    slots: Arc<Slots>,
    bytes: usize,
}

impl Slots {
    /// So many slots, all free.
    pub(super) fn new(total: usize) -> Slots {
        Slots {
            total,
            running: AtomicUsize::new(0),
            ending: AtomicUsize::new(0),
            ending_bytes: AtomicUsize::new(0),
            changed: Notify::new(),
        }
    }

    /// Slots in which a handler may be started now.
    pub(super) fn free(&self) -> usize {
        if self.is_choked() { 0 } else { self.total.saturating_sub(self.running.load(Ordering::Relaxed)) }
    }

    /// True while so many ends wait for their commit that nothing is started, and nothing should be claimed.
    pub(super) fn is_choked(&self) -> bool {
        self.ending.load(Ordering::Relaxed) >= MAX_ENDING
            || self.ending_bytes.load(Ordering::Relaxed) >= MAX_ENDING_BYTES
    }

    /// Takes a slot. Only the claimer does, after it has seen one free.
    pub(super) fn take(self: &Arc<Self>) -> Slot {
        self.running.fetch_add(1, Ordering::Relaxed);
        Slot { slots: self.clone() }
    }

    /// Counts an end that never had a slot: a job that is given back unstarted.
    pub(super) fn ending(self: &Arc<Self>, bytes: usize) -> Ending {
        self.ending.fetch_add(1, Ordering::Relaxed);
        self.ending_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ending { slots: self.clone(), bytes }
    }

    /// Waits until a slot may have become free.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl Slot {
    /// Frees the slot, and counts the end with its result of so many bytes.
    pub(super) fn into_ending(self, bytes: usize) -> Ending {
        self.slots.ending(bytes)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.running.fetch_sub(1, Ordering::Relaxed);
        self.slots.changed.notify_one();
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let before = self.slots.ending.fetch_sub(1, Ordering::Relaxed);
        let bytes_before = self.slots.ending_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        // Nobody waits for an end unless it was the bound that held things up.
        if before >= MAX_ENDING || bytes_before >= MAX_ENDING_BYTES {
            self.slots.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_free_while_its_end_is_committed_and_ends_are_bounded() {
        let slots = Arc::new(Slots::new(2));
        let (first, _second) = (slots.take(), slots.take());
        assert_eq!(slots.free(), 0);
        let ending = first.into_ending(10);
        assert_eq!(slots.free(), 1);
        let more: Vec<Ending> = (1..MAX_ENDING).map(|_| slots.ending(0)).collect();
        assert_eq!(slots.free(), 0);
        drop(more);
        assert_eq!(slots.free(), 1);
        let large = slots.ending(MAX_ENDING_BYTES);
        assert_eq!(slots.free(), 0);
        drop((large, ending));
        assert_eq!(slots.free(), 1);
    }
}
