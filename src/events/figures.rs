//! What passes through the listener and the hub. For `/metrics`: no decision hangs on it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Events;

/// What is heard, in the order in which it is counted.
pub(super) const HEARD: [&str; 7] = ["job", "ready", "cancel", "log", "queue", "token", "ping"];

/// The listener's counters.
#[derive(Default)]
pub(super) struct Heard {
    connects: AtomicU64,
    notifications: [AtomicU64; HEARD.len()],
}

impl Heard {
    /// The listener listens anew, and everything watched is read again.
    pub(super) fn connected(&self) {
        self.connects.fetch_add(1, Ordering::Relaxed);
    }

    /// A notification of this sort came.
    pub(super) fn notification(&self, sort: &str) {
        if let Some((_, count)) = HEARD.iter().zip(&self.notifications).find(|(known, _)| **known == sort) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What the hub holds, and has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HubFigures {
    /// Jobs that somebody watches.
    pub watched_jobs: u64,
    /// Who watches them.
    pub watchers: u64,
    /// Streams of all jobs that match a filter.
    pub feeds: u64,
    /// Feeds that were ended as their subscriber did not keep up.
    pub overflown_feeds: u64,
    /// Jobs that are to be read.
    pub marked: u64,
    /// Reads of what was marked.
    pub rounds: u64,
    /// How long the oldest news that is not handed out has waited.
    pub lag: Duration,
}

/// What a process hears and hands on.
#[derive(Clone, Debug)]
pub struct EventFigures {
    /// Notifications are known to arrive.
    pub listening: bool,
    /// How often the listener has begun to listen.
    pub connects: u64,
    /// Notifications, by what they are about.
    pub notifications: [(&'static str, u64); HEARD.len()],
    /// The hub's.
    pub hub: HubFigures,
}

impl Events {
    /// See [`EventFigures`].
    pub fn figures(&self) -> EventFigures {
        let mut notifications = HEARD.map(|sort| (sort, 0));
        for ((_, figure), count) in notifications.iter_mut().zip(&self.heard.notifications) {
            *figure = count.load(Ordering::Relaxed);
        }
        EventFigures {
            listening: self.is_listening(),
            connects: self.heard.connects.load(Ordering::Relaxed),
            notifications,
            hub: self.hub.figures(),
        }
    }
}
