//! jobql: a job server with a GraphQL front, on PostgreSQL.
//!
//! The modules in the order of their layers, lowest first; each uses those above it in this list and never one below.
//! `graphql` and `worker` meet only in the database.

pub mod error;

pub mod config;

pub mod log;

pub mod postgres;

pub mod job;

pub mod store;

pub mod events;

pub mod maintenance;

pub mod worker;

pub mod access;

pub mod graphql;

pub mod http;
