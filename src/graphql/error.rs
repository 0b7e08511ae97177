//! From the domain's errors to what a client gets: a message, a code, and what helps to act on it.
//!
//! Resolvers return the domain's error as it is; [`ErrorCodes`](super::error_codes::ErrorCodes) brings every error of a
//! response here, so nothing leaves without a code. What is the server's own fault is masked: the client gets an id,
//! the log gets the cause under the same id.

use std::error::Error as _;
use std::time::Duration;

use async_graphql::{ErrorExtensionValues, ServerError};
use uuid::Uuid;

use crate::error::Error;

/// The message of every masked error.
const INTERNAL_MESSAGE: &str = "internal server error";

/// What a client can get as `extensions.code`, beside the domain's errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Not a well-formed request, a wrong method or content type.
    BadRequest,
    /// JSON that cannot be kept.
    InvalidPayload,
    /// Above a size limit.
    PayloadTooLarge,
    /// More at once than is allowed.
    RateLimited,
    /// No valid token.
    Unauthenticated,
    /// Not permitted.
    Forbidden,
    /// The document has a syntax error.
    ParseFailed,
    /// The document or its variables do not fit the schema.
    ValidationFailed,
    /// The document asks for too much.
    QueryTooComplex,
    /// Persisted queries are not supported, or not in this version.
    PersistedQueryNotSupported,
    /// No persisted query of this hash is kept; the client sends the whole query.
    PersistedQueryNotFound,
    /// Only trusted documents run, and this is none.
    PersistedQueryNotInList,
    /// It took too long.
    RequestTimeout,
    /// Not at the moment.
    Unavailable,
    /// Our own fault.
    Internal,
}

impl Code {
    /// The code as clients see it.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::BadRequest => "BAD_REQUEST",
            Code::InvalidPayload => "INVALID_PAYLOAD",
            Code::PayloadTooLarge => "PAYLOAD_TOO_LARGE",
            Code::RateLimited => "RATE_LIMITED",
            Code::Unauthenticated => "UNAUTHENTICATED",
            Code::Forbidden => "FORBIDDEN",
            Code::ParseFailed => "GRAPHQL_PARSE_FAILED",
            Code::ValidationFailed => "GRAPHQL_VALIDATION_FAILED",
            Code::QueryTooComplex => "QUERY_TOO_COMPLEX",
            Code::PersistedQueryNotSupported => "PERSISTED_QUERY_NOT_SUPPORTED",
            Code::PersistedQueryNotFound => "PERSISTED_QUERY_NOT_FOUND",
            Code::PersistedQueryNotInList => "PERSISTED_QUERY_NOT_IN_LIST",
            Code::RequestTimeout => "REQUEST_TIMEOUT",
            Code::Unavailable => "UNAVAILABLE",
            Code::Internal => "INTERNAL_SERVER_ERROR",
        }
    }

    /// An error of a request that was not executed.
    pub fn error(self, message: impl Into<String>) -> ServerError {
        let mut error = ServerError::new(message, None);
        set_code(&mut error, self.as_str());
        error
    }
}

/// The code that the error has, if any.
pub fn code_of(error: &ServerError) -> Option<&str> {
    match error.extensions.as_ref()?.get("code")? {
        async_graphql::Value::String(code) => Some(code),
        _ => None,
    }
}

/// Where an error says, in whole seconds, when to come again.
const RETRY_AFTER: &str = "retryAfterSeconds";

/// The error, saying when to come again: after this time, rounded up to a second at least.
pub fn retry_after(mut error: ServerError, wait: Duration) -> ServerError {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    error.extensions.get_or_insert_with(ErrorExtensionValues::default).set(RETRY_AFTER, seconds.max(1));
    error
}

/// The seconds that [`retry_after`] gave it.
pub fn retry_after_of(error: &ServerError) -> Option<u64> {
    match error.extensions.as_ref()?.get(RETRY_AFTER)? {
        async_graphql::Value::Number(seconds) => seconds.as_u64(),
        _ => None,
    }
}

/// Gives the error this code unless it has one.
pub fn set_code(error: &mut ServerError, code: &str) {
    let extensions = error.extensions.get_or_insert_with(ErrorExtensionValues::default);
    if extensions.get("code").is_none() {
        extensions.set("code", code);
    }
}

/// Gives an error that a resolver returned its code; true when it came from the domain.
pub fn set_domain_code(error: &mut ServerError) -> bool {
    let Some(source) = error.source.clone() else { return false };
    let Some(domain) = source.downcast_ref::<Error>() else { return false };
    match domain {
        Error::Database { .. } => mask(error, &chain(domain)),
        _ => {
            log(domain);
            set_code(error, code(domain));
            if let Some(extensions) = &mut error.extensions {
                set_details(extensions, domain);
            }
        }
    }
    true
}

/// Hides everything about the error but an id, under which the log has it.
pub fn mask(error: &mut ServerError, cause: &str) {
    let id = Uuid::new_v4().to_string();
    let path = error.path.iter().map(|segment| format!("/{}", segment_text(segment))).collect::<String>();
    tracing::error!(error.id = %id, error.cause = %cause, graphql.path = %path, "a request failed within the server");
    error.message = INTERNAL_MESSAGE.to_owned();
    let mut extensions = ErrorExtensionValues::default();
    extensions.set("code", Code::Internal.as_str());
    extensions.set("id", id);
    error.extensions = Some(extensions);
    error.source = None;
}

