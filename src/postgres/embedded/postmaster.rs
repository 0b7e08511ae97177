//! The server process: found, started, awaited, stopped.
//!
//! `postmaster.pid` says which process it is, and may be wrong: after a crash of the machine or in a new
//! container another process can have its number, and a dead child of a container's first process stays as a
//! zombie. So a process counts only if its command line names the cluster's folder.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::binaries::Binaries;
use super::cluster_folder::{ClusterFolder, create_anew, failed};
use super::initdb::last_lines;
use super::{NAME, SOCKET_PORT, connect_options, settings};
use crate::postgres::connect::sqlstate;
use crate::postgres::{LOOK_EVERY, PostgresError};

/// How long a start may take, recovery included.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a long start is told of.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// How long a stop is awaited. The shutdown checkpoint writes all dirty buffers.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// Starts of a server that exits at once, before it is given up. Backends of a killed one take a moment to
/// notice, and keep the next from starting; those tries do not count.
const START_TRIES: u32 = 3;

/// A server that runs, or did a moment ago.
#[derive(Debug)]
pub struct Postmaster {
    pid: Pid,
    cluster: PathBuf,
    socket_folder: PathBuf,
}

impl Postmaster {
    /// The one of `folder`, if it lives.
    pub fn find(folder: &ClusterFolder) -> Option<Self> {
        let cluster = folder.cluster();
        let text = std::fs::read_to_string(cluster.join("postmaster.pid")).ok()?;
        let mut lines = text.lines();
        let pid = Pid::from_raw(lines.next()?.trim().parse().ok().filter(|pid| *pid > 1)?);
        // Lines 2 to 4 hold folder, time and port. The fifth is written a moment after the first ones.
        let socket_folder = PathBuf::from(lines.nth(3).unwrap_or_default());
        let found = Self { pid, cluster, socket_folder };
        found.is_alive().then_some(found)
    }

    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    fn is_alive(&self) -> bool {
        if !Path::new("/proc/self/stat").exists() {
            return kill(self.pid, None).is_ok();
        }
        // A zombie's command line is empty.
        let Ok(command_line) = std::fs::read(format!("/proc/{}/cmdline", self.pid)) else { return false };
        // A server that a person started by hand may have been given the folder by another way.
        command_line.split(|byte| *byte == 0).map(|argument| Path::new(OsStr::from_bytes(argument))).any(
            |argument| argument == self.cluster || argument.canonicalize().is_ok_and(|it| it == self.cluster),
        )
    }

    /// Fast shutdown: ends the sessions, writes a checkpoint, exits.
    pub async fn stop(self) {
        if kill(self.pid, Signal::SIGINT).is_err() {
            return;
        }
        let mut interval = tokio::time::interval(LOOK_EVERY);
        let gone = async {
            while self.is_alive() {
                interval.tick().await;
            }
        };
        if tokio::time::timeout(STOP_TIMEOUT, gone).await.is_err() {
            tracing::warn!(pid = self.pid(), "the embedded PostgreSQL is still stopping");
            return;
        }
        if !self.socket_folder.starts_with(self.cluster.parent().unwrap_or(&self.cluster)) {
            // Made below the temporary folder for a socket path that fits; the next start makes it anew.
            let _ = std::fs::remove_dir(&self.socket_folder);
        }
    }
}

/// Starts the server unless it runs, waits until it answers, makes role and database unless they are there,
/// and returns the socket's folder. Call it with the gate taken.
pub async fn ensure_running(
    folder: &ClusterFolder,
    binaries: &Binaries,
    max_connections: u32,
) -> Result<PathBuf, PostgresError> {
    let deadline = Instant::now() + START_TIMEOUT;
    let mut tell_at = Instant::now() + TELL_EVERY;
    let mut child: Option<Child> = None;
    let mut tries = 0;
    let mut interval = tokio::time::interval(LOOK_EVERY);
    loop {
        interval.tick().await;
        if let Some(running) = Postmaster::find(folder) {
            if answers(&running.socket_folder).await? {
                return Ok(running.socket_folder);
            }
        } else if !is_starting(&mut child) {
            if child.take().is_some() && !waits_for_old_backends(folder) {
                tries += 1;
            }
            if tries >= START_TRIES {
                return Err(does_not_start(folder));
            }
            child = Some(start(folder, binaries, max_connections)?);
        }
        let now = Instant::now();
        if now >= deadline {
            return Err(PostgresError::Timeout {
                waiting_for: format!(
                    "the start of the embedded PostgreSQL (log in {})",
                    log(folder).display()
                ),
                seconds: START_TIMEOUT.as_secs(),
            });
        }
        if now >= tell_at {
            tell_at += TELL_EVERY;
            tracing::info!("waiting for the embedded PostgreSQL, which may be recovering");
        }
    }
}

fn is_starting(child: &mut Option<Child>) -> bool {
    child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
}

