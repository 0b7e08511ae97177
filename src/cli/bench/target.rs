//! Where the server is, and the heads of what is sent to it.

use anyhow::Context;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::http::HeaderValue;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// `host:port`.
    pub(super) authority: String,
    /// Of the API.
    path: String,
    /// `Bearer …`.
    pub(super) authorization: Option<String>,
}

impl Target {
    /// The target of a URL.
    pub(super) fn of(url: &str, token: Option<&str>) -> anyhow::Result<Target> {
        let rest = url.strip_prefix("http://").context("the URL must begin with http://")?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, "graphql"));
        let authority =
            if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
        Ok(Target {
            authority,
            path: format!("/{path}"),
            authorization: token.map(|token| format!("Bearer {token}")),
        })
    }

    /// The head of a POST, up to the value of its Content-Length.
    pub(super) fn head(&self) -> String {
        let Target { authority, path, authorization } = self;
        let authorization =
            authorization.as_ref().map(|value| format!("Authorization: {value}\r\n")).unwrap_or_default();
        format!(
            "POST {path} HTTP/1.1\r\nHost: {authority}\r\nContent-Type: application/json\r\n\
             Accept: application/graphql-response+json\r\n{authorization}Content-Length: "
        )
    }

    /// The request of a WebSocket.
    pub(super) fn upgrade(&self) -> anyhow::Result<Request> {
        let mut request = format!("ws://{}{}", self.authority, self.path).into_client_request()?;
        request
            .headers_mut()
            .insert("Sec-WebSocket-Protocol", HeaderValue::from_static("graphql-transport-ws"));
        Ok(request)
    }
}
