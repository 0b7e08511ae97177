//! What workers over the API do: a part of the type `Mutation`.
//!
//! They may be written in any language. What fences their writes is the lease token; it goes through the same
//! operations of the store as the ends, heartbeats and reports of jobql's own processes.

use async_graphql::{Context, ID, Object, Result};

use super::claim_jobs::{ClaimJobsInput, ClaimedJob};
use super::heartbeat::HeartbeatPayload;
use super::job::Job;
use super::job_error_input::JobErrorInput;
use super::json::Json;
use super::lease::{self, LeaseInput, ShownLease};
use super::log_line_input::{self, LogLineInput};
use super::worker::Worker;
use super::{ClientGone, Parts, argument};
use crate::error::Error;
use crate::job::submission::checked_id;
use crate::job::viewer::Viewer;
use crate::store::external::{EndedAs, ExternalWorker};
use crate::store::finish::AttemptEnd;
use crate::store::progress::Progress;

/// What workers over the API do.
#[derive(Default)]
pub struct WorkerMutation;

/// What workers over the API do.
#[Object]
impl WorkerMutation {
    /// Waits up to waitSeconds (0 to 25) for work, and answers with at most max jobs under a lease, none when there was
    /// no work. The same claimId answers with the same leases again, those that still hold, for ten minutes.
    #[graphql(complexity = "child_complexity")]
    async fn claim_jobs(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Who claims, and what.")] input: ClaimJobsInput,
    ) -> Result<Vec<ClaimedJob>> {
        let parts = ctx.data::<Parts>()?;
        let (claim, wait) = input.checked(ctx.data::<Viewer>()?, &parts.config)?;
        let gone = ctx.data_opt::<ClientGone>().cloned().unwrap_or_default().0;
        let leased = parts.events.claim(claim, wait, &gone).await?;
        Ok(leased.into_iter().map(ClaimedJob::from).collect())
    }

    /// Says that the worker lives, which moves its lease, and tells the state of each lease. Names every job that the
    /// worker holds; one it should hold and does not name goes back after a lease. A worker that is not known any more
    /// has lost all its leases; its next claim registers it anew.
    #[graphql(complexity = 1)]
    async fn heartbeat(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What the worker calls itself when it claims.")] worker_id: String,
        #[graphql(desc = "Every lease that it holds; at most 10,000.")] leases: Vec<LeaseInput>,
    ) -> Result<HeartbeatPayload> {
        let store = &ctx.data::<Parts>()?.store;
        let owner = argument::worker_owner(ctx.data::<Viewer>()?)?;
        let worker = ExternalWorker { owner, name: checked_id("workerId", worker_id)? };
        let named = lease::named(store, leases).await?;
        let held = named.iter().filter_map(|named| named.lease).collect();
        match store.external_heartbeat(&worker, held).await {
            Ok(heartbeat) => Ok(HeartbeatPayload::new(named, &heartbeat)),
            Err(Error::LeaseLost) => Ok(HeartbeatPayload::all_lost(named)),
            Err(error) => Err(error.into()),
        }
    }

    /// Ends the attempt with a result: the job is DONE. A result that does not fit the kind's schema ends it with
    /// INVALID_RESULT. Repeated, it answers with the job as it stands. LEASE_LOST when the lease has ended otherwise.
    #[graphql(complexity = "1 + child_complexity")]
    async fn complete_job(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The job, and the token that its claim brought.")] lease: LeaseInput,
        #[graphql(desc = "Its output; at most 1 MiB unless configured otherwise.")] result: Option<Json>,
    ) -> Result<Job> {
        let shown = lease.shown(ctx).await?;
        let result = result.map_or(serde_json::Value::Null, Json::into_value);
        match shown.misfit(ctx.data::<Parts>()?, &result)? {
            Some(failure) => shown.end(ctx, shown.failed(ctx, failure, None)?, EndedAs::Failed).await,
            None => shown.end(ctx, AttemptEnd::Done(result), EndedAs::Done).await,
        }
    }

    /// Ends the attempt with an error: the job is tried again if the error is retryable and attempts are left, else it
    /// is ERROR; CANCELLED when a cancel was requested. Repeated, it answers with the job as it stands. LEASE_LOST when
    /// the lease has ended otherwise.
    #[graphql(complexity = "1 + child_complexity")]
    async fn fail_job(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The job, and the token that its claim brought.")] lease: LeaseInput,
        #[graphql(desc = "What went wrong.")] error: JobErrorInput,
    ) -> Result<Job> {
        let shown = lease.shown(ctx).await?;
        let (failure, retry_after) = error.checked(&ctx.data::<Parts>()?.config)?;
        shown.end(ctx, shown.failed(ctx, failure, retry_after)?, EndedAs::Failed).await
    }

    /// Gives the job back untouched: no attempt is used up, and it keeps its place; CANCELLED when a cancel was
    /// requested. Repeated, it answers with the job as it stands. LEASE_LOST when the lease has ended otherwise.
    #[graphql(complexity = "1 + child_complexity")]
    async fn release_job(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The job, and the token that its claim brought.")] lease: LeaseInput,
    ) -> Result<Job> {
        let shown = lease.shown(ctx).await?;
        shown.end(ctx, AttemptEnd::Released, EndedAs::Released).await
    }

    /// Says how far the job is. At most four reports a second are kept of a job, the latest among them: a report that
    /// comes too soon is answered when its turn has come.
    #[graphql(complexity = "1 + child_complexity")]
    async fn report_progress(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The job, and the token that its claim brought.")] lease: LeaseInput,
        #[graphql(desc = "0 to 1; omitted or null: as before.")] fraction: Option<f64>,
        #[graphql(desc = "For people, at most 500 characters; omitted or null: as before.")] message: Option<
            String,
        >,
    ) -> Result<Job> {
        let shown: ShownLease = lease.shown(ctx).await?;
        let fraction = argument::fraction("fraction", fraction)?;
        let message = message.map(|message| argument::text("message", message, 500)).transpose()?;
        let progress = Progress { lease: shown.lease, fraction, message };
        ctx.data::<Parts>()?.store.report_progress_at_pace(progress).await?;
        shown.job_while_held(ctx).await
    }

    /// Adds lines to the job's log. False when the log is full, which its last line then says: of one attempt at most
    /// 10,000 lines and 1 MiB are kept. A repeated call adds them again.
    #[graphql(complexity = 1)]
    async fn append_logs(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The job, and the token that its claim brought.")] lease: LeaseInput,
        #[graphql(desc = "At most 500.")] lines: Vec<LogLineInput>,
    ) -> Result<bool> {
        let shown = lease.shown(ctx).await?;
        let lines = log_line_input::checked(lines)?;
        Ok(ctx.data::<Parts>()?.store.append_unnumbered_logs_if_leased(shown.lease, lines).await?)
    }

    /// Has a worker claim no more; one over the API is told so by its next heartbeat, and should finish what it has and
    /// stop. For operators.
    #[graphql(complexity = "1 + child_complexity")]
    async fn drain_worker(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The id of the worker, as workers has it.")] id: ID,
    ) -> Result<Worker> {
        argument::for_operators(ctx.data::<Viewer>()?, "workers")?;
        let id = argument::job_id("id", &id)?;
        Ok(ctx.data::<Parts>()?.store.ask_to_drain(id).await?.into())
    }
}
