//! The GraphQL API: its schema, and how a request becomes a response.
//!
//! The types are ours, never entities; a resolver parses its arguments, calls one function of the store, converts. A
//! request goes through [`prepare`], which finds all that can be known to be wrong before anything executes, and then
//! to the schema. Every error leaves with a code. The schema builds without a database; only executing needs one.

pub mod query;

pub mod mutation;
pub mod worker_mutation;

pub mod subscription;

pub mod at_once;
pub mod callback;
pub mod claim_jobs;
pub mod heartbeat;
pub mod job;
pub mod job_attempt;
pub mod job_connection;
pub mod job_error;
pub mod job_error_input;
pub mod job_filter;
pub mod job_kind;
pub mod job_load;
pub mod job_log;
pub mod job_progress;
pub mod job_status;
pub mod job_throughput;
pub mod lease;
pub mod log_line_input;
pub mod node;
pub mod queue;
pub mod queue_position;
pub mod submit_job;
pub mod submit_workflow;
pub mod viewer;
pub mod wait_reason;
pub mod worker;
pub mod workflow;
pub mod workflow_mutation;

pub mod date_time;
pub mod json;

pub mod argument;
pub mod cursor;
pub mod loaders;

pub mod error;
pub mod error_codes;

pub mod document_cache;
pub mod document_scan;
pub mod event_recipe;
pub mod field_merging;
pub mod input_types;
pub mod persisted_documents;
pub mod request_check;
pub mod subscribing;
pub mod variables;

use std::sync::Arc;

use async_graphql::{MergedObject, SDLExportOptions, SchemaBuilder, ServerError, ValidationMode};
use tokio_util::sync::CancellationToken;

use self::error_codes::{ErrorCodesFactory, RequestState};
use self::loaders::Loaders;
use self::mutation::JobMutation;
use self::query::Query;
use self::request_check::{CheckedRequest, RawRequest, RequestCheck};
use self::subscription::Subscription;
use self::worker_mutation::WorkerMutation;
use self::workflow_mutation::WorkflowMutation;
use crate::config::{Config, GraphqlConfig};
use crate::events::Events;
use crate::job::viewer::Viewer;
use crate::store::Store;

/// Everything that can be changed.
#[derive(Default, MergedObject)]
pub struct Mutation(JobMutation, WorkerMutation, WorkflowMutation);

/// Cancelled once nobody waits for the answer to a request any more; the transport puts it into the request.
#[derive(Clone, Debug, Default)]
pub struct ClientGone(pub CancellationToken);

/// The schema, ready to execute. Cheap to clone.
pub type Schema = async_graphql::Schema<Query, Mutation, Subscription>;

/// What resolvers work with.
pub struct Parts {
    /// Where the jobs are.
    pub store: Store,
    /// What happens to them.
    pub events: Events,
    /// The kinds, and the limits.
    pub config: Arc<Config>,
}

/// The schema on these parts.
pub fn schema(parts: Parts) -> Schema {
    let limits = Arc::new(parts.config.graphql.clone());
    let again =
        || Parts { store: parts.store.clone(), events: parts.events.clone(), config: parts.config.clone() };
    let of_known = builder(limits.clone()).validation_mode(ValidationMode::Fast).data(again()).finish();
    let mut builder = builder(limits.clone())
        .data(RequestCheck::new(&sdl(), limits.clone()))
        .data(subscribing::event_schema(again()))
        .data(OfKnownDocuments(of_known))
        .data(subscribing::Openings::of(&parts.config))
        .data(event_recipe::Recipes::default())
        .data(parts);
    if !limits.suggestions {
        builder = builder.disable_suggestions();
    }
    builder.finish()
}

/// The same schema for documents that have been validated before: it computes what they cost, and executes.
struct OfKnownDocuments(Schema);

/// What executes the request.
pub fn engine<'s>(schema: &'s Schema, state: &RequestState) -> &'s Schema {
    match schema.data::<OfKnownDocuments>() {
        Some(OfKnownDocuments(of_known)) if state.known_document => of_known,
        _ => schema,
    }
}

/// The schema in its own language, as `schema.graphql` has it.
pub fn sdl() -> String {
    let options =
        SDLExportOptions::new().include_specified_by().use_space_ident().prefer_single_line_descriptions();
    let sdl = builder(Arc::default()).finish().sdl_with_options(options);
    let lines = sdl.lines().map(str::trim_end);
    let mut text = lines.collect::<Vec<_>>().join("\n").trim_end().to_owned();
    text.push('\n');
    text
}

/// The request, checked and on behalf of `viewer`, ready for the schema.
///
/// # Errors
/// What is wrong with it; nothing has been executed.
pub fn prepare(schema: &Schema, raw: RawRequest, viewer: Viewer) -> Result<CheckedRequest, ServerError> {
    let missing = || error::internal("the schema was built without its parts");
    let check = schema.data::<RequestCheck>().ok_or_else(missing)?;
    let parts = schema.data::<Parts>().ok_or_else(missing)?;
    let mut checked = check.check(raw, viewer.clone())?;
    let loaders = Loaders::new(parts.store.clone(), viewer.clone());
    checked.request = checked.request.data(loaders).data(viewer);
    Ok(checked)
}

fn builder(limits: Arc<GraphqlConfig>) -> SchemaBuilder<Query, Mutation, Subscription> {
    // The engine's own limits on depth and complexity know no exemption for introspection; the extension has them. Its
    // recursion limit stays as the last line behind `request_check`.
    Schema::build(Query, Mutation::default(), Subscription)
        .limit_recursive_depth(64)
        .extension(ErrorCodesFactory { limits })
}

#[cfg(test)]
mod tests;
