//! What can be changed about jobs and queues: a part of the type `Mutation`.

use async_graphql::{Context, ID, MaybeUndefined, Object, Result};
use entity::queue::ClaimOrder;

use super::at_once::{Items, One};
use super::date_time::DateTime;
use super::job::Job;
use super::job_filter::{BulkPayload, JobFilter};
use super::query::known_queues;
use super::queue::{Queue, QueueOrder};
use super::submit_job::{SubmitJobInput, SubmitJobPayload};
use super::{Parts, argument};
use crate::error::Error;
use crate::job::submission::{checked_id, checked_run_at, in_range};
use crate::job::viewer::Viewer;
use crate::store::bulk::BulkAction;
use crate::store::queue::{self, QueueChange};
use crate::store::update::JobChange;

/// Jobs of one `submitJobs`.
const MAX_SUBMITS: usize = 1_000;

/// What can be changed about jobs and queues.
#[derive(Default)]
pub struct JobMutation;

/// What can be changed about jobs and queues.
#[Object]
impl JobMutation {
    /// waitSeconds (0 to 25): answer once the job is terminal, at the latest after that time.
    async fn submit_job(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What is to be done.")] input: SubmitJobInput,
        #[graphql(default = 0, desc = "How long to wait for the job's end, 0 to 25.")] wait_seconds: Option<
            i32,
        >,
    ) -> Result<One<SubmitJobPayload>> {
        let (parts, viewer) = (ctx.data::<Parts>()?, ctx.data::<Viewer>()?);
        let wait = argument::wait(wait_seconds)?;
        let new_job = input.into_new_job("input", viewer, &parts.config)?;
        let limit = parts.config.limits.max_queued_jobs_per_client;
        parts.store.admit(viewer, limit, std::slice::from_ref(&new_job)).await?;
        let submitted = parts.store.submit(new_job).await;
        let mut submitted = submitted.map_err(|error| error.below("input"))?;
        if !wait.is_zero() && !submitted.job.status.is_terminal() {
            // The submit is committed: when the wait fails, the job as it was submitted is still a true answer.
            if let Ok(Some(job)) = parts.events.await_terminal(viewer, submitted.job.id, wait).await {
                submitted.job = job;
            }
        }
        Ok(One(submitted.into()))
    }

    /// All or nothing; at most 1,000. The order of the inputs is their order of age.
    async fn submit_jobs(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What is to be done, oldest first.")] inputs: Vec<SubmitJobInput>,
    ) -> Result<Items<SubmitJobPayload>> {
        let (parts, viewer) = (ctx.data::<Parts>()?, ctx.data::<Viewer>()?);
        if inputs.len() > MAX_SUBMITS {
            let problem = format!("has {} entries; at most {MAX_SUBMITS} are allowed", inputs.len());
            return Err(Error::invalid("inputs", problem).into());
        }
        if inputs.is_empty() {
            return Ok(Items(Vec::new()));
        }
        let new_jobs = inputs
            .into_iter()
            .enumerate()
            .map(|(index, input)| input.into_new_job(&format!("inputs[{index}]"), viewer, &parts.config))
            .collect::<crate::error::Result<Vec<_>>>()?;
        parts.store.admit(viewer, parts.config.limits.max_queued_jobs_per_client, &new_jobs).await?;
        let submitted = parts.store.submit_all(new_jobs).await;
        let submitted = submitted.map_err(|error| error.below("inputs"))?;
        Ok(submitted.into_iter().map(SubmitJobPayload::from).collect())
    }

    /// Idempotent. A waiting job is cancelled at once; a running one is asked to stop, and is cancelled when its
    /// worker says so or is gone.
    async fn cancel_job(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The id of the job.")] id: ID,
    ) -> Result<Job> {
        let id = argument::job_id("id", &id)?;
        Ok(ctx.data::<Parts>()?.store.cancel_job(ctx.data::<Viewer>()?, id).await?.into())
    }

    /// ERROR or CANCELLED back to PENDING, history kept.
    async fn retry_job(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The id of the job.")] id: ID,
        #[graphql(desc = "0 to 32767; the job's present one when omitted.")] priority: Option<i32>,
    ) -> Result<Job> {
        let id = argument::job_id("id", &id)?;
        let priority = argument::priority(priority)?;
        Ok(ctx.data::<Parts>()?.store.retry_job(ctx.data::<Viewer>()?, id, priority).await?.into())
    }

    /// Only while it waits. A ready job whose runAt is put off becomes ready anew at the end of its priority.
    async fn update_job(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The id of the job.")] id: ID,
        #[graphql(desc = "0 to 32767, lower runs first; the job keeps its age.")] priority: Option<i32>,
        #[graphql(desc = "Not before; a past instant means now, and a year ahead is the most.")]
        run_at: Option<DateTime>,
    ) -> Result<Job> {
        let id = argument::job_id("id", &id)?;
        let run_at = run_at.map(|at| at.instant("runAt").and_then(checked_run_at)).transpose()?;
        let change = JobChange { priority: argument::priority(priority)?, run_at };
        Ok(ctx.data::<Parts>()?.store.update_job(ctx.data::<Viewer>()?, id, change).await?.into())
    }

