//! The two lock files: the gate, and the shares of those who use the cluster.
//!
//! They are flocks: the system releases them when the process ends, also by kill -9. A lock is never awaited
//! in a blocking call, which no deadline could end; it is tried until it is had.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;
use tokio::time::Instant;

use super::cluster_folder::ClusterFolder;
use crate::postgres::{LOOK_EVERY, PostgresError};

/// Longer than the longest that a holder keeps the gate: a start (initdb and recovery) or a stop.
const GATE_TIMEOUT: Duration = Duration::from_secs(240);

/// Only one process at a time starts, restarts or stops the server.
#[derive(Debug)]
pub struct Gate(#[expect(dead_code, reason = "held, not read")] Flock<File>);

impl Gate {
    pub async fn take(folder: &ClusterFolder) -> Result<Self, PostgresError> {
        Self::take_file(&folder.gate()).await
    }

    pub async fn take_file(path: &Path) -> Result<Self, PostgresError> {
        lock(path, FlockArg::LockExclusiveNonblock).await.map(Self)
    }
}

/// A share in the running server.
#[derive(Debug)]
pub struct Holders(Flock<File>);

impl Holders {
    /// Call it with the gate taken.
    pub async fn join(folder: &ClusterFolder) -> Result<Self, PostgresError> {
        lock(&folder.holders(), FlockArg::LockSharedNonblock).await.map(Self)
    }

    /// Gives the share up and says whether it was the last one. Call it with the gate taken, or two processes
    /// that leave at once could each take the other for a remaining one.
    ///
    /// A refused upgrade of a flock loses the share as well, which is what is wanted here.
    pub fn give_up_as_last(self) -> bool {
        self.0.relock(FlockArg::LockExclusiveNonblock).is_ok()
    }
}

async fn lock(path: &Path, how: FlockArg) -> Result<Flock<File>, PostgresError> {
    let failed = |source| PostgresError::Files { doing: "lock", path: path.to_owned(), source };
    // The folder may belong to another user, who must not be able to lead root elsewhere by a symlink.
    let no_follow = nix::fcntl::OFlag::O_NOFOLLOW.bits();
    let opened = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(no_follow)
        .open(path);
    let mut file = opened.map_err(failed)?;
    belong_to_folder(&file, path).map_err(failed)?;
    let deadline = Instant::now() + GATE_TIMEOUT;
    let mut interval = tokio::time::interval(LOOK_EVERY);
    loop {
        interval.tick().await;
        match Flock::lock(file, how) {
            Ok(lock) => return Ok(lock),
            Err((back, Errno::EWOULDBLOCK)) if Instant::now() < deadline => file = back,
            Err((_, Errno::EWOULDBLOCK)) => return Err(timed_out(path.to_owned())),
            Err((_, errno)) => return Err(failed(errno.into())),
        }
    }
}

/// A lock file that root made in another user's folder must not lock that user out later.
fn belong_to_folder(file: &File, path: &Path) -> std::io::Result<()> {
    let Some(folder) = path.parent().filter(|_| geteuid().is_root()) else { return Ok(()) };
    let owner = std::fs::metadata(folder)?;
    fchown(file, Some(owner.uid()), Some(owner.gid()))
}

fn timed_out(path: PathBuf) -> PostgresError {
    PostgresError::Timeout {
        waiting_for: format!("another process that holds {}", path.display()),
        seconds: GATE_TIMEOUT.as_secs(),
    }
}
