//! Many subscribers of the same document share the making of its responses, and each gets all that is its own.

use serde_json::{Value, json};

use crate::support::process::{Process, Socket};
use crate::support::{SOON, TestDb};

const CHANGES: i64 = 60;

/// A socket whose subscription is open.
async fn watching(server: &Process, query: &str, variables: Value) -> Socket {
    let mut socket = server.subscribe(query, variables).await;
    // An operation that is sent after it is answered once it runs.
    socket.send(json!({"type": "subscribe", "id": "2", "payload": {"query": "{ __typename }"}})).await;
    for expected in ["next", "complete"] {
        let message = socket.next_message().await.expect("an answer");
        assert_eq!((&message["id"], &message["type"]), (&json!("2"), &json!(expected)));
    }
    socket
}

/// Takes events until the job has this priority; each is of a later version than the one before.
async fn until_priority(socket: &mut Socket, id: &str, priority: i64) -> Value {
    let mut last = 0;
    loop {
        let job = socket.next_data(SOON).await.expect("an event")["jobUpdated"].take();
        assert_eq!(job["id"], id, "another job: {job}");
        let version = job["version"].as_i64().expect("a version");
        assert!(version > last, "{version} after {last}");
        last = version;
        if job["priority"] == priority {
            return job;
        }
    }
}

#[tokio::test]
async fn subscribers_of_one_document_get_each_job_and_those_of_another_what_they_asked_for() {
    let db = TestDb::new().await;
    let server = Process::serve(&db.url(), &["--slots", "0"]).await;
    let submit = "mutation ($c: String!) {
        submitJob(input: {kind: \"echo\", payload: {n: 7}, clientId: $c}) { job { id } } }";
    let mut ids = Vec::new();
    for client in ["a", "b"] {
        let data = server.data(submit, json!({"c": client})).await;
        ids.push(data["submitJob"]["job"]["id"].as_str().expect("an id").to_owned());
    }
    let plain = "subscription ($c: String!) { jobUpdated(clientId: $c) { id version priority } }";
    let live = "subscription ($c: String!) {
        jobUpdated(clientId: $c) { id version priority payload queuePosition { position } } }";
    let mut of_a = Vec::new();
    for _ in 0..4 {
        of_a.push(watching(&server, plain, json!({"c": "a"})).await);
    }
    let mut of_b = watching(&server, plain, json!({"c": "b"})).await;
    let mut other = watching(&server, live, json!({"c": "a"})).await;
    let update = "mutation ($id: ID!, $p: Int!) { updateJob(id: $id, priority: $p) { version } }";
    for priority in 1..=CHANGES {
        server.data(update, json!({"id": ids[0], "p": priority})).await;
    }
    server.data(update, json!({"id": ids[1], "p": 5})).await;
    for socket in &mut of_a {
        let job = until_priority(socket, &ids[0], CHANGES).await;
        assert_eq!(job, json!({"id": ids[0], "version": CHANGES + 1, "priority": CHANGES}));
    }
    assert_eq!(until_priority(&mut of_b, &ids[1], 5).await["version"], 2);
    let job = until_priority(&mut other, &ids[0], CHANGES).await;
    assert_eq!(job["payload"], json!({"n": 7}));
    assert!(job["queuePosition"]["position"].as_i64().is_some_and(|position| position > 0), "{job}");
}

#[tokio::test]
async fn a_feed_of_ends_gets_each_end_and_nothing_else() {
    let db = TestDb::new().await;
    let server = Process::serve(&db.url(), &[]).await;
    let feed = "subscription { jobUpdated(clientId: \"a\", status: [DONE, CANCELLED]) { id status result } }";
    let mut socket = watching(&server, feed, json!({})).await;
    let submit = "mutation ($c: String!, $p: JSON!) {
        submitJob(input: {kind: \"echo\", payload: $p, clientId: $c}) { job { id } } }";
    for n in 0..10 {
        for client in ["a", "b"] {
            server.data(submit, json!({"c": client, "p": {"n": n}})).await;
        }
    }
    let mut seen = Vec::new();
    for _ in 0..10 {
        let job = socket.next_data(SOON).await.expect("an event")["jobUpdated"].take();
        assert_eq!(job["status"], "DONE");
        seen.push(job["result"]["n"].as_i64().expect("its number"));
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..10).collect::<Vec<i64>>());
}
