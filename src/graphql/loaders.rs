//! Reads of what belongs to many jobs at once, one statement for all of them.
//!
//! Made anew for each request, on behalf of its viewer, and without a cache: a subscription lives for hours.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use async_graphql::dataloader::{DataLoader, Loader};
use async_graphql::runtime::{TokioSpawner, TokioTimer};
use async_graphql::{Error, Result};
use entity::{attempt, job, workflow};
use uuid::Uuid;

use crate::job::viewer::Viewer;
use crate::store::Store;
use crate::store::dependency::NeighbourRequest;
use crate::store::position::Position;
use crate::store::queue::QueueWait;
use crate::store::queue_content::{QueueContent, StatusCounts};

/// Jobs of one statement.
const MAX_BATCH: usize = 1_000;

/// The loaders of a request. One that is not used costs nothing.
pub struct Loaders {
    store: Store,
    viewer: Viewer,
    attempts: OnceLock<DataLoader<AttemptLoader>>,
    held_jobs: OnceLock<DataLoader<HeldJobsLoader>>,
    positions: OnceLock<DataLoader<PositionLoader>>,
    queue_content: OnceLock<DataLoader<QueueContentLoader>>,
    live_workers: OnceLock<DataLoader<LiveWorkersLoader>>,
    queue_waits: OnceLock<DataLoader<QueueWaitLoader>>,
    neighbours: OnceLock<DataLoader<NeighbourLoader>>,
    failures: OnceLock<DataLoader<FailureLoader>>,
    workflows: OnceLock<DataLoader<WorkflowLoader>>,
    workflow_counts: OnceLock<DataLoader<WorkflowCountsLoader>>,
}

impl Loaders {
    /// Loaders on behalf of `viewer`.
    pub fn new(store: Store, viewer: Viewer) -> Loaders {
        Loaders {
            store,
            viewer,
            attempts: OnceLock::new(),
            held_jobs: OnceLock::new(),
            positions: OnceLock::new(),
            queue_content: OnceLock::new(),
            live_workers: OnceLock::new(),
            queue_waits: OnceLock::new(),
            neighbours: OnceLock::new(),
            failures: OnceLock::new(),
            workflows: OnceLock::new(),
            workflow_counts: OnceLock::new(),
        }
    }

    /// The job's attempts that did not end well, oldest first.
    ///
    /// # Errors
    /// As the store's.
    pub async fn attempts(&self, job_id: Uuid) -> Result<Vec<attempt::Model>> {
        let loader = self.attempts.get_or_init(|| {
            data_loader(AttemptLoader { store: self.store.clone(), viewer: self.viewer.clone() })
        });
        Ok(loader.load_one(job_id).await?.unwrap_or_default())
    }

    /// The jobs that the worker holds, oldest first; of many the first.
    ///
    /// # Errors
    /// As the store's.
    pub async fn held_jobs(&self, worker_id: Uuid) -> Result<Vec<job::Model>> {
        let loader = self.held_jobs.get_or_init(|| {
            data_loader(HeldJobsLoader { store: self.store.clone(), viewer: self.viewer.clone() })
        });
        Ok(loader.load_one(worker_id).await?.unwrap_or_default())
    }

    /// The job's position; none when there is no such job.
    ///
    /// # Errors
    /// As the store's.
    pub async fn position(&self, job_id: Uuid) -> Result<Option<Position>> {
        let loader = self.positions.get_or_init(|| {
            data_loader(PositionLoader { store: self.store.clone(), viewer: self.viewer.clone() })
        });
        loader.load_one(job_id).await
    }

    /// What is in the queue.
    ///
    /// # Errors
    /// As the store's.
    pub async fn queue_content(&self, name: &str) -> Result<Arc<QueueContent>> {
        let loader =
            self.queue_content.get_or_init(|| data_loader(QueueContentLoader { store: self.store.clone() }));
        Ok(loader.load_one(name.to_owned()).await?.unwrap_or_default())
    }

    /// What the pending jobs of the queue wait for.
    ///
    /// # Errors
    /// As the store's.
    pub async fn queue_wait(&self, name: &str) -> Result<QueueWait> {
        let loader =
            self.queue_waits.get_or_init(|| data_loader(QueueWaitLoader { store: self.store.clone() }));
        Ok(loader.load_one(name.to_owned()).await?.unwrap_or_default())
    }

    /// A page of the jobs that a job depends on, or that depend on it.
    ///
    /// # Errors
    /// As the store's.
    pub async fn neighbours(&self, request: NeighbourRequest) -> Result<Vec<Arc<job::Model>>> {
        let loader = self.neighbours.get_or_init(|| {
            data_loader(NeighbourLoader { store: self.store.clone(), viewer: self.viewer.clone() })
        });
        Ok(loader.load_one(request).await?.unwrap_or_default())
    }

    /// True when a job that the BLOCKED job depends on did not end well.
    ///
    /// # Errors
    /// As the store's.
    pub async fn is_held_by_failure(&self, job_id: Uuid) -> Result<bool> {
        let loader = self.failures.get_or_init(|| data_loader(FailureLoader { store: self.store.clone() }));
        Ok(loader.load_one(job_id).await?.is_some())
    }

    /// The workflow; none when there is none for this viewer.
    ///
    /// # Errors
    /// As the store's.
    pub async fn workflow(&self, id: Uuid) -> Result<Option<workflow::Model>> {
        let loader = self.workflows.get_or_init(|| {
            data_loader(WorkflowLoader { store: self.store.clone(), viewer: self.viewer.clone() })
        });
        loader.load_one(id).await
    }

