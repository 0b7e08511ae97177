//! Table `attempt`: one row per attempt that did not end well. The one that did is told by the job.

use sea_orm::entity::prelude::*;

/// A row of `attempt`.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "attempt")]
pub struct Model {
    /// The job it belongs to.
    #[sea_orm(primary_key, auto_increment = false)]
    pub job_id: Uuid,
    /// The lease epoch: counts every start of the job, released and lost ones too.
    #[sea_orm(primary_key, auto_increment = false)]
    pub lease_epoch: i32,
    /// When it started, by the database's clock.
    pub started_at: DateTimeUtc,
    /// When it ended.
    pub ended_at: DateTimeUtc,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// `{code, message, retryable, details}` where there is one.
    #[sea_orm(column_type = "JsonBinary", nullable)]
    pub error: Option<Json>,
    /// The worker that held it.
    pub worker_id: Uuid,
}

/// How an attempt ended. Stored as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AttemptOutcome {
    /// With a result.
    Done,
    /// With an error.
    Error,
    /// It ran longer than it may.
    Timeout,
    /// It was asked to stop.
    Cancelled,
    /// Its worker died or lost touch.
    WorkerLost,
    /// Its worker gave it back untouched.
    Released,
}

impl AttemptOutcome {
    /// The name it has in the database and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            AttemptOutcome::Done => "DONE",
            AttemptOutcome::Error => "ERROR",
            AttemptOutcome::Timeout => "TIMEOUT",
            AttemptOutcome::Cancelled => "CANCELLED",
            AttemptOutcome::WorkerLost => "WORKER_LOST",
            AttemptOutcome::Released => "RELEASED",
        }
    }
}

impl ActiveModelBehavior for ActiveModel {}
