//! The type `Viewer` and the enum `Scope`.

use async_graphql::{Enum, SimpleObject};

use crate::job::viewer::Viewer as Who;

/// Who is asking.
#[derive(Clone, Debug, SimpleObject)]
pub struct Viewer {
    /// What they may do.
    #[graphql(complexity = 0)]
    scope: Scope,
    /// The client whose jobs these are; null for an operator and for a worker.
    #[graphql(complexity = 0)]
    client_id: Option<String>,
}

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum Scope {
    /// Submit jobs, and see and change their own.
    Client,
    /// See the jobs of some kinds, and work on them.
    Worker,
    /// Everything.
    Operator,
}

impl From<&Who> for Viewer {
    fn from(who: &Who) -> Viewer {
        match who {
            Who::Operator => Viewer { scope: Scope::Operator, client_id: None },
            Who::Client(own) => Viewer { scope: Scope::Client, client_id: Some(own.clone()) },
            Who::Worker(_) => Viewer { scope: Scope::Worker, client_id: None },
        }
    }
}
