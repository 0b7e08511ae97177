//! From what a client sends to a job that can be written: every argument checked, every default filled in.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::config::{Kinds, in_words};
use crate::error::{Error, Result};
use crate::job::display_name;
use crate::job::viewer::Viewer;

/// The client id of a submitter that names none.
pub const DEFAULT_CLIENT_ID: &str = "default";
/// Longest client id, request id and label, in characters.
pub const MAX_ID_CHARS: usize = 128;
/// Longest display name that a submitter may set, in characters.
pub const MAX_DISPLAY_NAME_CHARS: usize = 200;
/// Jobs that a job submitted by itself may depend on.
pub const MAX_PARENTS: usize = 1_000;
/// A start may lie this far ahead.
pub const MAX_RUN_AT_AHEAD: TimeDelta = TimeDelta::days(366);

/// What a client asks for. `None` means that the argument was left out.
#[derive(Clone, Debug, Default)]
pub struct Submission {
    /// A kind of the configuration.
    pub kind: String,
    /// Input; must have passed `json_scan` as raw text.
    pub payload: Value,
    /// Defaults to `default`.
    pub client_id: Option<String>,
    /// Makes the submit idempotent per client.
    pub request_id: Option<String>,
    /// 0 to 32,767; lower runs first.
    pub priority: Option<i32>,
    /// Not before; a past instant means now.
    pub run_at: Option<DateTime<Utc>>,
    /// 1 to 100.
    pub max_attempts: Option<i32>,
    /// 1 to 86,400.
    pub timeout_seconds: Option<i32>,
    /// Shown to people.
    pub display_name: Option<String>,
    /// Given up if no worker has started it by then.
    pub start_before: Option<DateTime<Utc>>,
    /// Where its end is told; must have passed `callback::checked_url`.
    pub callback_url: Option<String>,
    /// Jobs that must be DONE first, each once.
    pub depends_on: Vec<Uuid>,
    /// The payload gets results of other jobs before it runs, so that it is held to the kind's schema only then.
    pub awaits_results: bool,
}

/// A job that is ready to be written.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// UUIDv7 made here.
    pub id: Uuid,
    /// Who submits.
    pub client_id: String,
    /// The client's, or the id where the client gave none.
    pub request_id: String,
    /// A kind of the configuration.
    pub kind: String,
    /// Its queue.
    pub queue: String,
    /// Shown to people.
    pub display_name: String,
    /// Lower runs first.
    pub priority: i16,
    /// Attempts granted.
    pub max_attempts: i16,
    /// Longest run of an attempt.
    pub timeout_seconds: i32,
    /// Not before; none means now.
    pub run_at: Option<DateTime<Utc>>,
    /// Given up if no worker has started it by then.
    pub start_before: Option<DateTime<Utc>>,
    /// Where its end is told.
    pub callback_url: Option<String>,
    /// Jobs that must be DONE first.
    pub depends_on: Vec<Uuid>,
    /// True when jobs that are submitted with it depend on it.
    pub has_dependents: bool,
    /// The workflow that it is a part of.
    pub workflow: Option<WorkflowPart>,
    /// Input.
    pub payload: Value,
    /// The same as compact JSON text.
    pub payload_text: String,
    /// SHA-256 of kind and payload, equal for equal JSON whatever the order of keys; for a request id that the client chose.
    pub payload_hash: Option<[u8; 32]>,
}

impl NewJob {
    /// True when the client chose the request id, so that a key row is needed.
    pub fn is_keyed(&self) -> bool {
        self.payload_hash.is_some()
    }
}

/// Which part of a workflow a job is.
#[derive(Clone, Debug)]
pub struct WorkflowPart {
    /// The workflow.
    pub id: Uuid,
    /// The job's name within it.
    pub key: String,
    /// The member of the payload that gets the results of the jobs it depends on.
    pub results_as: Option<String>,
}

