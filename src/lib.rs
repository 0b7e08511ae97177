//! jobql: a job server with a GraphQL front, on PostgreSQL.
//!
//! Most people run its binary, `jobql serve`, and speak to it over GraphQL. As a library it is for programs that run
//! jobs: see [`native`]. All else is the house itself, which the binary, the tests and the benches use; it is public
//! for them, and promises nothing to others.
//!
//! The modules in the order of their layers, lowest first; each uses those above it in this list and never one below.
//! `graphql` and `worker` meet only in the database.

#[doc(hidden)]
pub mod error;

pub mod config;

#[doc(hidden)]
pub mod log;

#[doc(hidden)]
pub mod postgres;

#[doc(hidden)]
pub mod job;

#[doc(hidden)]
pub mod outbound;

#[doc(hidden)]
pub mod store;

#[doc(hidden)]
pub mod events;

#[doc(hidden)]
pub mod maintenance;

#[doc(hidden)]
pub mod worker;

#[doc(hidden)]
pub mod access;

#[doc(hidden)]
pub mod graphql;

#[doc(hidden)]
pub mod http;

pub mod native;
