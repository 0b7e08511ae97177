//! What the tests share: one private PostgreSQL for the test run, a fresh database for each test, and factories
//! that set only what a test is about.

pub mod api_worker;
pub mod process;
pub mod proxy;
pub mod schema_walk;

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use entity::{JobStatus, job};
use jobql::config::{Config, Overrides};
use jobql::job::submission::{NewJob, Submission};
use jobql::job::viewer::Viewer;
use jobql::postgres::Database;
use jobql::postgres::embedded::Cluster;
use jobql::store::Store;
use jobql::store::claim::{ClaimRequest, ClaimedJob};
use jobql::store::worker::NewWorker;
use migration::{Migrator, MigratorTrait};
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgPool};
use uuid::Uuid;

/// Everything is everyone's where no tokens are in use.
pub const ANYONE: Viewer = Viewer::Operator;
/// Longest wait for a condition that should come true at once.
pub const SOON: Duration = Duration::from_secs(20);
/// The queue of the builtin kinds.
pub const QUEUE: &str = "default";
const TEMPLATE: &str = "it_template";

/// Stops the server `$0` and removes its folder `$1` once nobody holds standard input open any more.
const CLEAN_UP: &str =
    "cat > /dev/null; kill -INT $0; while kill -0 $0 2> /dev/null; do sleep 0.1; done; rm -rf \"$1\"";

/// How to reach the run's cluster. It is started once a test process; when that is gone, whichever way it went, the
/// cluster is stopped and removed by a child that waits for the end of a pipe which only we hold open.
static CLUSTER: LazyLock<PgConnectOptions> = LazyLock::new(|| {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async move {
            let name = format!("it-cluster-{}", std::process::id());
            let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
            let cluster = Cluster::start(&folder, 400).await.expect("the cluster starts");
            let pid = cluster.postmaster_pid().expect("the cluster runs").to_string();
            let mut watcher = Command::new("sh")
                .args(["-c", CLEAN_UP, &pid, &folder.display().to_string()])
                .stdin(Stdio::piped())
                // A signal to the group of the tests must not end it before its work is done.
                .process_group(0)
                .spawn()
                .expect("a shell");
            let held_open = watcher.stdin.take();
            let options = cluster.connect_options();
            make_template(&options).await;
            sender.send(options).expect("a test waits");
            std::future::pending::<()>().await;
            drop((held_open, cluster));
            drop(watcher.wait());
        });
    });
    receiver.recv_timeout(Duration::from_secs(90)).expect("the cluster answers")
});

async fn make_template(options: &PgConnectOptions) {
    let mut admin = options.connect().await.expect("connect");
    execute(&mut admin, format!("CREATE DATABASE {TEMPLATE}")).await;
    let orm = sea_orm::SqlxPostgresConnector::from_sqlx_postgres_pool(PgPool::connect_lazy_with(
        options.clone().database(TEMPLATE),
    ));
    Migrator::up(&orm, None).await.expect("migrations");
    orm.close().await.expect("close");
}

async fn execute(connection: &mut sqlx::PgConnection, sql: String) {
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(connection).await.expect("statement");
}

/// A database of its own, migrated, and a store on it.
pub struct TestDb {
    pub store: Store,
    pub database: Database,
    pub config: Config,
    name: String,
}

impl TestDb {
    /// A clone of the migrated template.
    pub async fn new() -> TestDb {
        TestDb::cloned_from(TEMPLATE).await
    }

    /// A database without any table.
    pub async fn empty() -> TestDb {
        TestDb::cloned_from("template0").await
    }

    async fn cloned_from(template: &str) -> TestDb {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("it_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let cluster = tokio::task::spawn_blocking(|| CLUSTER.clone()).await.expect("cluster");
        let mut admin = cluster.connect().await.expect("connect");
        // Clones of one template wait for each other, so this is tried until it is our turn.
        deadline("a clone of the template", async {
            loop {
                let sql = format!("CREATE DATABASE {name} TEMPLATE {template}");
                match sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut admin).await {
                    Ok(_) => break,
                    Err(error) if error.to_string().contains("is being accessed by other users") => {
                        tokio::task::yield_now().await;
                    }
                    Err(error) => panic!("clone: {error}"),
                }
            }
        })
        .await;
        admin.close().await.expect("close");
        TestDb::open(name.clone(), url(&name)).await
    }

    async fn open(name: String, url: String) -> TestDb {
        let overrides = Overrides { database_url: Some(url), ..Overrides::default() };
        let config = Config::load(&overrides).expect("configuration");
        let database = jobql::postgres::open(&config).await.expect("database");
        let store = Store::of(&database);
        TestDb { store, database, config, name }
    }

    /// The same database as another process sees it: own pool, own store.
    pub async fn opened_again(&self) -> TestDb {
        TestDb::open(self.name.clone(), self.url()).await
    }

    /// The same by way of a proxy.
    pub async fn opened_through(&self, proxy: &proxy::Proxy) -> TestDb {
        TestDb::open(self.name.clone(), proxy.url(&self.url())).await
    }

    /// For `--database-url`.
    pub fn url(&self) -> String {
        url(&self.name)
    }

    /// Connect options without the settings of jobql's sessions.
    pub fn options(&self) -> PgConnectOptions {
        CLUSTER.clone().database(&self.name)
    }

    /// A session apart from all pools.
    pub async fn session(&self) -> sqlx::PgConnection {
        self.options().connect().await.expect("session")
    }

    pub fn pool(&self) -> &PgPool {
        self.store.pool()
    }

    /// A submission that passed all checks.
    pub fn new_job(&self, submission: Submission) -> NewJob {
        submission
            .check(&ANYONE, &self.config.kinds, self.config.max_payload_bytes)
            .expect("a fair submission")
    }

