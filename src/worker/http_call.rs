//! Runs a job of an http kind: one signed POST to the kind's URL.
//!
//! - The body is JSON: `jobId`, `kind`, `attempt`, `payload`, `timeoutSeconds`, and `lease`, as completeJob takes it. It is
//!   signed by Standard Webhooks 1.0, as callbacks are; `webhook-id` is another one for each attempt.
//! - 202 hands the job over: it stays RUNNING until the receiver calls completeJob, failJob or releaseJob with the
//!   lease, at most for the job's timeout. The slot here is free again.
//! - Any other 2xx ends the attempt with the body as its result; an empty one is null.
//! - 408, 425, 429 and 5xx, and connections that fail or break, are tried again, not before a `Retry-After` is over.
//!   Anything else is final, a redirect too.
//! - A job that is to stop drops its request.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chrono::Utc;
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};

use super::runner::{Answer, Context, stopped};
use crate::config::HttpTarget;
use crate::job::callback::{is_public, literal, signed_headers};
use crate::job::failure::Failure;
use crate::job::json_scan;
use crate::outbound;

/// Longer than any job may run; the job's own timeout ends its call.
const ANSWER_WITHIN: Duration = Duration::from_secs(100_000);

/// What makes the calls, by whether private addresses are allowed; made with the first call. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct HttpCaller {
    public: Arc<OnceLock<Client>>,
    any: Arc<OnceLock<Client>>,
}

impl HttpCaller {
    fn client(&self, allow_private: bool) -> Result<&Client, Failure> {
        let cell = if allow_private { &self.any } else { &self.public };
        if let Some(client) = cell.get() {
            return Ok(client);
        }
        let client = outbound::client(Arc::new(move |_| allow_private), ANSWER_WITHIN)
            .map_err(|error| Failure::retryable("HTTP_FAILED", outbound::in_words(error)))?;
        Ok(cell.get_or_init(|| client))
    }
}

/// Makes the call.
///
/// # Errors
/// HTTP_STATUS, HTTP_FAILED, HTTP_REFUSED, OUTPUT_LIMIT, INVALID_RESULT; see the module.
pub async fn run(
    kind: &str,
    target: &HttpTarget,
    caller: &HttpCaller,
    context: Context,
) -> Result<Answer, Failure> {
    let stop = context.stop.clone();
    let calling = stop.run_until_cancelled(call(kind, target, caller, context));
    calling.await.unwrap_or_else(|| Err(stopped()))
}

async fn call(
    kind: &str,
    target: &HttpTarget,
    caller: &HttpCaller,
    context: Context,
) -> Result<Answer, Failure> {
    let host = target.url.host_str().unwrap_or_default();
    if !target.allow_private && literal(host).is_some_and(|address| !is_public(address)) {
        return Err(Failure::fatal("HTTP_REFUSED", "the kind's URL leads to an address that is not public"));
    }
    let body = json!({
        "jobId": context.job_id, "kind": kind, "attempt": context.attempt, "payload": context.payload,
        "timeoutSeconds": context.timeout_seconds,
        "lease": { "jobId": context.job_id, "token": context.lease_token },
    })
    .to_string();
    let id = format!("msg_{}_{}", context.job_id.simple(), context.epoch);
    let mut request = caller
        .client(target.allow_private)?
        .post(target.url.clone())
        .header("content-type", "application/json");
    for (name, value) in signed_headers(std::iter::once(&target.secret), &id, Utc::now().timestamp(), &body) {
        request = request.header(name, value);
    }
    let failed = |error| Failure::retryable("HTTP_FAILED", outbound::in_words(error));
    let answer = request.body(body).send().await.map_err(failed)?;
    match answer.status() {
        StatusCode::ACCEPTED => Ok(Answer::HandedOver),
        status if status.is_success() => {
            let bytes = read(answer, context.max_result_bytes).await?;
            result_of(&bytes).map(Answer::Result)
        }
        _ => Err(failure_of(&answer)),
    }
}

fn failure_of(answer: &Response) -> Failure {
    let status = answer.status();
    let again = status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429);
    let message = format!("the receiver answered {status}");
    let failure = if again {
        Failure::retryable("HTTP_STATUS", message)
    } else {
        Failure::fatal("HTTP_STATUS", message)
    };
    Failure { retry_after: outbound::retry_after(answer), ..failure }
        .with_details(json!({ "status": status.as_u16() }))
}

/// The whole body, unless it is larger than `limit`.
async fn read(mut answer: Response, limit: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    loop {
        match answer.chunk().await {
            Ok(None) => return Ok(bytes),
            Ok(Some(chunk)) if bytes.len() + chunk.len() <= limit => bytes.extend_from_slice(&chunk),
            Ok(Some(_)) => {
                let message = format!("answered more than the {limit} bytes that a result may have");
                return Err(Failure::retryable("OUTPUT_LIMIT", message));
            }
            Err(error) => return Err(Failure::retryable("HTTP_FAILED", outbound::in_words(error))),
        }
    }
}

fn result_of(bytes: &[u8]) -> Result<Value, Failure> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Null);
    }
    let refused = |problem: String| {
        Failure::fatal("INVALID_RESULT", format!("the answer cannot be kept as JSON: {problem}"))
    };
    json_scan::scan(bytes, json_scan::MAX_DEPTH).map_err(|error| refused(error.to_string()))?;
    serde_json::from_slice(bytes).map_err(|error| refused(error.to_string()))
}
