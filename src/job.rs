//! The rules of a job, without IO: what may be submitted, what it is called, when a failed attempt is tried again.

pub mod backoff;
pub mod callback;
pub mod failure;
pub mod forecast;
pub mod lease_token;
pub mod outcome;
pub mod submission;
pub mod token;
pub mod viewer;
pub mod workflow;

pub mod display_name;
pub mod json_scan;
