//! The type `Query`.

use async_graphql::{Context, ID, Object, Result};

use super::cursor::CursorSeal;
use super::date_time::DateTime;
use super::job::{Job, columns_of_connection};
use super::job_connection::{JobConnection, Paging, page_complexity};
use super::job_kind::JobKind;
use super::job_load::JobLoad;
use super::job_status::JobStatus;
use super::job_throughput::JobThroughput;
use super::node::Node;
use super::queue::Queue;
use super::queue_position::QueuePosition;
use super::worker::Worker;
use super::workflow::Workflow;
use super::{Parts, argument};
use crate::error::Error;
use crate::job::submission::{checked_id, in_range};
use crate::job::viewer::Viewer;
use crate::store::list::JobFilter;
use crate::store::load::LoadRequest;

/// The longest time of one answer.
const MAX_LOAD_SPAN: chrono::TimeDelta = chrono::TimeDelta::days(31);
/// Samples of one answer.
const MAX_LOADS: i64 = 2_000;

/// Everything that can be read.
pub struct Query;

/// Everything that can be read.
#[Object]
impl Query {
    /// Whatever has this id; null when there is none, or it is another client's.
    async fn node(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The id of a job or a workflow.")] id: ID,
    ) -> Result<Option<Node>> {
        let id = argument::job_id("id", &id)?;
        let (store, viewer) = (&ctx.data::<Parts>()?.store, ctx.data::<Viewer>()?);
        if let Some(job) = store.job(viewer, id).await? {
            return Ok(Some(Node::Job(job.into())));
        }
        Ok(store.workflow(viewer, id).await?.map(|workflow| Node::Workflow(workflow.into())))
    }

    /// Null when there is none, or it is another client's.
    #[graphql(complexity = "child_complexity + 1")]
    async fn workflow(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The id of the workflow.")] id: ID,
    ) -> Result<Option<Workflow>> {
        let id = argument::job_id("id", &id)?;
        Ok(ctx.data::<Parts>()?.store.workflow(ctx.data::<Viewer>()?, id).await?.map(Workflow::from))
    }

    /// Null when there is none, or it is another client's. With waitSeconds (0 to 25) answers when it is terminal, at
    /// the latest after that time.
    async fn job(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The id of the job.")] id: ID,
        #[graphql(default = 0, desc = "How long to wait for its end, 0 to 25.")] wait_seconds: Option<i32>,
    ) -> Result<Option<Job>> {
        let (parts, viewer) = (ctx.data::<Parts>()?, ctx.data::<Viewer>()?);
        let (id, wait) = (argument::job_id("id", &id)?, argument::wait(wait_seconds)?);
        let job = if wait.is_zero() {
            parts.store.job(viewer, id).await?
        } else {
            parts.events.await_terminal(viewer, id, wait).await?
        };
        Ok(job.map(Job::from))
    }

    /// The job that a client submitted under its own request id.
    async fn job_by_request(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The client that submitted it.")] client_id: String,
        #[graphql(desc = "The client's own id for the submit.")] request_id: String,
    ) -> Result<Option<Job>> {
        let viewer = ctx.data::<Viewer>()?;
        let client_id = viewer.may_name_client("clientId", checked_id("clientId", client_id)?)?;
        let request_id = checked_id("requestId", request_id)?;
        let store = &ctx.data::<Parts>()?.store;
        Ok(store.job_by_request(viewer, &client_id, &request_id).await?.map(Job::from))
    }

