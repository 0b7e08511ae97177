//! GraphQL by POST: JSON in the body, bounded in size and time.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use futures_util::StreamExt;

use super::answer::Answer;
use super::execution::{self, Incoming, Method, Reply};
use super::negotiation::{Accepted, is_json};
use super::operation_request::{from_json, scanned_json};
use super::{HttpState, text_header};
use crate::graphql::error::Code;

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Room that is made for a body before it has arrived, whatever its length is said to be.
const FIRST_ROOM: usize = 64 << 10;

/// Reads the body and executes what it holds.
pub async fn reply(state: &HttpState, accepted: Accepted, request: Request) -> Reply {
    let (parts, body) = request.into_parts();
    if !is_json(&parts.headers) {
        let error = Code::BadRequest.error("the body must be application/json in UTF-8");
        return Answer::Refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, error).into();
    }
    let limit = state.config.max_body_bytes;
    let announced =
        text_header(&parts.headers, header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
    let bytes = match tokio::time::timeout(BODY_TIMEOUT, read(body, announced, limit)).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(refused)) => return refused.into(),
        Err(_) => {
            let message = format!("the body did not arrive within {} s", BODY_TIMEOUT.as_secs());
            return Answer::Refused(StatusCode::REQUEST_TIMEOUT, Code::BadRequest.error(message)).into();
        }
    };
    let raw = scanned_json(&bytes).and_then(from_json);
    drop(bytes);
    let viewer = state.viewer(&parts.headers);
    execution::reply(state, Incoming { accepted, method: Method::Post, viewer, raw }).await
}

/// The whole body, unless it is larger than `limit`, announced or not.
async fn read(body: Body, announced: Option<usize>, limit: usize) -> Result<Vec<u8>, Answer> {
    let too_large = || {
        let message = format!("the body is larger than {limit} bytes");
        Answer::Refused(StatusCode::PAYLOAD_TOO_LARGE, Code::PayloadTooLarge.error(message))
    };
    if announced.is_some_and(|announced| announced > limit) {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(announced.unwrap_or_default().min(FIRST_ROOM));
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Answer::bad_request("the body broke off"))?;
        if bytes.len() + chunk.len() > limit {
            return Err(too_large());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
