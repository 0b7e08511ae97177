//! Apollo's protocol for subscriptions: `multipart/mixed;subscriptionSpec=1.0`.
//!
//! Each part is JSON with a result as its `payload`, or `{}` as a heartbeat. The delimiter that ends a part follows it at
//! once; a reader that looks for it would otherwise have each event only with the next.

use async_graphql::ServerError;
use serde::Serialize;

use crate::graphql::error::{Code, internal};

/// The value of Content-Type.
pub const CONTENT_TYPE: &str = "multipart/mixed;boundary=\"graphql\";subscriptionSpec=1.0";
/// What opens the body.
pub const OPENING: &str = "\r\n--graphql";
/// After the last delimiter.
pub const CLOSING: &str = "--\r\n";

/// A part with a result.
pub fn next(result: &impl Serialize) -> String {
    #[derive(Serialize)]
    struct Payload<'a, R> {
        payload: &'a R,
    }
    part(&serde_json::to_string(&Payload { payload: result }).unwrap_or_else(|error| {
        let error = internal(&format!("a response is no JSON: {error}"));
        serde_json::json!({ "payload": { "errors": [error] } }).to_string()
    }))
}

/// A part that says only that the server lives.
pub fn heartbeat() -> String {
    part("{}")
}

/// The error of the transport that ends a stream at a shutdown.
pub fn going_away() -> String {
    broken_off(Code::Unavailable.error("the server shuts down; subscribe again"))
}

/// An error of the transport, which ends the stream.
pub fn broken_off(error: ServerError) -> String {
    part(&serde_json::json!({ "payload": null, "errors": [error] }).to_string()) + CLOSING
}

fn part(json: &str) -> String {
    format!("\r\nContent-Type: application/json\r\n\r\n{json}{OPENING}")
}
