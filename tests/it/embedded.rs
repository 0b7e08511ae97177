//! The embedded cluster: started, shared, adopted, recovered, stopped. Works as root and as another user.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use jobql::postgres::embedded::Cluster;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::{ConnectOptions, Connection};

/// Longer than any start or stop here takes, also on a machine that is busy with the other tests.
const DEADLINE: Duration = Duration::from_secs(60);

/// A data folder of its own. At the end its server is killed and all is removed, also what stands elsewhere.
struct DataDir {
    folder: PathBuf,
}

impl DataDir {
    fn new() -> Self {
        Self::below(&std::env::temp_dir(), 0o755)
    }

    fn below(parent: &Path, mode: u32) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let folder = parent.join(format!("jobql-it-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir(&folder).unwrap();
        std::fs::set_permissions(&folder, PermissionsExt::from_mode(mode)).unwrap();
        Self { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn home(&self) -> PathBuf {
        self.path().join("postgres").canonicalize().unwrap()
    }

    /// The number in the pid file, if its process lives.
    fn postmaster(&self) -> Option<Pid> {
        let text = std::fs::read_to_string(self.path().join("postgres/cluster/postmaster.pid")).ok()?;
        let pid: i32 = text.lines().next()?.parse().ok()?;
        is_alive(pid).then(|| Pid::from_raw(pid))
    }

    /// A `jobql` process on this folder, ready when this returns.
    async fn jobql(&self, command: &str) -> Jobql {
        let log = self.folder.join(format!("log-{}", uuid::Uuid::new_v4().simple()));
        let child = Command::new(env!("CARGO_BIN_EXE_jobql"))
            .arg(command)
            .arg("--data-dir")
            .arg(self.path())
            .args(["--listen", "127.0.0.1:0"])
            .current_dir(&self.folder)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let jobql = Jobql { child, log };
        until("jobql is ready", async || {
            // It asks for readiness in the log, which works for every command.
            jobql.logged().contains("ready").then_some(())
        })
        .await;
        jobql
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        if let Some(pid) = self.postmaster() {
            let _ = kill(pid, Signal::SIGKILL);
        }
        if let Ok(home) = self.path().join("postgres").canonicalize() {
            let _ = std::fs::remove_dir_all(home);
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

struct Jobql {
    child: Child,
    log: PathBuf,
}

impl Jobql {
    fn logged(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    async fn ended(&mut self) -> std::process::ExitStatus {
        until("jobql has ended", async || self.child.try_wait().unwrap()).await
    }
}

impl Drop for Jobql {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logged());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Neither gone nor a zombie.
fn is_alive(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(") ").next().unwrap().starts_with('Z'))
}

/// What `look` gives as soon as it gives something.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let mut interval = tokio::time::interval(Duration::from_millis(20));
    let looking = async {
        loop {
            interval.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    };
    tokio::time::timeout(DEADLINE, looking)
        .await
        .unwrap_or_else(|_| panic!("not within {DEADLINE:?}: {what}"))
}

async fn start(data_dir: &DataDir) -> Cluster {
    Cluster::start(&data_dir.path(), 40).await.unwrap()
}

async fn execute(cluster: &Cluster, sql: &'static str) {
    let mut connection = cluster.connect_options().connect().await.unwrap();
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// The rows of the table that [`execute`] made, or nothing while the server is away.
async fn rows(cluster: &Cluster) -> Option<i64> {
    let mut connection = cluster.connect_options().connect().await.ok()?;
    sqlx::query_scalar("SELECT count(*) FROM kept").fetch_one(&mut connection).await.ok()
}

#[tokio::test]
async fn a_cluster_keeps_its_data_between_runs_and_the_last_one_out_stops_it() {
    let data_dir = DataDir::new();
    let first = start(&data_dir).await;
    execute(&first, "CREATE TABLE kept AS SELECT generate_series(1, 7)").await;
    let second = start(&data_dir).await;
    assert_eq!(first.postmaster_pid(), second.postmaster_pid());
    first.leave().await;
    assert_eq!(rows(&second).await, Some(7), "another still uses it");
    second.leave().await;
    assert_eq!(data_dir.postmaster(), None, "nobody is left");
    let again = start(&data_dir).await;
    assert_eq!(rows(&again).await, Some(7));
    again.leave().await;
}

#[tokio::test]
async fn it_opens_no_port_and_lets_nobody_else_in() {
    use std::os::unix::fs::MetadataExt;
    let data_dir = DataDir::new();
    let cluster = start(&data_dir).await;
    let mut connection = cluster.connect_options().connect().await.unwrap();
    let (addresses, is_superuser): (String, bool) = sqlx::query_as(
        "SELECT current_setting('listen_addresses'), (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    assert_eq!((addresses.as_str(), is_superuser), ("", false));
    for private in ["cluster", "socket"] {
        let found = std::fs::metadata(data_dir.home().join(private)).unwrap();
        assert_eq!(found.mode() & 0o777, 0o700, "{private}");
        assert_ne!(found.uid(), 0, "{private}");
    }
    connection.close().await.unwrap();
    cluster.leave().await;
}

#[tokio::test]
async fn a_killed_postmaster_is_started_again_with_its_data() {
    let data_dir = DataDir::new();
    // Two that watch: one of them restarts it, the other finds it running.
    let (one, other) = (start(&data_dir).await, start(&data_dir).await);
    execute(&one, "CREATE TABLE kept AS SELECT generate_series(1, 7)").await;
    for _ in 0..2 {
        let killed = data_dir.postmaster().unwrap();
        kill(killed, Signal::SIGKILL).unwrap();
        let again =
            until("another postmaster", async || data_dir.postmaster().filter(|pid| *pid != killed)).await;
        assert_eq!(until("it answers", async || rows(&other).await).await, 7);
        assert_eq!(data_dir.postmaster(), Some(again), "started once");
    }
    one.leave().await;
    other.leave().await;
    assert_eq!(data_dir.postmaster(), None);
}

#[tokio::test]
async fn a_postmaster_left_by_a_killed_process_is_adopted() {
    let data_dir = DataDir::new();
    let mut killed = data_dir.jobql("serve").await;
    let left = data_dir.postmaster().unwrap();
    killed.signal(Signal::SIGKILL);
    killed.ended().await;
    assert_eq!(data_dir.postmaster(), Some(left), "it outlives its starter");
    let adopter = start(&data_dir).await;
    assert_eq!(adopter.postmaster_pid(), Some(left.as_raw()));
    adopter.leave().await;
    assert_eq!(data_dir.postmaster(), None, "the adopter was the last one");
}

#[tokio::test]
async fn processes_share_a_cluster_and_a_crash_of_all_loses_nothing() {
    let data_dir = DataDir::new();
    let (mut serve, mut work) = tokio::join!(data_dir.jobql("serve"), data_dir.jobql("work"));
    let guest = start(&data_dir).await;
    execute(&guest, "CREATE TABLE kept AS SELECT generate_series(1, 7)").await;
    guest.leave().await;
    serve.signal(Signal::SIGTERM);
    assert!(serve.ended().await.success());
    let postmaster = data_dir.postmaster().expect("work still uses it");
    // As when the machine goes down.
    work.signal(Signal::SIGKILL);
    kill(postmaster, Signal::SIGKILL).unwrap();
    work.ended().await;
    let mut again = data_dir.jobql("serve").await;
    let guest = start(&data_dir).await;
    assert_eq!(rows(&guest).await, Some(7));
    guest.leave().await;
    again.signal(Signal::SIGINT);
    assert!(again.ended().await.success());
    assert_eq!(data_dir.postmaster(), None);
}

#[tokio::test]
async fn many_that_start_and_leave_at_once_always_find_a_server() {
    let data_dir = DataDir::new();
    let path = data_dir.path();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let path = path.clone();
        tasks.spawn(async move {
            for _ in 0..3 {
                let cluster = Cluster::start(&path, 40).await.unwrap();
                execute(&cluster, "SELECT 1").await;
                cluster.leave().await;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!(data_dir.postmaster(), None);
}

#[tokio::test]
async fn what_an_interrupted_initdb_left_behind_is_cleared_away() {
    let data_dir = DataDir::new();
    let unfinished = data_dir.path().join("postgres/unfinished-1");
    std::fs::create_dir_all(&unfinished).unwrap();
    std::fs::write(unfinished.join("PG_VERSION"), "15").unwrap();
    start(&data_dir).await.leave().await;
    assert!(!unfinished.exists());
}

#[tokio::test]
async fn a_pid_file_that_names_another_process_keeps_nothing_from_starting() {
    let data_dir = DataDir::new();
    start(&data_dir).await.leave().await;
    // A process of PostgreSQL's own user would make it refuse; ours lives as long as the test.
    let file = data_dir.home().join("cluster/postmaster.pid");
    let cluster = data_dir.home().join("cluster");
    let text = format!("{}\n{}\n0\n5432\n/tmp\n\n", std::process::id(), cluster.display());
    std::fs::write(&file, &text).unwrap();
    std::fs::write(data_dir.home().join("socket/.s.PGSQL.5432.lock"), &text).unwrap();
    let again = start(&data_dir).await;
    assert_ne!(again.postmaster_pid(), i32::try_from(std::process::id()).ok());
    again.leave().await;
}

#[tokio::test]
async fn a_cluster_of_another_major_version_is_refused_naming_the_package() {
    let data_dir = DataDir::new();
    start(&data_dir).await.leave().await;
    std::fs::write(data_dir.home().join("cluster/PG_VERSION"), "99\n").unwrap();
    let error = Cluster::start(&data_dir.path(), 40).await.unwrap_err();
    assert!(error.to_string().contains("apt-get install postgresql-99"), "{error}");
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() {
    let data_dir = DataDir::new();
    start(&data_dir).await.leave().await;
    std::fs::write(data_dir.home().join("cluster/postgresql.auto.conf"), "no_such_setting = 1\n").unwrap();
    let error = Cluster::start(&data_dir.path(), 40).await.unwrap_err();
    assert!(error.to_string().contains("no_such_setting"), "{error}");
}

#[tokio::test]
async fn a_data_folder_too_deep_for_a_socket_works() {
    let parent = DataDir::new();
    let deep = parent.folder.join("d".repeat(120));
    std::fs::create_dir(&deep).unwrap();
    let data_dir = DataDir::below(&deep, 0o755);
    let cluster = start(&data_dir).await;
    execute(&cluster, "SELECT 1").await;
    cluster.leave().await;
}

#[tokio::test]
async fn root_can_keep_the_data_folder_where_nobody_else_can_go() {
    // Another user has no such trouble: PostgreSQL runs as that user.
    let closed = DataDir::below(&std::env::temp_dir(), 0o700);
    let data_dir = DataDir::below(&closed.folder, 0o700);
    let cluster = start(&data_dir).await;
    execute(&cluster, "CREATE TABLE kept AS SELECT generate_series(1, 7)").await;
    cluster.leave().await;
    let again = start(&data_dir).await;
    assert_eq!(rows(&again).await, Some(7));
    again.leave().await;
}

#[tokio::test]
async fn bad_configuration_exits_with_2_and_says_what_is_allowed() {
    let folder = DataDir::new();
    std::fs::write(folder.folder.join("jobql.toml"), "slots = 1\nlease = 3\n").unwrap();
    let output =
        Command::new(env!("CARGO_BIN_EXE_jobql")).arg("serve").current_dir(&folder.folder).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("jobql.toml: lease: ") && said.contains("lease_seconds"), "{said}");
}
