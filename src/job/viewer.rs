//! Who asks. Every read of the store takes it, so that a query which forgets the client does not compile.

/// On whose behalf something is read or changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Viewer {
    /// Sees all jobs: an operator, or anyone where no tokens are in use.
    Operator,
    /// Sees the jobs of this client id only.
    Client(String),
}

impl Viewer {
    /// The client that everything is restricted to; none for an operator.
    pub fn client_id(&self) -> Option<&str> {
        match self {
            Viewer::Operator => None,
            Viewer::Client(client_id) => Some(client_id),
        }
    }

    /// True when jobs of `client_id` may be shown.
    pub fn may_see(&self, client_id: &str) -> bool {
        self.client_id().is_none_or(|own| own == client_id)
    }
}
