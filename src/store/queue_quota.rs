//! Holds a client to the number of jobs that it may have waiting.
//!
//! Counting them for each submit would cost more than the submit. Here each process keeps an estimate by client: what a
//! count found, and all that was admitted since, as if nothing had left the queue. It counts anew when it sees a client for
//! the first time, after it has admitted a tenth of the limit, and, at most each second, when the estimate is at the limit. A
//! count stops at the limit. So the limit may be passed by a tenth per process and by what is on its way while a count runs,
//! and a client with room is refused for a second at most. What enters the queue by `retryJob` is counted and never refused.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Store;
use crate::error::{Error, Result};
use crate::job::submission::NewJob;
use crate::job::viewer::Viewer;
use crate::job::workflow::NewWorkflow;

/// Clients whose estimates are kept; when there are more, all are forgotten and counted anew.
const MAX_CLIENTS: usize = 10_000;
/// A client at its limit is counted so often at most.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// The estimates of this process.
#[derive(Clone, Default)]
pub(super) struct QueueQuota {
    clients: Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<Estimate>>>>>,
}

/// What is thought to wait. Its lock is held while it is counted: the client's other submits wait for the same count.
#[derive(Default)]
struct Estimate {
    counted: u64,
    counted_at: Option<Instant>,
    admitted_since: u64,
}

impl QueueQuota {
    fn of(&self, client_id: &str) -> Arc<tokio::sync::Mutex<Estimate>> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(estimate) = clients.get(client_id) {
            return estimate.clone();
        }
        if clients.len() >= MAX_CLIENTS {
            clients.clear();
        }
        clients.entry(client_id.to_owned()).or_default().clone()
    }
}

impl Store {
    /// Whether these jobs of the viewer may enter the queue beside what of its waits there. Operators may always, and so may
    /// submits that were made before, as they add nothing.
    ///
    /// # Errors
    /// `QueueFull`, `Unavailable`, `Database`.
    pub async fn admit(&self, viewer: &Viewer, limit: u32, new_jobs: &[NewJob]) -> Result<()> {
        let keys = new_jobs.iter().map(|new_job| (new_job.client_id.as_str(), new_job.request_id.as_str()));
        let keys = new_jobs.iter().all(NewJob::is_keyed).then(|| keys.unzip());
        self.admit_more(viewer, limit, new_jobs.len(), keys).await
    }

    /// The same for all jobs of a workflow.
    ///
    /// # Errors
    /// As `admit`.
    pub async fn admit_workflow(&self, viewer: &Viewer, limit: u32, new: &NewWorkflow) -> Result<()> {
        let keys = new.keyed.then(|| (vec![new.client_id.as_str()], vec![new.request_id.as_str()]));
        self.admit_more(viewer, limit, new.jobs.len(), keys).await
    }

    async fn admit_more(
        &self,
        viewer: &Viewer,
        limit: u32,
        jobs: usize,
        keys: Option<(Vec<&str>, Vec<&str>)>,
    ) -> Result<()> {
        let Viewer::Client(client_id) = viewer else { return Ok(()) };
        let (limit, more) = (u64::from(limit), jobs as u64);
        let estimate = self.quota.of(client_id);
        let mut estimate = estimate.lock().await;
        let is_full = |estimate: &Estimate| estimate.counted + estimate.admitted_since + more > limit;
        let is_recent = estimate.counted_at.is_some_and(|at| at.elapsed() < COUNT_EVERY);
        let is_due = estimate.counted_at.is_none()
            || (is_full(&estimate) && !is_recent)
            || estimate.admitted_since > (limit / 10).max(1);
        if is_due {
            estimate.counted = self.count_queued(client_id, limit).await?;
            (estimate.counted_at, estimate.admitted_since) = (Some(Instant::now()), 0);
        }
        if !is_full(&estimate) {
            estimate.admitted_since += more;
            return Ok(());
        }
        drop(estimate);
        let adds_nothing = match keys {
            Some(keys) => self.are_all_used(keys).await?,
            None => false,
        };
        if adds_nothing {
            return Ok(());
        }
        self.counts.queue_full();
        Err(Error::QueueFull { limit })
    }

    /// The jobs of a client that wait, up to `limit`.
    async fn count_queued(&self, client_id: &str, limit: u64) -> Result<u64> {
        let count: i64 = sqlx::query_scalar(
            // One part for each partial index, of the client's list or of the status, whichever is shorter; they stop at the
            // limit together.
            "SELECT count(*) FROM (
                 (SELECT FROM job JOIN client_job ON job_id = id WHERE client_job.client_id = $1 AND status = 'PENDING')
                 UNION ALL
                 (SELECT FROM job JOIN client_job ON job_id = id WHERE client_job.client_id = $1 AND status = 'SCHEDULED')
                 UNION ALL
                 (SELECT FROM job WHERE client_id = $1 AND status = 'BLOCKED')
                 LIMIT $2) AS waiting",
        )
        .bind(client_id)
        .bind(limit.cast_signed())
        .fetch_one(&self.pool)
        .await
        .map_err(|source| Error::database("count a client's jobs", source))?;
        Ok(count.cast_unsigned())
    }

    /// True when each of these request ids has been used: what repeats a submit adds nothing.
    async fn are_all_used(&self, (client_ids, request_ids): (Vec<&str>, Vec<&str>)) -> Result<bool> {
        let missing: bool = sqlx::query_scalar(
            "SELECT EXISTS (
                 SELECT FROM unnest($1::text[], $2::text[]) AS i(client_id, request_id)
                 WHERE NOT EXISTS (SELECT FROM submit_key
                                   WHERE submit_key.client_id = i.client_id
                                       AND submit_key.request_id = i.request_id))",
        )
        .bind(client_ids)
        .bind(request_ids)
        .fetch_one(&self.pool)
        .await
        .map_err(|source| Error::database("look for request ids", source))?;
        Ok(!missing)
    }
}
