//! What a GraphQL request over HTTP is answered with, and the one table of its status codes.

use async_graphql::ServerError;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Serialize;

use super::negotiation::MediaType;
use crate::graphql::error::{Code, internal, retry_after_of};

/// Room for the headers of an answer, those of [`protective_headers`](super::protective_headers) too: to make it while they
/// came was 2.6 % of what a small request costs the server.
const HEADERS: usize = 12;

/// How far a request came.
#[derive(Debug)]
pub enum Answer {
    /// Not a request that GraphQL could look at; this status, whatever was accepted.
    Refused(StatusCode, ServerError),
    /// The same, for a method; with the ones that are allowed.
    MethodNotAllowed(ServerError, &'static str),
    /// Found wrong before execution began.
    RequestErrors(Vec<ServerError>),
    /// Executed, with or without errors.
    Executed(async_graphql::Response),
}

impl Answer {
    /// 400.
    pub fn bad_request(problem: impl Into<String>) -> Answer {
        Answer::Refused(StatusCode::BAD_REQUEST, Code::BadRequest.error(problem))
    }

    /// 401; the same whatever is wrong with the token.
    pub fn unauthenticated() -> Answer {
        Answer::Refused(StatusCode::UNAUTHORIZED, unauthenticated())
    }

    /// 405.
    pub fn method_not_allowed(problem: &str, allowed: &'static str) -> Answer {
        Answer::MethodNotAllowed(Code::BadRequest.error(problem), allowed)
    }

    /// 429.
    pub fn over_a_limit(error: ServerError) -> Answer {
        Answer::Refused(StatusCode::TOO_MANY_REQUESTS, error)
    }

    /// 503, before anything was executed.
    pub fn unavailable(error: ServerError) -> Answer {
        Answer::Refused(StatusCode::SERVICE_UNAVAILABLE, error)
    }

    /// The status. The table is that of the specification "GraphQL over HTTP" as of 2025; later drafts move some of
    /// the 400s to 422.
    pub fn status(&self, media_type: MediaType) -> StatusCode {
        match (self, media_type) {
            (Answer::Refused(status, _), _) => *status,
            (Answer::MethodNotAllowed(..), _) => StatusCode::METHOD_NOT_ALLOWED,
            (Answer::RequestErrors(_), MediaType::GraphqlResponse) => StatusCode::BAD_REQUEST,
            (Answer::RequestErrors(_), MediaType::Json) => StatusCode::OK,
            (Answer::Executed(_), _) => StatusCode::OK,
        }
    }

    /// The whole response.
    pub fn into_response(self, media_type: MediaType) -> Response {
        let status = self.status(media_type);
        let allow = match &self {
            Answer::MethodNotAllowed(_, allowed) => Some(HeaderValue::from_static(allowed)),
            _ => None,
        };
        let body = match &self {
            Answer::Refused(_, error) | Answer::MethodNotAllowed(error, _) => {
                body_of_errors(std::slice::from_ref(error))
            }
            Answer::RequestErrors(errors) => body_of_errors(errors),
            Answer::Executed(response) => serde_json::to_vec(response).unwrap_or_else(|error| {
                body_of_errors(&[internal(&format!("a response is no JSON: {error}"))])
            }),
        };
        let retry_after = match &self {
            Answer::Refused(_, error) => retry_after_of(error).map(HeaderValue::from),
            _ => None,
        };
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        *response.headers_mut() = HeaderMap::with_capacity(HEADERS);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type.content_type()));
        headers.insert(header::VARY, HeaderValue::from_static("Accept"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(allow) = allow {
            headers.insert(header::ALLOW, allow);
        }
        if let Some(retry_after) = retry_after {
            headers.insert(header::RETRY_AFTER, retry_after);
        }
        response
    }
}

/// What is said to who has no valid token.
pub fn unauthenticated() -> ServerError {
    Code::Unauthenticated.error("a valid token is needed, as Authorization: Bearer TOKEN")
}

/// Without a `data` key, as nothing was executed.
fn body_of_errors(errors: &[ServerError]) -> Vec<u8> {
    #[derive(Serialize)]
    struct Body<'a> {
        errors: &'a [ServerError],
    }
    serde_json::to_vec(&Body { errors }).unwrap_or_else(|_| br#"{"errors":[]}"#.to_vec())
}
