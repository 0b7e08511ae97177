//! The messages of `graphql-transport-ws`.

use async_graphql::{Response, ServerError};
use serde_json::{Map, Value, json};

use crate::graphql::request_check::RawRequest;
use crate::http::operation_request::{NoRequest, from_json, scan};

/// What a client says. Without `Debug`, as it may hold a token.
pub enum ClientMessage {
    /// `connection_init`, with what may hold a token.
    ConnectionInit(Option<Map<String, Value>>),
    /// `ping`, with what the `pong` must carry.
    Ping(Option<Map<String, Value>>),
    /// `pong`.
    Pong,
    /// `subscribe`.
    Subscribe {
        /// Chosen by the client.
        id: String,
        /// What to execute, or why it cannot be kept; that is no fault of the protocol.
        request: Result<RawRequest, ServerError>,
    },
    /// `complete`.
    Complete {
        /// The operation to stop.
        id: String,
    },
}

/// Reads a message.
///
/// # Errors
/// Why it is none, for the close frame.
pub fn parse(text: &str) -> Result<ClientMessage, String> {
    let refused = match scan(text.as_bytes()) {
        Ok(()) => None,
        Err(NoRequest::Malformed(problem)) => return Err(problem),
        Err(NoRequest::Refused(error)) => Some(error),
    };
    let Ok(Value::Object(mut message)) = serde_json::from_str(text) else {
        return Err("Invalid message received".to_owned());
    };
    let kind = match message.remove("type") {
        Some(Value::String(kind)) => kind,
        _ => return Err("Message is missing the 'type' property".to_owned()),
    };
    match kind.as_str() {
        "connection_init" => object_or_nothing(&kind, &mut message).map(ClientMessage::ConnectionInit),
        "ping" => object_or_nothing(&kind, &mut message).map(ClientMessage::Ping),
        "pong" => object_or_nothing(&kind, &mut message).map(|_| ClientMessage::Pong),
        "complete" => Ok(ClientMessage::Complete { id: id(&kind, &mut message)? }),
        "subscribe" => {
            let id = id(&kind, &mut message)?;
            let payload = match message.remove("payload") {
                Some(payload @ Value::Object(_)) => payload,
                _ => return Err("subscribe needs an object as payload".to_owned()),
            };
            let request = match (refused, from_json(payload)) {
                (_, Err(NoRequest::Malformed(problem))) => return Err(problem),
                (Some(error), _) | (None, Err(NoRequest::Refused(error))) => Err(error),
                (None, Ok(request)) => Ok(request),
            };
            Ok(ClientMessage::Subscribe { id, request })
        }
        _ => Err("Invalid message 'type' property".to_owned()),
    }
}

fn object_or_nothing(
    kind: &str,
    message: &mut Map<String, Value>,
) -> Result<Option<Map<String, Value>>, String> {
    match message.remove("payload") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(payload)) => Ok(Some(payload)),
        Some(_) => Err(format!("{kind} needs an object as payload, or none")),
    }
}

fn id(kind: &str, message: &mut Map<String, Value>) -> Result<String, String> {
    match message.remove("id") {
        Some(Value::String(id)) if !id.is_empty() => Ok(id),
        _ => Err(format!("{kind} needs a non-empty string as id")),
    }
}

/// `connection_ack`.
pub fn connection_ack() -> String {
    r#"{"type":"connection_ack"}"#.to_owned()
}

/// `pong`, with the payload of its `ping`.
pub fn pong(payload: Option<Map<String, Value>>) -> String {
    match payload {
        Some(payload) => json!({ "type": "pong", "payload": payload }).to_string(),
        None => r#"{"type":"pong"}"#.to_owned(),
    }
}

/// `next`.
pub fn next(id: &str, response: &Response) -> String {
    with_payload(id, "next", response)
}

/// `error`, after which the operation has ended.
pub fn error(id: &str, errors: &[ServerError]) -> String {
    with_payload(id, "error", &errors)
}

/// `complete`.
pub fn complete(id: &str) -> String {
    json!({ "id": id, "type": "complete" }).to_string()
}

/// Written once, without a tree in between.
fn with_payload(id: &str, kind: &'static str, payload: &impl serde::Serialize) -> String {
    #[derive(serde::Serialize)]
    struct Message<'a, P> {
        id: &'a str,
        r#type: &'static str,
        payload: &'a P,
    }
    serde_json::to_string(&Message { id, r#type: kind, payload }).unwrap_or_else(|error| {
        let errors = [crate::graphql::error::internal(&format!("a response is no JSON: {error}"))];
        json!({ "id": id, "type": "error", "payload": errors }).to_string()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graphql::error::code_of;

    #[test]
    fn what_is_no_message_is_told_from_a_request_that_is_refused() {
        for text in [
            "",
            "x",
            "[]",
            "null",
            "{}",
            r#"{"type":1}"#,
            r#"{"type":"start"}"#,
            r#"{"type":"connection_ack"}"#,
            r#"{"type":"next","id":"1","payload":{}}"#,
            r#"{"type":"subscribe","payload":{"query":"{a}"}}"#,
            r#"{"type":"subscribe","id":"","payload":{"query":"{a}"}}"#,
            r#"{"type":"subscribe","id":1,"payload":{"query":"{a}"}}"#,
            r#"{"type":"subscribe","id":"1"}"#,
            r#"{"type":"subscribe","id":"1","payload":{}}"#,
            r#"{"type":"subscribe","id":"1","payload":{"query":1}}"#,
            r#"{"type":"subscribe","id":"1","payload":{"query":"{a}","variables":[]}}"#,
            r#"{"type":"subscribe","id":"1","payload":{"query":"{a}","operationName":1}}"#,
            r#"{"type":"complete"}"#,
            r#"{"type":"ping","payload":1}"#,
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        let twice = r#"{"type":"subscribe","id":"1","payload":{"query":"{a}","variables":{"a":1,"a":2}}}"#;
        match parse(twice) {
            Ok(ClientMessage::Subscribe { id, request: Err(error) }) => {
                assert_eq!((id.as_str(), code_of(&error)), ("1", Some("INVALID_PAYLOAD")));
            }
            _ => panic!("no subscribe with a refused request"),
        }
    }

    #[test]
    fn messages_are_read() {
        assert!(matches!(parse(r#"{"type":"connection_init"}"#), Ok(ClientMessage::ConnectionInit(None))));
        assert!(matches!(parse(r#"{"type":"pong","payload":null}"#), Ok(ClientMessage::Pong)));
        let ping = parse(r#"{"type":"ping","payload":{"a":1}}"#);
        let Ok(ClientMessage::Ping(payload)) = ping else { panic!("no ping") };
        assert_eq!(pong(payload), r#"{"payload":{"a":1},"type":"pong"}"#);
        let subscribe = parse(r#"{"id":"ä","type":"subscribe","payload":{"query":"{a}","variables":null}}"#);
        assert!(matches!(subscribe, Ok(ClientMessage::Subscribe { id, request: Ok(_) }) if id == "ä"));
        assert_eq!(complete("\""), r#"{"id":"\"","type":"complete"}"#);
    }
}
