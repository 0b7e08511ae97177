//! A process that serves or works, from its start to its end.
//!
//! Start: the database, its tables, the listener and the hub, the port, the worker. A port that is taken or an address
//! that cannot be had ends the start before any job is claimed. Stop, at SIGTERM or SIGINT: `/readyz` says no and
//! nothing is claimed from then on; sockets are closed, running jobs finish or are given back by the deadline; then what
//! was handed over is written, and the database is closed last. A second signal does not hurry it.

use std::future::Future;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use jobql::config::Config;
use jobql::events::Events;
use jobql::http::{self, HttpState};
use jobql::maintenance;
use jobql::postgres::{self, Database};
use jobql::store::Store;
use jobql::worker::command::Spawner;
use jobql::worker::{self, WorkerSettings};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What the process is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The API and a worker.
    Serve,
    /// A worker; with `--listen` its health is served.
    Work,
}

/// How long the background work may take to notice the end.
const BACKGROUND_WITHIN: Duration = Duration::from_secs(3);

/// Where `serve` listens unless told otherwise.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);

/// Runs until told to stop.
pub(super) async fn run(config: Config, role: Role) -> anyhow::Result<()> {
    let stopped = stop_signal()?;
    tokio::pin!(stopped);
    // Before anything is started: a port that is taken should not cost a cluster's start.
    let listener = bind(&config, role).await?;
    // A stop while the database starts or migrates must not leave it running.
    let Some(database) = open_unless_stopped(&config, &mut stopped).await? else { return Ok(()) };
    let migrated = tokio::select! {
        migrated = super::migrate(&database) => Some(migrated),
        // A migration that was begun is rolled back with its connection.
        () = &mut stopped => None,
    };
    let ran = match migrated {
        Some(Ok(())) => run_on(&database, config, role, listener, stopped).await,
        Some(Err(error)) => Err(error),
        None => Ok(()),
    };
    database.close().await;
    ran
}

async fn bind(config: &Config, role: Role) -> anyhow::Result<Option<TcpListener>> {
    let address = match (config.listen, role) {
        (Some(address), _) => address,
        (None, Role::Serve) => DEFAULT_LISTEN,
        (None, Role::Work) => return Ok(None),
    };
    let listener = TcpListener::bind(address).await;
    listener.map(Some).with_context(|| format!("cannot listen on {address}"))
}

/// `None` when a stop came first. The opening goes on to its end then, so that what it started is stopped.
async fn open_unless_stopped(
    config: &Config,
    stopped: &mut (impl Future<Output = ()> + Unpin),
) -> anyhow::Result<Option<Database>> {
    let opening = postgres::open(config);
    tokio::pin!(opening);
    tokio::select! {
        opened = &mut opening => return Ok(Some(opened?)),
        () = stopped => tracing::info!("stopping as soon as the database has started"),
    }
    if let Ok(database) = opening.await {
        database.close().await;
    }
    Ok(None)
}

async fn run_on(
    database: &Database,
    config: Config,
    role: Role,
    listener: Option<TcpListener>,
    stopped: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let config = Arc::new(config);
    let store = Store::of(database);
    // A worker serves its health only, which needs no token.
    let served = listener.as_ref().filter(|_| role == Role::Serve);
    let access = match super::entrance::guarded(&config, &store, served).await {
        Ok(access) => access,
        Err(refused) => {
            store.close().await;
            return Err(refused);
        }
    };
    // What runs in the background ends after everything that it helps.
    let (background, tasks) = (CancellationToken::new(), TaskTracker::new());
    let events = Events::start(store.clone(), database.listen_options(), &tasks, background.clone());
    let waits = events.clone();
    maintenance::start(&store, &config, &tasks, &background);
    let stopping = CancellationToken::new();
    let mut work = tokio::spawn(worker::run(
        store.clone(),
        events.clone(),
        // Our main is fit for it.
        WorkerSettings { spawner: Spawner::supervised(), ..WorkerSettings::of(&config) },
        stopping.clone(),
    ));
    if role == Role::Serve {
        access.start(&events, &tasks, &background);
    }
    let state = HttpState::new(store.clone(), events, config, access);
    let mut http = tokio::spawn(serve_http(listener, role, state, stopping.clone()));
    tracing::info!(database.place = database.place(), "ready");

    let (mut worked, mut served) = (None, None);
    tokio::select! {
        () = stopped => tracing::info!("stopping"),
        // Neither ends before it is told to, unless it failed.
        outcome = &mut work => worked = Some(outcome),
        outcome = &mut http => served = Some(outcome),
    }
    stopping.cancel();
    // Requests that wait for a job's end are answered with the job as it stands.
    waits.end_waits();
    // It holds the store, which closes once nobody does.
    drop(waits);
    let served = match served {
        Some(outcome) => outcome,
        None => http.await,
    };
    let worked = match worked {
        Some(outcome) => outcome,
        None => work.await,
    };
    background.cancel();
    tasks.close();
    if timeout(BACKGROUND_WITHIN, tasks.wait()).await.is_err() {
        tracing::warn!("some background work was given up at the end");
    }
    store.close().await;
    served.context("the HTTP server panicked")?.context("the HTTP server failed")?;
    worked.context("the worker panicked")?.context("the worker failed")
}

async fn serve_http(
    listener: Option<TcpListener>,
    role: Role,
    state: HttpState,
    stopping: CancellationToken,
) -> std::io::Result<()> {
    let Some(listener) = listener else {
        stopping.cancelled().await;
        return Ok(());
    };
    let address = listener.local_addr()?;
    let scheme = if state.is_encrypted() { "https" } else { "http" };
    match role {
        Role::Serve => {
            say(&format!("GraphQL API on {scheme}://{address}/graphql"));
            http::serve(listener, http::router(state.clone()), state, stopping).await;
        }
        Role::Work => {
            say(&format!("health on {scheme}://{address}/healthz and /readyz"));
            http::serve(listener, http::health_router(state.clone()), state, stopping).await;
        }
    }
    Ok(())
}

/// Tells on standard output what a person or a script that started us waits for. Nobody need read it.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Ends at SIGTERM or SIGINT. The handlers stand as soon as this returns.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
