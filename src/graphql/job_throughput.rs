//! The type `JobThroughput`.

use async_graphql::SimpleObject;

use super::date_time::DateTime;
use super::queue_position::int;
use crate::store::throughput::Throughput;

/// What was got done of a kind in some time.
#[derive(Clone, Debug, SimpleObject)]
pub struct JobThroughput {
    /// Start of the minute, or of the bucket.
    #[graphql(complexity = 0)]
    at: DateTime,
    /// The kind.
    #[graphql(complexity = 0)]
    kind: String,
    /// Attempts that ended, well or not.
    #[graphql(complexity = 0)]
    attempts: i32,
    /// Seconds that they took together.
    #[graphql(complexity = 0)]
    seconds: f64,
}

impl From<Throughput> for JobThroughput {
    fn from(done: Throughput) -> JobThroughput {
        let Throughput { at, kind, attempts, seconds } = done;
        JobThroughput { at: at.into(), kind, attempts: int(attempts), seconds }
    }
}
