//! What one client may take, through the real server. The test plays a named proxy, so that it can be many addresses.

use entity::workflow::FailurePolicy;
use jobql::error::Error;
use jobql::job::submission::NewJob;
use jobql::job::viewer::Viewer;
use jobql::job::workflow::NewWorkflow;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use crate::support::process::{Process, Socket, http_to_ws};
use crate::support::{SOON, TestDb, echo, eventually, request};

const ALICE: &str = "203.0.113.1";
const BOB: &str = "203.0.113.2";

/// A server that trusts this machine as a proxy.
async fn behind_a_proxy(arguments: &[&str]) -> (TestDb, Process) {
    let db = TestDb::new().await;
    let mut all = vec!["--slots", "0", "--trusted-proxies", "127.0.0.1"];
    all.extend(arguments);
    let process = Process::serve(&db.url(), &all).await;
    (db, process)
}

/// A query by POST from this address; status, headers, answer.
async fn ask_from(process: &Process, address: &str) -> (u16, HeaderMap, Value) {
    let client = reqwest::Client::new();
    let request = client.post(&process.url).header("x-forwarded-for", address);
    let response = request.json(&json!({"query": "{ __typename }"})).send().await.expect("a response");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    (status, headers, response.json().await.expect("JSON"))
}

/// The status with which a WebSocket from this address is refused, or the socket.
async fn socket_from(process: &Process, address: &str) -> Result<Socket, u16> {
    let request = http_to_ws(&process.url, &[("x-forwarded-for", address)]);
    Socket::open(request).await
}

#[tokio::test]
async fn a_rate_holds_per_address_and_the_answer_says_when_to_come_again() {
    let (_db, process) = behind_a_proxy(&["--requests-per-second", "1", "--request-burst", "3"]).await;
    for _ in 0..3 {
        assert_eq!(ask_from(&process, ALICE).await.0, 200);
    }
    let (status, headers, answer) = ask_from(&process, ALICE).await;
    assert_eq!((status, &headers["retry-after"]), (429, &"1".parse().unwrap()), "{answer}");
    assert_eq!(answer["errors"][0]["extensions"], json!({"code": "RATE_LIMITED", "retryAfterSeconds": 1}));
    assert!(answer.get("data").is_none());
    assert_eq!(ask_from(&process, &format!("{ALICE}, {BOB}")).await.0, 200, "another address");
    assert_eq!(
        ask_from(&process, &format!("{BOB}, {ALICE}")).await.0,
        429,
        "a claim further left is not believed"
    );
    // This machine itself never meets it.
    for _ in 0..20 {
        process.data("{ __typename }", json!({})).await;
    }
}

#[tokio::test]
async fn without_a_named_proxy_nobody_is_believed() {
    let db = TestDb::new().await;
    let arguments = ["--slots", "0", "--requests-per-second", "1", "--request-burst", "1"];
    let process = Process::serve(&db.url(), &arguments).await;
    for _ in 0..10 {
        assert_eq!(ask_from(&process, ALICE).await.0, 200, "it comes from this machine, whatever it says");
    }
}

#[tokio::test]
async fn over_a_socket_the_rate_is_an_error_of_the_operation() {
    let (_db, process) = behind_a_proxy(&["--requests-per-second", "1", "--request-burst", "3"]).await;
    // The upgrade is a request too.
    let mut socket = socket_from(&process, ALICE).await.expect("a socket");
    let mut refused = None;
    for id in ["1", "2", "3", "4", "5"] {
        socket.send(json!({"type": "subscribe", "id": id, "payload": {"query": "{ __typename }"}})).await;
        let message = socket.next_message().await.expect("it stays open");
        if message["type"] == "error" {
            assert_eq!(message["id"], id);
            refused = Some(message["payload"][0]["extensions"].clone());
            break;
        }
        assert_eq!(socket.next_message().await.expect("it stays open")["type"], "complete");
    }
    assert_eq!(refused, Some(json!({"code": "RATE_LIMITED", "retryAfterSeconds": 1})));
    socket.send(json!({"type": "ping"})).await;
    assert_eq!(socket.next_message().await.expect("it stays open")["type"], "pong");
}

