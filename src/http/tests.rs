//! The whole router over real sockets, as far as no database is needed: the pool points to a closed port.

use std::net::SocketAddr;
use std::time::Instant;

use futures_util::{SinkExt, StreamExt};
use sea_orm::SqlxPostgresConnector;
use serde_json::{Value, json};
use sqlx::postgres::PgPoolOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};

use super::*;
use crate::config::Overrides;

struct Server {
    address: SocketAddr,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
}

async fn server() -> Server {
    server_with(|_| {}).await
}

/// With other settings than the small sizes that most of these tests want.
async fn server_with(set: impl FnOnce(&mut Config)) -> Server {
    let pool = PgPoolOptions::new()
        .acquire_timeout(Duration::from_millis(300))
        .connect_lazy("postgres://nobody@127.0.0.1:1/none")
        .unwrap();
    let orm = SqlxPostgresConnector::from_sqlx_postgres_pool(pool.clone());
    let mut config = Config::load(&Overrides::default()).unwrap();
    (config.max_body_bytes, config.max_websocket_message_bytes) = (4_096, 4_096);
    set(&mut config);
    let (store, shutdown) = (Store::new(pool.clone(), pool.clone(), pool, orm), CancellationToken::new());
    let options = "postgres://nobody@127.0.0.1:1/none".parse().unwrap();
    let events = Events::start(store.clone(), options, &TaskTracker::new(), shutdown.clone());
    let access = Access::new(store.clone(), &config.access).unwrap();
    let state = HttpState::new(store, events, Arc::new(config), access);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(serve(listener, router(state.clone()), state, shutdown.clone()));
    Server { address, shutdown, serving }
}

impl Server {
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn post(&self, accept: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
        let request = reqwest::Client::new().post(self.url("/graphql"));
        let request = request.header("content-type", "application/json").header("accept", accept).body(body);
        let response = request.send().await.unwrap();
        let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
        assert!(content_type.ends_with("; charset=utf-8"), "{content_type}");
        assert_eq!(response.headers()["vary"], "Accept");
        (response.status().as_u16(), response.json().await.unwrap())
    }

    async fn socket(&self) -> Socket {
        let mut request = format!("ws://{}/graphql", self.address).into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", "foo, graphql-transport-ws".parse().unwrap());
        let (socket, response) = tokio_tungstenite::connect_async(request).await.unwrap();
        assert_eq!(response.headers()["sec-websocket-protocol"], "graphql-transport-ws");
        Socket(socket)
    }
}

struct Socket(tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<TcpStream>>);

