//! Table `workflow`: jobs that were submitted together, as a whole.

use sea_orm::entity::prelude::*;

/// A row of `workflow`.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "workflow")]
pub struct Model {
    /// UUIDv7, made by the server; below those of its jobs.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// Who submitted it.
    pub client_id: String,
    /// Unique per client; equals the id when the server made it.
    pub request_id: String,
    /// Shown to people.
    pub name: Option<String>,
    /// What becomes of the dependents of a job that fails.
    pub on_failure: FailurePolicy,
    /// Where it stands.
    pub status: WorkflowStatus,
    /// Most bytes of a payload with results of parents in it.
    pub max_payload_bytes: i32,
    /// Where its end is told.
    pub callback_url: Option<String>,
    /// How often it came to an end.
    pub ends: i32,
    /// When the submit was committed, by the database's clock.
    pub created_at: DateTimeUtc,
    /// When nothing of it ran any more; none while RUNNING.
    pub finished_at: Option<DateTimeUtc>,
}

/// Where a workflow stands. Stored as text, under the names of the GraphQL enum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "UPPERCASE")]
pub enum WorkflowStatus {
    /// A job runs, or can run without anyone acting.
    Running,
    /// Every job is DONE.
    Done,
    /// Nothing runs any more, and a job is ERROR.
    Error,
    /// Nothing runs any more, no job is ERROR, and not every one is DONE.
    Cancelled,
}

impl WorkflowStatus {
    /// The name it has in the database and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            WorkflowStatus::Running => "RUNNING",
            WorkflowStatus::Done => "DONE",
            WorkflowStatus::Error => "ERROR",
            WorkflowStatus::Cancelled => "CANCELLED",
        }
    }
}

/// What becomes of the dependents of a job that fails. Stored as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "UPPERCASE")]
pub enum FailurePolicy {
    /// They stay BLOCKED, and go on once it is retried and DONE.
    Block,
    /// They are CANCELLED, and theirs.
    Cancel,
}

impl FailurePolicy {
    /// The name it has in the database and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            FailurePolicy::Block => "BLOCK",
            FailurePolicy::Cancel => "CANCEL",
        }
    }
}

impl ActiveModelBehavior for ActiveModel {}
