//! The type `Job`.

use std::borrow::Cow;
use std::sync::Arc;

use async_graphql::parser::types::Field;
use async_graphql::registry::Registry;
use async_graphql::resolver_utils::ContainerType;
use async_graphql::{
    Context, ContextSelectionSet, ID, Object, ObjectType, OutputType, Positioned, Result, SelectionField,
    ServerResult, Value,
};
use entity::job;
use entity::job::Column;
use futures_util::FutureExt;

use super::Parts;
use super::at_once::{self, AtOnce};
use super::callback::Callback;
use super::cursor::CursorSeal;
use super::date_time::DateTime;
use super::job_attempt::JobAttempt;
use super::job_connection::{DEFAULT_PAGE, JobConnection, page_complexity, page_size};
use super::job_error::JobError;
use super::job_log::JobLogConnection;
use super::job_progress::JobProgress;
use super::job_status::JobStatus;
use super::json::Json;
use super::loaders::Loaders;
use super::queue_position::QueuePosition;
use super::wait_reason::WaitReason;
use super::workflow::Workflow;
use crate::job::viewer::Viewer;
use crate::store::dependency::{Direction, NeighbourRequest};

/// Lines of a page when `first` is not given.
const DEFAULT_LINES: i32 = 100;

/// Fields of a job that are the same whenever they are read of the same version.
const PLAIN: [(&str, &[Column]); 23] = [
    ("__typename", &[]),
    ("id", &[Column::Id]),
    ("handle", &[Column::Id]),
    ("clientId", &[Column::ClientId]),
    ("requestId", &[Column::RequestId]),
    ("kind", &[Column::Kind]),
    ("queue", &[Column::Queue]),
    ("displayName", &[Column::DisplayName]),
    ("status", &[Column::Status]),
    ("version", &[Column::Version]),
    ("priority", &[Column::Priority]),
    ("payload", &[Column::Payload]),
    ("result", &[Column::Result]),
    ("error", &[Column::Error]),
    ("progress", &[Column::ProgressFraction, Column::ProgressMessage, Column::ProgressAt]),
    ("attempt", &[Column::Attempt]),
    ("maxAttempts", &[Column::MaxAttempts]),
    ("createdAt", &[Column::CreatedAt]),
    ("runAt", &[Column::RunAt]),
    ("startedAt", &[Column::StartedAt]),
    ("finishedAt", &[Column::FinishedAt]),
    ("cancelRequestedAt", &[Column::CancelRequestedAt]),
    ("startBefore", &[Column::StartBefore]),
];

/// The columns that a plain field shows; none of any other field.
fn columns_of(field: &str) -> Option<&'static [Column]> {
    PLAIN.iter().find(|(name, _)| *name == field).map(|(_, columns)| *columns)
}

/// True for a field of which the model is all that it needs.
pub(super) fn is_plain(field: &str) -> bool {
    columns_of(field).is_some()
}

/// The columns that a connection's jobs need for what is selected of them; none when something needs whole jobs.
pub(super) fn columns_of_connection(connection: SelectionField<'_>) -> Option<Vec<Column>> {
    let (mut jobs, mut columns) = (Vec::new(), Vec::new());
    for field in connection.selection_set() {
        match field.name() {
            "nodes" => jobs.push(field),
            "edges" => jobs.extend(field.selection_set().filter(|of_edge| of_edge.name() == "node")),
            _ => {}
        }
    }
    for field in jobs.iter().flat_map(SelectionField::selection_set) {
        for column in columns_of(field.name())? {
            if !columns.iter().any(|known| *known as usize == *column as usize) {
                columns.push(*column);
            }
        }
    }
    Some(columns)
}

/// A job as it stood when it was read. Fields that are [`PLAIN`] and have no selection of their own wait for nothing, so they
/// are resolved at once, by the same resolvers; see [`at_once`].
#[derive(Clone, Debug)]
pub struct Job(JobFields);

impl From<job::Model> for Job {
    fn from(job: job::Model) -> Job {
        Job::from(Arc::new(job))
    }
}

impl From<Arc<job::Model>> for Job {
    fn from(job: Arc<job::Model>) -> Job {
        Job(JobFields(job))
    }
}

impl Job {
    /// Its id, for the interface Node.
    pub async fn id(&self, _: &Context<'_>) -> Result<ID> {
        Ok(self.0.0.id.into())
    }
}

