//! How an attempt failed, as it is stored with the attempt and the job and shown by the API.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Longest message that is kept, in characters; the rest is cut.
pub const MAX_MESSAGE_CHARS: usize = 4_000;

/// `{code, message, retryable, details}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// For programs: `FAILED`, `TIMEOUT`, `PANIC`, `WORKER_LOST`, or the handler's own.
    pub code: String,
    /// For people.
    pub message: String,
    /// False when another attempt cannot help.
    pub retryable: bool,
    /// Whatever else the handler said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
    /// No other attempt before this is over; not stored.
    #[serde(skip)]
    pub retry_after: Option<Duration>,
}

impl Failure {
    /// A failure that another attempt may get past.
    pub fn retryable(code: &str, message: impl Into<String>) -> Failure {
        Failure {
            code: code.to_owned(),
            message: clean(message.into()),
            retryable: true,
            details: None,
            retry_after: None,
        }
    }

    /// A failure that another attempt cannot get past.
    pub fn fatal(code: &str, message: impl Into<String>) -> Failure {
        Failure { retryable: false, ..Failure::retryable(code, message) }
    }

    /// The same with details; they must have passed `json_scan`.
    pub fn with_details(mut self, details: Value) -> Failure {
        self.details = Some(details);
        self
    }
}

/// Makes text of any origin fit to be stored: no NUL, which PostgreSQL refuses, and of bounded length.
fn clean(message: String) -> String {
    let message = if message.contains('\0') { message.replace('\0', "\u{fffd}") } else { message };
    match message.char_indices().nth(MAX_MESSAGE_CHARS) {
        Some((end, _)) => message.get(..end).unwrap_or_default().to_owned(),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_cut_at_a_character_and_holds_no_nul() {
        let failure = Failure::retryable("FAILED", format!("\0{}", "ä".repeat(5_000)));
        assert_eq!(failure.message.chars().count(), MAX_MESSAGE_CHARS);
        assert!(failure.message.starts_with("\u{fffd}ä"));
    }
}