    /// How many jobs of the workflow are in each state.
    ///
    /// # Errors
    /// As the store's.
    pub async fn workflow_counts(&self, id: Uuid) -> Result<StatusCounts> {
        let loader = self
            .workflow_counts
            .get_or_init(|| data_loader(WorkflowCountsLoader { store: self.store.clone() }));
        Ok(loader.load_one(id).await?.unwrap_or_default())
    }

    /// Workers that take jobs from the queue now.
    ///
    /// # Errors
    /// As the store's.
    pub async fn live_workers(&self, name: &str) -> Result<i64> {
        let loader =
            self.live_workers.get_or_init(|| data_loader(LiveWorkersLoader { store: self.store.clone() }));
        Ok(loader.load_one(name.to_owned()).await?.unwrap_or_default())
    }
}

fn data_loader<L>(loader: L) -> DataLoader<L> {
    DataLoader::new(loader, TokioSpawner::current(), TokioTimer::default()).max_batch_size(MAX_BATCH)
}

struct AttemptLoader {
    store: Store,
    viewer: Viewer,
}

impl Loader<Uuid> for AttemptLoader {
    type Value = Vec<attempt::Model>;
    type Error = Error;

    async fn load(&self, job_ids: &[Uuid]) -> Result<HashMap<Uuid, Vec<attempt::Model>>> {
        let mut by_job: HashMap<Uuid, Vec<attempt::Model>> = HashMap::new();
        for attempt in self.store.attempts(&self.viewer, job_ids).await? {
            by_job.entry(attempt.job_id).or_default().push(attempt);
        }
        Ok(by_job)
    }
}

struct HeldJobsLoader {
    store: Store,
    viewer: Viewer,
}

impl Loader<Uuid> for HeldJobsLoader {
    type Value = Vec<job::Model>;
    type Error = Error;

    async fn load(&self, worker_ids: &[Uuid]) -> Result<HashMap<Uuid, Vec<job::Model>>> {
        let mut by_worker: HashMap<Uuid, Vec<job::Model>> = HashMap::new();
        for job in self.store.held_jobs(&self.viewer, worker_ids).await? {
            if let Some(worker_id) = job.worker_id {
                by_worker.entry(worker_id).or_default().push(job);
            }
        }
        Ok(by_worker)
    }
}

struct PositionLoader {
    store: Store,
    viewer: Viewer,
}

impl Loader<Uuid> for PositionLoader {
    type Value = Position;
    type Error = Error;

    async fn load(&self, job_ids: &[Uuid]) -> Result<HashMap<Uuid, Position>> {
        Ok(self.store.positions(&self.viewer, job_ids).await?)
    }
}

struct QueueContentLoader {
    store: Store,
}

impl Loader<String> for QueueContentLoader {
    type Value = Arc<QueueContent>;
    type Error = Error;

    async fn load(&self, names: &[String]) -> Result<HashMap<String, Arc<QueueContent>>> {
        let content = self.store.queue_content(names).await?;
        Ok(content.into_iter().map(|(name, content)| (name, Arc::new(content))).collect())
    }
}

struct LiveWorkersLoader {
    store: Store,
}

impl Loader<String> for LiveWorkersLoader {
    type Value = i64;
    type Error = Error;

    async fn load(&self, names: &[String]) -> Result<HashMap<String, i64>> {
        Ok(self.store.live_workers(names).await?)
    }
}

struct NeighbourLoader {
    store: Store,
    viewer: Viewer,
}

impl Loader<NeighbourRequest> for NeighbourLoader {
    type Value = Vec<Arc<job::Model>>;
    type Error = Error;

    async fn load(
        &self,
        requests: &[NeighbourRequest],
    ) -> Result<HashMap<NeighbourRequest, Vec<Arc<job::Model>>>> {
        let pages = self.store.neighbours(&self.viewer, requests).await?;
        let shared = |jobs: Vec<job::Model>| jobs.into_iter().map(Arc::new).collect();
        Ok(pages.into_iter().map(|(request, jobs)| (request, shared(jobs))).collect())
    }
}

struct WorkflowLoader {
    store: Store,
    viewer: Viewer,
}

impl Loader<Uuid> for WorkflowLoader {
    type Value = workflow::Model;
    type Error = Error;

    async fn load(&self, ids: &[Uuid]) -> Result<HashMap<Uuid, workflow::Model>> {
        let workflows = self.store.workflows_by_ids(&self.viewer, ids).await?;
        Ok(workflows.into_iter().map(|workflow| (workflow.id, workflow)).collect())
    }
}

struct WorkflowCountsLoader {
    store: Store,
}

impl Loader<Uuid> for WorkflowCountsLoader {
    type Value = StatusCounts;
    type Error = Error;

    async fn load(&self, ids: &[Uuid]) -> Result<HashMap<Uuid, StatusCounts>> {
        Ok(self.store.workflow_counts(ids).await?)
    }
}

struct FailureLoader {
    store: Store,
}

impl Loader<Uuid> for FailureLoader {
    type Value = ();
    type Error = Error;

    async fn load(&self, job_ids: &[Uuid]) -> Result<HashMap<Uuid, ()>> {
        Ok(self.store.held_by_failures(job_ids).await?.into_iter().map(|id| (id, ())).collect())
    }
}

struct QueueWaitLoader {
    store: Store,
}

impl Loader<String> for QueueWaitLoader {
    type Value = QueueWait;
    type Error = Error;

    async fn load(&self, names: &[String]) -> Result<HashMap<String, QueueWait>> {
        Ok(self.store.queue_waits(names).await?)
    }
}