impl Submission {
    /// Checks everything against the configuration and fills in what was left out.
    ///
    /// # Errors
    /// `UnknownKind`, `InvalidInput` naming the argument and its range, `InvalidPayload` with pointers to what does
    /// not fit the kind, `PayloadTooLarge`.
    pub fn check(self, viewer: &Viewer, kinds: &Kinds, max_payload_bytes: usize) -> Result<NewJob> {
        viewer.may_change_jobs()?;
        let kind = kinds.get(&self.kind).ok_or_else(|| Error::UnknownKind(self.kind.clone()))?;
        if !kind.active {
            return Err(Error::invalid("kind", "is not active: it takes no new jobs"));
        }
        let client_id = match (self.client_id, viewer) {
            (Some(given), _) => viewer.may_name_client("clientId", checked_id("clientId", given)?)?,
            (None, Viewer::Client(own)) => own.clone(),
            (None, Viewer::Operator | Viewer::Worker(_)) => DEFAULT_CLIENT_ID.to_owned(),
        };
        let payload_text = self.payload.to_string();
        if payload_text.len() > max_payload_bytes {
            return Err(Error::PayloadTooLarge {
                field: "payload".to_owned(),
                bytes: payload_text.len(),
                limit: max_payload_bytes,
            });
        }
        if let Some(schema) = kind.input_schema.as_ref().filter(|_| !self.awaits_results) {
            schema.check(&self.payload, payload_text.len()).map_err(|problems| Error::InvalidPayload {
                field: "payload".to_owned(),
                problem: in_words(&problems),
                pointers: problems.into_iter().map(|problem| problem.pointer).collect(),
            })?;
        }
        let run_at = self.run_at.map(checked_run_at).transpose()?;
        // One in the past is let through: a client that repeats its submit late must get its first job.
        if let (Some(start_before), Some(run_at)) = (self.start_before, run_at)
            && start_before <= run_at
        {
            return Err(Error::invalid("startBefore", "does not lie after runAt"));
        }
        check_parents(&self.depends_on)?;
        let display_name = match self.display_name {
            Some(label) => checked_text("displayName", label, MAX_DISPLAY_NAME_CHARS)?,
            None => display_name::of_payload(&self.payload).unwrap_or_else(|| self.kind.clone()),
        };
        let id = Uuid::now_v7();
        let payload_hash = self.request_id.is_some().then(|| payload_hash(&self.kind, &payload_text));
        let request_id = match self.request_id {
            Some(given) => checked_id("requestId", given)?,
            None => id.to_string(),
        };
        Ok(NewJob {
            id,
            client_id,
            request_id,
            priority: in_range("priority", self.priority, 0, i16::MAX, kind.priority)?,
            max_attempts: in_range("maxAttempts", self.max_attempts, 1, 100, kind.max_attempts)?,
            timeout_seconds: in_range(
                "timeoutSeconds",
                self.timeout_seconds,
                1,
                86_400,
                kind.timeout_seconds,
            )?,
            run_at,
            start_before: self.start_before,
            callback_url: self.callback_url,
            depends_on: self.depends_on,
            has_dependents: false,
            workflow: None,
            display_name,
            payload_hash,
            payload: self.payload,
            payload_text,
            queue: kind.queue.clone(),
            kind: self.kind,
        })
    }
}

fn check_parents(parents: &[Uuid]) -> Result<()> {
    if parents.len() > MAX_PARENTS {
        let problem = format!("has {} entries; at most {MAX_PARENTS} are allowed", parents.len());
        return Err(Error::invalid("dependsOn", problem));
    }
    let mut known = HashSet::new();
    match parents.iter().position(|parent| !known.insert(parent)) {
        Some(index) => Err(Error::invalid(format!("dependsOn[{index}]"), "stands there twice")),
        None => Ok(()),
    }
}

/// The value within its range, or the default.
///
/// # Errors
/// `InvalidInput` naming the field and the range.
pub fn in_range<T>(field: &str, given: Option<i32>, low: T, high: T, default: T) -> Result<T>
where
    T: TryFrom<i32> + PartialOrd + std::fmt::Display,
{
    let Some(given) = given else { return Ok(default) };
    match T::try_from(given) {
        Ok(value) if value >= low && value <= high => Ok(value),
        _ => Err(Error::invalid(field, format!("{given} is not within {low} to {high}"))),
    }
}

/// A client or request id: 1 to 128 characters, none of them a control character.
///
/// # Errors
/// `InvalidInput` naming the field.
pub fn checked_id(field: &str, given: String) -> Result<String> {
    checked_text(field, given, MAX_ID_CHARS)
}

/// Text of 1 to `max_chars` characters, none of them a control character.
///
/// # Errors
/// `InvalidInput` naming the field.
pub fn checked_text(field: &str, given: String, max_chars: usize) -> Result<String> {
    let chars = given.chars().count();
    if chars == 0 || chars > max_chars {
        return Err(Error::invalid(field, format!("has {chars} characters; 1 to {max_chars} are allowed")));
    }
    if given.chars().any(char::is_control) {
        return Err(Error::invalid(field, "must not hold control characters"));
    }
    Ok(given)
}

/// A start that is not too far ahead.
///
/// # Errors
/// `InvalidInput`.
pub fn checked_run_at(run_at: DateTime<Utc>) -> Result<DateTime<Utc>> {
    if run_at > Utc::now() + MAX_RUN_AT_AHEAD {
        return Err(Error::invalid("runAt", "lies more than a year ahead"));
    }
    Ok(run_at)
}

/// `Value` keeps its keys sorted, so equal JSON has equal text.
fn payload_hash(kind: &str, payload_text: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(kind.as_bytes());
    hash.update([0]);
    hash.update(payload_text.as_bytes());
    hash.finalize().into()
}
