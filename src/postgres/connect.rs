//! The pool, and the settings of its sessions.
//!
//! A pooled session never keeps a transaction from one borrower to the next, and never holds one open while
//! nobody works in it. What it does not do: retry. A caller that gets no connection within two seconds is told
//! so, as the client can repeat its request and a queue of waiting requests helps nobody.

use std::time::Duration;

use sea_orm::{DatabaseConnection, SqlxPostgresConnector};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Connection};

use super::PostgresError;
use super::embedded::Cluster;

/// How long a borrower waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
/// A connection that has been idle for so long is asked whether it is still there before it is used again. So only what is sent
/// within this time of the database's end meets a dead one, and counts as what was under way then. To ask each time cost a
/// seventh of the submits of 64 connections.
pub const ASKED_AFTER: Duration = Duration::from_millis(100);
/// How long a connection that comes back may take to answer.
const ROLLBACK_TIMEOUT: Duration = Duration::from_secs(5);
/// How long closing waits for borrowers.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the first connection may take: a server that is being restarted refuses for some seconds.
const FIRST_CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// The settings of each session.
///
/// They travel in the start-up packet and not in a `SET`: no round trip, and behind a pooler in transaction
/// mode a `SET` would land in a session that others share.
const SESSION: [(&str, &str); 5] = [
    // A transaction whose client forgot it holds row locks and keeps vacuum from cleaning up: with one
    // snapshot open for long, one-at-a-time claims fell from 4,600 to 100 a second.
    ("idle_in_transaction_session_timeout", "60s"),
    // Every statement is short. One that is not has met a lock or a bad plan, and would take a connection away.
    ("statement_timeout", "60s"),
    // Compiling a plan costs more than any of these short statements takes.
    ("jit", "off"),
    // What a person reads in psql and what the server compares must not depend on the server's zone.
    ("timezone", "UTC"),
    // A ROLLBACK without a transaction, as after each use of a connection, would warn every time.
    ("client_min_messages", "error"),
];

/// How the database is reached: one way for the pool, a direct one for LISTEN and migrations.
pub(super) struct Routes {
    pub pool: PgConnectOptions,
    pub listen: PgConnectOptions,
    /// Where it is, for messages; no secrets.
    pub place: String,
}

/// An open database.
#[derive(Debug)]
pub struct Database {
    /// For reads and changes on behalf of someone.
    pub pool: PgPool,
    /// For submits and workers, which must not wait for a flood of reads.
    pub work_pool: PgPool,
    /// For the upkeep. Its dozen statements come back to one or two sessions, which soon have a plan for each: over all
    /// sessions in turn each was planned anew, which took up to 1.4 ms of a core, and what was to be told waited behind it.
    pub upkeep_pool: PgPool,
    /// The first pool for SeaORM.
    pub orm: DatabaseConnection,
    /// Whether the self-test at start saw its own notification. If not, updates come by polling alone.
    pub notifications_arrive: bool,
    pub(super) cluster: Option<Cluster>,
    listen_options: PgConnectOptions,
    place: String,
}

impl Database {
    pub(super) async fn connect(routes: Routes, connections: u32) -> Result<Self, PostgresError> {
        let Routes { pool, listen, place } = routes;
        let (pool_options, listen) = (plain(pool), plain(listen));
        let pool_options = accepted_by_server(pool_options, &place).await?;
        let listen_options = accepted_by_server(listen, &place).await?;
        let shares = Shares::of(connections);
        let pool = lazy_pool(shares.reads, pool_options.clone());
        let work_pool = lazy_pool(shares.work, pool_options.clone());
        let upkeep_pool = match shares.upkeep {
            0 => work_pool.clone(),
            upkeep => lazy_pool(upkeep, pool_options),
        };
        let orm = SqlxPostgresConnector::from_sqlx_postgres_pool(pool.clone());
        let (notifications_arrive, cluster) = (false, None);
        Ok(Self { pool, work_pool, upkeep_pool, orm, notifications_arrive, cluster, listen_options, place })
    }

    /// How to open the direct connection for LISTEN. It never goes through the pooler, if there is one.
    pub fn listen_options(&self) -> PgConnectOptions {
        self.listen_options.clone()
    }

    /// A pool of two direct connections for migrations: without the statement timeout, as an index on a large
    /// table takes its time.
    pub fn migration_pool(&self) -> PgPool {
        PgPoolOptions::new()
            .max_connections(2)
            .acquire_timeout(FIRST_CONNECT_TIMEOUT)
            .connect_lazy_with(self.listen_options().options([("statement_timeout", "0")]))
    }

    /// Where the database is, for logs; without user and password.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Closes the pools, then leaves the embedded cluster, which stops when this process was its last.
    pub async fn close(self) {
        let closed =
            async { tokio::join!(self.pool.close(), self.work_pool.close(), self.upkeep_pool.close()) };
        if tokio::time::timeout(CLOSE_TIMEOUT, closed).await.is_err() {
            tracing::warn!("some database connections were still in use at the end");
        }
        if let Some(cluster) = self.cluster {
            cluster.leave().await;
        }
    }
}

