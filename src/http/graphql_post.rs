//! GraphQL by POST: JSON in the body, bounded in size and time.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::extract::Request;
use axum::http::{StatusCode, header};
use futures_util::StreamExt;

use super::answer::Answer;
use super::execution::{self, Incoming, Method, Reply};
use super::limits::Holder;
use super::negotiation::{Accepted, is_json};
use super::operation_request::{from_json, scanned_json};
use super::{HttpState, text_header};
use crate::access::Caller;
use crate::graphql::error::Code;

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of a body that is too large is read all the same, so that its client can hear the answer.
const MAX_PASSED_OVER: usize = 64 << 20;
/// And for how long.
const PASS_OVER_WITHIN: Duration = Duration::from_secs(5);
/// Room that is made for a body before it has arrived, whatever its length is said to be.
const FIRST_ROOM: usize = 64 << 10;

/// Reads the body and executes what it holds.
pub async fn reply(
    state: &HttpState,
    accepted: Accepted,
    caller: &Caller,
    request: Request,
    holders: Vec<Holder>,
) -> Reply {
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
    let viewer = caller.viewer.clone();
    execution::reply(state, Incoming { accepted, method: Method::Post, viewer, holders, raw }).await
}

/// Reads on without keeping anything, for the same reason as below.
pub async fn pass_over_body(body: Body) {
    pass_over(&mut body.into_data_stream()).await;
}

/// The whole body, unless it is larger than `limit`, announced or not.
async fn read(body: Body, announced: Option<usize>, limit: usize) -> Result<Vec<u8>, Answer> {
    let too_large = || {
        let message = format!("the body is larger than {limit} bytes");
        Answer::Refused(StatusCode::PAYLOAD_TOO_LARGE, Code::PayloadTooLarge.error(message))
    };
    let mut chunks = body.into_data_stream();
    if announced.is_some_and(|announced| announced > limit) {
        pass_over(&mut chunks).await;
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(announced.unwrap_or_default().min(FIRST_ROOM));
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Answer::bad_request("the body broke off"))?;
        if bytes.len() + chunk.len() > limit {
            drop(bytes);
            pass_over(&mut chunks).await;
            return Err(too_large());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// Reads on for a while without keeping anything. A connection that is closed while its client still sends is reset,
/// and the client sees a broken pipe in place of the answer.
async fn pass_over(chunks: &mut BodyDataStream) {
    let mut passed = 0;
    let passing = async {
        while let Some(Ok(chunk)) = chunks.next().await {
            passed += chunk.len();
            if passed > MAX_PASSED_OVER {
                break;
            }
        }
    };
    // Out of time or not: the answer is the same.
    let _ = tokio::time::timeout(PASS_OVER_WITHIN, passing).await;
}
