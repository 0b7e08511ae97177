//! The open feeds: streams of every job that matches a filter.
//!
//! A change should cost what it concerns: a feed of one client is found by the client's id, and a job that has reached a
//! state which no feed wants is not even read. With a thousand clients that each watch their own finished jobs, a job
//! then costs one read and one look, where it cost three reads and three thousand looks.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use entity::{JobStatus, job};
use tokio::sync::Notify;
use uuid::Uuid;

/// Jobs that wait for a slow subscriber to a feed; beyond them the feed ends.
const FEED_MAX: usize = 10_000;

/// What a subscriber to a feed has not taken yet. Of several states of one job the latest stays.
#[derive(Default)]
pub(super) struct Feed {
    order: VecDeque<Uuid>,
    latest: HashMap<Uuid, Arc<job::Model>>,
    pub(super) overflown: bool,
}

impl Feed {
    /// The next job, oldest news first.
    pub(super) fn take(&mut self) -> Option<Arc<job::Model>> {
        let id = self.order.pop_front()?;
        self.latest.remove(&id)
    }

    /// True when it is beyond what a feed holds with this one, and ends.
    fn offer(&mut self, job: &Arc<job::Model>) -> bool {
        if self.overflown || self.latest.insert(job.id, job.clone()).is_some() {
            return false;
        }
        self.order.push_back(job.id);
        if self.order.len() > FEED_MAX {
            *self = Feed { overflown: true, ..Feed::default() };
        }
        self.overflown
    }
}

/// What a feed wants: nothing beyond the client and the states that it names, and of those what `wants` says.
pub(super) struct Interest {
    /// One client's jobs only.
    pub(super) client_id: Option<String>,
    /// These states only.
    pub(super) status: Option<Vec<JobStatus>>,
    /// Decides.
    pub(super) wants: Box<dyn Fn(&job::Model) -> bool + Send>,
}

/// A feed that was opened: its number, its contents and its wake-up.
pub(super) type Opened = (u64, Arc<Mutex<Feed>>, Arc<Notify>);

struct OpenFeed {
    interest: Interest,
    feed: Arc<Mutex<Feed>>,
    wake: Arc<Notify>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Feeds {
    open: HashMap<u64, OpenFeed>,
    /// Numbers of the feeds of one client.
    of_client: HashMap<String, Vec<u64>>,
    /// Numbers of the feeds that name no client.
    of_all: Vec<u64>,
    /// How many feeds want any state.
    any_status: usize,
    /// How many feeds want this state among those that they name.
    by_status: HashMap<JobStatus, usize>,
    next: u64,
    /// Feeds that have ended as their subscriber did not keep up.
    overflown: AtomicU64,
}

impl Feeds {
    /// How many are open, and how many have ended as their subscriber did not keep up.
    pub(super) fn figures(&self) -> (usize, u64) {
        (self.open.len(), self.overflown.load(Ordering::Relaxed))
    }

    /// True when nobody has one open.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Opens a feed.
    pub(super) fn open(&mut self, interest: Interest) -> Opened {
        let (feed, wake) = (Arc::<Mutex<Feed>>::default(), Arc::<Notify>::default());
        let number = self.next;
        self.next += 1;
        match &interest.client_id {
            Some(client_id) => self.of_client.entry(client_id.clone()).or_default().push(number),
            None => self.of_all.push(number),
        }
        match &interest.status {
            Some(named) => named.iter().for_each(|status| *self.by_status.entry(*status).or_default() += 1),
            None => self.any_status += 1,
        }
        self.open.insert(number, OpenFeed { interest, feed: feed.clone(), wake: wake.clone() });
        (number, feed, wake)
    }

    /// Closes a feed.
    pub(super) fn close(&mut self, number: u64) {
        let Some(OpenFeed { interest, .. }) = self.open.remove(&number) else { return };
        match interest.client_id {
            Some(client_id) => {
                let numbers = self.of_client.entry(client_id.clone()).or_default();
                numbers.retain(|each| *each != number);
                if numbers.is_empty() {
                    self.of_client.remove(&client_id);
                }
            }
            None => self.of_all.retain(|each| *each != number),
        }
        match interest.status {
            Some(named) => named.iter().for_each(|status| {
                if let Some(feeds) = self.by_status.get_mut(status) {
                    *feeds -= 1;
                }
            }),
            None => self.any_status -= 1,
        }
    }

    /// True when a feed may want a job that is said to have reached this state; none is an unknown one.
    pub(super) fn may_want(&self, status: Option<JobStatus>) -> bool {
        match status {
            Some(status) => {
                self.any_status > 0 || self.by_status.get(&status).is_some_and(|feeds| *feeds > 0)
            }
            None => !self.is_empty(),
        }
    }

    /// Hands the job to all who want it.
    pub(super) fn offer(&self, job: &Arc<job::Model>) {
        let of_its_client = self.of_client.get(&job.client_id).into_iter().flatten();
        for number in of_its_client.chain(&self.of_all) {
            let Some(open) = self.open.get(number).filter(|open| (open.interest.wants)(job)) else {
                continue;
            };
            if open.feed.lock().unwrap_or_else(PoisonError::into_inner).offer(job) {
                self.overflown.fetch_add(1, Ordering::Relaxed);
            }
            open.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interest(client_id: Option<&str>, status: Option<&[JobStatus]>) -> Interest {
        Interest {
            client_id: client_id.map(str::to_owned),
            status: status.map(<[JobStatus]>::to_vec),
            wants: Box::new(|_| true),
        }
    }

    #[test]
    fn only_states_that_a_feed_names_are_wanted_until_it_closes() {
        let mut feeds = Feeds::default();
        assert!(!feeds.may_want(Some(JobStatus::Done)) && !feeds.may_want(None));
        let (ends, ..) = feeds.open(interest(Some("a"), Some(&[JobStatus::Done, JobStatus::Error])));
        assert!(feeds.may_want(Some(JobStatus::Done)) && feeds.may_want(None));
        assert!(!feeds.may_want(Some(JobStatus::Running)));
        let (all, ..) = feeds.open(interest(None, None));
        assert!(feeds.may_want(Some(JobStatus::Running)));
        feeds.close(all);
        assert!(!feeds.may_want(Some(JobStatus::Running)) && feeds.may_want(Some(JobStatus::Error)));
        feeds.close(ends);
        feeds.close(ends);
        assert!(feeds.is_empty() && !feeds.may_want(Some(JobStatus::Done)));
        assert!(feeds.of_client.is_empty() && feeds.of_all.is_empty());
    }
}
