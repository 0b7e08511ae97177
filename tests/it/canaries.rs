//! What is secret is nowhere to be found: strings that stand nowhere else are put where clients and operators put theirs, all
//! logs are turned on, and then the logs, the errors and the answers to others are searched for them.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::process::{Process, Socket, http_to_ws};
use crate::support::{SOON, TestDb, eventually};

/// 30 bytes in base64.
const SECRET: &str = "Y2FuYXJ5LW9mLXRoZS1jYWxsYmFjay1zZWNyZXQh";

/// Takes callbacks and answers each with a refusal that says too much.
async fn receiver() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = vec![0; 64 << 10];
            let _ = stream.read(&mut bytes).await;
            let answer = b"HTTP/1.1 500 canary-of-the-receiver\r\nContent-Length: 26\r\n\r\ncanary-of-receivers-answer";
            let _ = stream.write_all(answer).await;
        }
    });
    port
}

#[tokio::test]
async fn no_secret_is_logged_at_any_level_or_told_in_an_error() {
    let (db, port) = (TestDb::new().await, receiver().await);
    // The cluster lets its own user in with any password.
    let url = db.url().replacen('@', ":canary-of-the-password@", 1);
    let secret = format!("whsec_{SECRET}");
    let environment = [("RUST_LOG", "trace"), ("JOBQL_CALLBACK_SECRET", secret.as_str())];
    let process = Process::serve_with(&url, &["--callback-hosts", "127.0.0.1"], &environment).await;

    let submit = "mutation canaryOfTheDocument($i: SubmitJobInput!) { submitJob(input: $i, waitSeconds: 20) {
        job { id status result error { message } } } }";
    let callback = format!("http://127.0.0.1:{port}/hook?canary-of-the-callback-query");
    let input = |kind: &str, payload: Value| json!({"i": {"kind": kind, "payload": payload, "callbackUrl": callback}});
    let done = process.data(submit, input("echo", json!({"card": "canary-of-the-payload"}))).await;
    assert_eq!(done["submitJob"]["job"]["result"]["card"], "canary-of-the-payload");
    let failing = json!({"message": "canary-of-the-error", "code": "X", "retryable": false});
    let failed = process.data(submit, input("fail", failing)).await;
    assert_eq!(failed["submitJob"]["job"]["status"], "ERROR", "{failed}");

    let mut answers = String::new();
    let mut ask = async |request: reqwest::RequestBuilder| {
        let answer =
            request.header("authorization", "Bearer canary-of-the-token").send().await.expect("an answer");
        answers.push_str(&format!("{:?}", answer.headers()));
        answers.push_str(&answer.text().await.expect("text"));
    };
    let client = reqwest::Client::new();
    ask(client.get(format!("{}?query=canaryOfTheUrl&x=canary-of-the-url", process.url))).await;
    ask(client.get(process.url.replace("/graphql", "/nothing?canary-of-a-path"))).await;
    ask(client
        .post(&process.url)
        .json(&json!({"query": "{ jobs { totalCount } }", "variables": {"v": "canary-of-a-variable"}})))
    .await;
    ask(client
        .post(&process.url)
        .header("content-type", "application/json")
        .body("{\"canary-of-no-request\": "))
    .await;
    let refused = json!({"i": {"kind": "echo", "payload": {"canary-of-a-key": "\u{0}"}}});
    process.ask(submit, refused).await;

    let headers = [("authorization", "Bearer canary-of-the-upgrade"), ("cookie", "canary-of-a-cookie")];
    if let Ok(mut socket) = Socket::open(http_to_ws(&process.url, &headers)).await {
        let payload = json!({"query": "subscription ($id: ID) { jobUpdated(id: $id) { id } }", "variables": {"id": "canary-of-a-socket"}});
        socket.send(json!({"type": "subscribe", "id": "1", "payload": payload})).await;
        socket.next_message().await;
    }
    eventually("a callback is refused", SOON, async || {
        process.logged().contains("a callback was not delivered").then_some(())
    })
    .await;

    // Errors of the server's own making: the table is gone.
    sqlx::query("ALTER TABLE job RENAME COLUMN payload TO canary_of_the_schema")
        .execute(db.pool())
        .await
        .expect("rename");
    let broken = process.ask("{ jobs { nodes { payload } } }", json!({})).await.to_string();
    assert!(broken.contains("INTERNAL_SERVER_ERROR") && !broken.contains("canary_of"), "{broken}");

    let logged = process.logged();
    assert!(logged.lines().count() > 20, "so little was logged that the test sees nothing");
    // The names of the schema are no secrets, and an operator needs them.
    let logged = logged.replace("canary_of_the_schema", "").to_lowercase();
    for canary in ["canary", "canaryof", &SECRET.to_lowercase(), "whsec_"] {
        let line = logged.lines().find(|line| line.contains(canary));
        assert!(line.is_none(), "{canary} is in the log: {line:?}");
    }
    for canary in ["canary-of-the-token", "canary-of-the-url", "canary-of-a-path", "canary-of-the-password"] {
        assert!(!answers.contains(canary), "{canary} was told: {answers}");
    }
}
