//! The operations of one socket, and what they yield, in turn.
//!
//! Each operation is a stream in one set, which polls those that were woken in the order in which they were woken; one
//! that yields goes to the end. So a subscription with an event always ready gets one turn among the others' each.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::{self, AbortHandle, BoxStream, SelectAll, abortable};

use crate::graphql::request_check::CheckedRequest;
use crate::http::HttpState;
use crate::http::execution::{self, Yielded};
use crate::http::limits::Share;

/// See the module.
#[derive(Default)]
pub struct Operations {
    running: SelectAll<BoxStream<'static, Event>>,
    by_id: HashMap<Arc<str>, Running>,
    started: u64,
}

struct Running {
    number: u64,
    abort: AbortHandle,
    /// Its share of what its client may have at once.
    _share: Option<Share>,
}

/// Something that the operation of this number yielded. The number tells it from an earlier one of the same id.
struct Event {
    id: Arc<str>,
    number: u64,
    yielded: Yielded,
}

impl Operations {
    /// How many run.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// True when none runs, and none that was stopped is left to be dropped.
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// True when one of this id runs.
    pub fn has(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
    }

    /// Starts an operation.
    pub fn start(&mut self, id: String, state: &HttpState, checked: CheckedRequest, share: Share) {
        self.add(id.into(), execution::run(state, checked), Some(share));
    }

    fn add(&mut self, id: Arc<str>, yielded: BoxStream<'static, Yielded>, share: Option<Share>) {
        self.started += 1;
        let number = self.started;
        let (yielded, abort) = abortable(yielded);
        let of = id.clone();
        let events = yielded.chain(stream::once(async { Yielded::Complete })).map(move |yielded| Event {
            id: of.clone(),
            number,
            yielded,
        });
        self.running.push(events.boxed());
        self.by_id.insert(id, Running { number, abort, _share: share });
    }

    /// Stops an operation; nothing of it is yielded any more. Does nothing when there is none.
    pub fn stop(&mut self, id: &str) {
        if let Some(running) = self.by_id.remove(id) {
            running.abort.abort();
        }
    }

    /// What is yielded next, and by which operation; none when nothing runs. Nothing is lost when the future is
    /// dropped.
    pub async fn next(&mut self) -> Option<(Arc<str>, Yielded)> {
        while let Some(Event { id, number, yielded }) = self.running.next().await {
            // One that was stopped may have had something ready.
            if self.by_id.get(&id).is_none_or(|running| running.number != number) {
                continue;
            }
            if matches!(yielded, Yielded::Complete | Yielded::RequestErrors(_)) {
                self.stop(&id);
            }
            return Some((id, yielded));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::Response;

    use super::*;

    fn responses(count: usize) -> BoxStream<'static, Yielded> {
        stream::iter((0..count).map(|_| Yielded::Response(Response::default()))).boxed()
    }

    #[tokio::test]
    async fn a_busy_operation_does_not_starve_the_others() {
        let mut operations = Operations::default();
        operations.add("busy".into(), responses(usize::MAX), None);
        operations.add("a".into(), responses(2), None);
        operations.add("b".into(), responses(2), None);
        let mut others = 0;
        for _ in 0..24 {
            let (id, _) = operations.next().await.unwrap();
            others += usize::from(&*id != "busy");
        }
        // Two results each, and the end.
        assert_eq!(others, 6);
        assert_eq!(operations.len(), 1);
    }

    #[tokio::test]
    async fn a_stopped_operation_is_silent_and_its_id_is_free() {
        let mut operations = Operations::default();
        operations.add("a".into(), responses(usize::MAX), None);
        assert!(operations.next().await.is_some());
        operations.stop("a");
        operations.stop("a");
        assert!(!operations.has("a"));
        operations.add("a".into(), responses(1), None);
        assert!(matches!(operations.next().await, Some((_, Yielded::Response(_)))));
        assert!(matches!(operations.next().await, Some((_, Yielded::Complete))));
        assert!(operations.next().await.is_none() && operations.is_empty());
    }

    #[tokio::test]
    async fn request_errors_end_an_operation_without_a_complete() {
        let mut operations = Operations::default();
        operations.add("a".into(), stream::iter([Yielded::RequestErrors(Vec::new())]).boxed(), None);
        assert!(matches!(operations.next().await, Some((_, Yielded::RequestErrors(_)))));
        assert!(operations.next().await.is_none());
    }
}
