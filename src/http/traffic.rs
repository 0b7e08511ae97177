//! What is open on the port and what was answered, counted for `/metrics`. Nothing is refused by it; that is what
//! [`limits`](super::limits) are for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::StatusCode;

/// Something that stays open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasting {
    /// A TCP connection, whatever is spoken on it.
    Connection,
    /// A WebSocket.
    WebSocket,
    /// A response of server-sent events.
    EventStream,
    /// A multipart response.
    Multipart,
}

/// What can stay open, with the name that it has in figures.
const LASTING: [(Lasting, &str); 4] = [
    (Lasting::Connection, "connection"),
    (Lasting::WebSocket, "websocket"),
    (Lasting::EventStream, "event_stream"),
    (Lasting::Multipart, "multipart"),
];
/// Classes of statuses, from 1xx.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// See the module. Cheap to clone; clones count together.
#[derive(Clone, Default)]
pub struct Traffic(Arc<Counts>);

#[derive(Default)]
struct Counts {
    open: [AtomicU64; LASTING.len()],
    opened: [AtomicU64; LASTING.len()],
    responses: [AtomicU64; CLASSES.len()],
}

/// Counted as open until it is dropped.
#[must_use]
pub struct Opened {
    counts: Arc<Counts>,
    what: Lasting,
}

impl Traffic {
    /// Counts something that was opened.
    pub fn open(&self, what: Lasting) -> Opened {
        count(&self.0.open, what, |open| open.fetch_add(1, Ordering::Relaxed));
        count(&self.0.opened, what, |opened| opened.fetch_add(1, Ordering::Relaxed));
        Opened { counts: self.0.clone(), what }
    }

    /// Counts an answer.
    pub fn answered(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).checked_sub(1);
        if let Some(responses) = class.and_then(|class| self.0.responses.get(class)) {
            responses.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What is open, and how much was opened so far, by name.
    pub fn lasting(&self) -> [(&'static str, u64, u64); LASTING.len()] {
        LASTING.map(|(what, name)| {
            let figure =
                |counts| count(counts, what, |count| count.load(Ordering::Relaxed)).unwrap_or_default();
            (name, figure(&self.0.open), figure(&self.0.opened))
        })
    }

    /// Answers by the class of their status.
    pub fn responses(&self) -> impl Iterator<Item = (&'static str, u64)> {
        CLASSES
            .into_iter()
            .zip(&self.0.responses)
            .map(|(class, count)| (class, count.load(Ordering::Relaxed)))
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        count(&self.counts.open, self.what, |open| open.fetch_sub(1, Ordering::Relaxed));
    }
}

fn count<T>(counts: &[AtomicU64; LASTING.len()], what: Lasting, with: impl Fn(&AtomicU64) -> T) -> Option<T> {
    LASTING.iter().zip(counts).find(|((known, _), _)| *known == what).map(|(_, count)| with(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_is_counted_until_it_is_dropped() {
        let traffic = Traffic::default();
        let connection = traffic.open(Lasting::Connection);
        let (_one, two) = (traffic.open(Lasting::WebSocket), traffic.clone().open(Lasting::WebSocket));
        drop((connection, two));
        let lasting = traffic.lasting();
        assert_eq!(lasting[..3], [("connection", 0, 1), ("websocket", 1, 2), ("event_stream", 0, 0)]);
        traffic.answered(StatusCode::SWITCHING_PROTOCOLS);
        traffic.answered(StatusCode::NOT_FOUND);
        traffic.answered(StatusCode::UNAUTHORIZED);
        let responses: Vec<u64> = traffic.responses().map(|(_, count)| count).collect();
        assert_eq!(responses, [1, 0, 0, 2, 0]);
    }
}
