//! The stream of a job's log: the stored lines, then each that is appended, then the end with the job.
//!
//! Lines become visible in the order of their places and all of them before the end of the job, so a reader that goes
//! on after the last place it has read misses none and repeats none. It is told by NOTIFY, and looks by itself every
//! few seconds all the same.

use std::collections::VecDeque;
use std::time::Duration;

use entity::job_log;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use uuid::Uuid;

use super::Events;
use super::follow::Watch;
use super::log_news::LogReader;
use crate::error::{Error, Result};
use crate::job::viewer::Viewer;
use crate::store::Store;
use crate::store::log::LogPlace;

/// Lines of one read.
const PAGE: u64 = 500;
/// A look without news.
const POLL: Duration = Duration::from_secs(5);

impl Events {
    /// The lines of the job after a place, as they come; ends once the job is terminal and all are given, or when it is
    /// deleted.
    ///
    /// # Errors
    /// `NotFound`, also for another client's job; `Unavailable`.
    pub async fn follow_log(
        &self,
        viewer: &Viewer,
        id: Uuid,
        after: Option<LogPlace>,
    ) -> Result<BoxStream<'static, Result<job_log::Model>>> {
        let (reader, watch) = (self.log_news.read(id), Watch::start(self, id));
        let job = self.store.job(viewer, id).await?.ok_or_else(|| Error::no_job(id))?;
        let follower = Follower {
            store: self.store.clone(),
            viewer: viewer.clone(),
            id,
            reader,
            watch,
            version: job.version,
            is_over: job.status.is_terminal(),
            place: after,
            lines: VecDeque::new(),
        };
        Ok(stream::unfold(Some(follower), |follower| async {
            let mut follower = follower?;
            match follower.next().await {
                Ok(Some(line)) => Some((Ok(line), Some(follower))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        })
        .boxed())
    }
}

struct Follower {
    store: Store,
    viewer: Viewer,
    id: Uuid,
    reader: LogReader,
    watch: Watch,
    version: i32,
    is_over: bool,
    place: Option<LogPlace>,
    lines: VecDeque<job_log::Model>,
}

impl Follower {
    /// The next line; none at the end.
    async fn next(&mut self) -> Result<Option<job_log::Model>> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Ok(Some(line));
            }
            // What is known of the job before the read: all its lines are visible once it is over.
            let was_over = self.is_over;
            self.lines = self.store.logs(&self.viewer, self.id, self.place, PAGE).await?.into();
            if let Some(last) = self.lines.back() {
                self.place = Some(LogPlace::of(last));
                continue;
            }
            if was_over {
                return Ok(None);
            }
            tokio::select! {
                () = self.reader.told() => {}
                job = self.watch.newer_than(self.version) => match job {
                    Some(job) => {
                        self.version = job.version;
                        self.is_over = job.status.is_terminal();
                    }
                    None => return Ok(None),
                },
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }
}