/// The error that a client gets for a panic, which is logged where it happens.
pub fn internal(cause: &str) -> ServerError {
    let mut error = ServerError::new(INTERNAL_MESSAGE, None);
    mask(&mut error, cause);
    error
}

fn code(error: &Error) -> &'static str {
    match error {
        Error::NotFound { .. } => "NOT_FOUND",
        Error::Forbidden { .. } => Code::Forbidden.as_str(),
        Error::InvalidInput { .. } => "BAD_USER_INPUT",
        Error::UnknownKind(_) => "UNKNOWN_KIND",
        Error::InvalidPayload { .. } => Code::InvalidPayload.as_str(),
        Error::CallbackRefused { .. } => "CALLBACK_URL_REFUSED",
        Error::PayloadTooLarge { .. } => Code::PayloadTooLarge.as_str(),
        Error::IdempotencyConflict { .. } => "IDEMPOTENCY_CONFLICT",
        Error::JobGone { .. } => "JOB_GONE",
        Error::QueueFull { .. } => "QUEUE_FULL",
        Error::InvalidTransition { .. } => "INVALID_TRANSITION",
        Error::LeaseLost => "LEASE_LOST",
        Error::Unavailable { .. } => Code::Unavailable.as_str(),
        Error::UnknownOutcome { .. } => "UNKNOWN_OUTCOME",
        Error::Database { .. } => Code::Internal.as_str(),
    }
}

fn set_details(extensions: &mut ErrorExtensionValues, error: &Error) {
    match error {
        Error::InvalidInput { field, .. } | Error::PayloadTooLarge { field, .. } => {
            extensions.set("field", field.as_str());
        }
        Error::InvalidPayload { field, pointers, .. } => {
            extensions.set("field", field.as_str());
            let pointers = pointers.iter().map(|pointer| pointer.as_str().into()).collect();
            extensions.set("pointers", async_graphql::Value::List(pointers));
        }
        Error::IdempotencyConflict { job_id } => extensions.set("jobId", job_id.to_string()),
        Error::JobGone { job_id, kind } => {
            extensions.set("jobId", job_id.to_string());
            extensions.set("kind", kind.as_str());
        }
        Error::QueueFull { limit } => {
            extensions.set("limit", *limit);
            extensions.set(RETRY_AFTER, 1);
        }
        Error::NotFound { .. }
        | Error::Forbidden { .. }
        | Error::CallbackRefused { .. }
        | Error::UnknownKind(_)
        | Error::InvalidTransition { .. }
        | Error::LeaseLost
        | Error::Unavailable { .. }
        | Error::UnknownOutcome { .. }
        | Error::Database { .. } => {}
    }
}

/// What an operator should know of, although the client is told as well.
fn log(error: &Error) {
    match error {
        Error::Unavailable { operation, .. } => {
            tracing::warn!(store.operation = operation, error.cause = %chain(error), "a request was refused as the database is not available");
        }
        Error::UnknownOutcome { operation } => {
            tracing::error!(store.operation = operation, error.cause = %chain(error), "the outcome of a write is not known");
        }
        _ => {}
    }
}

fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn segment_text(segment: &async_graphql::PathSegment) -> String {
    match segment {
        async_graphql::PathSegment::Field(name) => name.clone(),
        async_graphql::PathSegment::Index(index) => index.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(error: Error) -> serde_json::Value {
        let mut error = async_graphql::Error::from(error).into_server_error(async_graphql::Pos::default());
        assert!(set_domain_code(&mut error));
        let mut shown = serde_json::to_value(&error).unwrap();
        shown.as_object_mut().unwrap().remove("locations");
        shown
    }

    #[test]
    fn what_helps_to_act_stands_in_the_extensions() {
        let id = Uuid::nil();
        assert_eq!(
            shown(Error::invalid("inputs[3].priority", "-1 is not within 0 to 32767")),
            serde_json::json!({
                "message": "inputs[3].priority: -1 is not within 0 to 32767",
                "extensions": {"code": "BAD_USER_INPUT", "field": "inputs[3].priority"},
            })
        );
        assert_eq!(
            shown(Error::JobGone { job_id: id, kind: "sum".to_owned() })["extensions"],
            serde_json::json!({"code": "JOB_GONE", "jobId": id, "kind": "sum"})
        );
        let refused = Error::InvalidPayload {
            field: "input.payload".to_owned(),
            problem: "nested".to_owned(),
            pointers: vec!["/a".to_owned()],
        };
        assert_eq!(
            shown(refused)["extensions"],
            serde_json::json!({"code": "INVALID_PAYLOAD", "field": "input.payload", "pointers": ["/a"]})
        );
    }

    #[test]
    fn the_database_is_never_quoted() {
        let secret = || sqlx::Error::Protocol("password".to_owned());
        let masked = shown(Error::Database { operation: "submit", source: secret() });
        assert_eq!(masked["message"], INTERNAL_MESSAGE);
        assert_eq!(masked["extensions"]["code"], "INTERNAL_SERVER_ERROR");
        assert!(masked["extensions"]["id"].is_string());
        let unavailable = shown(Error::Unavailable { operation: "submit", source: Some(secret()) });
        assert_eq!(unavailable["extensions"]["code"], "UNAVAILABLE");
        assert!(!masked.to_string().contains("password") && !unavailable.to_string().contains("password"));
    }
}
