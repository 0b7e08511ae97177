//! The real binary as child processes, and a client that speaks to it over real sockets.

use std::fs::File;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Request};
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::{SOON, deadline};

/// A running `jobql`, killed when dropped.
pub struct Process {
    child: Child,
    /// Of the API, where one is served.
    pub url: String,
    /// What it logged.
    pub log: PathBuf,
}

impl Process {
    /// `jobql serve` on a port of its own, ready to answer.
    pub async fn serve(database_url: &str, arguments: &[&str]) -> Process {
        Process::serve_with(database_url, arguments, &[]).await
    }

    /// The same with these variables.
    pub async fn serve_with(database_url: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Process {
        let mut all = vec!["serve"];
        if !arguments.contains(&"--listen") {
            all.extend(["--listen", "127.0.0.1:0"]);
        }
        all.extend(arguments);
        let mut process = Process::start_with(database_url, &all, environment);
        let stdout = process.child.stdout.take().expect("standard output");
        let mut lines = BufReader::new(stdout).lines();
        let url = deadline("the API's address", async {
            loop {
                let line = lines.next_line().await.expect("a line");
                let line = line.unwrap_or_else(|| panic!("serve ended: {}", process.logged()));
                if let Some(url) = line.split_whitespace().find(|word| word.starts_with("http")) {
                    break url.to_owned();
                }
            }
        })
        .await;
        // Whatever else it prints must not fill the pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        process.url = url;
        process
    }

    /// `jobql work`.
    pub fn work(database_url: &str, arguments: &[&str]) -> Process {
        let mut all = vec!["work"];
        all.extend(arguments);
        Process::start(database_url, &all)
    }

    /// Any command.
    pub fn start(database_url: &str, arguments: &[&str]) -> Process {
        Process::start_with(database_url, arguments, &[])
    }

    /// The same with these variables.
    pub fn start_with(database_url: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Process {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let log = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("jobql-{}-{number}.log", std::process::id()));
        let child = Command::new(binary())
            .args(arguments)
            .env("JOBQL_DATABASE_URL", database_url)
            .env("RUST_LOG", "info,jobql=debug")
            .env("RUST_BACKTRACE", "1")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).expect("a log file"))
            .kill_on_drop(true)
            .spawn()
            .expect("jobql starts");
        Process { child, url: String::new(), log }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// What it has logged so far.
    pub fn logged(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = self.child.id().expect("it runs").try_into().expect("a process id");
        kill(Pid::from_raw(pid), signal).expect("signal");
    }

    /// SIGKILL, and gone.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("kill");
    }

    /// How it ended, which it must do within `within`.
    pub async fn ended(&mut self, within: Duration) -> ExitStatus {
        match tokio::time::timeout(within, self.child.wait()).await {
            Ok(status) => status.expect("status"),
            Err(_) => panic!("did not end within {within:?}: {}", self.logged()),
        }
    }

    /// The whole answer to an operation.
    pub async fn ask(&self, query: &str, variables: Value) -> Value {
        ask(&self.url, query, variables).await
    }

    /// `data` of an operation that must have no errors.
    pub async fn data(&self, query: &str, variables: Value) -> Value {
        let mut answer = self.ask(query, variables).await;
        assert!(answer.get("errors").is_none(), "{query}: {answer}");
        answer["data"].take()
    }

    /// Submits a job and gives its id.
    pub async fn submit(&self, kind: &str, payload: Value) -> String {
        let query = "mutation ($kind: String!, $payload: JSON!) {
            submitJob(input: {kind: $kind, payload: $payload}) { job { id } } }";
        let data = self.data(query, json!({"kind": kind, "payload": payload})).await;
        data["submitJob"]["job"]["id"].as_str().expect("an id").to_owned()
    }

    /// These fields of a job.
    pub async fn job(&self, id: &str, fields: &str) -> Value {
        let data = self
            .data(&format!("query ($id: ID!) {{ job(id: $id) {{ {fields} }} }}"), json!({"id": id}))
            .await;
        data["job"].clone()
    }

    /// A socket with one running subscription.
    pub async fn subscribe(&self, query: &str, variables: Value) -> Socket {
        let mut socket = Socket::connect(&self.url).await;
        socket
            .send(
                json!({"type": "subscribe", "id": "1", "payload": {"query": query, "variables": variables}}),
            )
            .await;
        socket
    }
}

/// The program: the debug build, unless a load is put on another one.
fn binary() -> std::ffi::OsString {
    std::env::var_os("STORM_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_jobql").into())
}

