//! The binary `jobql`: see [`cli`].

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    jobql::worker::command::supervisor::run_if_asked().unwrap_or_else(cli::run)
}