    /// Newest first, by id. Arguments combine with AND. An omitted or null filter does not filter; an empty list
    /// matches nothing. first/last: 1 to 200, 50 when neither is given; anything else is BAD_USER_INPUT.
    #[graphql(complexity = "page_complexity(first, last, child_complexity)")]
    #[expect(clippy::too_many_arguments, reason = "the arguments of the API")]
    async fn jobs(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "In any of these states.")] status: Option<Vec<JobStatus>>,
        #[graphql(desc = "Submitted by this client.")] client_id: Option<String>,
        #[graphql(desc = "Of any of these kinds.")] kind: Option<Vec<String>>,
        #[graphql(desc = "In any of these queues.")] queue: Option<Vec<String>>,
        #[graphql(desc = "Part of this workflow.")] workflow_id: Option<ID>,
        #[graphql(desc = "Submitted after this instant.")] created_after: Option<DateTime>,
        #[graphql(desc = "Submitted before this instant.")] created_before: Option<DateTime>,
        #[graphql(desc = "How many of the newest, 1 to 200.")] first: Option<i32>,
        #[graphql(desc = "Only those after this cursor, which are older.")] after: Option<String>,
        #[graphql(desc = "How many of the oldest, 1 to 200.")] last: Option<i32>,
        #[graphql(desc = "Only those before this cursor, which are newer.")] before: Option<String>,
    ) -> Result<JobConnection> {
        let viewer = ctx.data::<Viewer>()?;
        let filter = JobFilter {
            ids: None,
            status: status.map(|status| status.into_iter().map(entity::JobStatus::from).collect()),
            client_id: argument::client_filter(viewer, "clientId", client_id)?,
            kind: argument::names_filter("kind", kind)?,
            queue: argument::names_filter("queue", queue)?,
            workflow_id: workflow_id.map(|id| argument::job_id("workflowId", &id)).transpose()?,
            created_after: created_after.map(|at| at.instant("createdAfter")).transpose()?,
            created_before: created_before.map(|at| at.instant("createdBefore")).transpose()?,
        };
        let seal = CursorSeal::of(viewer, &filter);
        let page = Paging { first, after, last, before }.page(&seal, columns_of_connection(ctx.field()))?;
        let jobs = ctx.data::<Parts>()?.store.list_jobs(viewer, &filter, &page).await?;
        Ok(JobConnection::new(jobs, filter, seal))
    }

    /// Null for an unknown job.
    async fn queue_position(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The id of the job.")] job_id: ID,
    ) -> Result<Option<QueuePosition>> {
        let id = argument::job_id("jobId", &job_id)?;
        let positions = ctx.data::<Parts>()?.store.positions(ctx.data::<Viewer>()?, &[id]).await?;
        Ok(positions.get(&id).map(|position| QueuePosition::new(id, position)))
    }

    /// All queues that the configuration, a worker, a setting or an active job names, by name. For operators.
    async fn queues(&self, ctx: &Context<'_>) -> Result<Vec<Queue>> {
        argument::for_operators(ctx.data::<Viewer>()?, "queues")?;
        Ok(known_queues(ctx).await?.into_iter().map(Queue::from).collect())
    }

    /// Null for an unknown queue. For operators.
    async fn queue(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The name of the queue.")] name: String,
    ) -> Result<Option<Queue>> {
        argument::for_operators(ctx.data::<Viewer>()?, "queues")?;
        let name = checked_id("name", name)?;
        Ok(known_queues(ctx).await?.into_iter().find(|queue| queue.name == name).map(Queue::from))
    }

    /// Counts of active jobs, sampled each minute for each kind that had any, by time; at most 31 days and 2,000 samples
    /// an answer, else BAD_USER_INPUT. With bucketSeconds the largest counts of each bucket. For operators.
    async fn job_loads(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "From this instant on.")] from: DateTime,
        #[graphql(desc = "Before this instant.")] to: DateTime,
        #[graphql(desc = "Of these kinds only.")] kinds: Option<Vec<String>>,
        #[graphql(desc = "Length of a bucket, 60 to 2678400; 60 when omitted.")] bucket_seconds: Option<i32>,
    ) -> Result<Vec<JobLoad>> {
        argument::for_operators(ctx.data::<Viewer>()?, "jobLoads")?;
        let request = load_request(from, to, kinds, bucket_seconds)?;
        let loads = ctx.data::<Parts>()?.store.loads(&request).await?;
        few_samples(loads.len())?;
        Ok(loads.into_iter().map(JobLoad::from).collect())
    }

    /// What workers got done, by time: for each minute, or bucket, and kind the attempts that ended. It is kept for a
    /// day; at most 31 days and 2,000 samples an answer, else BAD_USER_INPUT. For operators.
    async fn job_throughput(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "From this instant on.")] from: DateTime,
        #[graphql(desc = "Before this instant.")] to: DateTime,
        #[graphql(desc = "Of these kinds only.")] kinds: Option<Vec<String>>,
        #[graphql(desc = "Length of a bucket, 60 to 2678400; 60 when omitted.")] bucket_seconds: Option<i32>,
    ) -> Result<Vec<JobThroughput>> {
        argument::for_operators(ctx.data::<Viewer>()?, "jobThroughput")?;
        let request = load_request(from, to, kinds, bucket_seconds)?;
        let done = ctx.data::<Parts>()?.store.throughput(&request).await?;
        few_samples(done.len())?;
        Ok(done.into_iter().map(JobThroughput::from).collect())
    }

    /// The workers that are registered, oldest first, and those that were lost in the last hour. For operators.
    async fn workers(&self, ctx: &Context<'_>) -> Result<Vec<Worker>> {
        argument::for_operators(ctx.data::<Viewer>()?, "workers")?;
        Ok(ctx.data::<Parts>()?.store.seen_workers().await?.into_iter().map(Worker::from).collect())
    }

    /// Who is asking; an operator where no tokens are in use.
    async fn viewer(&self, ctx: &Context<'_>) -> Result<super::viewer::Viewer> {
        Ok(ctx.data::<Viewer>()?.into())
    }

    /// The kinds of jobs, by name; those that are not active can not be submitted.
    async fn job_kinds(&self, ctx: &Context<'_>) -> Result<Vec<JobKind>> {
        Ok(ctx.data::<Parts>()?.config.kinds.iter().map(JobKind::from).collect())
    }
}

/// The settings of all known queues.
///
/// # Errors
/// As the store's.
pub async fn known_queues(ctx: &Context<'_>) -> Result<Vec<entity::queue::Model>> {
    let parts = ctx.data::<Parts>()?;
    Ok(parts.store.queues(&configured_queues(parts)).await?)
}

/// The queues of the configured kinds.
pub fn configured_queues(parts: &Parts) -> Vec<String> {
    parts.config.kinds.queues().into_iter().map(str::to_owned).collect()
}

fn load_request(
    from: DateTime,
    to: DateTime,
    kinds: Option<Vec<String>>,
    bucket_seconds: Option<i32>,
) -> Result<LoadRequest> {
    let (from, to) = (from.instant("from")?, to.instant("to")?);
    if to < from || to - from > MAX_LOAD_SPAN {
        return Err(Error::invalid("to", "does not lie within 31 days after from").into());
    }
    Ok(LoadRequest {
        from,
        to,
        kinds: argument::names_filter("kinds", kinds)?,
        bucket_seconds: in_range("bucketSeconds", bucket_seconds, 60, 2_678_400, 60)?,
        limit: MAX_LOADS + 1,
    })
}

fn few_samples(samples: usize) -> Result<()> {
    if samples as i64 > MAX_LOADS {
        let problem =
            "gives more than 2,000 samples; a longer bucket, fewer kinds or a shorter time give fewer";
        return Err(Error::invalid("bucketSeconds", problem).into());
    }
    Ok(())
}
