//! Ends attempts of workers over the API that have run for longer than they may.
//!
//! A process of jobql stops its own handlers in time. Of a worker elsewhere only its heartbeats are known, and they may
//! go on while its handler hangs. Its lease is ended as TIMEOUT; its next heartbeat says LOST.

use std::sync::Arc;

use entity::attempt::AttemptOutcome;

use crate::config::{Backoff, Kinds};
use crate::error::{Error, Result};
use crate::job::backoff::delay_after;
use crate::job::failure::Failure;
use crate::store::Store;
use crate::store::finish::{AttemptEnd, Finish};

/// Ends what is overdue.
///
/// # Errors
/// As the store's.
pub async fn end_overdue(store: Store, kinds: Arc<Kinds>) -> Result<()> {
    for job in store.overdue_externally().await? {
        let backoff = kinds.get(&job.kind).map_or_else(Backoff::default, |kind| kind.backoff);
        let (outcome, failure) = if job.is_cancelled {
            (AttemptOutcome::Cancelled, Failure::fatal("CANCELLED", "cancelled on request"))
        } else {
            let message = format!("ran longer than {} s", job.timeout_seconds);
            (AttemptOutcome::Timeout, Failure::retryable("TIMEOUT", message))
        };
        let end = AttemptEnd::Failed { outcome, failure, retry_after: delay_after(&backoff, job.attempt) };
        match store.finish_if_leased(Finish { lease: job.lease, end }).await {
            Ok(()) => tracing::info!(job.id = %job.lease.job_id, "ended an attempt that was overdue"),
            // Its worker, or another process, was faster.
            Err(Error::LeaseLost) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
