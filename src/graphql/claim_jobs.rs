//! The input `ClaimJobsInput` and the type `ClaimedJob`.

use std::sync::Arc;
use std::time::Duration;

use async_graphql::{InputObject, SimpleObject};

use super::argument;
use super::date_time::DateTime;
use super::job::Job;
use crate::config::{Config, Kind, RunBy};
use crate::error::{Error, Result};
use crate::job::submission::{checked_id, in_range};
use crate::job::viewer::Viewer;
use crate::store::external::ExternalWorker;
use crate::store::external_claim::{ExternalClaim, LeasedJob};

/// Queues of one claim.
const MAX_QUEUES: usize = 100;

/// Who claims, and what. leaseSeconds is the worker's: its last claim or heartbeat sets it.
#[derive(Clone, Debug, InputObject)]
pub struct ClaimJobsInput {
    /// What the worker calls itself: 1 to 128 characters, the same in all its claims and heartbeats, and no other
    /// worker's. Host and process will do.
    worker_id: String,
    /// Makes the claim safe to repeat when its answer was lost: 1 to 128 characters, fresh for each new claim.
    claim_id: Option<String>,
    /// Queues of external or native kinds, 1 to 100; they take turns.
    queues: Vec<String>,
    /// At most so many jobs, 1 to 500.
    #[graphql(default = 1)]
    max: i32,
    /// How long the worker's jobs stay its own without a sign of life: 5 to 3600.
    #[graphql(default = 30)]
    lease_seconds: i32,
    /// How long to wait for work, 0 to 25.
    #[graphql(default = 0)]
    wait_seconds: i32,
}

impl ClaimJobsInput {
    /// The claim, and how long to wait.
    ///
    /// # Errors
    /// `InvalidInput` naming the argument and its range; `Forbidden`.
    pub fn checked(self, viewer: &Viewer, config: &Config) -> Result<(ExternalClaim, Duration)> {
        let owner = argument::worker_owner(viewer)?;
        let name = checked_id("input.workerId", self.worker_id)?;
        let claim_id = self.claim_id.map(|given| checked_id("input.claimId", given)).transpose()?;
        let (queues, kinds) = checked_queues(self.queues, viewer, config)?;
        let limit = in_range("input.max", Some(self.max), 1_i16, 500, 1)?.into();
        let lease_seconds = in_range("input.leaseSeconds", Some(self.lease_seconds), 5, 3_600, 30)?;
        let wait = in_range("input.waitSeconds", Some(self.wait_seconds), 0, 25, 0)?;
        let claim = ExternalClaim {
            worker: ExternalWorker { owner, name },
            claim_id,
            serves: queues.clone(),
            queues,
            kinds,
            limit,
            lease_seconds,
        };
        Ok((claim, Duration::from_secs(u64::from(i32::unsigned_abs(wait)))))
    }
}

/// The queues, each once, and their kinds.
fn checked_queues(
    given: Vec<String>,
    viewer: &Viewer,
    config: &Config,
) -> Result<(Vec<String>, Arc<[Kind]>)> {
    if given.is_empty() || given.len() > MAX_QUEUES {
        let problem = format!("has {} entries; 1 to {MAX_QUEUES} are allowed", given.len());
        return Err(Error::invalid("input.queues", problem));
    }
    let (mut queues, mut kinds) = (Vec::new(), Vec::new());
    for (index, queue) in given.into_iter().enumerate() {
        let refused = |problem: String| Err(Error::invalid(format!("input.queues[{index}]"), problem));
        if queues.contains(&queue) {
            continue;
        }
        let mut of_queue = config.kinds.of_queue(&queue).peekable();
        match of_queue.peek().map(|kind| kind.runner.run_by()) {
            None => return refused(format!("no kind has the queue {queue:?}")),
            Some(RunBy::Jobql) => {
                return refused(format!("the kinds of the queue {queue:?} are run by jobql itself"));
            }
            Some(RunBy::ApiWorkers | RunBy::Programs) => {}
        }
        for kind in of_queue {
            if let Viewer::Worker(scope) = viewer
                && !scope.has_kind(&kind.name)
            {
                let problem =
                    format!("the queue {queue:?} holds the kind {:?}, which the token is not for", kind.name);
                return Err(Error::forbidden(problem));
            }
            kinds.push(kind.clone());
        }
        queues.push(queue);
    }
    Ok((queues, kinds.into()))
}

/// A job that the worker holds now.
#[derive(Clone, Debug, SimpleObject)]
pub struct ClaimedJob {
    /// The job, RUNNING.
    #[graphql(complexity = "child_complexity")]
    job: Job,
    /// What every later call about it must show. A secret of the worker's.
    #[graphql(complexity = 0)]
    lease_token: String,
    /// When the job goes to others, unless a heartbeat comes before.
    #[graphql(complexity = 0)]
    lease_expires_at: DateTime,
}

impl From<LeasedJob> for ClaimedJob {
    fn from(leased: LeasedJob) -> ClaimedJob {
        ClaimedJob {
            job: leased.job.into(),
            lease_token: leased.token,
            lease_expires_at: leased.expires_at.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;
    use crate::job::viewer::WorkerScope;

    fn config() -> Config {
        let folder = std::env::temp_dir().join(format!("jobql-claims-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder).unwrap();
        let file = folder.join("jobql.toml");
        let kinds = "[kinds.a]\nrunner = \"external\"\n[kinds.b]\nrunner = \"native\"\n\
                     [kinds.c]\nrunner = \"external\"\nqueue = \"a\"";
        std::fs::write(&file, kinds).unwrap();
        let config = Config::load(&Overrides { config_file: Some(file), ..Overrides::default() }).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        config
    }

    fn worker(kinds: &[&str]) -> Viewer {
        let kinds = kinds.iter().map(|kind| (*kind).to_owned()).collect();
        Viewer::Worker(Arc::new(WorkerScope { token: "t1".to_owned(), name: String::new(), kinds }))
    }

    fn claim(viewer: &Viewer, queues: &[&str]) -> Result<(ExternalClaim, Duration)> {
        let input = ClaimJobsInput {
            worker_id: "w".to_owned(),
            claim_id: None,
            queues: queues.iter().map(|queue| (*queue).to_owned()).collect(),
            max: 1,
            lease_seconds: 30,
            wait_seconds: 0,
        };
        input.checked(viewer, &config())
    }

    #[test]
    fn a_token_claims_from_queues_all_of_whose_kinds_are_its_own() {
        let refused = |claimed: Result<_>| matches!(claimed, Err(Error::Forbidden { .. }));
        let (claimed, _) = claim(&worker(&["a", "c"]), &["a", "a"]).unwrap();
        let kinds: Vec<&str> = claimed.kinds.iter().map(|kind| kind.name.as_str()).collect();
        assert_eq!((claimed.queues.as_slice(), kinds), (["a".to_owned()].as_slice(), vec!["a", "c"]));
        assert!(refused(claim(&worker(&["a"]), &["a"])), "it could get jobs of the kind c");
        assert!(refused(claim(&worker(&["a", "c"]), &["a", "b"])));
        assert!(refused(claim(&Viewer::Client("x".to_owned()), &["b"])));
        assert!(claim(&worker(&["b"]), &["b"]).is_ok() && claim(&Viewer::Operator, &["a", "b"]).is_ok());
    }

    #[test]
    fn workers_of_different_tokens_are_different_workers() {
        let owner = |viewer: &Viewer| claim(viewer, &["b"]).unwrap().0.worker.owner;
        assert_ne!(owner(&worker(&["b"])), owner(&Viewer::Operator));
    }
}
