//! GraphQL by GET: a query in the parameters of the URL. Mutations are refused, so that no link can change anything.

use axum::extract::{Query, Request};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::HttpState;
use super::execution::{self, Incoming, Method, Reply};
use super::limits::Holder;
use super::negotiation::Accepted;
use super::operation_request::{NoRequest, from_json, scanned_json};
use crate::access::Caller;
use crate::graphql::request_check::RawRequest;

/// The parameters; `variables` and `extensions` are JSON.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parameters {
    query: Option<String>,
    operation_name: Option<String>,
    variables: Option<String>,
    extensions: Option<String>,
    document_id: Option<String>,
}

/// Executes the query of the URL.
pub async fn reply(
    state: &HttpState,
    accepted: Accepted,
    caller: &Caller,
    request: Request,
    holders: Vec<Holder>,
) -> Reply {
    let raw = match Query::<Parameters>::try_from_uri(request.uri()) {
        Ok(Query(parameters)) => parameters.into_request(),
        Err(_) => Err(NoRequest::Malformed("the parameters of the URL cannot be read".to_owned())),
    };
    let viewer = caller.viewer.clone();
    execution::reply(state, Incoming { accepted, method: Method::Get, viewer, holders, raw }).await
}

impl Parameters {
    fn into_request(self) -> Result<RawRequest, NoRequest> {
        let json = |text: Option<String>| match text.filter(|text| !text.is_empty()) {
            Some(text) => scanned_json(text.as_bytes()),
            None => Ok(Value::Null),
        };
        let parts = [
            ("variables", json(self.variables)?),
            ("extensions", json(self.extensions)?),
            // An empty name in a URL means that none is given.
            ("operationName", self.operation_name.filter(|name| !name.is_empty()).into()),
            ("query", self.query.into()),
            ("documentId", self.document_id.into()),
        ];
        let parts = parts.into_iter().map(|(key, value)| (key.to_owned(), value));
        from_json(Value::Object(parts.collect::<Map<String, Value>>()))
    }
}
