//! Writes how an attempt ended, again and again while the lease may still be ours.
//!
//! The database may be away, or its answer may be lost after the commit. Both are met by writing once more: the epoch
//! fences the write, so a second one changes nothing and says that the lease is over. The job counts as held until
//! then. When the lease is lost meanwhile the end is given up, and the job is run again by somebody else.

use std::time::Duration;

use entity::attempt::AttemptOutcome;
use futures_util::FutureExt;

use super::held_jobs::HeldJob;
use super::outage::Outage;
use super::registration::Registration;
use super::slots::Ending;
use crate::error::{Error, Result, cause_of};
use crate::job::failure::Failure;
use crate::store::finish::{AttemptEnd, Finish};

/// Writes the end. `ending` is what it counts as until then.
pub(super) async fn write(registration: &Registration, held: HeldJob, mut end: AttemptEnd, ending: Ending) {
    let mut outage = Outage::default();
    log_end(registration, &held, &end);
    loop {
        let error = match write_once(registration, &held, end.clone()).await {
            Ok(()) => break,
            Err(error) => error,
        };
        let wait = match error {
            Error::LeaseLost => {
                log_given_up(registration, &held, &error);
                break;
            }
            Error::Database { .. } => match instead_of(&end) {
                Some(other) => {
                    log_refused(registration, &held, &error);
                    end = other;
                    Duration::ZERO
                }
                None => outage.wait(),
            },
            _ => outage.wait(),
        };
        tokio::select! {
            () = held.stop.lost().cancelled() => {
                log_given_up(registration, &held, &error);
                break;
            }
            () = tokio::time::sleep(wait) => {}
        }
    }
    drop((held, ending));
}

/// Notes that the job's receiver holds it from now on. When that cannot be noted the job goes back once the lease runs
/// out, as if its worker had been lost.
pub(super) async fn hand_over(registration: &Registration, held: HeldJob, ending: Ending) {
    let mut outage = Outage::default();
    let (lease, seconds) = (held.job.lease, held.job.timeout_seconds);
    loop {
        match registration.store.hand_over_if_leased(lease, &held.job.kind, seconds).await {
            // The receiver may have ended it already.
            Ok(()) | Err(Error::LeaseLost) => break,
            Err(error) => {
                let wait = outage.note(&error);
                tokio::select! {
                    () = held.stop.lost().cancelled() => break,
                    () = tokio::time::sleep(wait) => {}
                }
            }
        }
    }
    drop((held, ending));
}

/// A write that is not answered for a whole lease is hardly answered any more: its connection hangs.
fn write_once(
    registration: &Registration,
    held: &HeldJob,
    end: AttemptEnd,
) -> impl Future<Output = Result<()>> {
    let written = registration.store.finish_if_leased(Finish { lease: held.job.lease, end });
    let written = tokio::time::timeout(registration.settings.lease(), written);
    written.map(|written| written.unwrap_or(Err(Error::UnknownOutcome { operation: "finish" })))
}

/// What to write when the database itself refuses an end, so that the job does not stay here for ever.
fn instead_of(end: &AttemptEnd) -> Option<AttemptEnd> {
    let refused = |retry_after| AttemptEnd::Failed {
        outcome: AttemptOutcome::Error,
        failure: Failure::fatal("RESULT_REFUSED", "the database cannot keep what the handler answered"),
        retry_after,
    };
    match end {
        AttemptEnd::Done(_) => Some(refused(Duration::ZERO)),
        AttemptEnd::Failed { failure, retry_after, .. } if failure.code != "RESULT_REFUSED" => {
            Some(refused(*retry_after))
        }
        AttemptEnd::Failed { .. } | AttemptEnd::Released => None,
    }
}

/// Codes only: what handlers say is between them and whoever may see the job.
fn log_end(registration: &Registration, held: &HeldJob, end: &AttemptEnd) {
    let job = &held.job;
    let (id, handle) = (job.lease.job_id, handle_of(job.lease.job_id));
    let worker = registration.worker_id;
    match end {
        AttemptEnd::Done(_) => tracing::debug!(
            job.id = %id, job.handle = %handle, job.kind = job.kind, job.attempt = job.attempt, worker.id = %worker,
            "an attempt is done"
        ),
        AttemptEnd::Released => tracing::debug!(
            job.id = %id, job.handle = %handle, job.kind = job.kind, job.attempt = job.attempt, worker.id = %worker,
            "a job is given back"
        ),
        AttemptEnd::Failed { failure, .. } => tracing::info!(
            job.id = %id, job.handle = %handle, job.kind = job.kind, job.attempt = job.attempt, worker.id = %worker,
            failure.code = failure.code, failure.retryable = failure.retryable,
            "an attempt failed"
        ),
    }
}

fn log_refused(registration: &Registration, held: &HeldJob, error: &Error) {
    tracing::warn!(
        job.id = %held.job.lease.job_id, job.handle = %handle_of(held.job.lease.job_id), job.kind = held.job.kind,
        job.attempt = held.job.attempt, worker.id = %registration.worker_id,
        error = %error, source = %cause_of(error),
        "the database refused the end of an attempt"
    );
}

fn log_given_up(registration: &Registration, held: &HeldJob, error: &Error) {
    tracing::info!(
        job.id = %held.job.lease.job_id, job.handle = %handle_of(held.job.lease.job_id), job.kind = held.job.kind,
        job.attempt = held.job.attempt, worker.id = %registration.worker_id, error = %error,
        "the end of an attempt was not written, or not answered"
    );
}

/// The last 16 hex digits of an id: short, and where two ids of one moment differ.
fn handle_of(id: uuid::Uuid) -> impl std::fmt::Display {
    struct Handle(u64);
    impl std::fmt::Display for Handle {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "{:016x}", self.0)
        }
    }
    Handle(id.as_u64_pair().1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_the_database_refuses_is_replaced_once() {
        let done = AttemptEnd::Done(serde_json::Value::Null);
        let refused = instead_of(&done).unwrap();
        assert!(matches!(&refused, AttemptEnd::Failed { failure, .. } if !failure.retryable));
        assert!(instead_of(&refused).is_none());
        assert!(instead_of(&AttemptEnd::Released).is_none());
    }

    #[test]
    fn a_handle_is_the_last_sixteen_digits() {
        let id = uuid::Uuid::parse_str("01890a5d-ac96-774b-8bcc-b302099a8057").unwrap();
        assert_eq!(handle_of(id).to_string(), "8bccb302099a8057");
    }
}
