//! The interface `Node`.

use async_graphql::{ID, Interface};

use super::job::Job;
use super::workflow::Workflow;

/// Whatever can be fetched again by its id.
#[derive(Clone, Interface)]
#[graphql(field(name = "id", ty = "ID", desc = "Unique among all nodes."))]
pub enum Node {
    /// A job.
    Job(Job),
    /// A workflow.
    Workflow(Workflow),
}