impl AtOnce for Job {
    fn resolve_at_once(&self, ctx: &ContextSelectionSet<'_>) -> Option<Value> {
        at_once::object::<JobFields>(ctx, |field| {
            if !is_plain(&field.node.name.node) || !field.node.selection_set.node.items.is_empty() {
                return None;
            }
            // An error goes the engine's way, which knows its path.
            self.0.resolve_field(&ctx.with_field(field)).now_or_never()?.ok()?
        })
    }
}

impl OutputType for Job {
    fn type_name() -> Cow<'static, str> {
        JobFields::type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        JobFields::create_type_info(registry)
    }

    async fn resolve(&self, ctx: &ContextSelectionSet<'_>, field: &Positioned<Field>) -> ServerResult<Value> {
        match self.resolve_at_once(ctx) {
            Some(object) => Ok(object),
            None => self.0.resolve(ctx, field).await,
        }
    }
}

impl ContainerType for Job {
    async fn resolve_field(&self, ctx: &Context<'_>) -> ServerResult<Option<Value>> {
        self.0.resolve_field(ctx).await
    }
}

impl ObjectType for Job {}

/// The fields of a [`Job`].
#[derive(Clone, Debug)]
pub struct JobFields(Arc<job::Model>);

/// A piece of work that was submitted.
#[Object(name = "Job")]
impl JobFields {
    /// UUIDv7, made by the server.
    #[graphql(complexity = 0)]
    pub async fn id(&self) -> ID {
        self.0.id.into()
    }

    /// The last sixteen hex digits of the id: the short tag in every log line about this job.
    #[graphql(complexity = 0)]
    async fn handle(&self) -> String {
        let (_, low) = self.0.id.as_u64_pair();
        format!("{low:016x}")
    }

    /// Who submitted it.
    #[graphql(complexity = 0)]
    async fn client_id(&self) -> &str {
        &self.0.client_id
    }

    /// The client's own id for the submit, or the job's id where the client gave none.
    #[graphql(complexity = 0)]
    async fn request_id(&self) -> &str {
        &self.0.request_id
    }

    /// What is to be done: a name of jobKinds.
    #[graphql(complexity = 0)]
    async fn kind(&self) -> &str {
        &self.0.kind
    }

    /// The queue that it waits in.
    #[graphql(complexity = 0)]
    async fn queue(&self) -> &str {
        &self.0.queue
    }

    /// Shown to people; the submitter's label, else the last path segment of the first URL or file name in the
    /// payload, else the kind.
    #[graphql(complexity = 0)]
    async fn display_name(&self) -> &str {
        &self.0.display_name
    }

    /// Where it stands.
    #[graphql(complexity = 0)]
    async fn status(&self) -> JobStatus {
        self.0.status.into()
    }

    /// Rises by one with every visible change of this job, without gaps.
    #[graphql(complexity = 0)]
    async fn version(&self) -> i32 {
        self.0.version
    }

    /// Lower runs first.
    #[graphql(complexity = 0)]
    async fn priority(&self) -> i32 {
        self.0.priority.into()
    }

    /// Its input.
    #[graphql(complexity = 0)]
    async fn payload(&self) -> Json {
        Json::OfJob(self.0.clone(), |job| &job.payload)
    }

    /// Its output; null unless it is DONE.
    #[graphql(complexity = 0)]
    async fn result(&self) -> Option<Json> {
        self.0.result.as_ref()?;
        Some(Json::OfJob(self.0.clone(), |job| job.result.as_ref().unwrap_or(&serde_json::Value::Null)))
    }

    /// Why it failed, or, with code EXPIRED, why it was given up; null unless its status is ERROR or CANCELLED.
    #[graphql(complexity = "child_complexity")]
    async fn error(&self) -> Option<JobError> {
        self.0.error.as_ref().map(JobError::from_stored)
    }

    /// How far the latest attempt is; null until its worker says so.
    #[graphql(complexity = "child_complexity")]
    async fn progress(&self) -> Option<JobProgress> {
        JobProgress::of(&self.0)
    }

    /// Attempts used since they were last granted.
    #[graphql(complexity = 0)]
    async fn attempt(&self) -> i32 {
        self.0.attempt.into()
    }

    /// Attempts granted.
    #[graphql(complexity = 0)]
    async fn max_attempts(&self) -> i32 {
        self.0.max_attempts.into()
    }

