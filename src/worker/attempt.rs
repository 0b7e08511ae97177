//! One attempt, from the start of its handler to what is to be written about it.
//!
//! Whatever a handler does, the task that runs it survives: a panic is caught, an attempt that runs too long is
//! stopped, one that does not heed a stop is dropped. Which end an attempt has is decided in [`judge`].

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use entity::attempt::AttemptOutcome;
use futures_util::FutureExt;
use serde_json::Value;
use tokio::time::{Instant, timeout};

use super::held_jobs::HeldJob;
use super::job_log::JobLog;
use super::progress::{ProgressReporter, Report, Reports};
use super::registration::Registration;
use super::runner::{self, Answer, Context, STOP_GRACE};
use super::stop::StopReason;
use crate::config::{Backoff, Kind, Runner};
use crate::job::backoff::delay_after;
use crate::job::failure::Failure;
use crate::job::outcome::{json_bytes, misfit, unfit};
use crate::store::finish::AttemptEnd;
use crate::store::progress::Progress;

/// How long the end of an attempt may wait for its last log lines.
const LOG_PATIENCE: Duration = Duration::from_secs(5);

/// A handler may ask to be left alone for so long.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(24 * 3_600);

/// What a handler came to: its answer, or a panic, or nothing because it was dropped.
type Outcome<T = Value> = Option<std::thread::Result<Result<T, Failure>>>;

/// How an attempt leaves its slot.
pub(super) enum Left {
    /// With an end that is to be written, and the bytes of its result.
    Ended(AttemptEnd, usize),
    /// With a receiver that is to hold it from now on.
    HandedOver,
}

/// Runs the handler; none when the lease was lost, so that nothing may be written.
pub(super) async fn run(registration: &Registration, held: &mut HeldJob) -> Option<Left> {
    let settings = &registration.settings;
    let Some(kind) = settings.kinds.get(&held.job.kind) else {
        let failure =
            Failure::retryable("UNKNOWN_KIND", "the worker that took the job does not know its kind");
        return Some(Left::Ended(failed(failure, &Backoff::default(), held.job.attempt), 0));
    };
    let payload = match std::mem::replace(&mut held.job.payload, Ok(Value::Null)) {
        Ok(payload) => payload,
        Err(problem) => {
            let failure = Failure::fatal("UNREADABLE", format!("the payload cannot be read: {problem}"));
            return Some(Left::Ended(failed(failure, &kind.backoff, held.job.attempt), 0));
        }
    };
    let unfit = Some(&payload).filter(|_| held.job.has_results).and_then(|payload| unfit(kind, payload));
    if let Some(failure) = unfit {
        return Some(Left::Ended(failed(failure, &kind.backoff, held.job.attempt), 0));
    }
    let log = JobLog::default();
    let context = Context {
        job_id: held.job.lease.job_id,
        attempt: held.job.attempt,
        payload,
        stop: held.stop.asked().clone(),
        progress: ProgressReporter::default(),
        log: log.clone(),
        max_result_bytes: settings.max_result_bytes,
        timeout_seconds: held.job.timeout_seconds,
        epoch: held.job.lease.epoch,
        lease_token: lease_token(registration, kind, held).await,
        spawner: registration.spawner.clone(),
    };
    let outcome = if held.stop.reason().is_some() {
        // Asked to stop while it waited for its slot.
        None
    } else {
        let mut logging = std::pin::pin!(log.write_all(registration, held.job.lease));
        let outcome = tokio::select! {
            // Only a closed log is written to its end.
            outcome = run_handler(registration, held, kind, context) => outcome,
            () = &mut logging => None,
        };
        log.close();
        if !held.stop.is_lost() && timeout(LOG_PATIENCE, logging).await.is_err() {
            tracing::warn!(job.id = %held.job.lease.job_id, "the last log lines were not written in time");
        }
        outcome
    };
    if held.stop.is_lost() {
        return None;
    }
    let attempt = held.job.attempt;
    let judged = Judged { kind, attempt, timeout_seconds: held.job.timeout_seconds };
    let reason = held.stop.reason();
    let outcome = match outcome {
        // What was accepted elsewhere before a drain was over is not given back.
        Some(Ok(Ok(Answer::HandedOver))) if matches!(reason, None | Some(StopReason::Draining)) => {
            return Some(Left::HandedOver);
        }
        Some(Ok(Ok(Answer::HandedOver))) | None => None,
        Some(Ok(Ok(Answer::Result(result)))) => Some(Ok(Ok(result))),
        Some(Ok(Err(failure))) => Some(Ok(Err(failure))),
        Some(Err(panic)) => Some(Err(panic)),
    };
    let (end, bytes) = judge(&judged, reason, outcome, settings.max_result_bytes);
    Some(Left::Ended(end, bytes))
}

