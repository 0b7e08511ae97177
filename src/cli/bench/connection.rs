//! One HTTP/1.1 connection with keep-alive and one request at a time.
//!
//! It knows what this server answers with: a status line, headers with a Content-Length, a body. A general client would
//! take several times the CPU, which is the server's on a machine that both share.

use anyhow::{Context, bail};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::target::Target;

/// Largest head of an answer.
const MAX_HEAD: usize = 16 << 10;

/// See the module.
pub(super) struct Connection {
    stream: TcpStream,
    head: String,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub(super) async fn open(target: &Target) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(&target.authority)
            .await
            .with_context(|| format!("cannot connect to {}", target.authority))?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, head: target.head(), request: Vec::new(), answer: Vec::new() })
    }

    /// Posts a body, and gives that of the answer; anything but 200 and an answer without errors is an error.
    pub(super) async fn post(&mut self, body: &str) -> anyhow::Result<&str> {
        self.request.clear();
        self.request.extend_from_slice(self.head.as_bytes());
        self.request.extend_from_slice(body.len().to_string().as_bytes());
        self.request.extend_from_slice(b"\r\n\r\n");
        self.request.extend_from_slice(body.as_bytes());
        self.stream.write_all(&self.request).await?;
        self.answer.clear();
        let body_from = loop {
            self.read_some().await?;
            if let Some(end) = find(&self.answer, b"\r\n\r\n") {
                break end + 4;
            }
            if self.answer.len() > MAX_HEAD {
                bail!("the head of an answer does not end");
            }
        };
        let head = String::from_utf8_lossy(self.answer.get(..body_from).unwrap_or_default()).into_owned();
        let body_until = body_from + content_length(&head)?;
        while self.answer.len() < body_until {
            self.read_some().await?;
        }
        let body = std::str::from_utf8(self.answer.get(body_from..body_until).unwrap_or_default())?;
        if !head.starts_with("HTTP/1.1 200")
            || body.starts_with("{\"errors\"")
            || body.contains(",\"errors\":[")
        {
            bail!("{} {body}", head.lines().next().unwrap_or_default());
        }
        Ok(body)
    }

    /// Executes a document, and gives its data.
    pub(super) async fn ask(&mut self, query: &str, variables: Value) -> anyhow::Result<Value> {
        let body = serde_json::json!({ "query": query, "variables": variables }).to_string();
        let mut answer: Value = serde_json::from_str(self.post(&body).await?)?;
        Ok(answer.get_mut("data").map(Value::take).unwrap_or_default())
    }

    async fn read_some(&mut self) -> anyhow::Result<()> {
        if self.stream.read_buf(&mut self.answer).await? == 0 {
            bail!("the server closed a connection");
        }
        Ok(())
    }
}

/// What the head of a message says of its body.
pub(super) fn content_length(head: &str) -> anyhow::Result<usize> {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    let length = lines.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let (_, length) = length.context("a message has no Content-Length; is a proxy in between?")?;
    Ok(length.trim().parse()?)
}

/// Where the needle begins.
pub(super) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
