//! All tests that need a database or a process, in one binary, on real PostgreSQL and the real `jobql`.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the lints spare test functions, and here what these call as well"
)]

mod support;

mod api_workers;
mod api_workers_kinds;
mod api_workers_tokens;
mod api_workers_waiting;
mod bad_input;
mod benching;
mod callbacks;
mod canaries;
mod changing;
mod claiming;
mod commands;
mod dependencies;
mod differential;
mod documented;
mod embedded;
mod encryption;
mod http_kinds;
mod layers;
mod leasing;
mod ledger;
mod limits;
mod listing;
mod live;
mod logs;
mod metrics;
mod migrations;
mod plans;
mod processes;
mod pruning;
mod queues;
mod races;
mod refusals;
mod sharing;
mod storm;
mod stranded;
mod submitting;
mod tenants;
mod tokens;
mod transitions;
mod watching;
mod workflows;