/// What shows the lease, for kinds that may hand it on. Without it the job cannot be handed over, and no more.
async fn lease_token(registration: &Registration, kind: &Kind, held: &HeldJob) -> Option<String> {
    if !matches!(kind.runner, Runner::Http(_)) {
        return None;
    }
    registration.store.lease_token(held.job.lease, registration.worker_id).await.ok()
}

/// Waits for the handler, within its time and unless it is to stop; none when it was dropped.
async fn run_handler(
    registration: &Registration,
    held: &HeldJob,
    kind: &Kind,
    context: Context,
) -> Outcome<Answer> {
    let stop = &held.stop;
    let limit = Duration::from_secs(u64::try_from(held.job.timeout_seconds).unwrap_or_default());
    let reports = context.progress.reports();
    let mut handler = std::pin::pin!(
        AssertUnwindSafe(runner::run(kind, context, &registration.settings.handlers)).catch_unwind()
    );
    let mut writing = std::pin::pin!(write_reports(registration, held, reports));
    // First the end of its time, then that of its grace.
    let mut timer = std::pin::pin!(tokio::time::sleep(limit));
    let mut asked = false;
    loop {
        tokio::select! {
            // The handler first: most are over before they wait for anything.
            biased;
            outcome = &mut handler => return Some(outcome),
            () = stop.lost().cancelled() => return None,
            () = stop.asked().cancelled(), if !asked => {
                asked = true;
                timer.as_mut().reset(Instant::now() + STOP_GRACE);
            }
            () = &mut timer => {
                if asked {
                    return None;
                }
                stop.ask(StopReason::TimedOut);
            }
            never = &mut writing => match never {},
        }
    }
}

/// Writes what the handler reports. Ends by being dropped.
async fn write_reports(registration: &Registration, held: &HeldJob, mut reports: Reports) -> Infallible {
    loop {
        let Report { fraction, message } = reports.next().await;
        let progress = Progress { lease: held.job.lease, fraction, message };
        // One that cannot be written is not worth a second try: the next says more.
        if let Err(error) = Box::pin(registration.store.report_progress_if_leased(progress)).await {
            tracing::debug!(job.id = %held.job.lease.job_id, error = %error, "progress was not written");
        }
    }
}

/// What `judge` knows of the attempt beside its outcome.
struct Judged<'a> {
    kind: &'a Kind,
    attempt: i16,
    timeout_seconds: i32,
}

