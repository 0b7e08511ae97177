//! The input `LeaseInput`, and what can be done by who shows it.

use async_graphql::{Context, ID, InputObject, Result};
use serde_json::Value;
use uuid::Uuid;

use super::job::Job;
use super::submit_job::invalid_payload;
use super::{Parts, argument};
use crate::config::{Backoff, Kind};
use crate::error::Error;
use crate::job::backoff::delay_after;
use crate::job::failure::Failure;
use crate::job::json_scan;
use crate::job::outcome::{json_bytes, misfit};
use crate::job::viewer::Viewer;
use crate::store::Store;
use crate::store::external::EndedAs;
use crate::store::finish::{AttemptEnd, Finish};
use crate::store::lease::Lease;

/// Leases of one heartbeat.
const MAX_LEASES: usize = 10_000;

/// A job that the caller holds, and what shows it.
#[derive(Clone, Debug, InputObject)]
pub struct LeaseInput {
    /// The job.
    job_id: ID,
    /// The leaseToken of its claim.
    token: String,
}

/// A lease that a heartbeat named.
pub struct NamedLease {
    /// The job.
    pub job_id: Uuid,
    /// The lease and its registration; none when the token is another job's or was not made here.
    pub lease: Option<(Lease, Uuid)>,
}

/// A lease whose token is genuine. Whether it still holds is decided by the statement that writes.
pub struct ShownLease {
    /// What fences the write.
    pub lease: Lease,
    /// The registration that it was made for.
    worker_id: Uuid,
    kind: String,
    attempt: i16,
}

impl LeaseInput {
    /// The lease, if the viewer may work on jobs of this kind.
    ///
    /// # Errors
    /// `InvalidInput`, `Forbidden`; `LeaseLost` for a token that is not genuine, or a job that is gone; as the store's.
    pub async fn shown(&self, ctx: &Context<'_>) -> Result<ShownLease> {
        let (store, viewer) = (&ctx.data::<Parts>()?.store, ctx.data::<Viewer>()?);
        argument::for_workers(viewer)?;
        let job_id = argument::job_id("lease.jobId", &self.job_id)?;
        let (lease, worker_id) = store.lease_of(job_id, &self.token).await?;
        // A job of a kind that is not the token's is none.
        let job = store.job(viewer, job_id).await?.ok_or(Error::LeaseLost)?;
        Ok(ShownLease { lease, worker_id, attempt: job.attempt, kind: job.kind })
    }
}

/// The leases of a heartbeat.
///
/// # Errors
/// `InvalidInput`; as the store's.
pub async fn named(store: &Store, leases: Vec<LeaseInput>) -> crate::error::Result<Vec<NamedLease>> {
    if leases.len() > MAX_LEASES {
        let problem = format!("has {} entries; at most {MAX_LEASES} are allowed", leases.len());
        return Err(Error::invalid("leases", problem));
    }
    let mut named = Vec::with_capacity(leases.len());
    for (index, lease) in leases.into_iter().enumerate() {
        let job_id = argument::job_id(&format!("leases[{index}].jobId"), &lease.job_id)?;
        let lease = match store.lease_of(job_id, &lease.token).await {
            Ok(lease) => Some(lease),
            Err(Error::LeaseLost) => None,
            Err(Error::InvalidInput { problem, .. }) => {
                return Err(Error::invalid(format!("leases[{index}].token"), problem));
            }
            Err(error) => return Err(error),
        };
        named.push(NamedLease { job_id, lease });
    }
    Ok(named)
}

impl ShownLease {
    /// Why the result cannot be kept: as the failure of the attempt, where it is not one of its kind.
    ///
    /// # Errors
    /// `InvalidPayload`, `PayloadTooLarge`: nothing has been written, and the lease holds.
    pub fn misfit(&self, parts: &Parts, result: &Value) -> crate::error::Result<Option<Failure>> {
        json_scan::check_value(result).map_err(|error| invalid_payload("result", error))?;
        let (bytes, limit) = (json_bytes(result), parts.config.max_result_bytes);
        if bytes > limit {
            return Err(Error::PayloadTooLarge { field: "result".to_owned(), bytes, limit });
        }
        Ok(self.kind(parts).and_then(|kind| misfit(kind, result, bytes)))
    }

    /// A failed end, tried again after the kind's back-off unless the worker names a time.
    ///
    /// # Errors
    /// None of its own.
    pub fn failed(
        &self,
        ctx: &Context<'_>,
        failure: Failure,
        retry_after: Option<std::time::Duration>,
    ) -> Result<AttemptEnd> {
        let backoff = self.kind(ctx.data::<Parts>()?).map_or_else(Backoff::default, |kind| kind.backoff);
        let retry_after = retry_after.unwrap_or_else(|| delay_after(&backoff, self.attempt));
        Ok(AttemptEnd::failed(failure, retry_after))
    }

    /// Ends the attempt, and answers with the job as it stands; so does a repeated call.
    ///
    /// # Errors
    /// `LeaseLost`; as the store's.
    pub async fn end(&self, ctx: &Context<'_>, end: AttemptEnd, ended_as: EndedAs) -> Result<Job> {
        let Parts { store, events, .. } = ctx.data::<Parts>()?;
        match store.finish_if_leased(Finish { lease: self.lease, end }).await {
            Ok(()) => {
                events.ended_externally(self.worker_id);
                if ended_as != EndedAs::Released {
                    store.note_external_end(self.lease);
                }
                self.job(ctx).await
            }
            Err(Error::LeaseLost) => {
                let ended = store.job_ended_as(self.lease, ended_as).await?;
                Ok(ended.ok_or(Error::LeaseLost)?.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The job as it stands.
    ///
    /// # Errors
    /// As the store's.
    async fn job(&self, ctx: &Context<'_>) -> Result<Job> {
        let job = ctx.data::<Parts>()?.store.job(ctx.data::<Viewer>()?, self.lease.job_id).await?;
        Ok(job.ok_or_else(|| Error::no_job(self.lease.job_id))?.into())
    }

    /// The job as it stands under this lease.
    ///
    /// # Errors
    /// `LeaseLost`; as the store's.
    pub async fn job_while_held(&self, ctx: &Context<'_>) -> Result<Job> {
        let job = ctx.data::<Parts>()?.store.job(ctx.data::<Viewer>()?, self.lease.job_id).await?;
        let held =
            job.filter(|job| job.status == entity::JobStatus::Running && job.lease_epoch == self.lease.epoch);
        Ok(held.ok_or(Error::LeaseLost)?.into())
    }

    fn kind<'a>(&self, parts: &'a Parts) -> Option<&'a Kind> {
        parts.config.kinds.get(&self.kind)
    }
}
