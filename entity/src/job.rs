//! Table `job`: one row per job, from submit until it is pruned.

use sea_orm::entity::prelude::*;

use crate::status::JobStatus;

/// A row of `job`.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "job")]
pub struct Model {
    /// UUIDv7, made by the server; lists are ordered by it.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// Who submitted it; 1 to 128 characters.
    pub client_id: String,
    /// Unique per client; equals the id when the server made it.
    pub request_id: String,
    /// What is to be done: a kind of the configuration.
    pub kind: String,
    /// The queue of its kind at submit.
    pub queue: String,
    /// Shown to people.
    pub display_name: String,
    /// Where it stands.
    pub status: JobStatus,
    /// Rises by one with every visible change, from 1.
    pub version: i32,
    /// 0 to 32,767; lower runs first.
    pub priority: i16,
    /// What claim and position order by: the priority, lowered by ageing.
    pub level: i16,
    /// Place within the level, from the database's sequence.
    pub seq: i64,
    /// Input of the job.
    #[sea_orm(column_type = "JsonBinary")]
    pub payload: Json,
    /// Output; only when DONE.
    #[sea_orm(column_type = "JsonBinary", nullable)]
    pub result: Option<Json>,
    /// `{code, message, retryable, details}`; when ERROR, or CANCELLED because it was given up.
    #[sea_orm(column_type = "JsonBinary", nullable)]
    pub error: Option<Json>,
    /// Latest progress of the latest attempt, 0 to 1.
    pub progress_fraction: Option<f64>,
    /// What the worker said with it.
    pub progress_message: Option<String>,
    /// When it said so.
    pub progress_at: Option<DateTimeUtc>,
    /// Attempts used since they were last granted.
    pub attempt: i16,
    /// Attempts granted; 1 to 100.
    pub max_attempts: i16,
    /// Counts every start; the fence that a worker's writes must name.
    pub lease_epoch: i32,
    /// Workers lost since attempts were last granted.
    pub losses: i16,
    /// An attempt may run this long; 1 to 86,400.
    pub timeout_seconds: i32,
    /// The worker of the latest attempt.
    pub worker_id: Option<Uuid>,
    /// The workflow it is a part of.
    pub workflow_id: Option<Uuid>,
    /// When the submit was committed, by the database's clock.
    pub created_at: DateTimeUtc,
    /// When it became, or becomes, ready.
    pub run_at: DateTimeUtc,
    /// Start of the latest attempt.
    pub started_at: Option<DateTimeUtc>,
    /// When it became terminal.
    pub finished_at: Option<DateTimeUtc>,
    /// When somebody asked the running job to stop.
    pub cancel_requested_at: Option<DateTimeUtc>,
    /// Given up if no worker has started it by then.
    pub start_before: Option<DateTimeUtc>,
    /// Where its end is told.
    pub callback_url: Option<String>,
    /// While BLOCKED: jobs it depends on that are not DONE. None for a job that depends on none.
    pub waits_for: Option<i32>,
    /// Its end matters to jobs that depend on it.
    pub has_dependents: bool,
    /// Its name within its workflow.
    pub workflow_key: Option<String>,
    /// The member of the payload that gets the results of the jobs it depends on.
    pub results_as: Option<String>,
}

impl ActiveModelBehavior for ActiveModel {}
