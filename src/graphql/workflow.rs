//! The type `Workflow` and the enums `WorkflowStatus` and `FailurePolicy`.

use async_graphql::{Context, Enum, ID, Object, Result};
use entity::workflow;

use super::Parts;
use super::callback::Callback;
use super::cursor::CursorSeal;
use super::date_time::DateTime;
use super::job::columns_of_connection;
use super::job_connection::{JobConnection, Paging, page_complexity};
use super::loaders::Loaders;
use super::queue::StatusCounts;
use crate::job::viewer::Viewer;
use crate::store::list::JobFilter;

/// Where a workflow stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "workflow::WorkflowStatus")]
pub enum WorkflowStatus {
    /// A job of it runs, or can run without anyone acting.
    Running,
    /// Every job is DONE.
    Done,
    /// Nothing of it runs any more, and a job is ERROR. What depends on it is BLOCKED or CANCELLED; a retry makes the workflow
    /// RUNNING again.
    Error,
    /// Nothing of it runs any more, no job is ERROR, and not every one is DONE. A retry makes it RUNNING again.
    Cancelled,
}

/// What becomes of the dependents of a job that ends in ERROR or CANCELLED.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "workflow::FailurePolicy")]
pub enum FailurePolicy {
    /// Dependents stay BLOCKED, and go on once the failed job is retried and DONE.
    Block,
    /// Dependents are CANCELLED.
    Cancel,
}

/// A workflow as it stood when it was read.
#[derive(Clone, Debug)]
pub struct Workflow(workflow::Model);

impl From<workflow::Model> for Workflow {
    fn from(workflow: workflow::Model) -> Workflow {
        Workflow(workflow)
    }
}

/// Jobs that were submitted together, as a whole.
#[Object]
impl Workflow {
    /// UUIDv7, made by the server.
    #[graphql(complexity = 0)]
    pub async fn id(&self) -> ID {
        self.0.id.into()
    }

    /// Shown to people.
    #[graphql(complexity = 0)]
    async fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }

    /// Who submitted it.
    #[graphql(complexity = 0)]
    async fn client_id(&self) -> &str {
        &self.0.client_id
    }

    /// The client's own id for the submit, or the workflow's id where the client gave none.
    #[graphql(complexity = 0)]
    async fn request_id(&self) -> &str {
        &self.0.request_id
    }

    /// Where it stands.
    #[graphql(complexity = 0)]
    async fn status(&self) -> WorkflowStatus {
        self.0.status.into()
    }

    /// What becomes of the dependents of a job that fails.
    #[graphql(complexity = 0)]
    async fn on_failure(&self) -> FailurePolicy {
        self.0.on_failure.into()
    }

    /// How many of its jobs are in each state.
    async fn counts(&self, ctx: &Context<'_>) -> Result<StatusCounts> {
        Ok(ctx.data::<Loaders>()?.workflow_counts(self.0.id).await?.into())
    }

    /// Its jobs, newest first, by id; each has a higher id than those it depends on. first: 1 to 200, 50 when omitted.
    #[graphql(complexity = "page_complexity(first, None, child_complexity)")]
    async fn jobs(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "How many, 1 to 200.")] first: Option<i32>,
        #[graphql(desc = "Only those after this cursor.")] after: Option<String>,
    ) -> Result<JobConnection> {
        let viewer = ctx.data::<Viewer>()?;
        let filter = JobFilter { workflow_id: Some(self.0.id), ..JobFilter::default() };
        let seal = CursorSeal::of(viewer, &filter);
        let page =
            Paging { first, after, ..Paging::default() }.page(&seal, columns_of_connection(ctx.field()))?;
        let jobs = ctx.data::<Parts>()?.store.list_jobs(viewer, &filter, &page).await?;
        Ok(JobConnection::new(jobs, filter, seal))
    }

    /// When it was submitted.
    #[graphql(complexity = 0)]
    async fn created_at(&self) -> DateTime {
        self.0.created_at.into()
    }

    /// When nothing of it ran any more; null while it is RUNNING.
    #[graphql(complexity = 0)]
    async fn finished_at(&self) -> Option<DateTime> {
        self.0.finished_at.map(DateTime::from)
    }

    /// Where its end is told, and how far that is; null when nobody asked for it.
    async fn callback(&self, ctx: &Context<'_>) -> Result<Option<Callback>> {
        let Some(url) = &self.0.callback_url else { return Ok(None) };
        let delivery = ctx.data::<Parts>()?.store.workflow_delivery(ctx.data::<Viewer>()?, self.0.id).await?;
        Ok(Some(Callback::new(url, delivery)))
    }
}
