//! Runs a checked request and tells how far it came. A panic in a resolver is one request's error, not the server's.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;

use async_graphql::Response;
use async_graphql::parser::types::OperationType;
use axum::http::HeaderMap;
use futures_util::FutureExt;

use super::HttpState;
use super::answer::Answer;
use super::operation_request::NoRequest;
use crate::graphql;
use crate::graphql::error::{Code, internal};
use crate::graphql::request_check::{CheckedRequest, RawRequest};

/// How a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// May only read.
    Get,
    /// May change.
    Post,
}

/// Checks the request and executes it.
pub async fn answer(
    state: &HttpState,
    headers: &HeaderMap,
    method: Method,
    raw: Result<RawRequest, NoRequest>,
) -> Answer {
    let raw = match raw {
        Ok(raw) => raw,
        Err(NoRequest::Malformed(problem)) => return Answer::bad_request(problem),
        Err(NoRequest::Refused(error)) => return Answer::RequestErrors(vec![error]),
    };
    let checked = match graphql::prepare(&state.schema, raw, state.viewer(headers)) {
        Ok(checked) => checked,
        Err(error) => return Answer::RequestErrors(vec![error]),
    };
    match (checked.operation, method) {
        (OperationType::Mutation, Method::Get) => Answer::method_not_allowed("a mutation needs POST", "POST"),
        (OperationType::Subscription, _) => {
            let message = "a subscription needs a WebSocket with the subprotocol graphql-transport-ws";
            Answer::RequestErrors(vec![Code::BadRequest.error(message)])
        }
        _ => execute(state, checked).await,
    }
}

async fn execute(state: &HttpState, checked: CheckedRequest) -> Answer {
    let CheckedRequest { request, operation, state: progress } = checked;
    let schema = state.schema.clone();
    let run = async move { schema.execute(request).await };
    let outcome = if operation == OperationType::Mutation {
        // The handler's future is dropped when the client goes away; what a mutation has begun it must finish.
        state.tasks.spawn(run).await.map_err(|_| ())
    } else {
        AssertUnwindSafe(run).catch_unwind().await.map_err(|_| ())
    };
    match outcome {
        Ok(response) if progress.execution_began.load(Ordering::Relaxed) => Answer::Executed(response),
        Ok(response) => Answer::RequestErrors(response.errors),
        Err(()) => Answer::Executed(Response::from_errors(vec![internal("a resolver panicked")])),
    }
}
