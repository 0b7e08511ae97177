//! Any text is a message or is refused with a reason that fits its frame; what is answered to it is JSON, and says back what
//! it was given.
#![no_main]

use jobql::http::websocket::close::Close;
use jobql::http::websocket::message::{self, ClientMessage};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let answer = match message::parse(text) {
        Ok(ClientMessage::ConnectionInit(_)) => message::connection_ack(),
        Ok(ClientMessage::Ping(payload)) => {
            let pong = message::pong(payload.clone());
            let said: Value = serde_json::from_str(&pong).unwrap();
            assert_eq!(said.get("payload").cloned(), payload.map(Value::Object));
            pong
        }
        Ok(ClientMessage::Subscribe { id, request }) => {
            assert!(!id.is_empty());
            match request {
                Ok(_) => message::complete(&id),
                Err(error) => message::error(&id, &[error]),
            }
        }
        Ok(ClientMessage::Complete { id }) => return assert!(!id.is_empty()),
        Ok(ClientMessage::Pong) => return,
        Err(problem) => return assert!(Close::Invalid(problem).reason().len() <= 123),
    };
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert!(answer["type"].is_string());
});
