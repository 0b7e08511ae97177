//! From JSON to a GraphQL request: what the specification "GraphQL over HTTP" calls well-formed. WebSockets use the same.

use async_graphql::ServerError;
use serde_json::{Map, Value};

use crate::graphql::error::Code;
use crate::graphql::request_check::RawRequest;
use crate::job::json_scan::{self, ScanError};

/// Levels of JSON around a payload: the message, its payload, variables, a list of inputs, an input.
const LEVELS_AROUND_PAYLOAD: usize = 8;

/// Why JSON is no request.
#[derive(Debug)]
pub enum NoRequest {
    /// Not JSON, or not of the form of a request.
    Malformed(String),
    /// A request that is refused for what it holds.
    Refused(ServerError),
}

/// The JSON of these bytes, scanned for what cannot be kept.
///
/// # Errors
/// `Malformed`, or `Refused` with a pointer to the place.
pub fn scanned_json(bytes: &[u8]) -> Result<Value, NoRequest> {
    scan(bytes)?;
    serde_json::from_slice(bytes).map_err(|error| NoRequest::Malformed(format!("not valid JSON: {error}")))
}

/// The scan alone.
///
/// # Errors
/// As [`scanned_json`].
pub fn scan(bytes: &[u8]) -> Result<(), NoRequest> {
    json_scan::scan(bytes, json_scan::MAX_DEPTH + LEVELS_AROUND_PAYLOAD).map_err(|error| match error {
        ScanError::Malformed { .. } => NoRequest::Malformed(error.to_string()),
        ScanError::Refused { ref pointer, .. } => {
            let mut refused = Code::InvalidPayload.error(error.to_string());
            if let Some(extensions) = &mut refused.extensions {
                extensions.set("pointers", vec![async_graphql::Value::from(pointer.as_str())]);
            }
            NoRequest::Refused(refused)
        }
    })
}

/// A request from its parts. `null` counts as not given; other keys are ignored.
///
/// # Errors
/// `Malformed` when a part has the wrong type, `Refused` for persisted queries of an unknown version.
pub fn from_json(value: Value) -> Result<RawRequest, NoRequest> {
    let malformed = |problem: &str| Err(NoRequest::Malformed(problem.to_owned()));
    let mut parts = match value {
        Value::Object(parts) => parts,
        Value::Array(_) => return malformed("batches of requests are not supported"),
        _ => return malformed("a request is a JSON object with the key query"),
    };
    let extensions = match parts.remove("extensions") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(extensions)) => extensions,
        Some(_) => return malformed("extensions must be an object"),
    };
    let query = match parts.remove("query") {
        None | Some(Value::Null) => None,
        Some(Value::String(query)) => Some(query),
        Some(_) => return malformed("query must be a string"),
    };
    let document_id = match parts.remove("documentId") {
        None | Some(Value::Null) => persisted_query(&extensions)?,
        Some(Value::String(id)) => Some(id.strip_prefix("sha256:").unwrap_or(&id).to_owned()),
        Some(_) => return malformed("documentId must be a string"),
    };
    if query.is_none() && document_id.is_none() {
        return malformed("the key query is missing");
    }
    let operation_name = match parts.remove("operationName") {
        None | Some(Value::Null) => None,
        Some(Value::String(name)) => Some(name),
        Some(_) => return malformed("operationName must be a string"),
    };
    let variables = match parts.remove("variables") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(variables)) => variables,
        Some(_) => return malformed("variables must be an object"),
    };
    Ok(RawRequest { query, document_id, operation_name, variables })
}

/// The hash of Apollo's extension for persisted queries.
fn persisted_query(extensions: &Map<String, Value>) -> Result<Option<String>, NoRequest> {
    let Some(extension) = extensions.get("persistedQuery").filter(|extension| !extension.is_null()) else {
        return Ok(None);
    };
    if extension.get("version") != Some(&Value::from(1)) {
        let message = "persisted queries are supported in version 1 only";
        return Err(NoRequest::Refused(Code::PersistedQueryNotSupported.error(message)));
    }
    match extension.get("sha256Hash") {
        Some(Value::String(hash)) if !hash.is_empty() => Ok(Some(hash.clone())),
        _ => Err(NoRequest::Malformed("persistedQuery needs the hash of the query as sha256Hash".to_owned())),
    }
}