impl Socket {
    async fn say(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    async fn acknowledged(mut self) -> Socket {
        self.say(json!({"type": "connection_init"})).await;
        assert_eq!(self.hear().await, json!({"type": "connection_ack"}));
        self
    }

    async fn hear(&mut self) -> Value {
        loop {
            match self.0.next().await.unwrap().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    async fn close_code(&mut self) -> u16 {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Close(Some(frame)))) => return frame.code.into(),
                Some(Ok(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

const GRAPHQL: &str = "application/graphql-response+json";

fn code(body: &Value) -> &str {
    body["errors"][0]["extensions"]["code"].as_str().unwrap_or_else(|| panic!("{body}"))
}

#[tokio::test]
async fn statuses_follow_the_table() {
    let server = server().await;
    let query = |text: &str| json!({ "query": text }).to_string();
    for (body, strict, plain, expected) in [
        ("{".to_owned(), 400, 400, "BAD_REQUEST"),
        (String::new(), 400, 400, "BAD_REQUEST"),
        ("null".to_owned(), 400, 400, "BAD_REQUEST"),
        ("[]".to_owned(), 400, 400, "BAD_REQUEST"),
        (format!("[{}]", query("{ jobKinds { name } }")), 400, 400, "BAD_REQUEST"),
        ("{}".to_owned(), 400, 400, "BAD_REQUEST"),
        (r#"{"query":1}"#.to_owned(), 400, 400, "BAD_REQUEST"),
        (r#"{"query":"{a}","variables":[]}"#.to_owned(), 400, 400, "BAD_REQUEST"),
        (r#"{"query":"{a}","operationName":1}"#.to_owned(), 400, 400, "BAD_REQUEST"),
        (r#"{"query":"{a}","extensions":1}"#.to_owned(), 400, 400, "BAD_REQUEST"),
        (r#"{"query":"{a}","variables":{"a":1,"a":2}}"#.to_owned(), 400, 200, "INVALID_PAYLOAD"),
        (r#"{"query":"{a}","variables":{"a":"\u0000"}}"#.to_owned(), 400, 200, "INVALID_PAYLOAD"),
        (r#"{"extensions":{"persistedQuery":{}}}"#.to_owned(), 400, 200, "PERSISTED_QUERY_NOT_SUPPORTED"),
        (r#"{"extensions":{"persistedQuery":{"version":1}}}"#.to_owned(), 400, 400, "BAD_REQUEST"),
        (
            r#"{"extensions":{"persistedQuery":{"version":1,"sha256Hash":"00"}}}"#.to_owned(),
            400,
            200,
            "PERSISTED_QUERY_NOT_FOUND",
        ),
        (r#"{"documentId":"sha256:00"}"#.to_owned(), 400, 200, "PERSISTED_QUERY_NOT_FOUND"),
        (r#"{"documentId":1}"#.to_owned(), 400, 400, "BAD_REQUEST"),
        (
            query(&format!("{{ {} }}", (0..31).map(|n| format!("a{n}: __typename ")).collect::<String>())),
            400,
            200,
            "QUERY_TOO_COMPLEX",
        ),
        (
            query(&format!("{{ jobKinds {{ name {} }} }}", "@include(if: true) ".repeat(11))),
            400,
            200,
            "QUERY_TOO_COMPLEX",
        ),
        (query(&format!("{{{}}}", "a ".repeat(2_000))), 400, 200, "QUERY_TOO_COMPLEX"),
        (query(&"{ job(id: 1) ".repeat(17)), 400, 200, "GRAPHQL_PARSE_FAILED"),
        (query("{"), 400, 200, "GRAPHQL_PARSE_FAILED"),
        (query("{ nothing }"), 400, 200, "GRAPHQL_VALIDATION_FAILED"),
        (query("query ($id: ID!) { job(id: $id) { id } }"), 400, 200, "GRAPHQL_VALIDATION_FAILED"),
        (query("subscription { jobUpdated { id } }"), 400, 200, "BAD_REQUEST"),
        (query("{ job(id: \"x\") { id } }"), 200, 200, "BAD_USER_INPUT"),
        (query("mutation { submitJob(input: {kind: \"none\"}) { created } }"), 200, 200, "UNKNOWN_KIND"),
        (" ".repeat(4_097), 413, 413, "PAYLOAD_TOO_LARGE"),
    ] {
        for (accept, status) in [(GRAPHQL, strict), ("*/*", plain)] {
            let (answered, answer) = server.post(accept, body.clone()).await;
            assert_eq!((answered, code(&answer)), (status, expected), "{accept} {body}: {answer}");
            let executed = matches!(expected, "BAD_USER_INPUT" | "UNKNOWN_KIND");
            assert_eq!(answer.get("data").is_some(), executed, "{body}: {answer}");
        }
    }
}

#[tokio::test]
async fn while_the_database_is_away_requests_are_refused_before_they_execute() {
    let server = server().await;
    let query = |text: &str| json!({ "query": text }).to_string();
    // The first one finds out.
    let (status, answer) = server.post("*/*", query("{ jobs { totalCount } }")).await;
    assert_eq!((status, code(&answer), answer.get("data")), (200, "UNAVAILABLE", Some(&Value::Null)));
    let deadline = Instant::now() + Duration::from_secs(10);
    let refused = loop {
        let request = reqwest::Client::new().post(server.url("/graphql"));
        let request =
            request.header("content-type", "application/json").body(query("{ jobs { totalCount } }"));
        let response = request.send().await.unwrap();
        if response.status() != 200 {
            break response;
        }
        assert!(Instant::now() < deadline, "still let through");
    };
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (503, &"1".parse().unwrap()));
    let answer: Value = refused.json().await.unwrap();
    assert_eq!((code(&answer), answer.get("data")), ("UNAVAILABLE", None), "{answer}");
    let (status, answer) = server.post(GRAPHQL, query("{ jobKinds { name runner } }")).await;
    assert_eq!(
        (status, &answer["data"]["jobKinds"][0]),
        (200, &json!({"name": "echo", "runner": "BUILTIN"}))
    );
}

#[tokio::test]
async fn a_chunked_body_is_bounded_too() {
    let server = server().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = "POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    // It never ends; the server may answer, and close, before all of it is written.
    for _ in 0..50 {
        let _ = stream.write_all(format!("64\r\n{}\r\n", " ".repeat(100)).as_bytes()).await;
    }
    let mut answer = vec![0; 1_024];
    let read = stream.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..read]);
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("PAYLOAD_TOO_LARGE"), "{answer}");
}

#[tokio::test]
async fn methods_and_media_types_are_held_to() {
    let server = server().await;
    let client = reqwest::Client::new();
    let get = |query: &'static str| client.get(server.url("/graphql")).query(&[("query", query)]);
    assert_eq!(get("{ jobKinds { name } }").send().await.unwrap().status(), 200);
    let mutation = get("mutation { cancelJob(id: \"x\") { id } }").send().await.unwrap();
    assert_eq!((mutation.status().as_u16(), &mutation.headers()["allow"]), (405, &"POST".parse().unwrap()));
    let unacceptable = get("{ jobKinds { name } }").header("accept", "text/html").send().await.unwrap();
    assert_eq!(unacceptable.status(), 406);
    let variables = [
        ("query", "query ($i: ID!) { job(id: $i) { id } }"),
        ("variables", "{\"i\":1}"),
        ("operationName", ""),
    ];
    let answer: Value =
        client.get(server.url("/graphql")).query(&variables).send().await.unwrap().json().await.unwrap();
    assert_eq!(code(&answer), "BAD_USER_INPUT");
    let put = client.put(server.url("/graphql")).send().await.unwrap();
    assert_eq!((put.status().as_u16(), &put.headers()["allow"]), (405, &"GET, POST".parse().unwrap()));
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
    {
        let request = client.post(server.url("/graphql")).header("content-type", content_type).body("{}");
        assert_eq!(request.send().await.unwrap().status(), 415, "{content_type}");
    }
    assert_eq!(client.post(server.url("/graphql")).body("{}").send().await.unwrap().status(), 415);
}

#[tokio::test]
async fn a_persisted_query_runs_by_its_hash_alone_once_it_was_sent() {
    let server = server().await;
    let hash = "ecf4edb46db40b5132295c0291d62fb65d6759a9eedfa4d5d612dd5ec54a6b38";
    let persisted = json!({"persistedQuery": {"version": 1, "sha256Hash": hash}});
    let by_hash = json!({ "extensions": persisted }).to_string();
    assert_eq!(code(&server.post("*/*", by_hash.clone()).await.1), "PERSISTED_QUERY_NOT_FOUND");
    let with_another = json!({"query": "{ jobKinds { name } }", "extensions": persisted}).to_string();
    assert_eq!(code(&server.post("*/*", with_another).await.1), "BAD_REQUEST");
    let whole = json!({"query": "{__typename}", "extensions": persisted}).to_string();
    for body in [whole, by_hash] {
        let (status, answer) = server.post("*/*", body).await;
        assert_eq!((status, answer), (200, json!({"data": {"__typename": "Query"}})));
    }
}

#[tokio::test]
async fn only_trusted_documents_run_and_introspection_can_be_off() {
    let trusted = crate::config::TrustedDocuments::new(
        [
            ("kinds".to_owned(), "{ jobKinds { name } }".to_owned()),
            ("schema".to_owned(), "{ __schema { __typename } }".to_owned()),
        ]
        .into(),
    );
    let server = server_with(|config| {
        config.graphql.trusted_documents = Some(Arc::new(trusted));
        config.graphql.introspection = false;
    })
    .await;
    let answer = server.post("*/*", json!({"documentId": "kinds"}).to_string()).await.1;
    assert_eq!(answer["data"]["jobKinds"][0]["name"], "echo");
    let other = server.post("*/*", json!({"query": "{ __typename }"}).to_string()).await.1;
    assert_eq!(code(&other), "PERSISTED_QUERY_NOT_IN_LIST");
    let schema = server.post("*/*", json!({"documentId": "schema"}).to_string()).await.1;
    assert_eq!(code(&schema), "GRAPHQL_VALIDATION_FAILED");
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let server = server_with(|config| config.max_connections = 2).await;
    let ask = async || {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = vec![0; 1_024];
        let read = stream.read(&mut answer).await.unwrap_or_default();
        (stream, String::from_utf8_lossy(&answer[..read]).into_owned())
    };
    let (first, answer) = ask().await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let (_second, answer) = ask().await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let (_third, answer) = ask().await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("Retry-After: 1"), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{answer}");
    assert_eq!(code(&serde_json::from_str(body).unwrap()), "UNAVAILABLE");
    drop(first);
    // Its place is free as soon as the server has seen the end.
    let served = async {
        loop {
            if ask().await.1.starts_with("HTTP/1.1 200") {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(5), served).await.unwrap();
}

#[tokio::test]
async fn a_head_that_does_not_come_and_one_without_end_are_given_up() {
    let server = server().await;
    let slow = async {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(b"POST /graphql HTTP/1.1\r\nHost: localhost\r\nX-Slow: ").await.unwrap();
        let began = Instant::now();
        let mut answer = Vec::new();
        // Some answer with a status before the end, some do not.
        let _ = stream.read_to_end(&mut answer).await;
        began.elapsed().as_secs()
    };
    let endless = async {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(b"GET /graphql HTTP/1.1\r\nHost: localhost\r\nX-Long: ").await.unwrap();
        let mut sent = 0;
        while stream.write_all(&[b'a'; 4_096]).await.is_ok() {
            sent += 4_096;
            assert!(sent < 64 << 20, "{sent} bytes of a head were taken");
        }
    };
    let (slow, ()) = tokio::join!(slow, endless);
    assert!((14..20).contains(&slow), "given up after {slow} s");
}

#[tokio::test]
async fn health_tells_life_from_readiness() {
    let server = server().await;
    assert_eq!(reqwest::get(server.url("/healthz")).await.unwrap().status(), 200);
    let ready = reqwest::get(server.url("/readyz")).await.unwrap();
    assert_eq!(ready.status(), 503);
    assert_eq!(ready.json::<Value>().await.unwrap()["reason"], "the database does not answer");
    // It leads to the dashboard.
    assert!(reqwest::get(server.url("/")).await.unwrap().text().await.unwrap().contains("/ui/assets/"));
}

#[tokio::test]
async fn a_socket_answers_queries_errors_and_pings() {
    let server = server().await;
    let mut socket = server.socket().await.acknowledged().await;
    socket.say(json!({"type": "ping", "payload": {"a": 1}})).await;
    assert_eq!(socket.hear().await, json!({"type": "pong", "payload": {"a": 1}}));

    let subscribe =
        |id: &str, query: &str| json!({"type": "subscribe", "id": id, "payload": {"query": query}});
    socket.say(subscribe("1", "{ jobKinds { name } }")).await;
    let next = socket.hear().await;
    assert_eq!((&next["type"], &next["id"]), (&json!("next"), &json!("1")));
    assert_eq!(next["payload"]["data"]["jobKinds"][0]["name"], "echo");
    assert_eq!(socket.hear().await, json!({"type": "complete", "id": "1"}));

    for (id, query, expected) in [
        ("2", "{", "GRAPHQL_PARSE_FAILED"),
        ("2", "{ nothing }", "GRAPHQL_VALIDATION_FAILED"),
        ("2", "subscription ($id: ID!) { jobUpdated(id: $id) { id } }", "GRAPHQL_VALIDATION_FAILED"),
    ] {
        socket.say(subscribe(id, query)).await;
        let error = socket.hear().await;
        assert_eq!((&error["type"], &error["id"]), (&json!("error"), &json!(id)), "{error}");
        assert_eq!(error["payload"][0]["extensions"]["code"], expected);
    }
    socket.say(subscribe("3", "subscription { jobUpdated(id: \"x\") { id } }")).await;
    let next = socket.hear().await;
    assert_eq!(code(&next["payload"]), "BAD_USER_INPUT", "{next}");
    assert_eq!(socket.hear().await, json!({"type": "complete", "id": "3"}));
    socket.say(subscribe("4", "mutation { cancelJob(id: \"x\") { id } }")).await;
    assert_eq!(code(&socket.hear().await["payload"]), "BAD_USER_INPUT");
    assert_eq!(socket.hear().await, json!({"type": "complete", "id": "4"}));
    // Not echoed: the next thing heard is the pong.
    socket.say(json!({"type": "complete", "id": "4"})).await;
    socket.say(json!({"type": "ping"})).await;
    assert_eq!(socket.hear().await, json!({"type": "pong"}));
}

#[tokio::test]
async fn a_breach_of_the_protocol_closes_the_socket_with_its_code() {
    let server = server().await;
    let init = json!({"type": "connection_init"});
    let query = json!({"type": "subscribe", "id": "1", "payload": {"query": "{ jobs { totalCount } }"}});
    for (messages, expected) in [
        (vec![query.to_string()], 4401),
        (vec![init.to_string(), init.to_string()], 4429),
        (vec![init.to_string(), query.to_string(), query.to_string()], 4409),
        (vec!["{".to_owned()], 4400),
        (vec![r#"{"type":"start"}"#.to_owned()], 4400),
        (vec![format!("{{\"type\":\"ping\",\"payload\":{{\"a\":\"{}\"}}}}", "a".repeat(5_000))], 1009),
    ] {
        let mut socket = server.socket().await;
        for message in &messages {
            socket.0.send(Message::text(message.as_str())).await.unwrap();
        }
        assert_eq!(socket.close_code().await, expected, "{messages:?}");
    }
    let mut silent = server.socket().await;
    let opened = Instant::now();
    assert_eq!(silent.close_code().await, 4408);
    assert!((2..5).contains(&opened.elapsed().as_secs()));
    let mut binary = server.socket().await;
    binary.0.send(Message::binary(vec![1])).await.unwrap();
    assert_eq!(binary.close_code().await, 4400);

    let request = format!("ws://{}/graphql", server.address).into_client_request().unwrap();
    let (socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    assert_eq!(Socket(socket).close_code().await, 4406);
}

#[tokio::test]
async fn a_close_by_the_client_is_answered() {
    let server = server().await;
    let mut socket = server.socket().await.acknowledged().await;
    socket.0.close(None).await.unwrap();
    // The answer first, then the end of the stream; without the answer it would be an error.
    while let Some(message) = socket.0.next().await {
        message.unwrap();
    }
}

#[tokio::test]
async fn a_page_of_another_host_gets_no_socket() {
    let server = server().await;
    let mut request = format!("ws://{}/graphql", server.address).into_client_request().unwrap();
    request.headers_mut().insert("origin", "https://evil.example".parse().unwrap());
    match tokio_tungstenite::connect_async(request).await {
        Err(tungstenite::Error::Http(response)) => assert_eq!(response.status(), 403),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_shutdown_closes_sockets_and_lets_requests_finish() {
    let server = server().await;
    let mut socket = server.socket().await.acknowledged().await;
    // The head of a request has arrived, its body not yet.
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let body = json!({ "query": "{ jobKinds { name } }" }).to_string();
    let head = format!(
        "POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    server.shutdown.cancel();
    assert_eq!(socket.close_code().await, 1012);
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(socket);
    tokio::time::timeout(Duration::from_secs(5), server.serving).await.unwrap().unwrap();
}