    /// Terminal jobs only. Its request id stays used for its time.
    async fn delete_job(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The id of the job.")] id: ID,
    ) -> Result<ID> {
        let job_id = argument::job_id("id", &id)?;
        ctx.data::<Parts>()?.store.delete_job(ctx.data::<Viewer>()?, job_id).await?;
        Ok(id)
    }

    /// Tells the end of a terminal job to its receiver once more, with the whole schedule.
    async fn redeliver_callback(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The id of the job.")] job_id: ID,
    ) -> Result<Job> {
        let id = argument::job_id("jobId", &job_id)?;
        Ok(ctx.data::<Parts>()?.store.redeliver_callback(ctx.data::<Viewer>()?, id).await?.into())
    }

    /// As cancelJob, for all jobs that match and are not terminal, in small steps.
    async fn cancel_jobs(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which jobs.")] filter: JobFilter,
        #[graphql(default_with = "Some(false)", desc = "Only count them.")] dry_run: Option<bool>,
    ) -> Result<BulkPayload> {
        change_jobs(ctx, filter, BulkAction::Cancel, dry_run).await
    }

    /// As retryJob, for all jobs that match and are ERROR or CANCELLED, oldest first, in small steps.
    async fn retry_jobs(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which jobs.")] filter: JobFilter,
        #[graphql(desc = "0 to 32767; each job's present one when omitted.")] priority: Option<i32>,
        #[graphql(default_with = "Some(false)", desc = "Only count them.")] dry_run: Option<bool>,
    ) -> Result<BulkPayload> {
        let priority = argument::priority(priority)?;
        change_jobs(ctx, filter, BulkAction::Retry { priority }, dry_run).await
    }

    /// As deleteJob, for all jobs that match and are terminal, in small steps.
    async fn delete_jobs(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which jobs.")] filter: JobFilter,
        #[graphql(default_with = "Some(false)", desc = "Only count them.")] dry_run: Option<bool>,
    ) -> Result<BulkPayload> {
        change_jobs(ctx, filter, BulkAction::Delete, dry_run).await
    }

    /// No job of the queue is started from now on; those that run go on. For operators.
    async fn pause_queue(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The name of the queue.")] name: String,
    ) -> Result<Queue> {
        change_queue(ctx, name, QueueChange { paused: Some(true), ..QueueChange::default() }).await
    }

    /// Jobs of the queue are started again. For operators.
    async fn resume_queue(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The name of the queue.")] name: String,
    ) -> Result<Queue> {
        change_queue(ctx, name, QueueChange { paused: Some(false), ..QueueChange::default() }).await
    }

    /// An argument left out keeps its setting; maxRunning: null lifts the limit. For operators.
    async fn configure_queue(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The name of the queue.")] name: String,
        #[graphql(desc = "Which jobs of one priority go first.")] order: Option<QueueOrder>,
        #[graphql(desc = "Jobs of it that run at once, over all processes: 1 to 1000000.")]
        max_running: MaybeUndefined<i32>,
    ) -> Result<Queue> {
        let limit = |given| in_range("maxRunning", Some(given), 1, queue::MAX_RUNNING, 1);
        let max_running = match max_running {
            MaybeUndefined::Undefined => None,
            MaybeUndefined::Null => Some(None),
            MaybeUndefined::Value(given) => Some(Some(limit(given)?)),
        };
        change_queue(ctx, name, QueueChange { paused: None, order: order.map(ClaimOrder::from), max_running })
            .await
    }
}

async fn change_jobs(
    ctx: &Context<'_>,
    filter: JobFilter,
    action: BulkAction,
    dry_run: Option<bool>,
) -> Result<BulkPayload> {
    let (store, viewer) = (&ctx.data::<Parts>()?.store, ctx.data::<Viewer>()?);
    let filter = filter.checked(viewer)?;
    let outcome = match dry_run {
        Some(true) => store.count_changeable(viewer, &filter, action).await?,
        Some(false) | None => store.change_jobs(viewer, filter, action).await?,
    };
    Ok(outcome.into())
}

async fn change_queue(ctx: &Context<'_>, name: String, change: QueueChange) -> Result<Queue> {
    argument::for_operators(ctx.data::<Viewer>()?, "queues")?;
    let name = checked_id("name", name)?;
    // A slip of the pen should not make a queue.
    if !known_queues(ctx).await?.iter().any(|queue| queue.name == name) {
        return Err(Error::NotFound { what: "queue", id: name }.into());
    }
    Ok(ctx.data::<Parts>()?.store.change_queue(&name, change).await?.into())
}