    /// One entry per attempt that ended, oldest first.
    async fn attempts(&self, ctx: &Context<'_>) -> Result<Vec<JobAttempt>> {
        let stored = ctx.data::<Loaders>()?.attempts(self.0.id).await?;
        let attempts = stored.iter().map(JobAttempt::from_stored);
        Ok(attempts.chain(JobAttempt::that_ended_well(&self.0)).collect())
    }

    /// When it was submitted.
    #[graphql(complexity = 0)]
    async fn created_at(&self) -> DateTime {
        self.0.created_at.into()
    }

    /// When it became, or becomes, ready.
    #[graphql(complexity = 0)]
    async fn run_at(&self) -> DateTime {
        self.0.run_at.into()
    }

    /// Start of the latest attempt.
    #[graphql(complexity = 0)]
    async fn started_at(&self) -> Option<DateTime> {
        self.0.started_at.map(DateTime::from)
    }

    /// When it became terminal.
    #[graphql(complexity = 0)]
    async fn finished_at(&self) -> Option<DateTime> {
        self.0.finished_at.map(DateTime::from)
    }

    /// When it was asked to stop.
    #[graphql(complexity = 0)]
    async fn cancel_requested_at(&self) -> Option<DateTime> {
        self.0.cancel_requested_at.map(DateTime::from)
    }

    /// Where its end is told, and how far that is; null when nobody asked for it.
    async fn callback(&self, ctx: &Context<'_>) -> Result<Option<Callback>> {
        let Some(url) = &self.0.callback_url else { return Ok(None) };
        let delivery = ctx.data::<Parts>()?.store.delivery(ctx.data::<Viewer>()?, self.0.id).await?;
        Ok(Some(Callback::new(url, delivery)))
    }

    /// What its attempts printed, oldest first. Of one attempt at most 10,000 lines and 1 MiB are kept.
    #[graphql(complexity = "page_complexity(first, None, 0)")]
    async fn logs(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 100, desc = "How many lines, 1 to 200.")] first: Option<i32>,
        #[graphql(desc = "Only those after this cursor.")] after: Option<String>,
    ) -> Result<JobLogConnection> {
        let seal = CursorSeal::of_log(self.0.id);
        let size = page_size("first", first.unwrap_or(DEFAULT_LINES))?;
        let after = after.map(|after| seal.line("after", &after)).transpose()?;
        let store = &ctx.data::<Parts>()?.store;
        let lines = store.logs(ctx.data::<Viewer>()?, self.0.id, after, u64::from(size) + 1).await?;
        Ok(JobLogConnection::new(lines, size as usize, after.is_some(), seal))
    }

    /// It is given up if no worker has started it by then.
    #[graphql(complexity = 0)]
    async fn start_before(&self) -> Option<DateTime> {
        self.0.start_before.map(DateTime::from)
    }

    /// Why it is not running now; null when it is, or is terminal. Of several reasons the first of: QUEUE_PAUSED,
    /// NO_LIVE_WORKER, CONCURRENCY_LIMIT, AHEAD_IN_QUEUE; DEPENDENCY_FAILED before DEPENDENCY.
    async fn wait_reason(&self, ctx: &Context<'_>) -> Result<Option<WaitReason>> {
        let loaders = ctx.data::<Loaders>()?;
        Ok(match self.0.status {
            entity::JobStatus::Pending => {
                Some(WaitReason::in_queue(&loaders.queue_wait(&self.0.queue).await?))
            }
            entity::JobStatus::Blocked => {
                Some(WaitReason::of_blocked(loaders.is_held_by_failure(self.0.id).await?))
            }
            _ => WaitReason::of_its_own(&self.0),
        })
    }

    /// The workflow that it is a part of; null for a job that was submitted by itself, and for workers.
    #[graphql(complexity = "child_complexity + 1")]
    async fn workflow(&self, ctx: &Context<'_>) -> Result<Option<Workflow>> {
        let Some(id) = self.0.workflow_id else { return Ok(None) };
        Ok(ctx.data::<Loaders>()?.workflow(id).await?.map(Workflow::from))
    }

    /// Its name within its workflow.
    #[graphql(complexity = 0)]
    async fn workflow_key(&self) -> Option<&str> {
        self.0.workflow_key.as_deref()
    }

    /// The jobs that must be DONE before it runs, oldest first; without those that are gone. first: 1 to 200.
    #[graphql(complexity = "page_complexity(first, None, child_complexity)")]
    async fn depends_on(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 50, desc = "How many, 1 to 200.")] first: Option<i32>,
        #[graphql(desc = "Only those after this cursor.")] after: Option<String>,
    ) -> Result<JobConnection> {
        neighbours(ctx, self.0.id, Direction::Parents, first, after).await
    }

    /// The jobs that depend on it, oldest first. first: 1 to 200.
    #[graphql(complexity = "page_complexity(first, None, child_complexity)")]
    async fn dependents(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 50, desc = "How many, 1 to 200.")] first: Option<i32>,
        #[graphql(desc = "Only those after this cursor.")] after: Option<String>,
    ) -> Result<JobConnection> {
        neighbours(ctx, self.0.id, Direction::Children, first, after).await
    }

    /// Null once the job is terminal or while it is not ready.
    async fn queue_position(&self, ctx: &Context<'_>) -> Result<Option<QueuePosition>> {
        if !matches!(self.0.status, entity::JobStatus::Pending | entity::JobStatus::Running) {
            return Ok(None);
        }
        let position = ctx.data::<Loaders>()?.position(self.0.id).await?;
        // It may have moved on since the job was read.
        let active = position.filter(|position| position.position().is_some());
        Ok(active.map(|position| QueuePosition::new(self.0.id, &position)))
    }
}

