//! The type `Worker` and the enum `WorkerState`.

use async_graphql::{ComplexObject, Context, Enum, ID, Result, SimpleObject};
use uuid::Uuid;

use super::date_time::DateTime;
use super::job::Job;
use super::loaders::Loaders;
use super::queue_position::int;
use crate::store::worker::{MOST_HELD_SHOWN, SeenWorker, State};

/// A process that runs jobs, or a worker over the API.
#[derive(Clone, Debug, SimpleObject)]
#[graphql(complex)]
pub struct Worker {
    #[graphql(skip)]
    uuid: Uuid,
    /// Fresh per start of the process, or per registration of a worker over the API.
    #[graphql(complexity = 0)]
    id: ID,
    /// Host and process, for people; for a worker over the API its workerId.
    #[graphql(complexity = 0)]
    name: String,
    /// The queues that it serves.
    #[graphql(complexity = 0)]
    queues: Vec<String>,
    /// The kinds that it can run.
    #[graphql(complexity = 0)]
    kinds: Vec<String>,
    /// Jobs that it runs at once; for a worker over the API the most that one of its claims asked for.
    #[graphql(complexity = 0)]
    slots: i32,
    /// Jobs that it holds; briefly more than its slots where the jobs are short.
    #[graphql(complexity = 0)]
    running: i32,
    /// When it registered.
    #[graphql(complexity = 0)]
    started_at: DateTime,
    /// Its last heartbeat.
    #[graphql(complexity = 0)]
    last_seen_at: DateTime,
    /// Whether it takes jobs.
    #[graphql(complexity = 0)]
    state: WorkerState,
}

#[ComplexObject]
impl Worker {
    /// The jobs that it holds, oldest first, at most 50.
    #[graphql(complexity = "MOST_HELD_SHOWN as usize * (child_complexity + 1)")]
    async fn jobs(&self, ctx: &Context<'_>) -> Result<Vec<Job>> {
        let held = ctx.data::<Loaders>()?.held_jobs(self.uuid).await?;
        Ok(held.into_iter().map(Job::from).collect())
    }
}

/// Whether a worker takes jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "State")]
pub enum WorkerState {
    /// It does.
    Live,
    /// It finishes what it has, and stops.
    Draining,
    /// Its lease ran out; its jobs go to others.
    Lost,
}

impl From<SeenWorker> for Worker {
    fn from(seen: SeenWorker) -> Worker {
        Worker {
            uuid: seen.worker.id,
            id: seen.worker.id.into(),
            name: seen.worker.name,
            queues: seen.worker.queues,
            kinds: seen.worker.kinds,
            slots: seen.worker.slots,
            running: int(seen.running),
            started_at: seen.worker.started_at.into(),
            last_seen_at: seen.worker.last_seen_at.into(),
            state: seen.state.into(),
        }
    }
}
