//! How a job that is held is told to stop, and why.
//!
//! There are two ways. Being *asked* leaves the handler time to end, and the reason decides what is then written
//! about the attempt; the first reason stays. Being *lost* is harder: others may run the job by now, so the handler is
//! dropped where it stands and nothing is written.

use std::sync::OnceLock;

use tokio_util::sync::CancellationToken;

/// Why a handler was asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopReason {
    /// Somebody cancelled the job.
    Cancelled,
    /// The attempt ran longer than it may.
    TimedOut,
    /// The process stops, and has waited for as long as it may.
    Draining,
}

/// The switch of one held job.
#[derive(Debug, Default)]
pub(super) struct Stop {
    reason: OnceLock<StopReason>,
    asked: CancellationToken,
    lost: CancellationToken,
}

impl Stop {
    /// Asks the handler to stop; without effect when it was asked before.
    pub(super) fn ask(&self, reason: StopReason) {
        let _ = self.reason.set(reason);
        self.asked.cancel();
    }

    /// Says that the lease is lost.
    pub(super) fn lose(&self) {
        self.lost.cancel();
    }

    /// Why the handler was asked to stop, if it was.
    pub(super) fn reason(&self) -> Option<StopReason> {
        self.reason.get().copied()
    }

    /// True once the lease is lost.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Cancelled once the handler is asked to stop.
    pub(super) fn asked(&self) -> &CancellationToken {
        &self.asked
    }

    /// Cancelled once the lease is lost.
    pub(super) fn lost(&self) -> &CancellationToken {
        &self.lost
    }
}
