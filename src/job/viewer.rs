//! Who asks. Every read and change of the store takes it, so that a query which forgets the client does not compile.
//!
//! What a viewer sees is said here for rows in memory and in `store::sight` for rows in the database, and nowhere else.

use std::sync::Arc;

use crate::error::{Error, Result};

/// On whose behalf something is read or changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Viewer {
    /// Sees and changes everything: an operator, or anyone where no tokens are in use.
    Operator,
    /// Sees and changes the jobs of this client id only.
    Client(String),
    /// Sees the jobs of its kinds, and works on them.
    Worker(Arc<WorkerScope>),
}

/// What a worker may work on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerScope {
    /// What its token is known by; the same for all processes that use the token, and no secret.
    pub token: String,
    /// What people call the token.
    pub name: String,
    /// The kinds.
    pub kinds: Vec<String>,
}

impl WorkerScope {
    /// True when the kind is one of its own.
    pub fn has_kind(&self, kind: &str) -> bool {
        self.kinds.iter().any(|own| own == kind)
    }
}

impl Viewer {
    /// True when a job of this client and kind may be shown.
    pub fn may_see(&self, client_id: &str, kind: &str) -> bool {
        match self {
            Viewer::Operator => true,
            Viewer::Client(own) => own == client_id,
            Viewer::Worker(scope) => scope.has_kind(kind),
        }
    }

    /// Refuses who may not submit and change jobs as their client does.
    ///
    /// # Errors
    /// `Forbidden` for workers.
    pub fn may_change_jobs(&self) -> Result<()> {
        match self {
            Viewer::Operator | Viewer::Client(_) => Ok(()),
            Viewer::Worker(_) => {
                Err(Error::forbidden("a worker's token can not submit, change or delete jobs"))
            }
        }
    }

    /// The client id that `argument` names, unless it is one whose jobs the viewer cannot see anyway.
    ///
    /// # Errors
    /// `Forbidden`, whether there is such a client or not.
    pub fn may_name_client(&self, argument: &str, client_id: String) -> Result<String> {
        match self {
            Viewer::Client(own) if *own != client_id => {
                Err(Error::forbidden(format!("{argument}: another client's jobs are not to be seen or made")))
            }
            _ => Ok(client_id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sees_their_own() {
        let client = Viewer::Client("a".to_owned());
        let scope = WorkerScope { token: "t".to_owned(), name: String::new(), kinds: vec!["sum".to_owned()] };
        let worker = Viewer::Worker(Arc::new(scope));
        assert!(Viewer::Operator.may_see("a", "sum") && Viewer::Operator.may_see("b", "echo"));
        assert!(client.may_see("a", "echo") && !client.may_see("b", "sum") && !client.may_see("A", "sum"));
        assert!(worker.may_see("b", "sum") && !worker.may_see("b", "su") && !worker.may_see("a", "echo"));
    }

    #[test]
    fn a_client_names_no_other_and_a_worker_changes_nothing() {
        let client = Viewer::Client("a".to_owned());
        assert_eq!(client.may_name_client("clientId", "a".to_owned()).unwrap(), "a");
        let refused = client.may_name_client("clientId", "b".to_owned()).unwrap_err();
        assert!(matches!(refused, Error::Forbidden { problem } if problem.starts_with("clientId")));
        assert!(Viewer::Operator.may_name_client("clientId", "b".to_owned()).is_ok());
        let scope = WorkerScope { token: "t".to_owned(), name: String::new(), kinds: Vec::new() };
        assert!(Viewer::Worker(Arc::new(scope)).may_change_jobs().is_err());
        assert!(client.may_change_jobs().is_ok());
    }
}
