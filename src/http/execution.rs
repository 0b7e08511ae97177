//! Runs a checked request and tells how far it came. A panic in a resolver is one request's error, not the server's.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_graphql::parser::types::OperationType;
use async_graphql::{Response, ServerError};
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use tokio_util::sync::CancellationToken;

use super::HttpState;
use super::answer::Answer;
use super::limits::{Holder, Share};
use super::negotiation::{Accepted, StreamType};
use super::operation_request::NoRequest;
use crate::graphql::error::{Code, internal};
use crate::graphql::request_check::{CheckedRequest, RawRequest};
use crate::graphql::{self, ClientGone};
use crate::job::viewer::Viewer;

/// How long a query or mutation may take; what it waits for by itself ends after 25 s.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// How a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// May only read.
    Get,
    /// May change.
    Post,
}

/// A request as it came in.
pub struct Incoming {
    /// What the client takes for an answer.
    pub accepted: Accepted,
    /// How it came.
    pub method: Method,
    /// On whose behalf.
    pub viewer: Viewer,
    /// Whose limits it counts against, beside the viewer's.
    pub holders: Vec<Holder>,
    /// What it asks for.
    pub raw: Result<RawRequest, NoRequest>,
}

/// What a request is answered with.
pub enum Reply {
    /// One answer.
    Answer(Box<Answer>),
    /// A stream of events.
    Stream(StreamType, BoxStream<'static, Yielded>),
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Reply {
        Reply::Answer(Box::new(answer))
    }
}

/// What an operation yields while it runs as a stream.
#[derive(Debug)]
pub enum Yielded {
    /// A result.
    Response(Response),
    /// It was found wrong before execution began, and has ended.
    RequestErrors(Vec<ServerError>),
    /// It has ended.
    Complete,
}

/// Checks the request and executes it. A subscription becomes a stream; anything else does only for a client that
/// accepts nothing but streams.
pub async fn reply(state: &HttpState, incoming: Incoming) -> Reply {
    let Incoming { accepted, method, viewer, mut holders, raw } = incoming;
    if let Some(holder) = Holder::of_viewer(&viewer) {
        if let Err(error) = state.limiter.request(&holder) {
            return Answer::over_a_limit(error).into();
        }
        holders.push(holder);
    }
    let refused = |error: ServerError| match (accepted.json, accepted.stream) {
        (None, Some(stream_type)) => {
            Reply::Stream(stream_type, stream::iter([Yielded::RequestErrors(vec![error])]).boxed())
        }
        _ => Answer::RequestErrors(vec![error]).into(),
    };
    let raw = match raw {
        Ok(raw) => raw,
        Err(NoRequest::Malformed(problem)) => return Answer::bad_request(problem).into(),
        Err(NoRequest::Refused(error)) => return refused(error),
    };
    let checked = match graphql::prepare(&state.schema, raw, viewer) {
        Ok(checked) => checked,
        Err(error) => return refused(error),
    };
    match (checked.operation, accepted.stream, accepted.json) {
        (OperationType::Mutation, ..) if method == Method::Get => {
            Answer::method_not_allowed("a mutation needs POST", "POST").into()
        }
        (OperationType::Subscription, Some(stream_type), _) | (_, Some(stream_type), None) => {
            let shares = match admit(state, &checked, &holders) {
                Ok(operation) => state.limiter.socket(&holders).map(|socket| (operation, socket)),
                Err(refused) => return Reply::Answer(refused),
            };
            match shares {
                Ok(shares) => Reply::Stream(stream_type, holding(run(state, checked), shares)),
                Err(error) => Answer::over_a_limit(error).into(),
            }
        }
        (OperationType::Subscription, None, _) => {
            let message = "a subscription needs Accept: text/event-stream or multipart/mixed;subscriptionSpec=1.0, \
                           or a WebSocket with the subprotocol graphql-transport-ws";
            Answer::RequestErrors(vec![Code::BadRequest.error(message)]).into()
        }
        _ => match admit(state, &checked, &holders) {
            Ok(_share) => execute(state, checked).await.into(),
            Err(refused) => Reply::Answer(refused),
        },
    }
}

/// Whether a checked request may be executed now; its share is held for as long as it is.
fn admit(state: &HttpState, checked: &CheckedRequest, holders: &[Holder]) -> Result<Share, Box<Answer>> {
    if !checked.state.without_database {
        state.availability.check().map_err(|error| Box::new(Answer::unavailable(error)))?;
    }
    state.limiter.operation(holders).map_err(|error| Box::new(Answer::over_a_limit(error)))
}

/// The stream, and something that is held until it is dropped.
pub fn holding<T: Send + 'static>(
    yielded: BoxStream<'static, Yielded>,
    held: T,
) -> BoxStream<'static, Yielded> {
    let yielded = yielded.map(move |yielded| {
        let _ = &held;
        yielded
    });
    yielded.boxed()
}

