//! The type `Viewer` and the enum `Scope`.

use async_graphql::{Enum, SimpleObject};

use crate::job::viewer::Viewer as Who;

/// Who is asking.
#[derive(Clone, Debug, SimpleObject)]
pub struct Viewer {
    /// What they may do.
    #[graphql(complexity = 0)]
    scope: Scope,
    /// Null for an operator.
    #[graphql(complexity = 0)]
    client_id: Option<String>,
}

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum Scope {
    /// Submit jobs, and see and change their own.
    Client,
    /// Everything.
    Operator,
}

impl From<&Who> for Viewer {
    fn from(who: &Who) -> Viewer {
        let scope = match who {
            Who::Operator => Scope::Operator,
            Who::Client(_) => Scope::Client,
        };
        Viewer { scope, client_id: who.client_id().map(str::to_owned) }
    }
}
