//! Runs a subscription: the stream of what happens, and a response for each event.
//!
//! The engine's own way keeps, for as long as a subscription is open, all that executing it needs: 14 kB each, measured
//! with 5,000 of them. Here a subscription that waits keeps its document and its place among the watchers. It is
//! validated once, by the schema that clients see, and each event executes the document as a query of a second schema,
//! whose root gives the event's job; that one only executes, so it validates no more than the engine must. This holds
//! for `jobUpdated`, which many watch; the other fields go the engine's way.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use async_graphql::parser::types::{
    DocumentOperations, ExecutableDocument, Field, OperationType, Selection, SelectionSet,
};
use async_graphql::{
    Context, EmptyMutation, EmptySubscription, ID, InputType, Name, Object, Positioned, Response, Result,
    ServerError, ValidationMode,
};
use entity::job;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::sync::Semaphore;

use super::error::{self, Code, set_code};
use super::error_codes::ErrorCodesFactory;
use super::event_recipe::Recipes;
use super::job::Job;
use super::job_status::JobStatus;
use super::node::Node;
use super::request_check::CheckedRequest;
use super::subscription::{JobUpdated, updates};
use super::{Parts, Schema};
use crate::config::Config;

/// What executes the events.
pub(super) type EventSchema = async_graphql::Schema<EventRoot, EmptyMutation, EmptySubscription>;

/// Lets a few subscriptions at a time make their first read. A client that comes back with hundreds of them, or hundreds
/// of clients after a restart, would otherwise fill the pool's queue and be refused as UNAVAILABLE.
pub(super) struct Openings(Semaphore);

impl Openings {
    pub(super) fn of(config: &Config) -> Openings {
        let half = usize::try_from(config.database_connections / 2).unwrap_or(1);
        Openings(Semaphore::new(half.max(1)))
    }
}

/// An event: a job, or why there is none.
pub(super) type Event = crate::error::Result<Arc<job::Model>>;

/// The schema for events, on the same parts.
pub(super) fn event_schema(parts: Parts) -> EventSchema {
    let limits = Arc::new(parts.config.graphql.clone());
    EventSchema::build(EventRoot, EmptyMutation, EmptySubscription)
        .register_output_type::<Node>()
        .validation_mode(ValidationMode::Fast)
        .extension(ErrorCodesFactory { limits })
        .data(parts)
        .finish()
}

/// The root of an event.
pub(super) struct EventRoot;

#[Object(name = "Subscription")]
impl EventRoot {
    /// The job of the event. Its arguments have done their part.
    async fn job_updated(&self, ctx: &Context<'_>) -> Result<Job> {
        let event = ctx.data::<Mutex<Option<Event>>>()?.lock().unwrap_or_else(PoisonError::into_inner).take();
        let missing = || async_graphql::Error::new("an event was taken twice");
        Ok(event.ok_or_else(missing)??.into())
    }
}

/// The responses of a subscription, from its first event to its end.
pub fn subscribe(schema: &Schema, checked: CheckedRequest) -> BoxStream<'static, Response> {
    // In boxes of their own, so that what opened the stream, or made a response, is gone while it waits.
    stream::once(Box::pin(open(schema.clone(), checked))).flatten().boxed()
}

async fn open(schema: Schema, checked: CheckedRequest) -> BoxStream<'static, Response> {
    let CheckedRequest { mut request, state, viewer, .. } = checked;
    let engine = super::engine(&schema, &state);
    if !state.validate_only {
        return engine.execute_stream(request);
    }
    let only = |response: Response| stream::once(std::future::ready(response)).boxed();
    let missing =
        || only(Response::from_errors(vec![error::internal("the schema was built without its parts")]));
    let (Some(parts), Some(events)) = (schema.data::<Parts>(), schema.data::<EventSchema>()) else {
        return missing();
    };
    let (Some(openings), Some(recipes)) = (schema.data::<Openings>(), schema.data::<Recipes>()) else {
        return missing();
    };
    let Ok(document) = request.parsed_query().cloned() else { return missing() };
    let validated = engine.execute(request).await;
    if !state.execution_began.load(Ordering::Relaxed) {
        return only(validated);
    }
    let of_job = match root(&document)
        .ok_or_else(|| Code::ValidationFailed.error("no field is left"))
        .and_then(arguments)
    {
        Ok(of_job) => of_job,
        Err(error) => return only(Response::from_errors(vec![error])),
    };
    // Never closed, so there is always a turn.
    let turn = openings.0.acquire().await;
    let updates = match updates(parts, &viewer, of_job).await {
        Ok(updates) => updates,
        Err(error) => stream::once(std::future::ready(Err(error))).boxed(),
    };
    drop(turn);
    let recipe = recipes.of(events, &parts.store, viewer, as_query(document));
    let responses = updates.then(move |event| {
        let recipe = recipe.clone();
        Box::pin(async move { recipe.respond(event).await })
    });
    responses.boxed()
}

fn as_query(mut document: ExecutableDocument) -> ExecutableDocument {
    if let DocumentOperations::Single(operation) = &mut document.operations {
        operation.node.ty = OperationType::Query;
    }
    document
}

/// The one root field, wherever fragments put it, if it is `jobUpdated`.
pub(super) fn root(document: &ExecutableDocument) -> Option<&Field> {
    fn first<'a>(document: &'a ExecutableDocument, set: &'a SelectionSet) -> Option<&'a Field> {
        set.items.iter().find_map(|selection| match &selection.node {
            Selection::Field(field) => Some(&field.node),
            Selection::InlineFragment(fragment) => first(document, &fragment.node.selection_set.node),
            Selection::FragmentSpread(spread) => {
                let fragment = document.fragments.get(&spread.node.fragment_name.node)?;
                first(document, &fragment.node.selection_set.node)
            }
        })
    }
    let (_, operation) = document.operations.iter().next()?;
    first(document, &operation.node.selection_set.node).filter(|field| field.name.node == "jobUpdated")
}

/// The arguments of `jobUpdated`; its variables have their values already.
fn arguments(field: &Field) -> std::result::Result<JobUpdated, ServerError> {
    Ok(JobUpdated {
        id: argument::<Option<ID>>(field, "id")?,
        client_id: argument(field, "clientId")?,
        kind: argument(field, "kind")?,
        queue: argument(field, "queue")?,
        status: argument::<Option<Vec<JobStatus>>>(field, "status")?,
        workflow_id: argument::<Option<ID>>(field, "workflowId")?,
        after_version: argument(field, "afterVersion")?,
    })
}

fn argument<T: InputType>(field: &Field, name: &str) -> std::result::Result<T, ServerError> {
    let given: Option<&(Positioned<Name>, Positioned<_>)> =
        field.arguments.iter().find(|(known, _)| known.node == name);
    let value = given.and_then(|(_, value)| value.node.clone().into_const());
    T::parse(value).map_err(|error| {
        let mut error = error.into_server_error(field.name.pos);
        set_code(&mut error, Code::ValidationFailed.as_str());
        error
    })
}
