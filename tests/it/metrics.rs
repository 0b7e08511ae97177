//! `/metrics`: what is done is counted, what is open is shown, each figure is described and documented, and nothing of a client
//! is in any of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::post;
use serde_json::json;
use tokio::net::TcpListener;

use crate::support::process::{Process, Socket, ask_as, http_to_ws, new_token};
use crate::support::{SOON, TestDb, eventually};

/// The page as an operator sees it, line by line.
async fn page(process: &Process, token: Option<&str>) -> String {
    let request = reqwest::Client::new().get(process.url.replace("/graphql", "/metrics"));
    let request = token.iter().fold(request, |request, token| request.bearer_auth(token));
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    answer.text().await.expect("text")
}

/// The samples, by name and labels as they stand.
fn samples(page: &str) -> BTreeMap<String, f64> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        (name.to_owned(), value.parse().expect("a number"))
    };
    lines.map(sample).collect()
}

/// The samples once `is_there` is true of them.
async fn until(
    process: &Process,
    what: &str,
    is_there: impl Fn(&BTreeMap<String, f64>) -> bool,
) -> BTreeMap<String, f64> {
    eventually(what, SOON, async || {
        let samples = samples(&page(process, None).await);
        is_there(&samples).then_some(samples)
    })
    .await
}

/// Takes callbacks: the first is refused for good, the next put off until after any test, all others taken.
async fn receiver() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let arrived = Arc::new(AtomicUsize::new(0));
    let answer = move || async move {
        match arrived.fetch_add(1, Ordering::Relaxed) {
            0 => StatusCode::GONE.into_response(),
            1 => (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "3600")]).into_response(),
            _ => StatusCode::NO_CONTENT.into_response(),
        }
    };
    let router = Router::new().route("/", post(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    port
}

#[tokio::test]
async fn what_a_process_does_is_counted() {
    let (db, port) = (TestDb::new().await, receiver().await);
    let secret = [("JOBQL_CALLBACK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")];
    let process = Process::serve_with(&db.url(), &["--callback-hosts", "127.0.0.1"], &secret).await;
    let submit =
        "mutation ($i: SubmitJobInput!) { submitJob(input: $i, waitSeconds: 20) { job { status } } }";
    let callback = format!("http://127.0.0.1:{port}/");
    for (kind, payload, ends) in [
        ("echo", json!({}), "DONE"),
        ("echo", json!({}), "DONE"),
        ("fail", json!({"retryable": false}), "ERROR"),
    ] {
        let input = json!({"i": {"kind": kind, "payload": payload, "callbackUrl": callback}});
        assert_eq!(process.data(submit, input).await["submitJob"]["job"]["status"], ends);
    }
    let id = process.submit("sleep", json!({"seconds": 600})).await;
    eventually("it runs", SOON, async || {
        (process.job(&id, "status").await["status"] == "RUNNING").then_some(())
    })
    .await;
    process.data("mutation ($id: ID!) { cancelJob(id: $id) { id } }", json!({"id": id})).await;
    let samples = until(&process, "all of it is counted", |samples| {
        samples["jobql_attempts_ended_total{outcome=\"CANCELLED\"}"] == 1.0
            && ["delivered", "given_up", "put_off"].iter().all(|outcome| {
                samples[&format!("jobql_callback_attempts_total{{outcome=\"{outcome}\"}}")] == 1.0
            })
            && samples["jobql_listener_up"] == 1.0
    })
    .await;
    for (name, value) in [
        ("jobql_attempts_ended_total{outcome=\"DONE\"}", 2.0),
        ("jobql_attempts_ended_total{outcome=\"ERROR\"}", 1.0),
        ("jobql_attempts_ended_total{outcome=\"WORKER_LOST\"}", 0.0),
        ("jobql_claimed_jobs_total", 4.0),
        ("jobql_listener_connects_total", 1.0),
        ("jobql_notifications_total{about=\"cancel\"}", 1.0),
        ("jobql_http_responses_total{status=\"5xx\"}", 0.0),
        ("jobql_limit_refusals_total{limit=\"queued_jobs\"}", 0.0),
        ("jobql_unauthenticated_total", 0.0),
    ] {
        assert_eq!(samples[name], value, "{name}");
    }
    for name in [
        "jobql_claims_total",
        "jobql_notifications_total{about=\"job\"}",
        "jobql_notifications_total{about=\"ready\"}",
    ] {
        assert!(samples[name] >= 1.0, "{name}");
    }
    // A listener that is put out comes back, and that is seen.
    sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'")
        .execute(db.pool())
        .await
        .expect("terminate");
    until(&process, "it listens again", |samples| {
        samples["jobql_listener_connects_total"] == 2.0 && samples["jobql_listener_up"] == 1.0
    })
    .await;
}

#[tokio::test]
async fn news_of_a_queue_that_is_not_served_cost_no_claims() {
    let db = TestDb::new().await;
    let process = Process::serve(&db.url(), &[]).await;
    let (claims, news) = ("jobql_claims_total", "jobql_notifications_total{about=\"ready\"}");
    let before = until(&process, "it listens", |samples| samples["jobql_listener_up"] == 1.0).await;
    let mut after = before.clone();
    for number in 1..=100 {
        sqlx::query("SELECT pg_notify('jobql_ready', 'nobody-serves-it')")
            .execute(db.pool())
            .await
            .expect("notify");
        after =
            until(&process, "they are heard", |samples| samples[news] - before[news] >= f64::from(number))
                .await;
    }
    // Its own queues are asked once a second all the same.
    assert!(after[claims] - before[claims] < 100.0, "{} claims", after[claims] - before[claims]);
}

#[tokio::test]
async fn what_is_open_is_shown_until_it_is_closed() {
    let db = TestDb::new().await;
    let process = Process::serve(&db.url(), &["--slots", "0"]).await;
    let id = process.submit("echo", json!({})).await;
    let quiet = until(&process, "the first requests are over", |samples| {
        samples["jobql_http_open{what=\"connection\"}"] <= 1.0
    })
    .await;
    let watch = "subscription ($id: ID!) { jobUpdated(id: $id) { id } }";
    let (one, other) = (
        process.subscribe(watch, json!({"id": id})).await,
        process.subscribe(watch, json!({"id": id})).await,
    );
    let mut streams = Vec::new();
    for accept in ["text/event-stream", "multipart/mixed;subscriptionSpec=1.0"] {
        let request = reqwest::Client::new().post(&process.url).header("accept", accept);
        let body = json!({"query": "subscription { jobUpdated { id } }"});
        streams.push(request.json(&body).send().await.expect("a stream"));
    }
    let open = until(&process, "all of it is open", |samples| {
        samples["jobql_hub_watchers"] == 2.0 && samples["jobql_hub_feeds"] == 2.0
    })
    .await;
    for (name, value) in [
        ("jobql_http_open{what=\"websocket\"}", 2.0),
        ("jobql_http_open{what=\"event_stream\"}", 1.0),
        ("jobql_http_open{what=\"multipart\"}", 1.0),
        ("jobql_hub_watched_jobs", 1.0),
        ("jobql_hub_feeds_overflown_total", 0.0),
    ] {
        assert_eq!(open[name], value, "{name}");
    }
    drop((one, other, streams));
    let closed = until(&process, "all of it is closed", |samples| {
        samples["jobql_hub_watchers"] == 0.0
            && samples["jobql_hub_feeds"] == 0.0
            && samples["jobql_http_open{what=\"connection\"}"]
                <= quiet["jobql_http_open{what=\"connection\"}"]
    })
    .await;
    assert_eq!(closed["jobql_http_open{what=\"websocket\"}"], 0.0);
    assert_eq!(closed["jobql_http_opened_total{what=\"websocket\"}"], 2.0);
    assert_eq!(closed["jobql_hub_watched_jobs"], 0.0);
}

#[tokio::test]
async fn each_figure_is_named_described_and_documented_and_holds_nothing_of_a_client() {
    let db = TestDb::new().await;
    let process = Process::serve(&db.url(), &["--slots", "0"]).await;
    let operator = new_token(&db.url(), &["--scope", "operator"]).await;
    let client = new_token(&db.url(), &["--scope", "client", "--client-id", "canary-client"]).await;
    eventually("tokens are in use", SOON, async || {
        (reqwest::get(&process.url).await.expect("an answer").status() == 401).then_some(())
    })
    .await;
    let submit = "mutation { submitJob(input: {kind: \"echo\", requestId: \"canary-request\", displayName: \"canary-name\",
        payload: {a: \"canary-payload\"}, priority: -1}) { created } }";
    for query in [submit.to_owned(), submit.replace(", priority: -1", ""), "{ canaryField }".to_owned()] {
        ask_as(&process.url, &client, &query, json!({"v": "canary-variable"})).await;
    }
    let bearer = format!("Bearer {client}");
    let headers = [("authorization", bearer.as_str()), ("x-forwarded-for", "203.0.113.77")];
    let mut socket = Socket::open(http_to_ws(&process.url, &headers)).await.expect("a socket");
    let watch = json!({"query": "subscription { jobUpdated(kind: [\"canary-kind\"]) { id } }"});
    socket.send(json!({"type": "subscribe", "id": "canary-id", "payload": watch})).await;
    let page = eventually("the subscription is there", SOON, async || {
        let page = page(&process, Some(&operator)).await;
        (samples(&page)["jobql_hub_feeds"] == 1.0).then_some(page)
    })
    .await;
    assert!(!page.to_lowercase().contains("canary") && !page.contains("203.0.113"), "{page}");
    assert!(!page.contains(&client[6..]) && !page.contains(&operator[6..]));

    let documented =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operators.md")).expect("docs");
    let in_docs: BTreeSet<&str> =
        documented.split('`').filter(|word| word.starts_with("jobql_") && !word.contains(' ')).collect();
    let mut seen = BTreeSet::new();
    let mut described = BTreeMap::new();
    for line in page.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            described.insert(name, kind);
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().expect("a name");
            let kind = described.get(name).unwrap_or_else(|| panic!("{name} has no type"));
            assert_eq!(*kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
            assert!(page.contains(&format!("# HELP {name} ")), "{name} has no help");
            seen.insert(name);
        }
    }
    // No job has been sampled yet.
    seen.insert("jobql_jobs");
    assert_eq!(seen, in_docs, "what is shown, and what docs/operators.md says");
}
