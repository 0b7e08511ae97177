//! The type `JobKind` and the enum `RunnerType`.

use async_graphql::{Enum, SimpleObject};

use crate::config::{Kind, Runner};

/// A kind of job that this server knows, with its defaults.
#[derive(Clone, Debug, SimpleObject)]
pub struct JobKind {
    /// What submitJob names.
    #[graphql(complexity = 0)]
    name: String,
    /// A sentence for people.
    #[graphql(complexity = 0)]
    description: Option<String>,
    /// The queue of its jobs.
    #[graphql(complexity = 0)]
    queue: String,
    /// Priority of its jobs unless they bring their own; lower runs first.
    #[graphql(complexity = 0)]
    priority: i32,
    /// How often a job is tried.
    #[graphql(complexity = 0)]
    max_attempts: i32,
    /// How long one attempt may take.
    #[graphql(complexity = 0)]
    timeout_seconds: i32,
    /// What runs its jobs.
    #[graphql(complexity = 0)]
    runner: RunnerType,
}

/// What runs a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum RunnerType {
    /// Work that is compiled in.
    Builtin,
    /// A program, named by the configuration.
    Command,
}

impl From<&Kind> for JobKind {
    fn from(kind: &Kind) -> JobKind {
        JobKind {
            name: kind.name.clone(),
            description: kind.description.clone(),
            queue: kind.queue.clone(),
            priority: kind.priority.into(),
            max_attempts: kind.max_attempts.into(),
            timeout_seconds: kind.timeout_seconds,
            runner: match kind.runner {
                Runner::Builtin(_) => RunnerType::Builtin,
                Runner::Command(_) => RunnerType::Command,
            },
        }
    }
}
