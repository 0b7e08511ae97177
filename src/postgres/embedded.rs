//! The embedded cluster: an own PostgreSQL in the data folder, for those who have none.
//!
//! It listens on a Unix socket in a private folder and on no port. The data stay between runs and survive a
//! kill -9 of this process, of PostgreSQL, or of both.
//!
//! # Who starts and who stops it
//!
//! Any number of processes share one cluster. Two lock files in its folder order them; the system releases
//! both when a process dies, whichever way.
//!
//! | file | mode | held |
//! |---|---|---|
//! | `gate.lock` | exclusive | while starting, restarting, or leaving |
//! | `holders.lock` | shared | for as long as a process uses the cluster |
//!
//! - **Start**: take the gate; take a share of `holders`; start the server unless it runs (a server left by a
//!   process that was killed is adopted); wait until it answers; open the gate.
//! - **Leave**: take the gate; try to take `holders` alone. If that works nobody else is left: stop the server.
//!   Open the gate. A newcomer waits at the gate meanwhile, and then starts the server anew.
//! - **Watch**: one task looks whether the server lives. If it died, the task takes the gate and starts it
//!   again, with a back-off. Of several processes the first at the gate does it, the others find it done.
//!
//! The server is not tied to the process that started it: it has its own process group, so a Ctrl-C in the
//! terminal passes it by.
//!
//! # How it fails
//!
//! Without a process that leaves in order (all killed) the server stays up, idle, until the next one adopts and
//! stops it. A stop that takes longer than a minute is left to the server; the next start waits for it.

mod binaries;
mod cluster_folder;
mod initdb;
mod locks;
mod postmaster;
mod privileges;
mod settings;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio_util::sync::CancellationToken;

use self::binaries::Binaries;
use self::cluster_folder::ClusterFolder;
use self::locks::{Gate, Holders};
use self::postmaster::Postmaster;
use super::PostgresError;

/// The role and the database of jobql.
const NAME: &str = "jobql";
/// Only names the socket file: the server listens on no port.
const SOCKET_PORT: u16 = 5432;
/// How often the watcher looks whether the server lives.
const WATCH_EVERY: Duration = Duration::from_millis(250);
/// The longest wait between two restarts.
const RESTART_BACKOFF_MAX: Duration = Duration::from_secs(10);

/// A share in the running cluster. Give it back with [`Cluster::leave`]; when it is only dropped, the server
/// runs on until another process leaves last.
#[derive(Debug)]
pub struct Cluster {
    core: Arc<Core>,
    holders: Holders,
    stop_watching: CancellationToken,
    watcher: tokio::task::JoinHandle<()>,
    connect_options: PgConnectOptions,
}

#[derive(Debug)]
struct Core {
    folder: ClusterFolder,
    binaries: Binaries,
    max_connections: u32,
}

impl Cluster {
    /// Starts or joins the cluster in `data_dir` and waits until it answers, at most a minute.
    ///
    /// `max_connections` (at least 20) counts when this call starts the server, not when it joins one.
    pub async fn start(data_dir: &Path, max_connections: u32) -> Result<Self, PostgresError> {
        let folder = ClusterFolder::prepare(data_dir).await?;
        let gate = Gate::take(&folder).await?;
        let holders = Holders::join(&folder).await?;
        let binaries = if initdb::is_done(&folder) {
            Binaries::matching(&folder).await?
        } else {
            let newest = Binaries::any().await?;
            initdb::run(&folder, &newest).await?;
            newest
        };
        let core = Arc::new(Core { folder, binaries, max_connections });
        let connect_options = core.ensure_running().await?;
        drop(gate);
        let stop_watching = CancellationToken::new();
        let watcher = tokio::spawn(watch(core.clone(), stop_watching.clone()));
        Ok(Self { core, holders, stop_watching, watcher, connect_options })
    }

    /// How to connect as the role `jobql` to the database `jobql`. Stays right across restarts of the server.
    pub fn connect_options(&self) -> PgConnectOptions {
        self.connect_options.clone()
    }

    /// The process id of the running server, if it runs.
    pub fn postmaster_pid(&self) -> Option<i32> {
        Postmaster::find(&self.core.folder).map(|postmaster| postmaster.pid())
    }

    /// Gives the share back, and stops the server when it was the last one. Close all connections first: the
    /// server ends them otherwise.
    pub async fn leave(self) {
        let Self { core, holders, stop_watching, watcher, .. } = self;
        stop_watching.cancel();
        // A watcher that panicked watches no longer, which is all that is wanted here.
        let _ = watcher.await;
        let _gate = match Gate::take(&core.folder).await {
            Ok(gate) => gate,
            Err(error) => {
                tracing::warn!(%error, "the embedded PostgreSQL is left running");
                return;
            }
        };
        if !holders.give_up_as_last() {
            return;
        }
        if let Some(postmaster) = Postmaster::find(&core.folder) {
            tracing::info!("stopping the embedded PostgreSQL");
            postmaster.stop().await;
        }
    }
}

impl Core {
    /// Call it with the gate taken.
    async fn ensure_running(&self) -> Result<PgConnectOptions, PostgresError> {
        let socket_folder =
            postmaster::ensure_running(&self.folder, &self.binaries, self.max_connections).await?;
        Ok(connect_options(&socket_folder, NAME, NAME))
    }
}

/// Connects over the socket, and takes nothing from PG* variables that would lead elsewhere.
fn connect_options(socket_folder: &Path, user: &str, database: &str) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .socket(socket_folder)
        .port(SOCKET_PORT)
        .ssl_mode(PgSslMode::Disable)
        .username(user)
        .database(database)
}

async fn watch(core: Arc<Core>, stop: CancellationToken) {
    let mut interval = tokio::time::interval(WATCH_EVERY);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut backoff = WATCH_EVERY;
    let mut last_restart = Instant::now();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = interval.tick() => {}
        }
        if Postmaster::find(&core.folder).is_some() {
            continue;
        }
        tracing::error!("the embedded PostgreSQL died; starting it again");
        // One that stayed up for a while starts the back-off anew.
        backoff = if last_restart.elapsed() > RESTART_BACKOFF_MAX * 6 { WATCH_EVERY } else { backoff * 2 };
        let restarted = tokio::select! {
            () = stop.cancelled() => return,
            restarted = restart(&core) => restarted,
        };
        last_restart = Instant::now();
        match restarted {
            Ok(()) => tracing::info!("the embedded PostgreSQL runs again"),
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the embedded PostgreSQL stays down"
                );
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(backoff.min(RESTART_BACKOFF_MAX)) => {}
        }
    }
}

async fn restart(core: &Core) -> Result<(), PostgresError> {
    let _gate = Gate::take(&core.folder).await?;
    core.ensure_running().await.map(drop)
}
