//! The binary `jobql`: see [`cli`].

mod cli;

use std::process::ExitCode;

/// A request allocates some hundred times: docs/adr/0011-mimalloc.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    jobql::worker::command::supervisor::run_if_asked().unwrap_or_else(cli::run)
}