/// How the connections are shared out.
#[derive(Debug, PartialEq, Eq)]
struct Shares {
    /// One of them is kept for positions.
    reads: u32,
    /// Four of them are kept by who uses them again and again.
    work: u32,
    /// 0: the upkeep is work like any other.
    upkeep: u32,
}

impl Shares {
    /// At least two each, but for the upkeep, which has its own where there are ten.
    fn of(connections: u32) -> Shares {
        let reads = (connections * 3 / 8).max(2);
        let upkeep = if connections < 10 { 0 } else { 2 };
        Shares { reads, work: connections.saturating_sub(reads + upkeep).max(2), upkeep }
    }
}

fn lazy_pool(connections: u32, options: PgConnectOptions) -> PgPool {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .before_acquire(|connection, connection_was| {
            Box::pin(async move {
                // One that does not answer is left for another.
                Ok(connection_was.idle_for < ASKED_AFTER || connection.ping().await.is_ok())
            })
        })
        // A `begin()` future that is dropped in flight leaves the session inside a transaction without
        // sqlx knowing, and what the next borrower writes would be lost with it. A connection that does not answer, as
        // over a link that has gone silent, is closed.
        .after_release(|connection, _| {
            Box::pin(async move {
                let rolled_back = sqlx::raw_sql("ROLLBACK").execute(connection);
                Ok(matches!(tokio::time::timeout(ROLLBACK_TIMEOUT, rolled_back).await, Ok(Ok(_))))
            })
        })
        .connect_lazy_with(options)
}

fn plain(options: PgConnectOptions) -> PgConnectOptions {
    // Statements are not logged: they may hold payloads.
    options.application_name("jobql").disable_statement_logging()
}

/// Connects once, to find whether the server takes [`SESSION`]. PgBouncer refuses start-up options by default;
/// then the sessions do without, which is said.
async fn accepted_by_server(
    options: PgConnectOptions,
    place: &str,
) -> Result<PgConnectOptions, PostgresError> {
    let full = options.clone().options(SESSION);
    let refused = match try_once(&full).await {
        Ok(()) => return Ok(full),
        Err(error) if refuses_startup_options(&error) => error,
        Err(source) => return Err(PostgresError::Connect { place: place.to_owned(), source }),
    };
    let bare = options.extra_float_digits(None);
    try_once(&bare).await.map_err(|source| PostgresError::Connect { place: place.to_owned(), source })?;
    let settings = SESSION.map(|(name, value)| format!("{name} = '{value}'")).join(", ");
    tracing::warn!(
        database.place = place,
        error = %refused,
        "a pooler refuses session settings at start-up; set them for the role by ALTER ROLE ... SET: {settings}"
    );
    Ok(bare)
}

/// A connection that is closed at once. A server that is starting, or out of connections, is tried again.
async fn try_once(options: &PgConnectOptions) -> Result<(), sqlx::Error> {
    let mut last: Option<sqlx::Error> = None;
    let deadline = tokio::time::Instant::now() + FIRST_CONNECT_TIMEOUT;
    let mut interval = tokio::time::interval(Duration::from_millis(500));
    loop {
        interval.tick().await;
        let error = match tokio::time::timeout_at(deadline, options.connect()).await {
            Ok(Ok(connection)) => return connection.close().await,
            Ok(Err(error)) => error,
            // What the server said before tells more than that the time is over.
            Err(_) => return Err(last.unwrap_or(sqlx::Error::PoolTimedOut)),
        };
        if !passes_by_itself(&error) || tokio::time::Instant::now() >= deadline {
            return Err(error);
        }
        if last.is_none() {
            let seconds = FIRST_CONNECT_TIMEOUT.as_secs();
            tracing::warn!(%error, "the database does not answer yet; trying for {seconds} seconds");
        }
        last = Some(error);
    }
}

fn passes_by_itself(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => true,
        // cannot_connect_now, too_many_connections
        error => sqlstate(error).is_some_and(|code| code == "57P03" || code == "53300"),
    }
}

/// PgBouncer answers `08P01 unsupported startup parameter`; it also does for `extra_float_digits`.
fn refuses_startup_options(error: &sqlx::Error) -> bool {
    sqlstate(error).is_some_and(|code| code == "08P01") && error.to_string().contains("startup parameter")
}

pub(super) fn sqlstate(error: &sqlx::Error) -> Option<String> {
    error.as_database_error()?.code().map(|code| code.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_shared_out_and_the_upkeep_has_its_own_where_there_are_ten() {
        assert_eq!(Shares::of(4), Shares { reads: 2, work: 2, upkeep: 0 });
        assert_eq!(Shares::of(9), Shares { reads: 3, work: 6, upkeep: 0 });
        assert_eq!(Shares::of(18), Shares { reads: 6, work: 10, upkeep: 2 });
        for connections in 4..=1000 {
            let Shares { reads, work, upkeep } = Shares::of(connections);
            assert_eq!(reads + work + upkeep, connections);
        }
    }
}
