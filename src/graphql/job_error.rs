//! The type `JobError`.

use async_graphql::SimpleObject;

use super::json::Json;
use crate::job::failure::Failure;

/// Why an attempt, or a job, failed.
#[derive(Clone, Debug, SimpleObject)]
pub struct JobError {
    /// For programs: FAILED, TIMEOUT, PANIC, WORKER_LOST, or the handler's own.
    #[graphql(complexity = 0)]
    code: String,
    /// For people.
    #[graphql(complexity = 0)]
    message: String,
    /// False when another attempt cannot help.
    #[graphql(complexity = 0)]
    retryable: bool,
    /// Whatever else the handler said.
    #[graphql(complexity = 0)]
    details: Option<Json>,
}

impl JobError {
    /// The error as it is stored. One that cannot be read, as a newer version or a change by hand may have written,
    /// is shown as UNREADABLE.
    pub fn from_stored(stored: &serde_json::Value) -> JobError {
        let failure: Failure = serde::Deserialize::deserialize(stored)
            .unwrap_or_else(|_| Failure::fatal("UNREADABLE", "the stored error cannot be read"));
        JobError {
            code: failure.code,
            message: failure.message,
            retryable: failure.retryable,
            details: failure.details.map(Json::Own),
        }
    }
}
