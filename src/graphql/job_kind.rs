//! The type `JobKind` and the enum `RunnerType`.

use async_graphql::{Enum, SimpleObject};

use super::json::Json;
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
    /// What a payload must fit, as a JSON Schema; null when any will do.
    #[graphql(complexity = 0)]
    input_schema: Option<Json>,
    /// What a result must fit, as a JSON Schema; null when any will do.
    #[graphql(complexity = 0)]
    result_schema: Option<Json>,
    /// What runs its jobs.
    #[graphql(complexity = 0)]
    runner: RunnerType,
    /// False while new jobs are refused; those that are there are finished.
    #[graphql(complexity = 0)]
    active: bool,
}

/// What runs a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum RunnerType {
    /// Work that is compiled in.
    Builtin,
    /// A program, named by the configuration.
    Command,
    /// A signed POST to a URL that the configuration names.
    Http,
    /// Workers in any language, by claimJobs.
    External,
    /// A program in Rust that registers a handler, or workers by claimJobs.
    Native,
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
            input_schema: kind.input_schema.as_ref().map(|schema| Json::Own(schema.source().clone())),
            result_schema: kind.result_schema.as_ref().map(|schema| Json::Own(schema.source().clone())),
            active: kind.active,
            runner: match kind.runner {
                Runner::Builtin(_) => RunnerType::Builtin,
                Runner::Command(_) => RunnerType::Command,
                Runner::Http(_) => RunnerType::Http,
                Runner::External => RunnerType::External,
                Runner::Native => RunnerType::Native,
            },
        }
    }
}
