//! Table `job_log`: what attempts printed, line by line.

use sea_orm::entity::prelude::*;

/// A row of `job_log`.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "job_log")]
pub struct Model {
    /// The job.
    #[sea_orm(primary_key, auto_increment = false)]
    pub job_id: Uuid,
    /// The attempt that printed it.
    #[sea_orm(primary_key, auto_increment = false)]
    pub lease_epoch: i32,
    /// Counts the lines of the attempt.
    #[sea_orm(primary_key, auto_increment = false)]
    pub number: i32,
    /// When the worker saw it, by the database's clock.
    pub at: DateTimeUtc,
    /// Where it came from.
    pub stream: LogStream,
    /// The line, without its end.
    pub text: String,
}

/// Where a line came from. Stored as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Text", rename_all = "UPPERCASE")]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// jobql itself.
    System,
}

impl LogStream {
    /// The name it has in the database and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            LogStream::Stdout => "STDOUT",
            LogStream::Stderr => "STDERR",
            LogStream::System => "SYSTEM",
        }
    }
}

impl ActiveModelBehavior for ActiveModel {}