/// The end of an attempt, and the bytes of its result. Why it was asked to stop counts for more than how it ended,
/// but for a drain: what was finished in time is finished.
fn judge(
    attempt: &Judged<'_>,
    reason: Option<StopReason>,
    outcome: Outcome,
    max_result_bytes: usize,
) -> (AttemptEnd, usize) {
    let back_off = delay_after(&attempt.kind.backoff, attempt.attempt);
    let ended = |outcome, failure: Failure| {
        let retry_after = back_off.max(failure.retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER));
        (AttemptEnd::Failed { outcome, failure, retry_after }, 0)
    };
    match (reason, outcome) {
        (Some(StopReason::Cancelled), _) => {
            ended(AttemptOutcome::Cancelled, Failure::fatal("CANCELLED", "cancelled on request"))
        }
        (Some(StopReason::TimedOut), _) => {
            let message = format!("ran longer than {} s", attempt.timeout_seconds);
            ended(AttemptOutcome::Timeout, Failure::retryable("TIMEOUT", message))
        }
        (_, Some(Ok(Ok(result)))) => {
            let bytes = json_bytes(&result);
            if bytes <= max_result_bytes {
                return match misfit(attempt.kind, &result, bytes) {
                    Some(failure) => ended(AttemptOutcome::Error, failure),
                    None => (AttemptEnd::Done(result), bytes),
                };
            }
            let message = format!("the result has {bytes} bytes; at most {max_result_bytes} are allowed");
            ended(AttemptOutcome::Error, Failure::retryable("OUTPUT_LIMIT", message))
        }
        (None, Some(Ok(Err(failure)))) => ended(AttemptOutcome::Error, failure),
        (_, Some(Err(_panic))) => {
            ended(AttemptOutcome::Error, Failure::retryable("PANIC", "the handler panicked"))
        }
        (Some(StopReason::Draining), Some(Ok(Err(_))) | None) | (None, None) => (AttemptEnd::Released, 0),
    }
}

fn failed(failure: Failure, backoff: &Backoff, attempt: i16) -> AttemptEnd {
    AttemptEnd::failed(failure, delay_after(backoff, attempt))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::Kinds;

    fn end_of(reason: Option<StopReason>, outcome: Outcome) -> AttemptEnd {
        let kinds = Kinds::default();
        let attempt = Judged { kind: kinds.get("echo").unwrap(), attempt: 1, timeout_seconds: 7 };
        judge(&attempt, reason, outcome, 10).0
    }

    fn code_of(reason: Option<StopReason>, outcome: Outcome) -> (AttemptOutcome, String) {
        match end_of(reason, outcome) {
            AttemptEnd::Failed { outcome, failure, .. } => (outcome, failure.code),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_reason_of_a_stop_counts_for_more_than_the_outcome() {
        let done = || Some(Ok(Ok(json!(1))));
        let broken = || Some(Ok(Err(Failure::fatal("NO", "no"))));
        for outcome in [done(), broken(), None] {
            let (as_what, code) = code_of(Some(StopReason::Cancelled), outcome);
            assert_eq!((as_what, code.as_str()), (AttemptOutcome::Cancelled, "CANCELLED"));
        }
        for outcome in [done(), broken(), None] {
            let (as_what, code) = code_of(Some(StopReason::TimedOut), outcome);
            assert_eq!((as_what, code.as_str()), (AttemptOutcome::Timeout, "TIMEOUT"));
        }
        assert!(matches!(end_of(Some(StopReason::Draining), done()), AttemptEnd::Done(_)));
        assert!(matches!(end_of(Some(StopReason::Draining), broken()), AttemptEnd::Released));
        assert!(matches!(end_of(Some(StopReason::Draining), None), AttemptEnd::Released));
    }

    #[tokio::test]
    async fn a_panic_and_a_large_result_are_failures_and_the_rest_is_what_it_is() {
        let panicked = AssertUnwindSafe(async { panic!("on purpose") }).catch_unwind().await;
        assert_eq!(code_of(None, Some(panicked)).1, "PANIC");
        assert_eq!(code_of(None, Some(Ok(Ok(json!("123456789"))))).1, "OUTPUT_LIMIT");
        assert!(matches!(end_of(None, Some(Ok(Ok(json!("12345678"))))), AttemptEnd::Done(_)));
        assert_eq!(code_of(None, Some(Ok(Err(Failure::fatal("NO", "no"))))).1, "NO");
    }
}
