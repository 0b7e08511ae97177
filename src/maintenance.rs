//! What keeps the queue in order without anyone asking, in every process and without a leader: jobs whose time has
//! come are promoted, those that were not started in time are given up, jobs of dead workers go back, and jobs whose
//! dependencies are met are released where the process that should have done so died.
//!
//! Processes that do the same at once share the work by skipping each other's locked rows. A failing round is
//! logged once per outage and tried again at the next.

pub mod callbacks;
pub mod overdue;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Config, Retention};
use crate::error::{self, Result};
use crate::store::Store;

/// The loops begin one after the other, so that they do not all come at once for ever: on two cores 31 of 1,000 changes were
/// told more than 2.1 ms after their commit, and 13 since.
const APART: Duration = Duration::from_millis(21);

/// A job is promoted within a second of its time; the promoter looks twice in that.
const PROMOTE_EVERY: Duration = Duration::from_millis(500);
/// A worker's jobs run again within lease + sweep + 1 s.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// A minute's sample is taken within so long of its start.
const SAMPLE_EVERY: Duration = Duration::from_secs(10);

/// Finished jobs go within so long of the end of their time.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// A callback is sent within so long of the job's end.
const DELIVER_EVERY: Duration = Duration::from_secs(1);

/// A reader finds no more changes of counts than come up in so long.
const FOLD_EVERY: Duration = Duration::from_millis(250);

/// What an end means for dependents is drawn at once by the process that wrote it; this is for ends whose process died, or
/// that were written by hand.
const RELEASE_EVERY: Duration = Duration::from_millis(500);

/// What workers over the API took is added up this often, as jobql's own workers do it.
const ADD_UP_EVERY: Duration = Duration::from_secs(2);

/// A job that has waited too long goes to the front within so long.
const AGE_EVERY: Duration = Duration::from_secs(2);

/// Starts the loops; they run on `tasks` until `shutdown`.
pub fn start(store: &Store, config: &Config, tasks: &TaskTracker, shutdown: &CancellationToken) {
    let mut upkeep = Upkeep { tasks, shutdown, loops: 0 };
    let retention = config.retention;
    if let Some(sender) = callbacks::Sender::new(config.callbacks.clone()) {
        let delivering = store.clone();
        upkeep.repeat("deliver callbacks", DELIVER_EVERY, move || {
            let (sender, store) = (sender.clone(), delivering.clone());
            async move { sender.deliver(&store).await }
        });
    }
    let folding = store.clone();
    upkeep.repeat("fold the counts of jobs", FOLD_EVERY, move || {
        let store = folding.clone();
        async move { store.fold_counts().await.map(drop) }
    });
    let promoting = store.clone();
    upkeep.repeat("promote jobs", PROMOTE_EVERY, move || promote(promoting.clone()));
    let releasing = store.clone();
    upkeep.repeat("release dependents", RELEASE_EVERY, move || {
        let store = releasing.clone();
        async move { store.release_dependents().await.map(drop) }
    });
    let pruning = store.clone();
    upkeep.repeat("prune finished jobs", PRUNE_EVERY, move || prune(pruning.clone(), retention));
    if !config.ageing.is_empty() {
        let (ageing, queues) = (store.clone(), Arc::new(config.ageing.clone()));
        upkeep.repeat("age queues", AGE_EVERY, move || {
            let (store, queues) = (ageing.clone(), queues.clone());
            async move {
                for (queue, seconds) in queues.iter() {
                    store.age_queue(queue, *seconds).await?;
                }
                Ok(())
            }
        });
    }
    let sampling = store.clone();
    upkeep.repeat("sample the load", SAMPLE_EVERY, move || {
        let store = sampling.clone();
        async move { store.sample_load().await }
    });
    let adding_up = store.clone();
    upkeep.repeat("add up durations", ADD_UP_EVERY, move || {
        let store = adding_up.clone();
        async move { store.add_external_durations().await.map(drop) }
    });
    let (timing, kinds) = (store.clone(), Arc::new(config.kinds.clone()));
    upkeep.repeat("end overdue attempts", SWEEP_EVERY, move || {
        overdue::end_overdue(timing.clone(), kinds.clone())
    });
    let sweeping = store.clone();
    upkeep.repeat("sweep for dead workers", SWEEP_EVERY, move || sweep(sweeping.clone()));
}

/// What has been started so far.
struct Upkeep<'a> {
    tasks: &'a TaskTracker,
    shutdown: &'a CancellationToken,
    loops: u32,
}

impl Upkeep<'_> {
    /// Starts another loop.
    fn repeat<F>(
        &mut self,
        what: &'static str,
        every: Duration,
        run_once: impl Fn() -> F + Send + Sync + 'static,
    ) where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let begins_after = APART * self.loops;
        self.loops += 1;
        self.tasks.spawn(repeat(what, begins_after, every, self.shutdown.clone(), run_once));
    }
}

async fn promote(store: Store) -> Result<()> {
    // First, so that a job which is too late does not become ready on the way.
    let expired = store.expire().await?;
    if expired > 0 {
        tracing::info!(jobs = expired, "gave up jobs that no worker had started in time");
    }
    let promoted = store.promote().await?;
    if promoted > 0 {
        tracing::debug!(jobs = promoted, "promoted jobs whose time had come");
    }
    Ok(())
}

async fn prune(store: Store, retention: Retention) -> Result<()> {
    let pruned = store.prune(retention).await?;
    if pruned.total() > 0 {
        tracing::info!(
            jobs.done = pruned.done,
            jobs.error = pruned.error,
            jobs.cancelled = pruned.cancelled,
            keys = pruned.keys,
            "pruned what had been kept for its time"
        );
    }
    Ok(())
}

async fn sweep(store: Store) -> Result<()> {
    let swept = store.sweep().await?;
    if swept.workers > 0 || swept.jobs > 0 {
        tracing::warn!(
            workers = swept.workers,
            jobs = swept.jobs,
            "took jobs away from workers that were lost"
        );
    }
    Ok(())
}

async fn repeat<F>(
    what: &'static str,
    begins_after: Duration,
    every: Duration,
    shutdown: CancellationToken,
    run_once: impl Fn() -> F,
) where
    F: Future<Output = Result<()>>,
{
    let mut failing = false;
    let mut wait = begins_after;
    loop {
        if shutdown.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
            return;
        }
        wait = every;
        // What was begun goes on in a task of the store.
        let Some(outcome) = shutdown.run_until_cancelled(run_once()).await else { return };
        match outcome {
            Ok(()) if failing => {
                failing = false;
                tracing::info!("could {what} again");
            }
            Ok(()) => {}
            Err(error) if !failing => {
                failing = true;
                tracing::warn!(error = %error, source = %error::cause_of(&error), "could not {what}");
            }
            Err(_) => {}
        }
    }
}
