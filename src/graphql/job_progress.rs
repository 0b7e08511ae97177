//! The type `JobProgress`.

use async_graphql::SimpleObject;
use entity::job;

use super::date_time::DateTime;

/// How far the latest attempt is, as its worker said last.
#[derive(Clone, Debug, SimpleObject)]
pub struct JobProgress {
    /// 0 to 1.
    #[graphql(complexity = 0)]
    fraction: Option<f64>,
    /// For people.
    #[graphql(complexity = 0)]
    message: Option<String>,
    /// When the worker said so.
    #[graphql(complexity = 0)]
    updated_at: DateTime,
}

impl JobProgress {
    /// The job's progress; none when its worker has not said any.
    pub fn of(job: &job::Model) -> Option<JobProgress> {
        Some(JobProgress {
            fraction: job.progress_fraction,
            message: job.progress_message.clone(),
            updated_at: job.progress_at?.into(),
        })
    }
}
