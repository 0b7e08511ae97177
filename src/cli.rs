//! The command line: what jobql can be told to do, and what its exit codes mean.
//!
//! Each command loads the configuration first; a bad one ends with 2 before anything is started or written. A
//! command that serves ends with 0 on SIGTERM or SIGINT, once it has left everything in order.

mod bench;
mod entrance;
mod process;
mod token;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use jobql::config::{self, Config, ConfigError, Overrides};
use jobql::postgres::{self, Database};
use jobql::store::Store;
use jobql::store::prune::Pruned;
use migration::{Migrator, MigratorTrait};
use sea_orm::SqlxPostgresConnector;
use sqlx::{ConnectOptions, Connection};

use self::bench::Bench;
use self::process::Role;

/// Exit code of a bad configuration; clap uses the same for a bad flag.
const BAD_CONFIGURATION: u8 = 2;

/// Names the lock under which one process migrates; any constant will do.
const MIGRATION_LOCK: i64 = 0x6a6f_6271_6c00_0001;

const AFTER_HELP: &str = "\
Examples:
  jobql serve                             API and workers; brings its own PostgreSQL, data in ./data
  jobql serve --slots 0                   the API only
  jobql work                              more workers, on the same data folder
  JOBQL_DATABASE_URL=postgres://jobql@db/jobql jobql serve
                                          on a PostgreSQL of yours (14 or newer)
  jobql token create --scope client --client-id shop --expires-in 90d
                                          a token, shown once; from the first one on, all need one
  jobql prune --dry-run                   what would be deleted of finished jobs
  jobql check                             are the counts of jobs and the lists of clients right?
  jobql schema > schema.graphql           the API's schema

A setting is taken from the first that has it: flag, JOBQL_* variable, jobql.toml, default.
Kinds of jobs are declared in jobql.toml only. RUST_LOG chooses what is logged (info by default).

Exit codes: 0 ok, 1 failure, 2 bad configuration.";

/// A job server with a GraphQL front, on PostgreSQL.
///
/// A client submits long-running work with one mutation and gets an id back at once; it then watches the job over a
/// subscription, sees its place in the queue, and gets the result. Without a database URL, jobql starts a PostgreSQL of
/// its own from the installed binaries and keeps its data in the data folder.
#[derive(Debug, Parser)]
#[command(version, after_help = AFTER_HELP, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    overrides: Overrides,
}

#[derive(Debug, Clone, Subcommand)]
enum Command {
    /// Serve the API and run jobs
    Serve,
    /// Run jobs only; opens no port unless --listen is given
    Work,
    /// Bring the database's tables up to date and exit (serve and work do so at start)
    Migrate,
    /// Make, list and revoke the tokens that let clients, workers and operators in
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Delete finished jobs that were kept for their time, as serve and work do all along
    Prune {
        /// Only say what would go
        #[arg(long)]
        dry_run: bool,
    },
    /// Compare the counts that positions are read from, and the lists of clients, with the jobs; ends with 1 where they differ
    Check {
        /// Write them anew where they differ; jobs cannot change meanwhile
        #[arg(long)]
        repair: bool,
    },
    /// Print the GraphQL schema and exit; needs no database
    Schema,
    /// Put a load on a server that runs, and measure it
    Bench(Bench),
}

/// Does what the command line says.
pub fn run() -> ExitCode {
    let Cli { command, overrides } = Cli::parse();
    // These need neither a configuration nor a database.
    match command {
        Command::Schema => return schema(),
        Command::Bench(bench) => return bench::run(bench),
        _ => {}
    }
    let config = match Config::load(&overrides) {
        Ok(config) => config,
        Err(error) => return refuse(&error),
    };
    jobql::log::start(config.log_format);
    for name in config::unknown_variables(std::env::vars_os().map(|(name, _)| name)) {
        tracing::warn!(variable.name = name, "this variable is not known and does nothing");
    }
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::new(error).context("cannot start the runtime")),
    };
    let done = runtime.block_on(async {
        match command {
            Command::Serve => process::run(config, Role::Serve).await,
            Command::Work => process::run(config, Role::Work).await,
            Command::Migrate => migrate_only(config).await,
            Command::Token(command) => token::run(config, command).await,
            Command::Prune { dry_run } => prune(config, dry_run).await,
            Command::Check { repair } => check(config, repair).await,
            Command::Schema | Command::Bench(_) => Ok(()),
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast_ref::<ConfigError>() {
            Some(refused) => refuse(refused),
            None => fail(&error),
        },
    }
}

/// Looks for news of the network and of the database after every seventh task of a thread. By default it does so after 61 only,
/// and what the database has answered to a whole group waits behind the requests of as many clients: with 64 of them, a tenth
/// fewer submits a second.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().event_interval(7).build()
}