/// What `jobql` with these arguments prints and how it ends.
pub async fn output(database_url: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_jobql"))
        .args(arguments)
        .env("JOBQL_DATABASE_URL", database_url)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = deadline("the end of a command", output).await.expect("jobql starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// The secret of a new token.
pub async fn new_token(database_url: &str, arguments: &[&str]) -> String {
    let mut all = vec!["token", "create"];
    all.extend(arguments);
    let (code, printed, said) = output(database_url, &all).await;
    assert_eq!(code, Some(0), "{said}");
    let secret = printed.trim_end().to_owned();
    assert!(secret.starts_with("jobql_") && !secret.contains(char::is_whitespace) && !said.contains(&secret));
    secret
}

/// POSTs an operation.
pub async fn ask(url: &str, query: &str, variables: Value) -> Value {
    ask_with(url, None, query, variables).await
}

/// The same with a token.
pub async fn ask_with(url: &str, token: Option<&str>, query: &str, variables: Value) -> Value {
    let client = reqwest::Client::new();
    // The server may wait for as long as it is asked to before it answers.
    let wait = variables["input"]["waitSeconds"].as_u64().unwrap_or_default();
    let mut request = client.post(url).json(&json!({"query": query, "variables": variables}));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let response = tokio::time::timeout(SOON + Duration::from_secs(wait), request.send());
    response.await.expect("an answer in time").expect("a response").json().await.expect("JSON")
}

/// POSTs an operation as the holder of a token; the status and the answer.
pub async fn ask_as(url: &str, token: &str, query: &str, variables: Value) -> (u16, Value) {
    let request = reqwest::Client::new().post(url).bearer_auth(token);
    let request = request.json(&json!({"query": query, "variables": variables}));
    let response = deadline("an answer", request.send()).await.expect("a response");
    (response.status().as_u16(), response.json().await.expect("JSON"))
}

/// A WebSocket that speaks graphql-transport-ws and has been acknowledged.
pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

/// The request that opens a WebSocket of our protocol, with these headers.
pub fn http_to_ws(url: &str, headers: &[(&'static str, &str)]) -> Request<()> {
    let mut request = url.replace("http://", "ws://").into_client_request().expect("a request");
    let protocol = [("sec-websocket-protocol", "graphql-transport-ws")];
    for (name, value) in protocol.iter().chain(headers) {
        request.headers_mut().insert(*name, HeaderValue::from_str(value).expect("a header"));
    }
    request
}

impl Socket {
    pub async fn connect(url: &str) -> Socket {
        match Socket::open(http_to_ws(url, &[])).await {
            Ok(socket) => socket,
            Err(status) => panic!("a socket was refused with {status}"),
        }
    }

    /// The socket, or the status with which it is refused.
    pub async fn open(request: Request<()>) -> Result<Socket, u16> {
        let stream = match deadline("a socket", tokio_tungstenite::connect_async(request)).await {
            Ok((stream, _)) => stream,
            Err(tungstenite::Error::Http(response)) => return Err(response.status().as_u16()),
            Err(error) => panic!("no socket: {error}"),
        };
        let mut socket = Socket { stream };
        socket.send(json!({"type": "connection_init"})).await;
        assert_eq!(socket.next_message().await.expect("an answer")["type"], "connection_ack");
        Ok(socket)
    }

    /// One that has sent this as the payload of its `connection_init`, and heard nothing yet.
    pub async fn introduced(url: &str, payload: Value) -> Socket {
        let mut request = url.replace("http://", "ws://").into_client_request().expect("a request");
        request
            .headers_mut()
            .insert("Sec-WebSocket-Protocol", HeaderValue::from_static("graphql-transport-ws"));
        let (stream, _) =
            deadline("a socket", tokio_tungstenite::connect_async(request)).await.expect("a socket");
        let mut socket = Socket { stream };
        socket.send(json!({"type": "connection_init", "payload": payload})).await;
        socket
    }

    /// The code with which the server closes it, whatever it says before.
    pub async fn close_code(&mut self) -> u16 {
        let closed = async {
            loop {
                match self.stream.next().await {
                    Some(Ok(Message::Close(Some(frame)))) => return frame.code.into(),
                    Some(Ok(_)) => {}
                    other => panic!("the socket broke off: {other:?}"),
                }
            }
        };
        deadline("the socket is closed", closed).await
    }

    pub async fn send(&mut self, message: Value) {
        self.stream.send(Message::text(message.to_string())).await.expect("send");
    }

    /// The next message that is not a ping; none when the socket was closed.
    pub async fn next_message(&mut self) -> Option<Value> {
        self.next_message_within(super::SOON).await
    }

    pub async fn next_message_within(&mut self, within: Duration) -> Option<Value> {
        let next = async {
            loop {
                match self.stream.next().await? {
                    Ok(Message::Text(text)) => {
                        let message: Value = serde_json::from_str(&text).expect("JSON");
                        match message["type"].as_str() {
                            Some("ping") => self.send(json!({"type": "pong"})).await,
                            _ => return Some(message),
                        }
                    }
                    Ok(Message::Close(_)) | Err(_) => return None,
                    Ok(_) => {}
                }
            }
        };
        tokio::time::timeout(within, next).await.unwrap_or_else(|_| panic!("no message within {within:?}"))
    }

    /// `data` of the next event; none when the operation has completed.
    pub async fn next_data(&mut self, within: Duration) -> Option<Value> {
        let mut message = self.next_message_within(within).await.expect("the socket stays open");
        match message["type"].as_str() {
            Some("next") => {
                assert!(message["payload"].get("errors").is_none(), "{message}");
                Some(message["payload"]["data"].take())
            }
            Some("complete") => None,
            _ => panic!("{message}"),
        }
    }
}
