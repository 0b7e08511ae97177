//! Streams of a job's position, and of queues.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use entity::queue::Model as Settings;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use uuid::Uuid;

use super::Events;
use crate::error::{Error, Result};
use crate::job::viewer::Viewer;
use crate::store::position::Position;
use crate::store::queue_content::QueueContent;

/// A queue as it stands.
pub type QueueState = (Settings, Arc<QueueContent>);

impl Events {
    /// The position of a job as it stands, then each change that a round finds, at most two a second; ends after the one
    /// that says that the job does not wait any more, or when the job is deleted.
    ///
    /// # Errors
    /// `NotFound`, also for another client's job; `Unavailable`.
    pub async fn follow_position(&self, viewer: &Viewer, id: Uuid) -> Result<BoxStream<'static, Position>> {
        let mut watch = self.board.watch_position(id);
        let present = self.store.positions(viewer, &[id]).await?.remove(&id);
        let present = present.ok_or_else(|| Error::no_job(id))?;
        watch.has_read();
        let rest = present.status.is_waiting().then(|| (watch, present.clone()));
        let later = stream::unfold(rest, |rest| async move {
            let (mut watch, before) = rest?;
            loop {
                let position = watch.next().await?;
                if position != before {
                    let rest = position.status.is_waiting().then(|| (watch, position.clone()));
                    return Some((position, rest));
                }
            }
        });
        Ok(stream::iter([present]).chain(later).boxed())
    }

    /// All queues, or the one of this name, as they stand, then each in which something changed, at most two a second.
    /// `configured` are those that the configuration names.
    pub fn follow_queues(
        &self,
        configured: &[String],
        name: Option<String>,
    ) -> BoxStream<'static, QueueState> {
        let receiver = self.board.watch_queues(configured);
        let follower =
            (receiver, name, HashMap::<String, QueueState>::new(), VecDeque::<QueueState>::new(), 0);
        stream::unfold(follower, |(mut receiver, name, mut known, mut changed, mut heard)| async move {
            loop {
                if let Some(queue) = changed.pop_front() {
                    return Some((queue, (receiver, name, known, changed, heard)));
                }
                let said = receiver.wait_for(|said| said.round > heard).await.ok()?.clone();
                heard = said.round;
                let wanted = said
                    .what
                    .iter()
                    .filter(|(queue, _)| name.as_ref().is_none_or(|name| *name == queue.name));
                for state in wanted {
                    if known.get(&state.0.name) != Some(state) {
                        known.insert(state.0.name.clone(), state.clone());
                        changed.push_back(state.clone());
                    }
                }
            }
        })
        .boxed()
    }
}