    pub async fn submit(&self, submission: Submission) -> job::Model {
        self.store.submit(self.new_job(submission)).await.expect("submit").job
    }

    /// Returns once so many sessions on this database wait for a lock.
    pub async fn until_sessions_wait(&self, count: i64) {
        eventually("sessions wait for a lock", SOON, async || {
            let waiting: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND wait_event_type = 'Lock'",
            )
            .fetch_one(self.pool())
            .await
            .expect("activity");
            (waiting >= count).then_some(())
        })
        .await;
    }

    pub async fn job(&self, id: Uuid) -> job::Model {
        self.store.job(&ANYONE, id).await.expect("read").expect("the job exists")
    }

    /// A registered worker of these queues.
    pub async fn worker(&self, lease_seconds: i32) -> Uuid {
        let id = Uuid::now_v7();
        let worker = NewWorker {
            id,
            name: "test".to_owned(),
            queues: vec![QUEUE.to_owned()],
            kinds: vec!["echo".to_owned()],
            slots: 8,
            lease_seconds,
        };
        self.store.register_worker(worker).await.expect("register");
        id
    }

    /// Releases what depends on jobs that have ended, until nothing is due any more.
    pub async fn settled(&self) {
        eventually("all ends are released", SOON, async || {
            self.store.release_dependents().await.expect("release");
            let due: i64 =
                sqlx::query_scalar("SELECT count(*) FROM job_end").fetch_one(self.pool()).await.expect("due");
            (due == 0).then_some(())
        })
        .await;
    }

    pub async fn claim(&self, worker_id: Uuid, limit: i64) -> Vec<ClaimedJob> {
        self.claim_from(worker_id, limit, false).await
    }

    pub async fn claim_by_ledger(&self, worker_id: Uuid, limit: i64) -> Vec<ClaimedJob> {
        self.claim_from(worker_id, limit, true).await
    }

    async fn claim_from(&self, worker_id: Uuid, limit: i64, from_ledger: bool) -> Vec<ClaimedJob> {
        let queue = QUEUE.to_owned();
        let request = ClaimRequest { worker_id, queue, limit, holds_suspect: false, from_ledger };
        self.store.claim(request).await.expect("claim")
    }

    /// A job that stands in `status`, reached by operations of the store.
    pub async fn job_in(&self, status: JobStatus) -> job::Model {
        self.job_of(status, echo()).await
    }

    /// The same, of this submission.
    pub async fn job_of(&self, status: JobStatus, submission: Submission) -> job::Model {
        let job = self.submit(submission).await;
        let by_hand = |sql: &'static str| async move {
            sqlx::query(sql).bind(job.id).execute(self.pool()).await.expect("by hand");
            self.job(job.id).await
        };
        match status {
            JobStatus::Pending => job,
            JobStatus::Scheduled => {
                by_hand(
                    "UPDATE job SET status = 'SCHEDULED', run_at = now() + interval '1 hour' WHERE id = $1",
                )
                .await
            }
            // By hand, so that there is no parent beside it.
            JobStatus::Blocked => {
                self.store.cancel_job(&ANYONE, job.id).await.expect("cancel");
                by_hand("UPDATE job SET status = 'BLOCKED', waits_for = 1, finished_at = NULL WHERE id = $1")
                    .await
            }
            JobStatus::Cancelled => self.store.cancel_job(&ANYONE, job.id).await.expect("cancel"),
            JobStatus::Running => {
                let worker = self.worker(30).await;
                by_hand_claim(self, worker, job.id).await;
                self.job(job.id).await
            }
            JobStatus::Done => {
                let worker = self.worker(30).await;
                by_hand_claim(self, worker, job.id).await;
                by_hand("UPDATE job SET status = 'DONE', result = '1', finished_at = now() WHERE id = $1")
                    .await
            }
            JobStatus::Error => {
                let worker = self.worker(30).await;
                by_hand_claim(self, worker, job.id).await;
                by_hand("UPDATE job SET status = 'ERROR', error = '{}', finished_at = now() WHERE id = $1")
                    .await
            }
        }
    }
}

/// Claims just this job.
async fn by_hand_claim(db: &TestDb, worker: Uuid, id: Uuid) {
    sqlx::query(
        "UPDATE job SET status = 'RUNNING', attempt = attempt + 1, lease_epoch = lease_epoch + 1, worker_id = $2,
                        started_at = now() WHERE id = $1",
    )
    .bind(id)
    .bind(worker)
    .execute(db.pool())
    .await
    .expect("claim by hand");
}

fn url(name: &str) -> String {
    let options = CLUSTER.clone();
    let socket = options.get_socket().expect("a socket").display().to_string().replace('/', "%2F");
    format!("postgres://{}@{socket}:{}/{name}", options.get_username(), options.get_port())
}

/// The smallest submission.
pub fn echo() -> Submission {
    kind("echo", json!({}))
}

/// A submission of this kind and payload.
pub fn kind(kind: &str, payload: Value) -> Submission {
    Submission { kind: kind.to_owned(), payload, ..Submission::default() }
}

/// A submission under this request id.
pub fn request(request_id: &str, payload: Value) -> Submission {
    Submission { request_id: Some(request_id.to_owned()), ..kind("echo", payload) }
}

/// What the future gives, which it must give soon.
pub async fn deadline<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(SOON, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {SOON:?}: {what}"),
    }
}

/// Looks until `look` finds something, at most `within`.
pub async fn eventually<T>(what: &str, within: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let mut interval = tokio::time::interval(Duration::from_millis(20));
    let found = tokio::time::timeout(within, async {
        loop {
            interval.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    });
    found.await.unwrap_or_else(|_| panic!("not within {within:?}: {what}"))
}
