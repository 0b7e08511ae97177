//! Makes a new cluster.
//!
//! `initdb` works in a folder of its own, which is renamed when all is done. So a cluster is there as a whole or
//! not at all, and what a killed start left behind is cleared away by the next.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;

use super::binaries::Binaries;
use super::cluster_folder::{ClusterFolder, failed};
use super::postmaster::clean_environment;
use crate::postgres::PostgresError;

/// It takes two seconds on a good disk, and has been seen to take thirty on a bad one.
const INITDB_TIMEOUT: Duration = Duration::from_secs(150);
/// The name of an unfinished cluster is this and a random part.
const UNFINISHED: &str = "unfinished-";

/// Whether there is a cluster.
pub fn is_done(folder: &ClusterFolder) -> bool {
    folder.cluster().exists()
}

/// Makes one. Call it with the gate taken.
pub async fn run(folder: &ClusterFolder, binaries: &Binaries) -> Result<(), PostgresError> {
    clear_unfinished(folder);
    tracing::info!(folder = %folder.home().display(), "making a PostgreSQL cluster");
    // A random name: an initdb whose jobql was killed may still be writing into the last one.
    let unfinished = folder.home().join(format!("{UNFINISHED}{}", uuid::Uuid::new_v4().simple()));
    folder.make_private(&unfinished)?;
    let output = initdb(folder, binaries, &unfinished).await?;
    if !output.status.success() {
        clear_unfinished(folder);
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(PostgresError::InitDb { output: last_lines(&text, 5) });
    }
    let cluster = folder.cluster();
    std::fs::rename(&unfinished, &cluster).map_err(failed("create", &cluster))?;
    let sync = std::fs::File::open(folder.home()).and_then(|home| home.sync_all());
    sync.map_err(failed("flush", folder.home()))
}

async fn initdb(folder: &ClusterFolder, binaries: &Binaries, into: &Path) -> Result<Output, PostgresError> {
    let mut command = Command::new(binaries.initdb());
    clean_environment(&mut command);
    folder.account().drop_to(&mut command);
    command
        .arg("--pgdata")
        .arg(into)
        // C: the order of text never changes with an update of the system, which would break indexes.
        .args(["--encoding=UTF8", "--locale=C", "--auth=trust", "--username=postgres", "--data-checksums"])
        .current_dir("/")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    match tokio::time::timeout(INITDB_TIMEOUT, command.output()).await {
        Ok(output) => output.map_err(failed("run", &binaries.initdb())),
        Err(_) => Err(PostgresError::Timeout {
            waiting_for: "initdb".to_owned(),
            seconds: INITDB_TIMEOUT.as_secs(),
        }),
    }
}

/// What cannot be removed now is tried again at the next start; it only takes space.
fn clear_unfinished(folder: &ClusterFolder) {
    for entry in std::fs::read_dir(folder.home()).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// The last `count` lines that are not empty, in one line.
pub fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let from = lines.len().saturating_sub(count);
    lines.into_iter().skip(from).collect::<Vec<_>>().join("; ")
}
