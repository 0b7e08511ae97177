//! Streams of a job's states, and of the jobs that match a filter.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use entity::{JobStatus, job};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::Events;
use super::feeds::{Feed, Interest};
use super::hub::{Hub, Seen};
use crate::error::{Error, Result};
use crate::job::viewer::Viewer;

/// What a feed is restricted to. `None` does not filter; an empty list matches nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventFilter {
    /// Submitted by.
    pub client_id: Option<String>,
    /// Any of these.
    pub kind: Option<Vec<String>>,
    /// Any of these.
    pub queue: Option<Vec<String>>,
    /// Any of these.
    pub status: Option<Vec<JobStatus>>,
    /// Part of.
    pub workflow_id: Option<Uuid>,
}

impl EventFilter {
    /// True when the job, in the state it is in, is wanted.
    pub fn matches(&self, job: &job::Model) -> bool {
        fn one_of<T: PartialEq>(allowed: &Option<Vec<T>>, value: &T) -> bool {
            allowed.as_ref().is_none_or(|allowed| allowed.contains(value))
        }
        self.client_id.as_ref().is_none_or(|client_id| *client_id == job.client_id)
            && one_of(&self.kind, &job.kind)
            && one_of(&self.queue, &job.queue)
            && one_of(&self.status, &job.status)
            && self.workflow_id.is_none_or(|id| job.workflow_id == Some(id))
    }
}

impl Events {
    /// The job as it stands, unless the caller has `after_version`; then each later state it is seen in, the
    /// terminal one always unless a retry has left it by then; ends after that, or when the job is deleted.
    ///
    /// # Errors
    /// `NotFound`, also for another client's job; `Unavailable`.
    pub async fn follow_job(
        &self,
        viewer: &Viewer,
        id: Uuid,
        after_version: Option<i32>,
    ) -> Result<BoxStream<'static, Result<Arc<job::Model>>>> {
        let watch = Watch::start(self, id);
        let present = self.store.job(viewer, id).await?.ok_or_else(|| Error::no_job(id))?;
        let first = (after_version != Some(present.version)).then(|| Arc::new(present.clone()));
        let rest = (!present.status.is_terminal()).then_some((watch, present.version));
        let later = stream::unfold(rest, |rest| async move {
            let (mut watch, version) = rest?;
            let job = watch.newer_than(version).await?;
            let rest = (!job.status.is_terminal()).then_some((watch, job.version));
            Some((job, rest))
        });
        Ok(stream::iter(first).chain(later).map(Ok).boxed())
    }

    /// Each job that matches, in each state it is seen in from now on. A subscriber that falls 10,000 jobs behind
    /// gets `Unavailable` and the end.
    pub fn follow_jobs(
        &self,
        viewer: &Viewer,
        filter: EventFilter,
    ) -> BoxStream<'static, Result<Arc<job::Model>>> {
        let viewer = viewer.clone();
        let own = match &viewer {
            Viewer::Client(own) => Some(own.clone()),
            Viewer::Operator | Viewer::Worker(_) => None,
        };
        let interest = Interest {
            client_id: filter.client_id.clone().or(own),
            status: filter.status.clone(),
            wants: Box::new(move |job| viewer.may_see(&job.client_id, &job.kind) && filter.matches(job)),
        };
        let subscription = Subscription::open(self, interest);
        stream::unfold(Some(subscription), |open| async move {
            let subscription = open?;
            match subscription.next().await {
                Some(job) => Some((Ok(job), Some(subscription))),
                None => Some((
                    Err(Error::Unavailable { operation: "keep up with the changes", source: None }),
                    None,
                )),
            }
        })
        .boxed()
    }

    /// The job once it is terminal, or as it stands after `wait`; none when there is none for this viewer.
    ///
    /// # Errors
    /// `Unavailable`, `Database`.
    pub async fn await_terminal(
        &self,
        viewer: &Viewer,
        id: Uuid,
        wait: Duration,
    ) -> Result<Option<job::Model>> {
        let deadline = Instant::now() + wait;
        let mut watch = Watch::start(self, id);
        let Some(mut job) = self.store.job(viewer, id).await? else { return Ok(None) };
        while !job.status.is_terminal() {
            let newer = timeout_at(deadline, watch.newer_than(job.version));
            match self.waits_ended.run_until_cancelled(newer).await {
                Some(Ok(Some(newer))) => job = Arc::unwrap_or_clone(newer),
                // Deleted.
                Some(Ok(None)) => return Ok(None),
                // The time is over, or the process stops.
                Some(Err(_)) | None => return self.store.job(viewer, id).await,
            }
        }
        Ok(Some(job))
    }
}

/// A place on the hub's list, given up when dropped.
pub(super) struct Watch {
    hub: Arc<Hub>,
    id: Uuid,
    receiver: Option<watch::Receiver<Seen>>,
}

impl Watch {
    pub(super) fn start(events: &Events, id: Uuid) -> Watch {
        Watch { receiver: Some(events.hub.watch(id)), hub: events.hub.clone(), id }
    }

    /// The next state above `version`; none when the job is gone.
    pub(super) async fn newer_than(&mut self, version: i32) -> Option<Arc<job::Model>> {
        let receiver = self.receiver.as_mut()?;
        let newer = receiver
            .wait_for(|seen| match seen {
                Seen::Unread => false,
                Seen::Job(job) => job.version > version,
                Seen::Gone => true,
            })
            .await
            .ok()?;
        match &*newer {
            Seen::Job(job) => Some(job.clone()),
            Seen::Unread | Seen::Gone => None,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.receiver = None;
        self.hub.unwatch(self.id);
    }
}

/// An open feed, closed when dropped.
struct Subscription {
    hub: Arc<Hub>,
    number: u64,
    feed: Arc<Mutex<Feed>>,
    wake: Arc<Notify>,
}

impl Subscription {
    fn open(events: &Events, interest: Interest) -> Subscription {
        let (number, feed, wake) = events.hub.open_feed(interest);
        Subscription { hub: events.hub.clone(), number, feed, wake }
    }

    /// The next job; none when the subscriber is too far behind.
    async fn next(&self) -> Option<Arc<job::Model>> {
        loop {
            {
                let mut feed = self.feed.lock().unwrap_or_else(PoisonError::into_inner);
                if feed.overflown {
                    return None;
                }
                if let Some(job) = feed.take() {
                    return Some(job);
                }
            }
            self.wake.notified().await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.close_feed(self.number);
    }
}
