//! Server-sent events, as graphql-sse has them in its "distinct connections" mode: `next` for each result, then
//! `complete`. A comment now and then keeps proxies from taking a quiet stream for a dead one.

use crate::graphql::error::internal;

/// The value of Content-Type.
pub const CONTENT_TYPE: &str = "text/event-stream; charset=utf-8";
/// Nothing that a client sees; sent first, so that it has the headers at once, and while nothing happens.
pub const COMMENT: &str = ":\n\n";
/// The end. Browsers deliver an event only if it has a data line.
pub const COMPLETE: &str = "event: complete\ndata:\n\n";

/// A result. JSON has no line breaks of its own, so one data line holds it.
pub fn next(result: &impl serde::Serialize) -> String {
    let data = serde_json::to_string(result).unwrap_or_else(|error| {
        let error = internal(&format!("a response is no JSON: {error}"));
        serde_json::json!({ "errors": [error] }).to_string()
    });
    format!("event: next\ndata: {data}\n\n")
}
