//! The types `HeartbeatPayload` and `HeartbeatResult`, and the enum `LeaseState`.

use std::collections::HashMap;

use async_graphql::{Enum, ID, SimpleObject};

use super::date_time::DateTime;
use super::lease::NamedLease;
use crate::store::lease::{Heartbeat, Lease, LeaseState as Stored};

/// What a heartbeat learns.
#[derive(Clone, Debug, SimpleObject)]
pub struct HeartbeatPayload {
    /// One entry for each lease that was named, in their order.
    #[graphql(complexity = 0)]
    results: Vec<HeartbeatResult>,
    /// The worker should finish what it has and stop.
    #[graphql(complexity = 0)]
    drain: bool,
}

/// What a heartbeat learns about a lease.
#[derive(Clone, Debug, SimpleObject)]
pub struct HeartbeatResult {
    /// The job.
    #[graphql(complexity = 0)]
    job_id: ID,
    /// What to do about it.
    #[graphql(complexity = 0)]
    state: LeaseState,
    /// When the job goes to others, unless another heartbeat comes before; null when it is lost.
    #[graphql(complexity = 0)]
    lease_expires_at: Option<DateTime>,
}

/// What to do about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "Stored")]
pub enum LeaseState {
    /// Go on.
    Held,
    /// Stop the work and forget the job: it is another worker's, or over.
    Lost,
    /// Stop the work, then say so with releaseJob or failJob: the job is CANCELLED then.
    CancelRequested,
}

impl HeartbeatPayload {
    /// What each of the named leases was found to be.
    pub fn new(named: Vec<NamedLease>, heartbeat: &Heartbeat) -> HeartbeatPayload {
        let states: HashMap<Lease, Stored> = heartbeat.states.iter().copied().collect();
        let state_of = |named: NamedLease| {
            let state =
                named.lease.and_then(|(lease, _)| states.get(&lease).copied()).unwrap_or(Stored::Lost);
            let lease_expires_at = (state != Stored::Lost).then(|| heartbeat.expires_at.into());
            HeartbeatResult { job_id: named.job_id.into(), state: state.into(), lease_expires_at }
        };
        HeartbeatPayload { results: named.into_iter().map(state_of).collect(), drain: heartbeat.draining }
    }

    /// The answer to a worker that is not known any more.
    pub fn all_lost(named: Vec<NamedLease>) -> HeartbeatPayload {
        let lost = |named: NamedLease| HeartbeatResult {
            job_id: named.job_id.into(),
            state: LeaseState::Lost,
            lease_expires_at: None,
        };
        HeartbeatPayload { results: named.into_iter().map(lost).collect(), drain: false }
    }
}
