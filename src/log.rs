//! The logs: to standard error, a line for people or a JSON object for machines.
//!
//! `RUST_LOG` chooses what is told (`jobql=debug`, `warn`); without it everything from `info` up, from the libraries
//! only warnings. Standard output is left to what a command prints. Nothing here keeps secrets out of a log: that is
//! up to who writes the line.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// What is told without `RUST_LOG`.
const DEFAULT_FILTER: &str = "warn,jobql=info";

/// Sends the events of this process to standard error. A second call changes nothing.
///
/// A bad `RUST_LOG` is told of and not used: a slip in it should not keep a server from starting.
pub fn start(format: LogFormat) {
    let wanted = std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty());
    let (filter, problem) = match wanted.as_deref().map(EnvFilter::try_new) {
        None => (EnvFilter::new(DEFAULT_FILTER), None),
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (EnvFilter::new(DEFAULT_FILTER), Some(error)),
    };
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _ = match format {
        LogFormat::Text => {
            let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            subscriber.with_ansi(colour).with_target(false).try_init()
        }
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
    if let Some(error) = problem {
        tracing::warn!(%error, "RUST_LOG cannot be read and is not used");
    }
}