fn refuse(error: &ConfigError) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(BAD_CONFIGURATION)
}

fn fail(error: &anyhow::Error) -> ExitCode {
    tracing::error!("{error:#}");
    ExitCode::FAILURE
}

async fn migrate_only(config: Config) -> anyhow::Result<()> {
    let database = postgres::open(&config).await?;
    let migrated = migrate(&database).await;
    database.close().await;
    migrated
}

async fn prune(config: Config, dry_run: bool) -> anyhow::Result<()> {
    let database = postgres::open(&config).await?;
    let store = Store::of(&database);
    let pruned = if dry_run {
        store.count_prunable(&config.retention).await
    } else {
        store.prune(config.retention).await
    };
    store.close().await;
    database.close().await;
    let Pruned { done, error, cancelled, keys } = pruned?;
    let verb = if dry_run { "would delete" } else { "deleted" };
    let line =
        format!("{verb} {done} DONE, {error} ERROR and {cancelled} CANCELLED jobs, and {keys} request ids\n");
    std::io::stdout().write_all(line.as_bytes())?;
    Ok(())
}

async fn check(config: Config, repair: bool) -> anyhow::Result<()> {
    let database = postgres::open(&config).await?;
    let store = Store::of(&database);
    let compared = compare(&store, repair).await;
    store.close().await;
    database.close().await;
    let line = match compared? {
        (0, 0) => "the counts and the lists are right\n".to_owned(),
        (counts, entries) if repair => {
            format!(
                "wrong counts: {counts}, wrong entries of lists: {entries}; they have been written anew\n"
            )
        }
        (counts, entries) => anyhow::bail!(
            "wrong counts: {counts}, wrong entries of lists: {entries}; `jobql check --repair` writes them anew"
        ),
    };
    std::io::stdout().write_all(line.as_bytes())?;
    Ok(())
}

/// How many counts and how many entries of lists are wrong, or were.
async fn compare(store: &Store, repair: bool) -> jobql::error::Result<(i64, i64)> {
    let (counts, entries) = (store.wrong_counts().await?, store.wrong_list_entries().await?);
    if repair && counts > 0 {
        store.repair_counts().await?;
    }
    if repair && entries > 0 {
        store.repair_lists().await?;
    }
    Ok((counts, entries))
}

/// Brings the tables up to date. Processes that start at once take turns.
async fn migrate(database: &Database) -> anyhow::Result<()> {
    // The lock is the session's, so the connection that holds it is direct and stays open until the end.
    let options = database.listen_options().options([("statement_timeout", "0")]);
    let mut turn =
        options.disable_statement_logging().connect().await.context("cannot connect to migrate")?;
    let free: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)")
        .bind(MIGRATION_LOCK)
        .fetch_one(&mut turn)
        .await?;
    if !free {
        tracing::info!("waiting for another process to bring the tables up to date");
        sqlx::query("SELECT pg_advisory_lock($1)").bind(MIGRATION_LOCK).execute(&mut turn).await?;
    }
    let pool = database.migration_pool();
    let connection = SqlxPostgresConnector::from_sqlx_postgres_pool(pool.clone());
    let migrated = Migrator::up(&connection, None).await.context("cannot bring the tables up to date");
    pool.close().await;
    turn.close().await?;
    migrated
}

/// Prints the schema. A reader that goes away early, as `head` does, is no failure.
fn schema() -> ExitCode {
    let _ = std::io::stdout().write_all(jobql::graphql::sdl().as_bytes());
    ExitCode::SUCCESS
}
