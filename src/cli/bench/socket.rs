//! WebSockets that speak graphql-transport-ws.

use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::stream::SplitStream;
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::target::Target;

/// A socket that sends and receives.
pub(super) type Socket = WebSocketStream<TcpStream>;

/// How long a socket may take to be let in.
const OPEN_WITHIN: Duration = Duration::from_secs(30);

/// What a socket receives.
#[derive(Deserialize)]
struct Received {
    #[serde(rename = "type")]
    kind: String,
    payload: Option<Value>,
}

/// Opens a socket with one subscription.
pub(super) async fn subscribe(target: &Target, query: &str, variables: Value) -> anyhow::Result<Socket> {
    tokio::time::timeout(OPEN_WITHIN, open(target, query, variables))
        .await
        .context("a socket was not let in")?
}

async fn open(target: &Target, query: &str, variables: Value) -> anyhow::Result<Socket> {
    let stream = TcpStream::connect(&target.authority).await?;
    stream.set_nodelay(true)?;
    // A small buffer, as there are many of them.
    let config = WebSocketConfig::default().read_buffer_size(4 << 10);
    let (mut socket, _) = client_async_with_config(target.upgrade()?, stream, Some(config)).await?;
    let payload = target.authorization.as_ref().map(|value| json!({ "authorization": value }));
    send(&mut socket, &json!({ "type": "connection_init", "payload": payload.unwrap_or(json!({})) })).await?;
    match socket.next().await.context("a socket was closed")?? {
        Message::Text(text) if text.contains("connection_ack") => {}
        other => bail!("not let in: {other}"),
    }
    let payload = json!({ "query": query, "variables": variables });
    send(&mut socket, &json!({ "id": "1", "type": "subscribe", "payload": payload })).await?;
    Ok(socket)
}

/// Waits until the server has taken up what was sent before: it answers in order, and a query after it comes back.
pub(super) async fn settle(socket: &mut Socket) -> anyhow::Result<()> {
    let payload = json!({ "query": "{ __typename }" });
    send(socket, &json!({ "id": "settle", "type": "subscribe", "payload": payload })).await?;
    while let Some(message) = socket.next().await {
        if matches!(message?, Message::Text(text) if text.contains("\"complete\"") && text.contains("settle"))
        {
            return Ok(());
        }
    }
    bail!("a socket was closed")
}

async fn send(socket: &mut Socket, message: &Value) -> anyhow::Result<()> {
    Ok(socket.send(Message::text(message.to_string())).await?)
}

/// The job of the next event; none once the subscription has completed.
pub(super) async fn next_job(
    socket: &mut (impl StreamExt<Item = Result<Message, tokio_tungstenite::tungstenite::Error>> + Unpin),
) -> anyhow::Result<Option<Value>> {
    while let Some(message) = socket.next().await {
        let Message::Text(text) = message? else { continue };
        let mut received: Received = serde_json::from_str(&text)?;
        let payload = received.payload.as_mut();
        match (received.kind.as_str(), payload.and_then(|payload| payload.pointer_mut("/data/jobUpdated"))) {
            ("next", Some(job)) if job.is_object() => return Ok(Some(job.take())),
            ("complete", _) => return Ok(None),
            ("next" | "error", _) => bail!("{text}"),
            _ => {}
        }
    }
    bail!("a socket was closed")
}

/// The receiving half; the sending one is dropped, as a subscriber only listens.
pub(super) fn receiver(socket: Socket) -> SplitStream<Socket> {
    socket.split().1
}
