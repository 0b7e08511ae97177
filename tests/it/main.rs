//! All tests that need a database or a process, in one binary, on real PostgreSQL and the real `jobql`.

mod support;

mod changing;
mod claiming;
mod embedded;
mod layers;
mod leasing;
mod listing;
mod live;
mod logs;
mod migrations;
mod processes;
mod pruning;
mod queues;
mod submitting;
mod transitions;
mod watching;
