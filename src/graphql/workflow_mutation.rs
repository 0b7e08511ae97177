//! Mutations of workflows, merged into `Mutation`.

use async_graphql::{Context, ID, Object, Result};

use super::submit_workflow::SubmitWorkflowInput;
use super::workflow::Workflow;
use super::{Parts, argument};
use crate::error::Error;
use crate::job::viewer::Viewer;
use crate::store::bulk::BulkAction;
use crate::store::list::JobFilter;

/// What can be changed of workflows.
#[derive(Default)]
pub struct WorkflowMutation;

/// What can be changed of workflows.
#[Object]
impl WorkflowMutation {
    /// Writes all jobs at once or none. The workflow that the request id stands for.
    #[graphql(complexity = "child_complexity + 1")]
    async fn submit_workflow(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "What is to be done.")] input: SubmitWorkflowInput,
    ) -> Result<Workflow> {
        let (parts, viewer) = (ctx.data::<Parts>()?, ctx.data::<Viewer>()?);
        let new_workflow = input.into_new_workflow(viewer, &parts.config)?;
        let limit = parts.config.limits.max_queued_jobs_per_client;
        parts.store.admit_workflow(viewer, limit, &new_workflow).await?;
        Ok(parts.store.submit_workflow(new_workflow).await?.into())
    }

    /// As cancelJobs for all its jobs.
    async fn cancel_workflow(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The id of the workflow.")] id: ID,
    ) -> Result<Workflow> {
        change(ctx, &id, BulkAction::Cancel).await
    }

    /// As retryJobs for all its jobs: those that are ERROR or CANCELLED run again, each after those it depends on.
    async fn retry_workflow(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The id of the workflow.")] id: ID,
    ) -> Result<Workflow> {
        change(ctx, &id, BulkAction::Retry { priority: None }).await
    }
}

async fn change(ctx: &Context<'_>, id: &ID, action: BulkAction) -> Result<Workflow> {
    let (store, viewer) = (&ctx.data::<Parts>()?.store, ctx.data::<Viewer>()?);
    let id = argument::job_id("id", id)?;
    let missing = || Error::NotFound { what: "workflow", id: id.to_string() };
    store.workflow(viewer, id).await?.ok_or_else(missing)?;
    let filter = JobFilter { workflow_id: Some(id), ..JobFilter::default() };
    store.change_jobs(viewer, filter, action).await?;
    Ok(store.workflow(viewer, id).await?.ok_or_else(missing)?.into())
}
