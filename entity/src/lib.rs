//! jobql's tables as Rust types, one file per table, and the table of legal status changes.
//!
//! The crate knows columns and states. It holds no SQL, no GraphQL and no rules about when a change is made:
//! those live in `jobql::store` and `jobql::job`.

pub mod api_token;
pub mod attempt;
pub mod client_job;
pub mod job;
pub mod job_log;
pub mod queue;
pub mod status;
pub mod submit_key;
pub mod worker;
pub mod workflow;

pub use status::{Cause, JobStatus, TRANSITIONS, Transition};
