//! The input `SubmitJobInput` and the type `SubmitJobPayload`.

use async_graphql::{ContextSelectionSet, ID, InputObject, SimpleObject, Value};
use uuid::Uuid;

use super::argument;
use super::at_once::{self, AtOnce};
use super::date_time::DateTime;
use super::job::Job;
use super::json::Json;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::job::callback::checked_url;
use crate::job::json_scan::{self, ScanError};
use crate::job::submission::{NewJob, Submission};
use crate::job::viewer::Viewer;
use crate::store::submit::Submitted;

/// What is to be done, and how.
#[derive(Clone, Debug, InputObject)]
pub struct SubmitJobInput {
    /// A name of jobKinds.
    kind: String,
    /// Its input; at most 1 MiB unless configured otherwise, nested at most 64 levels.
    #[graphql(default_with = "Json::empty_object()")]
    payload: Json,
    /// Defaults to, and may not differ from, the caller's own client id where tokens are in use.
    client_id: Option<String>,
    /// Unique per client. The same id with the same kind and payload returns the first job; with another payload it
    /// is IDEMPOTENCY_CONFLICT. Made by the server when omitted.
    request_id: Option<String>,
    /// 0 to 32767, lower runs first; the kind's when omitted.
    priority: Option<i32>,
    /// Not before; a past instant means now, and a year ahead is the most.
    run_at: Option<DateTime>,
    /// 1 to 100; the kind's when omitted.
    max_attempts: Option<i32>,
    /// How long one attempt may take, 1 to 86400; the kind's when omitted.
    timeout_seconds: Option<i32>,
    /// Shown to people; 1 to 200 characters.
    display_name: Option<String>,
    /// Give up if no worker has started it by then: it is CANCELLED, with error EXPIRED. Must lie after runAt.
    start_before: Option<DateTime>,
    /// Where the job's end is told, by POST; https to a public address unless configured otherwise.
    callback_url: Option<String>,
    /// Jobs of the same client that must be DONE first, each once, at most 1,000. One that is DONE already counts; one that
    /// is ERROR or CANCELLED keeps this job BLOCKED until it is retried.
    depends_on: Option<Vec<ID>>,
}

impl SubmitJobInput {
    /// The job to write; `argument` is where the input stands, such as `inputs[3]`.
    ///
    /// # Errors
    /// As `Submission::check`, and `InvalidPayload`; the fields are named below the argument.
    pub fn into_new_job(self, argument: &str, viewer: &Viewer, config: &Config) -> Result<NewJob> {
        self.checked(viewer, config).map_err(|error| error.below(argument))
    }

    fn checked(self, viewer: &Viewer, config: &Config) -> Result<NewJob> {
        let payload = self.payload.into_value();
        json_scan::check_value(&payload).map_err(|error| invalid_payload("payload", error))?;
        let callback_url = self.callback_url.map(|url| checked_url(&url, &config.callbacks)).transpose()?;
        let submission = Submission {
            kind: self.kind,
            payload,
            client_id: self.client_id,
            request_id: self.request_id,
            priority: self.priority,
            run_at: self.run_at.map(|run_at| run_at.instant("runAt")).transpose()?,
            max_attempts: self.max_attempts,
            timeout_seconds: self.timeout_seconds,
            display_name: self.display_name,
            callback_url: callback_url.map(String::from),
            depends_on: parents(self.depends_on)?,
            awaits_results: false,
            start_before: self.start_before.map(|at| at.instant("startBefore")).transpose()?,
        };
        submission.check(viewer, &config.kinds, config.max_payload_bytes)
    }
}

fn parents(given: Option<Vec<ID>>) -> Result<Vec<Uuid>> {
    let ids = given.unwrap_or_default();
    ids.iter().enumerate().map(|(index, id)| argument::job_id(&format!("dependsOn[{index}]"), id)).collect()
}

/// The domain's error for JSON that the scan refused.
pub(super) fn invalid_payload(field: &str, error: ScanError) -> Error {
    let problem = error.to_string();
    let pointers = match error {
        ScanError::Refused { pointer, .. } => vec![pointer],
        ScanError::Malformed { .. } => Vec::new(),
    };
    Error::InvalidPayload { field: field.to_owned(), problem, pointers }
}

/// The answer to a submit.
#[derive(Clone, Debug, SimpleObject)]
pub struct SubmitJobPayload {
    /// The job; the first one, unchanged, when the request id had been used.
    #[graphql(complexity = "child_complexity")]
    job: Job,
    /// False when the request id had been used: job is then the first one, unchanged.
    #[graphql(complexity = 0)]
    created: bool,
}

impl AtOnce for SubmitJobPayload {
    fn resolve_at_once(&self, ctx: &ContextSelectionSet<'_>) -> Option<Value> {
        at_once::object::<SubmitJobPayload>(ctx, |field| match field.node.name.node.as_str() {
            "job" => self.job.resolve_at_once(&ctx.with_selection_set(&field.node.selection_set)),
            "created" => Some(Value::from(self.created)),
            _ => None,
        })
    }
}

impl From<Submitted> for SubmitJobPayload {
    fn from(submitted: Submitted) -> SubmitJobPayload {
        SubmitJobPayload { job: submitted.job.into(), created: submitted.created }
    }
}
