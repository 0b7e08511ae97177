//! The type `Subscription`.

use std::sync::Arc;

use async_graphql::{Context, Error, ID, Result, Subscription};
use entity::job;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use super::cursor::CursorSeal;
use super::job::Job;
use super::job_log::JobLogLine;
use super::job_status::JobStatus;
use super::query::{configured_queues, known_queues};
use super::queue::Queue;
use super::queue_position::QueuePosition;
use super::{Parts, argument};
use crate::error::Error as DomainError;
use crate::events::EventFilter;
use crate::job::viewer::Viewer;

/// Everything that can be watched.
pub struct Subscription;

/// Everything that can be watched.
#[Subscription]
impl Subscription {
    /// With id: the job as it stands first (unless afterVersion says the caller has that version), then every later
    /// state it is seen in, never an older version, the terminal one always (unless a retry has left it by then), then
    /// the stream completes. Without id: every job that matches the filter, in each state it is seen in from now on.
    /// An unknown id, or another client's, is NOT_FOUND.
    #[expect(clippy::too_many_arguments, reason = "the arguments of the API")]
    async fn job_updated(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "This job only; the filters below cannot stand with it.")] id: Option<ID>,
        #[graphql(desc = "Submitted by this client.")] client_id: Option<String>,
        #[graphql(desc = "Of any of these kinds.")] kind: Option<Vec<String>>,
        #[graphql(desc = "In any of these queues.")] queue: Option<Vec<String>>,
        #[graphql(desc = "In any of these states.")] status: Option<Vec<JobStatus>>,
        #[graphql(desc = "Part of this workflow.")] workflow_id: Option<ID>,
        #[graphql(desc = "The version of the job id that the caller has.")] after_version: Option<i32>,
    ) -> Result<BoxStream<'static, Result<Job>>> {
        let asked = JobUpdated { id, client_id, kind, queue, status, workflow_id, after_version };
        let jobs = updates(ctx.data::<Parts>()?, ctx.data::<Viewer>()?, asked).await?;
        Ok(jobs.map(|job| job.map(Job::from).map_err(Error::from)).boxed())
    }

    /// The position as it stands, then each change, at most two a second; completes when the job is no longer waiting,
    /// after saying so. An unknown id, or another client's, is NOT_FOUND.
    async fn queue_position_updated(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The id of the job.")] job_id: ID,
    ) -> Result<BoxStream<'static, QueuePosition>> {
        let id = argument::job_id("jobId", &job_id)?;
        let positions = ctx.data::<Parts>()?.events.follow_position(ctx.data::<Viewer>()?, id).await?;
        Ok(positions.map(move |position| QueuePosition::new(id, &position)).boxed())
    }

    /// All queues, or the one of this name, as they stand, then each in which something changed, at most two a second.
    /// For operators.
    async fn queue_updated(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "This queue only.")] name: Option<String>,
    ) -> Result<BoxStream<'static, Queue>> {
        argument::for_operators(ctx.data::<Viewer>()?, "queues")?;
        if let Some(name) = &name
            && !known_queues(ctx).await?.iter().any(|queue| queue.name == *name)
        {
            return Err(DomainError::NotFound { what: "queue", id: name.clone() }.into());
        }
        let parts = ctx.data::<Parts>()?;
        Ok(parts.events.follow_queues(&configured_queues(parts), name).map(Queue::from).boxed())
    }

    /// The stored lines of the job's log, then each line that is appended, without gap or repeat; completes when the job
    /// is terminal and all of them are given. An unknown id, or another client's, is NOT_FOUND.
    async fn job_log_appended(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The id of the job.")] id: ID,
        #[graphql(desc = "Only lines after this cursor of Job.logs.")] after: Option<String>,
    ) -> Result<BoxStream<'static, Result<JobLogLine>>> {
        let id = argument::job_id("id", &id)?;
        let after = after.map(|after| CursorSeal::of_log(id).line("after", &after)).transpose()?;
        let lines = ctx.data::<Parts>()?.events.follow_log(ctx.data::<Viewer>()?, id, after).await?;
        Ok(lines.map(|line| line.map(JobLogLine::from).map_err(Error::from)).boxed())
    }
}

/// The arguments of `jobUpdated`.
pub(super) struct JobUpdated {
    pub id: Option<ID>,
    pub client_id: Option<String>,
    pub kind: Option<Vec<String>>,
    pub queue: Option<Vec<String>>,
    pub status: Option<Vec<JobStatus>>,
    pub workflow_id: Option<ID>,
    pub after_version: Option<i32>,
}

/// What `jobUpdated` watches.
pub(super) async fn updates(
    parts: &Parts,
    viewer: &Viewer,
    asked: JobUpdated,
) -> crate::error::Result<BoxStream<'static, crate::error::Result<Arc<job::Model>>>> {
    let filter = EventFilter {
        client_id: argument::client_filter(viewer, "clientId", asked.client_id)?,
        kind: argument::names_filter("kind", asked.kind)?,
        queue: argument::names_filter("queue", asked.queue)?,
        status: asked.status.map(|status| status.into_iter().map(entity::JobStatus::from).collect()),
        workflow_id: asked.workflow_id.map(|id| argument::job_id("workflowId", &id)).transpose()?,
    };
    match asked.id {
        Some(id) => {
            let id = argument::job_id("id", &id)?;
            refuse_filter_with_id(&filter)?;
            parts.events.follow_job(viewer, id, asked.after_version).await
        }
        None if asked.after_version.is_some() => Err(DomainError::invalid("afterVersion", "needs an id")),
        None => Ok(parts.events.follow_jobs(viewer, filter)),
    }
}

/// A filter beside an id would have to hide states of the job that was asked for, the terminal one perhaps.
fn refuse_filter_with_id(filter: &EventFilter) -> crate::error::Result<()> {
    let given = [
        ("clientId", filter.client_id.is_some()),
        ("kind", filter.kind.is_some()),
        ("queue", filter.queue.is_some()),
        ("status", filter.status.is_some()),
        ("workflowId", filter.workflow_id.is_some()),
    ];
    match given.into_iter().find(|(_, given)| *given) {
        Some((argument, _)) => Err(DomainError::invalid(argument, "cannot stand with an id")),
        None => Ok(()),
    }
}
