//! The type `JobLoad`.

use async_graphql::SimpleObject;

use super::date_time::DateTime;
use crate::store::load::Load;

/// How many jobs of a kind were active at some time.
#[derive(Clone, Debug, SimpleObject)]
pub struct JobLoad {
    /// Start of the minute, or of the bucket.
    #[graphql(complexity = 0)]
    at: DateTime,
    /// The kind.
    #[graphql(complexity = 0)]
    kind: String,
    /// Ready ones.
    #[graphql(complexity = 0)]
    pending: i32,
    /// Those that waited for their time.
    #[graphql(complexity = 0)]
    scheduled: i32,
    /// Those that workers held.
    #[graphql(complexity = 0)]
    running: i32,
    /// All three.
    #[graphql(complexity = 0)]
    total: i32,
}

impl From<Load> for JobLoad {
    fn from(load: Load) -> JobLoad {
        let Load { at, kind, pending, scheduled, running, total } = load;
        JobLoad { at: at.into(), kind, pending, scheduled, running, total }
    }
}
