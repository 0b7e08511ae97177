//! The types `Queue`, `StatusCounts` and `KindStatus`, and the enum `QueueOrder`.

use std::sync::Arc;

use async_graphql::{Context, Enum, Object, Result, SimpleObject};
use entity::JobStatus;
use entity::queue::Model;

use super::date_time::DateTime;
use super::job_connection::{DEFAULT_PAGE, JobConnection, page_complexity, page_size};
use super::loaders::Loaders;
use super::queue_position::int;
use super::{Parts, argument, cursor};
use crate::events::QueueState;
use crate::job::viewer::Viewer;
use crate::store::queue::UpcomingRequest;
use crate::store::queue_content::{Content, QueueContent, StatusCounts as StoredCounts};

/// Which jobs of one priority go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "entity::queue::ClaimOrder")]
pub enum QueueOrder {
    /// The oldest.
    Fifo,
    /// The newest.
    Lifo,
}

/// A set of kinds that the same workers run, and that wait for each other.
#[derive(Clone, Debug)]
pub struct Queue {
    settings: Model,
    /// What is in it, where that is known.
    content: Option<Arc<QueueContent>>,
}

impl From<Model> for Queue {
    fn from(settings: Model) -> Queue {
        Queue { settings, content: None }
    }
}

impl From<QueueState> for Queue {
    fn from((settings, content): QueueState) -> Queue {
        Queue { settings, content: Some(content) }
    }
}

impl Queue {
    async fn content(&self, ctx: &Context<'_>) -> Result<Arc<QueueContent>> {
        match &self.content {
            Some(content) => Ok(content.clone()),
            None => ctx.data::<Loaders>()?.queue_content(&self.settings.name).await,
        }
    }
}

/// A set of kinds that the same workers run, and that wait for each other.
#[Object]
impl Queue {
    /// What jobs and workers call it.
    #[graphql(complexity = 0)]
    async fn name(&self) -> &str {
        &self.settings.name
    }

    /// True while no job of it is started; those that run go on.
    #[graphql(complexity = 0)]
    async fn paused(&self) -> bool {
        self.settings.paused
    }

    /// Which jobs of one priority go first.
    #[graphql(complexity = 0)]
    async fn order(&self) -> QueueOrder {
        self.settings.claim_order.into()
    }

    /// Jobs of it that run at once, over all processes; null for no limit.
    #[graphql(complexity = 0)]
    async fn max_running(&self) -> Option<i32> {
        self.settings.max_running
    }

    /// Its jobs by status, finished ones that are kept included.
    async fn counts(&self, ctx: &Context<'_>) -> Result<StatusCounts> {
        Ok((&self.content(ctx).await?.total.counts).into())
    }

    /// The same for each kind of which it has jobs, by name.
    async fn by_kind(&self, ctx: &Context<'_>) -> Result<Vec<KindStatus>> {
        let content = self.content(ctx).await?;
        Ok(content.by_kind.iter().map(KindStatus::from).collect())
    }

    /// The pending jobs in the order in which they will be claimed.
    #[graphql(complexity = "page_complexity(first, None, child_complexity)")]
    async fn upcoming(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 50, desc = "How many, 1 to 200.")] first: Option<i32>,
        #[graphql(desc = "Only those after this cursor.")] after: Option<String>,
        #[graphql(desc = "Without jobs of these kinds.")] except_kinds: Option<Vec<String>>,
    ) -> Result<JobConnection> {
        let except_kinds = argument::names_filter("exceptKinds", except_kinds)?.unwrap_or_default();
        let seal = cursor::CursorSeal::of_upcoming(&self.settings.name, &except_kinds);
        let request = UpcomingRequest {
            limit: page_size("first", first.unwrap_or(DEFAULT_PAGE))?.into(),
            after: after.map(|after| seal.turn("after", &after)).transpose()?,
            queue: self.settings.name.clone(),
            except_kinds,
        };
        let page = ctx.data::<Parts>()?.store.upcoming(ctx.data::<Viewer>()?, &request).await?;
        Ok(JobConnection::upcoming(page, request, seal))
    }

    /// When the pending job that has waited longest became ready; null when none is pending.
    async fn oldest_pending_at(&self, ctx: &Context<'_>) -> Result<Option<DateTime>> {
        let content = self.content(ctx).await?;
        Ok(content.total.oldest_pending_at.map(DateTime::from))
    }

    /// The lowest number among the priorities of its pending jobs; null when none is pending.
    async fn highest_priority(&self, ctx: &Context<'_>) -> Result<Option<i32>> {
        let content = self.content(ctx).await?;
        Ok(content.total.highest_priority.map(i32::from))
    }

    /// Workers that take jobs from it now.
    async fn live_workers(&self, ctx: &Context<'_>) -> Result<i32> {
        Ok(int(ctx.data::<Loaders>()?.live_workers(&self.settings.name).await?))
    }
}

/// Jobs by status.
#[derive(Clone, Copy, Debug, SimpleObject)]
pub struct StatusCounts {
    /// Wait for jobs that they depend on.
    #[graphql(complexity = 0)]
    blocked: i32,
    /// Wait for their time.
    #[graphql(complexity = 0)]
    scheduled: i32,
    /// Ready; wait for a worker.
    #[graphql(complexity = 0)]
    pending: i32,
    /// Held by a worker.
    #[graphql(complexity = 0)]
    running: i32,
    /// Finished with a result.
    #[graphql(complexity = 0)]
    done: i32,
    /// Finished with an error.
    #[graphql(complexity = 0)]
    error: i32,
    /// Stopped before they could finish.
    #[graphql(complexity = 0)]
    cancelled: i32,
}

impl From<StoredCounts> for StatusCounts {
    fn from(counts: StoredCounts) -> StatusCounts {
        StatusCounts::from(&counts)
    }
}

impl From<&StoredCounts> for StatusCounts {
    fn from(counts: &StoredCounts) -> StatusCounts {
        let of = |status| int(counts.of(status));
        StatusCounts {
            blocked: of(JobStatus::Blocked),
            scheduled: of(JobStatus::Scheduled),
            pending: of(JobStatus::Pending),
            running: of(JobStatus::Running),
            done: of(JobStatus::Done),
            error: of(JobStatus::Error),
            cancelled: of(JobStatus::Cancelled),
        }
    }
}

/// What a queue has of one kind.
#[derive(Clone, Debug, SimpleObject)]
pub struct KindStatus {
    /// The kind.
    #[graphql(complexity = 0)]
    kind: String,
    /// Its jobs by status.
    #[graphql(complexity = 0)]
    counts: StatusCounts,
    /// When the pending one that has waited longest became ready; null when none is pending.
    #[graphql(complexity = 0)]
    oldest_pending_at: Option<DateTime>,
    /// The lowest number among the priorities of the pending ones; null when none is pending.
    #[graphql(complexity = 0)]
    highest_priority: Option<i32>,
}

impl From<(&String, &Content)> for KindStatus {
    fn from((kind, content): (&String, &Content)) -> KindStatus {
        KindStatus {
            kind: kind.clone(),
            counts: (&content.counts).into(),
            oldest_pending_at: content.oldest_pending_at.map(DateTime::from),
            highest_priority: content.highest_priority.map(i32::from),
        }
    }
}