fn start(folder: &ClusterFolder, binaries: &Binaries, max_connections: u32) -> Result<Child, PostgresError> {
    let socket_folder = folder.make_socket_folder()?;
    clear_false_pid_files(folder, &socket_folder)?;
    settings::write(folder, &socket_folder, max_connections)?;
    let log = folder.start_log();
    let output = create_anew(&log)?;
    let errors = output.try_clone().map_err(failed("write", &log))?;
    let mut command = Command::new(binaries.postgres());
    clean_environment(&mut command);
    folder.account().drop_to(&mut command);
    command
        .arg("-D")
        .arg(folder.cluster())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        // A Ctrl-C in the terminal goes to the foreground group, which this one then is not in.
        .process_group(0);
    command.spawn().map_err(failed("run", &binaries.postgres()))
}

/// PostgreSQL refuses to start while any process of its user has the number in its pid file or in the socket's. It
/// guards itself by the shared memory block as well, so a file that names a stranger or a zombie may go. One that names
/// nobody stays: PostgreSQL reads more than the number from it.
fn clear_false_pid_files(folder: &ClusterFolder, socket_folder: &Path) -> Result<(), PostgresError> {
    let socket_lock = socket_folder.join(format!(".s.PGSQL.{SOCKET_PORT}.lock"));
    for path in [folder.cluster().join("postmaster.pid"), socket_lock] {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let named = text.lines().next().and_then(|line| line.trim().parse().ok()).filter(|pid| *pid > 1);
        if named.is_some_and(|pid| kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH)) {
            std::fs::remove_file(&path).map_err(failed("remove", &path))?;
        }
    }
    Ok(())
}

/// Nothing of the caller's environment but what is named: PG* variables and a locale would change the server.
pub fn clean_environment(command: &mut Command) {
    command.env_clear().env("LC_ALL", "C").env("PATH", "/usr/local/bin:/usr/bin:/bin");
    if let Some(path) = std::env::var_os("LD_LIBRARY_PATH") {
        command.env("LD_LIBRARY_PATH", path);
    }
}

/// Whether the server takes connections; an error when it answers and refuses for good.
async fn answers(socket_folder: &Path) -> Result<bool, PostgresError> {
    let options = connect_options(socket_folder, "postgres", "postgres").disable_statement_logging();
    let connected = tokio::time::timeout(TELL_EVERY, options.connect()).await;
    let mut connection = match connected {
        Ok(Ok(connection)) => connection,
        Ok(Err(source)) => match sqlstate(&source) {
            // cannot_connect_now: starting, recovering or stopping
            Some(code) if code != "57P03" => {
                let place = "embedded".to_owned();
                return Err(PostgresError::Connect { place, source });
            }
            _ => return Ok(false),
        },
        Err(_) => return Ok(false),
    };
    let made = make_role_and_database(&mut connection).await;
    made.map_err(|source| PostgresError::Query { doing: "making the role and database jobql", source })?;
    let _ = connection.close().await;
    Ok(true)
}

async fn make_role_and_database(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let exists: (bool, bool) = sqlx::query_as(
        "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1),
                EXISTS (SELECT FROM pg_database WHERE datname = $1)",
    )
    .bind(NAME)
    .fetch_one(&mut *connection)
    .await?;
    let (role_exists, database_exists) = exists;
    if !role_exists {
        // No superuser, as on a server that somebody else runs. pg_monitor lets it see how old the oldest
        // snapshot is; CREATEDB lets a restore or a test stand beside the live data.
        sqlx::raw_sql("CREATE ROLE jobql LOGIN CREATEDB IN ROLE pg_monitor")
            .execute(&mut *connection)
            .await?;
    }
    if !database_exists {
        sqlx::raw_sql("CREATE DATABASE jobql OWNER jobql").execute(connection).await?;
    }
    Ok(())
}

/// A backend whose postmaster was killed works on until it notices, and holds the shared memory meanwhile.
fn waits_for_old_backends(folder: &ClusterFolder) -> bool {
    std::fs::read_to_string(folder.start_log()).is_ok_and(|text| text.contains("shared memory block"))
}

fn log(folder: &ClusterFolder) -> PathBuf {
    folder.cluster().join("log")
}

fn does_not_start(folder: &ClusterFolder) -> PostgresError {
    let text = std::fs::read_to_string(folder.start_log()).unwrap_or_default();
    // When its own log has taken over, only the notice of that stands here.
    let handed_over = ["logging collector", "Future log output"];
    let lines: Vec<&str> =
        text.lines().filter(|line| !handed_over.iter().any(|notice| line.contains(notice))).collect();
    let said = match lines.as_slice() {
        [] => newest_log(&log(folder)).unwrap_or_default(),
        lines => lines.join("\n"),
    };
    let output = last_lines(&said, 4);
    PostgresError::DoesNotStart { log: log(folder), output }
}

fn newest_log(folder: &Path) -> Option<String> {
    let files = std::fs::read_dir(folder).ok()?.flatten();
    let newest = files.max_by_key(|file| file.metadata().and_then(|found| found.modified()).ok())?;
    let text = std::fs::read(newest.path()).ok()?;
    let tail = text.get(text.len().saturating_sub(4096)..)?;
    Some(String::from_utf8_lossy(tail).into_owned())
}
