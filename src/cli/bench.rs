//! `jobql bench`: a load generator, and what it measures of one server that runs.
//!
//! It speaks to the server as any client does, over HTTP/1.1 with keep-alive and graphql-transport-ws. It needs no
//! database, but for reading when changes were committed and for a native worker beside it. It runs on one thread, so it
//! takes at most one core, and says how much of it it took. Nothing is warmed beyond what a scenario says that it prepares.
//! What `benches/` publishes of jobql comes from here.
//!
//! It leaves its jobs behind, under the client id `bench` or ids that begin with it. `drain` pauses the kind's queue
//! while it loads: not for a server that others use at that moment.

mod commits;
mod connection;
mod figures;
mod handler;
mod load;
mod socket;
mod target;
mod usage;

mod drain;
mod fanout;
mod idle;
mod reads;
mod stream;
mod submits;
mod whole;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};

use self::figures::Figures;
use self::idle::HandledBy;
use self::target::Target;

/// What is measured, of which server.
#[derive(Debug, Clone, Args)]
pub(super) struct Bench {
    #[command(subcommand)]
    scenario: Scenario,
    #[command(flatten)]
    options: Options,
}

/// What all scenarios share.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of bench")]
struct Options {
    /// The server; its own port, without TLS
    #[arg(long, global = true, default_value = "http://127.0.0.1:8080/graphql")]
    url: String,
    /// Sent as Authorization: Bearer
    #[arg(long, global = true, env = "JOBQL_BENCH_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    bearer: Option<String>,
    /// Process of the server, on this machine: its CPU and memory are told as well
    #[arg(long, global = true, value_name = "PID")]
    server_pid: Option<u32>,
    /// Database of the server, with track_commit_timestamp on: what counts from the commit is told as well
    #[arg(long, global = true, value_name = "URL")]
    commits_from: Option<String>,
    /// Kind of the jobs
    #[arg(long, global = true, default_value = "echo")]
    kind: String,
    /// HTTP connections, each with one request at a time
    #[arg(long, global = true, default_value_t = 64)]
    connections: usize,
    /// For how long a load lasts
    #[arg(long, global = true, default_value_t = 10)]
    seconds: u64,
    /// Print one line of JSON
    #[arg(long, global = true)]
    json: bool,
}

impl Options {
    fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

#[derive(Debug, Clone, Subcommand)]
enum Scenario {
    /// A mutation that does nothing (submitJobs without inputs): the ceiling of `submit`
    Noop,
    /// submitJob, one job a request
    Submit,
    /// A request of yours, again and again
    Post {
        /// Its body, in JSON
        file: PathBuf,
    },
    /// submitJobs, many jobs a request
    Bulk {
        /// Jobs a request, 1 to 1000
        #[arg(long, default_value_t = 1_000)]
        batch: usize,
    },
    /// Load jobs into a paused queue, resume it, and wait for their ends
    Drain {
        /// Jobs to load
        #[arg(long, default_value_t = 100_000)]
        count: usize,
        /// Wait for so many of them only [default: all]
        #[arg(long)]
        first: Option<usize>,
    },
    /// Submit over HTTP at a rate, and receive each result over a WebSocket that watches its client
    Whole {
        /// Jobs a second
        #[arg(long, default_value_t = 5_000)]
        rate: u32,
        /// WebSockets, each with a client id of its own
        #[arg(long, default_value_t = 1_000)]
        sockets: usize,
    },
    /// One job at a time on a server at rest: its answer, RUNNING and DONE as a client sees them
    Idle {
        /// Jobs
        #[arg(long, default_value_t = 300)]
        count: usize,
        /// Handle the jobs here, and tell when each arrives: --kind has runner "http" and posts to this address
        #[arg(long, value_name = "ADDRESS")]
        handle_at: Option<SocketAddr>,
        /// Handle the jobs here, by a native worker with this configuration, which names the server's database, and tell when
        /// each starts: --kind has runner "native"
        #[arg(long, value_name = "FILE", conflicts_with = "handle_at")]
        native_worker: Option<PathBuf>,
    },
    /// Sockets that watch a job each: one job changed at a time, then all at once
    Fanout {
        /// WebSockets
        #[arg(long, default_value_t = 1_000)]
        sockets: usize,
        /// Changes of one job
        #[arg(long, default_value_t = 500)]
        changes: usize,
    },
    /// Sockets that all watch one client whose jobs are submitted and run
    Stream {
        /// WebSockets
        #[arg(long, default_value_t = 100)]
        sockets: usize,
        /// Changes a second
        #[arg(long, default_value_t = 1_000)]
        rate: u32,
    },
    /// queuePosition of pending jobs, from one connection
    Position {
        /// Pause the kind's queue and load so many jobs first
        #[arg(long, default_value_t = 0)]
        load: usize,
    },
    /// Pages of 50 jobs with filters, at random depths
    Page {
        /// Pause the kind's queue and load so many jobs first
        #[arg(long, default_value_t = 0)]
        load: usize,
    },
}

/// Measures, and prints what was found.
pub(super) fn run(bench: Bench) -> ExitCode {
    let Bench { scenario, options } = bench;
    match measure(scenario, &options) {
        Ok(figures) => {
            figures.print(options.json);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(scenario: Scenario, options: &Options) -> anyhow::Result<Figures> {
    // One thread: a generator on several would take cores from a server on the same machine without saying so.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let target = Target::of(&options.url, options.bearer.as_deref())?;
    runtime.block_on(async {
        match scenario {
            Scenario::Noop => submits::noop(&target, options).await,
            Scenario::Submit => submits::single(&target, options).await,
            Scenario::Post { file } => submits::post(&target, options, &file).await,
            Scenario::Bulk { batch } => submits::bulk(&target, options, batch).await,
            Scenario::Drain { count, first } => drain::drain(&target, options, count, first).await,
            Scenario::Whole { rate, sockets } => whole::whole(&target, options, rate, sockets).await,
            Scenario::Idle { count, handle_at, native_worker } => {
                let handled_by = match (handle_at, native_worker) {
                    (Some(address), _) => HandledBy::Posts(address),
                    (None, Some(config_file)) => HandledBy::NativeWorker(config_file),
                    (None, None) => HandledBy::Server,
                };
                idle::idle(&target, options, count, handled_by).await
            }
            Scenario::Fanout { sockets, changes } => fanout::fanout(&target, options, sockets, changes).await,
            Scenario::Stream { sockets, rate } => stream::stream(&target, options, sockets, rate).await,
            Scenario::Position { load } => reads::position(&target, options, load).await,
            Scenario::Page { load } => reads::page(&target, options, load).await,
        }
    })
}