async fn execute(state: &HttpState, checked: CheckedRequest) -> Answer {
    let CheckedRequest { request, operation, state: progress, .. } = checked;
    // The guard goes with the handler's future, and the token tells what goes on without it.
    let gone = CancellationToken::new();
    let request = request.data(ClientGone(gone.clone()));
    let _tells_when_dropped = gone.drop_guard();
    let schema = graphql::engine(&state.schema, &progress).clone();
    let run = async move { schema.execute(request).await };
    let outcome = if operation == OperationType::Mutation {
        // The handler's future is dropped when the client goes away; what a mutation has begun it must finish.
        let running = state.tasks.spawn(run);
        tokio::time::timeout(REQUEST_TIMEOUT, running).await.map(|ran| ran.unwrap_or_else(|_| panicked()))
    } else {
        let run = AssertUnwindSafe(run).catch_unwind();
        tokio::time::timeout(REQUEST_TIMEOUT, run).await.map(|ran| ran.unwrap_or_else(|_| panicked()))
    };
    if let Ok(response) = &outcome {
        state.availability.note(response);
    }
    match outcome {
        Ok(response) if progress.execution_began.load(Ordering::Relaxed) => Answer::Executed(response),
        Ok(response) => Answer::RequestErrors(response.errors),
        Err(_) => {
            let message = format!("given up after {} s; a mutation goes on", REQUEST_TIMEOUT.as_secs());
            Answer::Executed(Response::from_errors(vec![Code::RequestTimeout.error(message)]))
        }
    }
}

/// Runs the operation as a stream of what it yields, which ends where the operation does.
pub fn run(state: &HttpState, checked: CheckedRequest) -> BoxStream<'static, Yielded> {
    let progress = checked.state.clone();
    let responses = match checked.operation {
        // What a mutation has begun it must finish, also when it is stopped or the client goes.
        OperationType::Mutation => {
            let gone = CancellationToken::new();
            let schema = graphql::engine(&state.schema, &progress).clone();
            let request = checked.request.data(ClientGone(gone.clone()));
            let run = state.tasks.spawn(async move { schema.execute(request).await });
            let tells_when_dropped = gone.drop_guard();
            stream::once(async move {
                let response = run.await.unwrap_or_else(|_| panicked());
                drop(tells_when_dropped.disarm());
                response
            })
            .boxed()
        }
        OperationType::Query => {
            let (schema, request) = (graphql::engine(&state.schema, &progress).clone(), checked.request);
            let run = AssertUnwindSafe(async move { schema.execute(request).await }).catch_unwind();
            stream::once(Box::pin(async move { run.await.unwrap_or_else(|_| panicked()) })).boxed()
        }
        OperationType::Subscription => {
            let caught =
                AssertUnwindSafe(graphql::subscribing::subscribe(&state.schema, checked)).catch_unwind();
            caught.map(|response| response.unwrap_or_else(|_| panicked())).boxed()
        }
    };
    let availability = state.availability.clone();
    let yielded = responses.map(move |response| {
        availability.note(&response);
        if progress.execution_began.load(Ordering::Relaxed) {
            Yielded::Response(response)
        } else {
            Yielded::RequestErrors(response.errors)
        }
    });
    yielded.boxed()
}

fn panicked() -> Response {
    Response::from_errors(vec![internal("a resolver panicked")])
}
