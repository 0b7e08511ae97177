//! Every SQL statement of jobql: one function, one operation, one transaction.
//!
//! Reads on behalf of someone take the [`Viewer`](crate::job::viewer::Viewer). Every change names the state it
//! expects, for a running job the lease epoch too, and says what it did; no row is an outcome. Writes run in tasks
//! of their own, which a caller that goes away cannot cancel half-way: a `begin` dropped in flight would leave a
//! pooled session inside a transaction, and the next borrower's write would be lost with it.
//!
//! Submits, ends of attempts and progress meet in [`group::GroupWriter`]s, which commit many rows in one statement.

pub mod age;
pub mod bulk;
pub mod callback;
pub mod cancel;
pub mod changes;
pub mod claim;
pub mod client_list;
pub mod commit_time;
mod compare;
pub mod delete;
pub mod dependency;
pub mod expire;
pub mod external;
pub mod external_claim;
pub mod external_durations;
pub mod external_log;
pub mod figures;
pub mod finish;
pub mod forecast;
pub mod group;
pub mod hand_down;
mod kept;
pub mod lease;
pub mod ledger;
pub mod list;
pub mod load;
pub mod log;
pub mod position;
pub mod progress;
mod progress_pace;
pub mod promote;
pub mod prune;
pub mod queue;
pub mod queue_content;
pub mod queue_quota;
pub mod read;
pub mod release;
pub mod retry;
pub mod settle;
mod sight;
pub mod submit;
pub mod sweep;
pub mod throughput;
pub mod token;
pub mod update;
pub mod worker;
pub mod workflow;
pub mod workflow_callback;

use std::future::Future;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use sea_orm::DatabaseConnection;
use sqlx::{PgPool, Row};
use tokio::sync::OnceCell;
use tokio_util::task::TaskTracker;

use crate::error::{Error, Result};
use crate::job::lease_token::LeaseKey;
use crate::postgres::Database;

/// How long the end of the process waits for writes.
const CLOSE_WITHIN: Duration = Duration::from_secs(10);

/// How long one statement of a group writer or of a user's change may take, its way to the server and back included.
/// The server's own limit does not help against a link that has gone silent.
const STATEMENT_WITHIN: Duration = Duration::from_secs(10);

/// The way to the jobs. Cheap to clone; all clones share the pools and the group writers.
#[derive(Clone)]
pub struct Store(Arc<Shared>);

/// What the clones share.
pub struct Shared {
    /// For reads and changes on behalf of someone.
    pool: PgPool,
    /// For submits and for what workers do: a flood of reads must not cost a worker its lease.
    work: PgPool,
    /// For the upkeep, whose statements come back to few sessions, which have planned them.
    upkeep: PgPool,
    orm: DatabaseConnection,
    /// For the reads of the hub.
    watching: kept::KeptConnection,
    claiming: kept::KeptConnection,
    /// For positions.
    placing: kept::KeptConnection,
    tasks: TaskTracker,
    forecasts: forecast::Forecasts,
    quota: queue_quota::QueueQuota,
    submits: group::GroupWriter<crate::job::submission::NewJob, submit::Submitted>,
    ends: group::GroupWriter<finish::Finish, ()>,
    progress: group::GroupWriter<progress::Progress, ()>,
    logs: group::GroupWriter<log::LogBatch, ()>,
    progress_pace: progress_pace::ProgressPace,
    lease_key: Arc<OnceCell<LeaseKey>>,
    ended_externally: external_durations::EndedExternally,
    releaser: release::Releaser,
    counts: Arc<figures::Counts>,
}

impl Deref for Store {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Store {
    /// A store on an open database. Starts the group writers on the current runtime.
    pub fn of(database: &Database) -> Store {
        let Database { pool, work_pool, upkeep_pool, orm, .. } = database;
        Store::new(pool.clone(), work_pool.clone(), upkeep_pool.clone(), orm.clone())
    }

    /// A store on pools for reads, for work and for the upkeep, and on the face of the first for SeaORM.
    pub fn new(pool: PgPool, work: PgPool, upkeep: PgPool, orm: DatabaseConnection) -> Store {
        let tasks = TaskTracker::new();
        let releaser = release::Releaser::spawn(&upkeep, &tasks);
        Store(Arc::new(Shared {
            submits: submit::writer(&work, &tasks),
            ends: finish::writer(&work, &tasks, &releaser),
            releaser,
            progress: progress::writer(&work, &tasks),
            logs: log::writer(&work, &tasks),
            forecasts: forecast::Forecasts::default(),
            progress_pace: progress_pace::ProgressPace::default(),
            lease_key: Arc::default(),
            ended_externally: external_durations::EndedExternally::default(),
            quota: queue_quota::QueueQuota::default(),
            counts: Arc::default(),
            watching: kept::KeptConnection::of(&work),
            claiming: kept::KeptConnection::of(&work),
            placing: kept::KeptConnection::of(&pool),
            pool,
            work,
            upkeep,
            orm,
            tasks,
        }))
    }

    /// The pool of reads, for tests and checks.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// What each group of writes has done.
    pub fn groups(&self) -> [group::GroupFigures; 4] {
        [self.submits.figures(), self.ends.figures(), self.progress.figures(), self.logs.figures()]
    }

    /// The pools: what each is for, its connections, and how many of them are idle.
    pub fn pools(&self) -> [(&'static str, u64, u64); 3] {
        [("reads", &self.pool), ("work", &self.work), ("upkeep", &self.upkeep)]
            .map(|(name, pool)| (name, u64::from(pool.size()), pool.num_idle() as u64))
    }

    /// Writers and writes that run.
    pub fn tasks(&self) -> usize {
        self.tasks.len()
    }

    /// Waits until everything that was handed over is written. Call it once nobody submits any more: a clone that is
    /// left somewhere keeps the writers waiting for more, which is given up after ten seconds.
    pub async fn close(self) {
        let tasks = self.tasks.clone();
        drop(self);
        tasks.close();
        if tokio::time::timeout(CLOSE_WITHIN, tasks.wait()).await.is_err() {
            tracing::warn!(store.tasks = tasks.len(), "some writes had not ended when the process did");
        }
    }

    /// Runs a write to its end, whatever becomes of the caller. It begins at once, so that what waits for it is small: kept
    /// until the first poll, writes of 15 kB made each field of a request 33 kB, which were allocated and moved every time.
    fn detached<T: Send + 'static>(
        &self,
        operation: &'static str,
        write: impl Future<Output = Result<T>> + Send + 'static,
    ) -> impl Future<Output = Result<T>> {
        let running = self.tasks.spawn(write);
        async move { running.await.unwrap_or(Err(Error::UnknownOutcome { operation })) }
    }
}

/// Whether there is anything to do; the statement gives true or false. One that changes jobs sets up their indexes, checks and
/// triggers before it finds nothing, which takes 1 to 2 ms each time, and to ask takes 0.2. It is planned each time: a plan that is
/// kept from when the table was empty would read all of it later.
async fn is_due(pool: &PgPool, sql: &'static str) -> sqlx::Result<bool> {
    sqlx::raw_sql(sql).fetch_one(pool).await?.try_get(0)
}

/// The statement's outcome, or an IO error when it takes longer than [`STATEMENT_WITHIN`]. What is given up may still
/// be carried out: callers treat it like a connection that broke.
async fn bounded<T>(statement: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    match tokio::time::timeout(STATEMENT_WITHIN, statement).await {
        Ok(outcome) => outcome,
        Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
    }
}