#[tokio::test]
async fn sockets_and_streams_of_an_address_are_counted_together_and_given_back() {
    let (_db, process) = behind_a_proxy(&["--max-sockets-per-client", "2"]).await;
    let stream_from = async |address: &str| {
        let request = reqwest::Client::new().post(&process.url).header("accept", "text/event-stream");
        let body = json!({"query": "subscription { jobUpdated { id } }"});
        request.header("x-forwarded-for", address).json(&body).send().await.expect("a response")
    };
    let first = socket_from(&process, ALICE).await.expect("a socket");
    let stream = stream_from(ALICE).await;
    assert_eq!(stream.status(), 200);
    assert_eq!(socket_from(&process, ALICE).await.err(), Some(429));
    let refused = stream_from(ALICE).await;
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (429, &"1".parse().unwrap()));
    assert!(socket_from(&process, BOB).await.is_ok());
    drop(first);
    drop(stream);
    eventually("both places are free again", SOON, async || {
        let (one, other) = (socket_from(&process, ALICE).await, socket_from(&process, ALICE).await);
        (one.is_ok() && other.is_ok()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn operations_are_bounded_on_a_socket_and_over_all_of_a_client() {
    let arguments = ["--max-operations-per-socket", "2", "--max-operations-per-client", "3"];
    let (_db, process) = behind_a_proxy(&arguments).await;
    let subscribe = async |socket: &mut Socket, id: &str| {
        let payload = json!({"query": "subscription { jobUpdated { id } }"});
        socket.send(json!({"type": "subscribe", "id": id, "payload": payload})).await;
        // Nothing happens to any job; what answers the ping comes after an error.
        socket.send(json!({"type": "ping"})).await;
        let message = socket.next_message().await.expect("it stays open");
        let code = message["payload"][0]["extensions"]["code"].as_str().map(str::to_owned);
        if code.is_some() {
            assert_eq!(socket.next_message().await.expect("it stays open")["type"], "pong");
        }
        code
    };
    let mut one = socket_from(&process, ALICE).await.expect("a socket");
    let mut two = socket_from(&process, ALICE).await.expect("a socket");
    assert_eq!(subscribe(&mut one, "1").await, None);
    assert_eq!(subscribe(&mut one, "2").await, None);
    assert_eq!(subscribe(&mut one, "3").await.as_deref(), Some("RATE_LIMITED"), "the socket has two");
    assert_eq!(subscribe(&mut two, "1").await, None);
    assert_eq!(subscribe(&mut two, "2").await.as_deref(), Some("RATE_LIMITED"), "the client has three");
    assert_eq!(ask_from(&process, ALICE).await.0, 429);
    one.send(json!({"type": "complete", "id": "1"})).await;
    // The other socket is served by another task: only what this one answers afterwards tells that it has stopped.
    one.send(json!({"type": "ping"})).await;
    assert_eq!(one.next_message().await.expect("it stays open")["type"], "pong");
    assert_eq!(subscribe(&mut two, "3").await, None, "what is stopped is given back");
}

#[tokio::test]
async fn a_client_whose_queue_is_full_is_told_so_until_there_is_room() {
    let db = TestDb::new().await;
    let (client, limit) = (Viewer::Client("default".to_owned()), 3);
    let submit = async |request_id: &str| {
        let new_job = db.new_job(request(request_id, json!({})));
        db.store.admit(&client, limit, std::slice::from_ref(&new_job)).await?;
        db.store.submit(new_job).await
    };
    for id in ["a", "b", "c"] {
        assert!(submit(id).await.expect("room").created);
    }
    assert!(matches!(submit("d").await, Err(Error::QueueFull { limit: 3 })));
    assert!(!submit("a").await.expect("a repeat adds nothing").created);
    let many = [db.new_job(echo()), db.new_job(echo()), db.new_job(echo()), db.new_job(echo())];
    let other = Viewer::Client("other".to_owned());
    assert!(matches!(db.store.admit(&other, limit, &many).await, Err(Error::QueueFull { .. })));
    assert!(db.store.admit(&other, limit, &many[..3]).await.is_ok());
    assert!(db.store.admit(&Viewer::Operator, limit, &many).await.is_ok(), "operators are exempt");
    let workflow = |jobs: &[NewJob]| NewWorkflow {
        id: uuid::Uuid::now_v7(),
        client_id: "default".to_owned(),
        request_id: "a".to_owned(),
        keyed: false,
        name: None,
        on_failure: FailurePolicy::Block,
        callback_url: None,
        max_payload_bytes: 1_024,
        content_hash: [0; 32],
        jobs: jobs.to_vec(),
    };
    let new = workflow(&many[..1]);
    assert!(matches!(db.store.admit_workflow(&client, limit, &new).await, Err(Error::QueueFull { .. })));
    let repeated = NewWorkflow { keyed: true, ..workflow(&many) };
    assert!(db.store.admit_workflow(&client, limit, &repeated).await.is_ok(), "its request id is used");
    // What starts makes room, which is seen within a second or so.
    let worker = db.worker(30).await;
    assert_eq!(db.claim(worker, 1).await.len(), 1);
    eventually("there is room", SOON, async || submit("d").await.ok()).await;
    // Another process counts the same jobs.
    let again = db.opened_again().await;
    let new_job = db.new_job(echo());
    let refused = again.store.admit(&client, limit, std::slice::from_ref(&new_job)).await;
    assert!(matches!(refused, Err(Error::QueueFull { .. })), "{refused:?}");
}

#[tokio::test]
async fn every_limit_that_was_met_is_counted_and_metrics_are_well_formed() {
    let (_db, process) = behind_a_proxy(&["--requests-per-second", "1", "--request-burst", "1"]).await;
    assert_eq!(ask_from(&process, ALICE).await.0, 200);
    assert_eq!(ask_from(&process, ALICE).await.0, 429);
    process.submit("echo", json!({})).await;
    let answer = reqwest::get(process.url.replace("/graphql", "/metrics")).await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let text = answer.text().await.expect("text");
    for line in [
        "jobql_limit_refusals_total{limit=\"requests\"} 1",
        "jobql_limit_refusals_total{limit=\"sockets\"} 0",
        "jobql_limit_accounts 1",
        "jobql_group_rows_total{group=\"submit\"} 1",
        "jobql_group_commits_total{group=\"submit\"} 1",
        "jobql_group_waiting{group=\"submit\"} 0",
        "jobql_database_away 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing in {text}");
    }
    for line in text.lines().filter(|line| !line.starts_with("# ")) {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        assert!(name.starts_with("jobql_") && value.parse::<f64>().is_ok(), "{line}");
    }
}
