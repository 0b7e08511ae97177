//! PostgreSQL: the way to it, what it must be able to promise, and an own one where none was given.
//!
//! [`open`] gives a [`Database`] that is safe to write to: new enough, durable, not a standby, and with
//! sessions that cannot hold a transaction for ever. It does not migrate and knows no table.
//!
//! With a database URL it connects there. Without one it starts the embedded cluster in the data folder, or
//! joins the one that another process has started ([`embedded`]).

mod connect;
mod durability;
pub mod embedded;

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;

use self::connect::Routes;
pub use self::connect::{ASKED_AFTER, Database};
use self::embedded::Cluster;
use crate::config::Config;

/// What can go wrong between the start and a usable database.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// The server did not let us in, or did not answer in time.
    #[error("cannot connect to the database {place}")]
    Connect {
        /// Host, port and database, without user and password.
        place: String,
        /// What sqlx said.
        source: sqlx::Error,
    },
    /// A database URL that sqlx cannot read. The configuration checks it first.
    #[error("the database URL cannot be used")]
    Url(#[source] sqlx::Error),
    /// The server answered a question of the start with an error.
    #[error("the database failed while {doing}")]
    Query {
        /// What was being done, as "reading its settings".
        doing: &'static str,
        /// What sqlx said.
        source: sqlx::Error,
    },
    /// The server is older than 14.
    #[error("the database server is PostgreSQL {found}, and 14 or newer is needed")]
    TooOld {
        /// The server's version.
        found: String,
    },
    /// The server is a standby: it cannot be written to.
    #[error("the database is read-only (a standby, or default_transaction_read_only is on)")]
    ReadOnly,
    /// The database does not store text as UTF-8.
    #[error("the database has the encoding {found}, and UTF8 is needed")]
    Encoding {
        /// `server_encoding`.
        found: String,
    },
    /// Acknowledged jobs could be lost.
    #[error(
        "the database may lose what it acknowledged ({settings}); change that, or start with \
         --allow-unsafe-durability"
    )]
    UnsafeDurability {
        /// The settings at fault, as `fsync = off`.
        settings: String,
    },
    /// No PostgreSQL is installed.
    #[error(
        "no PostgreSQL 14 or newer is installed: `apt-get install postgresql`, or give a running one with \
         --database-url"
    )]
    NotInstalled,
    /// The cluster was made by a major version that is not installed.
    #[error(
        "the cluster in {} was made by PostgreSQL {needed}, and the installed versions are {installed}: \
         `apt-get install postgresql-{needed}`",
        folder.display()
    )]
    VersionNotInstalled {
        /// The cluster's folder.
        folder: PathBuf,
        /// Its major version.
        needed: String,
        /// The major versions that were found.
        installed: String,
    },
    /// A file or folder of the cluster could not be used.
    #[error("cannot {doing} {}", path.display())]
    Files {
        /// What was being done, as "create".
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A folder of the cluster has the wrong owner, mode or type.
    #[error("{} cannot be used: {problem}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// `initdb` failed.
    #[error("initdb failed: {output}")]
    InitDb {
        /// Its last lines.
        output: String,
    },
    /// The server exits as soon as it is started.
    #[error("the embedded PostgreSQL does not start (log in {}): {output}", log.display())]
    DoesNotStart {
        /// Where it logs.
        log: PathBuf,
        /// Its last lines.
        output: String,
    },
    /// The server, or the process that is starting or stopping it, took too long.
    #[error("{waiting_for} took longer than {seconds} seconds")]
    Timeout {
        /// What was waited for.
        waiting_for: String,
        /// For how long.
        seconds: u64,
    },
}

/// Gives the database that the configuration asks for, checked and ready for work.
///
/// Takes up to a minute when the embedded cluster recovers from a crash.
pub async fn open(config: &Config) -> Result<Database, PostgresError> {
    let (routes, cluster) = match &config.database_url {
        Some(url) => (routes_from_urls(url, config)?, None),
        None => {
            // Room for several processes of this size, and for people with psql.
            let max_connections = config.database_connections.saturating_mul(3).saturating_add(64);
            let cluster = Cluster::start(&config.data_dir, max_connections).await?;
            let options = cluster.connect_options();
            let place = format!("embedded in {}", config.data_dir.display());
            (Routes { pool: options.clone(), listen: options, place }, Some(cluster))
        }
    };
    match connect_and_check(config, routes).await {
        Ok(mut database) => {
            database.cluster = cluster;
            Ok(database)
        }
        Err(error) => {
            // Or the postmaster of a start that failed would be left running.
            if let Some(cluster) = cluster {
                cluster.leave().await;
            }
            Err(error)
        }
    }
}

async fn connect_and_check(config: &Config, routes: Routes) -> Result<Database, PostgresError> {
    let mut database = Database::connect(routes, config.database_connections).await?;
    if let Err(error) = durability::check(&database, config.allow_unsafe_durability).await {
        database.close().await;
        return Err(error);
    }
    database.notifications_arrive = durability::notifications_arrive(&database).await;
    Ok(database)
}

fn routes_from_urls(url: &crate::config::DatabaseUrl, config: &Config) -> Result<Routes, PostgresError> {
    let parse = |url: &crate::config::DatabaseUrl| {
        PgConnectOptions::from_str(url.expose()).map_err(PostgresError::Url)
    };
    let listen = config.listen_database_url.as_ref().unwrap_or(url);
    Ok(Routes { pool: parse(url)?, listen: parse(listen)?, place: url.to_string() })
}

/// Waits between two looks at something that another process does.
const LOOK_EVERY: Duration = Duration::from_millis(50);
