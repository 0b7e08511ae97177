//! The type `QueuePosition`.

use std::time::Duration;

use async_graphql::{ComplexObject, Context, ID, Result, SimpleObject};
use chrono::TimeDelta;
use uuid::Uuid;

use super::Parts;
use super::date_time::DateTime;
use crate::store::position::Position;

/// Where a job stands in its queue, from one snapshot.
#[derive(Clone, Debug, SimpleObject)]
#[graphql(complex)]
pub struct QueuePosition {
    /// The job.
    #[graphql(complexity = 0)]
    job_id: ID,
    /// 1 for the next pending job to be claimed; 0 while running; null otherwise.
    #[graphql(complexity = 0)]
    position: Option<i32>,
    /// Active jobs of the queue that have, or will get, a worker before this one: runningAhead + pendingAhead. All
    /// three are 0 unless the job is PENDING.
    #[graphql(complexity = 0)]
    ahead: i32,
    /// Running jobs of the queue.
    #[graphql(complexity = 0)]
    running_ahead: i32,
    /// Pending jobs that will be claimed before this one.
    #[graphql(complexity = 0)]
    pending_ahead: i32,
    /// Pending and running jobs in the queue; 0 when this job is terminal.
    #[graphql(complexity = 0)]
    total_active: i32,
    #[graphql(skip)]
    exact: Position,
}

#[ComplexObject]
impl QueuePosition {
    /// When it will probably start, from what attempts of each kind took lately and the slots of live workers; jobs that
    /// will come later and go first are not foreseen. Null where it cannot be told: the job is not PENDING, a kind
    /// before it has no history, no worker is live, or the queue is paused.
    async fn estimated_start_at(&self, ctx: &Context<'_>) -> Result<Option<DateTime>> {
        if self.exact.status != entity::JobStatus::Pending {
            return Ok(None);
        }
        let made = ctx.data::<Parts>()?.store.forecast(&self.exact.queue).await?;
        let seconds = self.exact.position().and_then(|position| made.forecast.seconds_until(position));
        let wait =
            seconds.and_then(|seconds| TimeDelta::from_std(Duration::try_from_secs_f64(seconds).ok()?).ok());
        Ok(wait.and_then(|wait| made.at.checked_add_signed(wait)).map(DateTime::from))
    }
}

impl QueuePosition {
    /// The position of the job.
    pub fn new(job_id: Uuid, position: &Position) -> QueuePosition {
        QueuePosition {
            job_id: job_id.into(),
            position: position.position().map(int),
            ahead: int(position.running_ahead.saturating_add(position.pending_ahead)),
            running_ahead: int(position.running_ahead),
            pending_ahead: int(position.pending_ahead),
            total_active: int(position.total_active),
            exact: position.clone(),
        }
    }
}

/// A count as the API's 32-bit Int; beyond it, its largest value.
pub fn int(count: i64) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