async fn neighbours(
    ctx: &Context<'_>,
    job_id: uuid::Uuid,
    direction: Direction,
    first: Option<i32>,
    after: Option<String>,
) -> Result<JobConnection> {
    let seal = CursorSeal::of_neighbours(job_id, direction);
    let size = page_size("first", first.unwrap_or(DEFAULT_PAGE))?;
    let after = after.map(|after| seal.job_id("after", &after)).transpose()?;
    let request = NeighbourRequest { job_id, direction, after, limit: i64::from(size) + 1 };
    let jobs = ctx.data::<Loaders>()?.neighbours(request).await?;
    Ok(JobConnection::neighbours(jobs, request, seal))
}

#[cfg(test)]
mod tests {
    use async_graphql::{EmptyMutation, EmptySubscription, Schema};
    use chrono::{DateTime as Instant, Utc};
    use serde_json::json;

    use super::*;

    struct Root;

    #[Object]
    impl Root {
        async fn job(&self) -> Job {
            let at = |seconds: i64| Instant::<Utc>::from_timestamp(1_700_000_000 + seconds, 0).unwrap();
            Job::from(job::Model {
                id: uuid::Uuid::from_u128(7),
                client_id: "client".to_owned(),
                request_id: "request".to_owned(),
                kind: "kind".to_owned(),
                queue: "queue".to_owned(),
                display_name: "name".to_owned(),
                status: entity::JobStatus::Done,
                version: 3,
                priority: 4,
                level: 5,
                seq: 6,
                payload: json!({"n": 12_345_678_901_234_567_890_u64}),
                result: Some(json!(["r"])),
                error: Some(json!({"code": "C", "message": "m", "retryable": true})),
                progress_fraction: Some(0.5),
                progress_message: Some("half".to_owned()),
                progress_at: Some(at(1)),
                attempt: 1,
                max_attempts: 2,
                lease_epoch: 1,
                losses: 0,
                timeout_seconds: 9,
                worker_id: None,
                workflow_id: None,
                created_at: at(2),
                run_at: at(3),
                started_at: Some(at(4)),
                finished_at: Some(at(5)),
                cancel_requested_at: None,
                start_before: Some(at(6)),
                callback_url: None,
                waits_for: None,
                has_dependents: false,
                workflow_key: None,
                results_as: None,
            })
        }
    }

    #[tokio::test]
    async fn what_is_resolved_at_once_is_what_the_engine_resolves() {
        let schema = Schema::new(Root, EmptyMutation, EmptySubscription);
        for (name, _) in PLAIN {
            let below = match name {
                "error" => "{ code }",
                "progress" => "{ fraction }",
                _ => "",
            };
            // A field with a directive goes the engine's way.
            let documents = ["", "@include(if: true)"]
                .map(|how| format!("{{ job {{ a: {name} {how} {below} {name} {below} }} }}"));
            let [at_once, slowly] =
                [schema.execute(&documents[0]).await, schema.execute(&documents[1]).await];
            assert_eq!(at_once.errors, []);
            assert_eq!(at_once.data, slowly.data, "{name}");
            let of_job = at_once.data.into_json().unwrap()["job"].take();
            assert_eq!((of_job.as_object().unwrap().len(), &of_job["a"]), (2, &of_job[name]));
        }
    }
}
