//! The domain's errors: one enum, each variant an answer that a caller can act on.
//!
//! The API maps them to `extensions.code` in one exhaustive match (`graphql::error`). `Display` says this layer
//! only; the chain is in `source()`.

use entity::JobStatus;
use uuid::Uuid;

/// `Result` with the domain's error.
pub type Result<T> = std::result::Result<T, Error>;

/// What an operation can answer instead of a result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is none, or it is another client's.
    #[error("no {what} {id}")]
    NotFound {
        /// `job`, `queue`, …
        what: &'static str,
        /// What was asked for.
        id: String,
    },
    /// Whoever asks may not.
    #[error("{problem}")]
    Forbidden {
        /// What they may not, and who may.
        problem: String,
    },
    /// An argument is out of its range.
    #[error("{field}: {problem}")]
    InvalidInput {
        /// Name of the argument in the API.
        field: String,
        /// What is wrong and what is allowed.
        problem: String,
    },
    /// The configuration has no such kind.
    #[error("unknown kind {0:?}")]
    UnknownKind(String),
    /// JSON that cannot be kept or does not fit its kind.
    #[error("{field}: {problem}")]
    InvalidPayload {
        /// Name of the argument in the API.
        field: String,
        /// What is wrong.
        problem: String,
        /// RFC 6901 pointers to the places.
        pointers: Vec<String>,
    },
    /// A callback may not go there.
    #[error("callbackUrl {problem}")]
    CallbackRefused {
        /// Why not.
        problem: String,
    },
    /// JSON above its limit.
    #[error("{field}: {bytes} bytes; at most {limit} are allowed")]
    PayloadTooLarge {
        /// Name of the argument in the API.
        field: String,
        /// Its size as compact JSON.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The request id was used for another kind or payload.
    #[error("the request id was used for another kind or payload by job {job_id}")]
    IdempotencyConflict {
        /// The job that it made.
        job_id: Uuid,
    },
    /// The request id was used, and its job has been pruned or deleted since.
    #[error("the request id was used by job {job_id}, which is gone")]
    JobGone {
        /// The job that it made.
        job_id: Uuid,
        /// Kind of that job.
        kind: String,
    },
    /// The client has as many jobs waiting as it may.
    #[error("{limit} jobs of the client wait already; submit again when some have started")]
    QueueFull {
        /// What is allowed.
        limit: u64,
    },
    /// The job is not in a state that allows this.
    #[error("a job that is {from} cannot be {action}")]
    InvalidTransition {
        /// Where it stands.
        from: JobStatus,
        /// `retried`, `deleted`, …
        action: &'static str,
    },
    /// The lease has ended: the attempt is another worker's, or over.
    #[error("the lease on the job has ended")]
    LeaseLost,
    /// The database cannot be reached, or refuses writes, just now. Nothing was written.
    #[error("the database is not available to {operation}")]
    Unavailable {
        /// What was tried.
        operation: &'static str,
        /// Why.
        source: Option<sqlx::Error>,
    },
    /// The connection broke while the answer to a commit was awaited.
    #[error(
        "it is not known whether the database came to {operation}; look, or repeat it (a submit under the same request id)"
    )]
    UnknownOutcome {
        /// What was tried.
        operation: &'static str,
    },
    /// Anything else that the database says.
    #[error("the database failed to {operation}")]
    Database {
        /// What was tried.
        operation: &'static str,
        /// What it said.
        source: sqlx::Error,
    },
}

impl Error {
    /// An argument is out of its range.
    pub fn invalid(field: impl Into<String>, problem: impl Into<String>) -> Error {
        Error::InvalidInput { field: field.into(), problem: problem.into() }
    }

    /// Whoever asks may not.
    pub fn forbidden(problem: impl Into<String>) -> Error {
        Error::Forbidden { problem: problem.into() }
    }

    /// The same error with its field named from `argument` down: `priority` becomes `inputs[3].priority`.
    pub fn below(mut self, argument: &str) -> Error {
        if let Error::InvalidInput { field, .. }
        | Error::InvalidPayload { field, .. }
        | Error::PayloadTooLarge { field, .. } = &mut self
        {
            let dot = if field.starts_with('[') { "" } else { "." };
            *field = format!("{argument}{dot}{field}");
        }
        self
    }

    /// No such job for this viewer.
    pub fn no_job(id: impl ToString) -> Error {
        Error::NotFound { what: "job", id: id.to_string() }
    }

    /// Sorts what the database said: not available, or a failure of the operation.
    pub fn database(operation: &'static str, source: sqlx::Error) -> Error {
        if is_unavailable(&source) {
            Error::Unavailable { operation, source: Some(source) }
        } else {
            Error::Database { operation, source }
        }
    }

    /// The same once a change has been sent: a connection that breaks then leaves its outcome open.
    pub fn after_sending(operation: &'static str, source: sqlx::Error) -> Error {
        if leaves_outcome_unknown(&source) {
            Error::UnknownOutcome { operation }
        } else {
            Error::database(operation, source)
        }
    }

    /// The same for what SeaORM hands on.
    pub fn orm(operation: &'static str, source: sea_orm::DbErr) -> Error {
        use sea_orm::{DbErr, RuntimeErr};
        match source {
            DbErr::Conn(RuntimeErr::SqlxError(error))
            | DbErr::Exec(RuntimeErr::SqlxError(error))
            | DbErr::Query(RuntimeErr::SqlxError(error)) => match std::sync::Arc::try_unwrap(error) {
                Ok(error) => Error::database(operation, error),
                Err(shared) => Error::database(operation, sqlx::Error::Protocol(shared.to_string())),
            },
            DbErr::ConnectionAcquire(_) => {
                Error::Unavailable { operation, source: Some(sqlx::Error::PoolTimedOut) }
            }
            other => Error::Database { operation, source: sqlx::Error::Protocol(other.to_string()) },
        }
    }
}

/// What lies beneath an error, for a log: the database's code and message. Never its detail, which may quote a row with
/// its payload.
pub fn cause_of(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| "none".to_owned(), ToString::to_string)
}

/// True when repeating later can help: no connection, a server that starts, stops, is full or read-only.
pub fn is_unavailable(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::Io(_)
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(database) => database.code().is_some_and(|code| {
            // Class 08: the connection. 28, 3D, 55000: not let in. 40: lost to another transaction. 53: out of
            // disk, memory or connections. 57: shutting down, starting, cancelled. 58: the system. 25006: read-only.
            // 55P03: a lock was not to be had.
            matches!(code.get(..2), Some("08" | "28" | "3D" | "40" | "53" | "57" | "58"))
                || matches!(code.as_ref(), "25006" | "55000" | "55P03")
        }),
        _ => false,
    }
}

/// True when the connection went while an answer was awaited, so that a commit may or may not have happened.
pub fn leaves_outcome_unknown(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => true,
        // The server says goodbye on the way out; it may have committed just before.
        sqlx::Error::Database(database) => {
            database.code().is_some_and(|code| matches!(code.as_ref(), "57P01" | "57P02" | "57P03"))
        }
        _ => false,
    }
}
