//! Bad input over every transport: the same code for the same fault, however it comes. What is at fault stands in
//! `bad_input`; here each class of it goes by POST, by GET, as a stream of events, as multipart, and over a WebSocket.

use std::time::Duration;

use entity::JobStatus;
use jobql::graphql::cursor::CursorSeal;
use jobql::job::failure::Failure;
use jobql::job::submission::Submission;
use jobql::store::finish::{AttemptEnd, Finish};
use jobql::store::lease::Lease;
use jobql::store::list::JobFilter;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use sqlx::ConnectOptions;
use uuid::Uuid;

use crate::support::process::{Process, Socket};
use crate::support::{ANYONE, SOON, TestDb, echo, eventually, kind, request};

const STRICT: &str = "application/graphql-response+json";
const PLAIN: &str = "application/json";
const EVENTS: &str = "text/event-stream";
const PARTS: &str = "multipart/mixed;subscriptionSpec=1.0";

/// What came back over HTTP.
struct Answer {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    async fn of(request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.expect("a response");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Answer { status, headers, text: response.text().await.expect("text") }
    }

    /// The first result in it, whatever it is wrapped in.
    fn result(&self) -> Value {
        let json = |text: &str| serde_json::from_str::<Value>(text).ok().filter(Value::is_object);
        if let Some(result) = json(&self.text) {
            return result;
        }
        let lines = self.text.lines().map(|line| line.strip_prefix("data: ").unwrap_or(line));
        let mut result =
            lines.filter_map(json).next().unwrap_or_else(|| panic!("no result in {:?}", self.text));
        if result.get("payload").is_some() { result["payload"].take() } else { result }
    }
}

fn post(process: &Process, accept: &str, body: impl Into<reqwest::Body>) -> reqwest::RequestBuilder {
    let request = reqwest::Client::new().post(&process.url).header("accept", accept);
    request.header("content-type", "application/json").body(body)
}

fn get(process: &Process, query: &str, variables: &Value) -> reqwest::RequestBuilder {
    let mut url = reqwest::Url::parse(&process.url).expect("a URL");
    url.query_pairs_mut().append_pair("query", query).append_pair("variables", &variables.to_string());
    reqwest::Client::new().get(url).header("accept", STRICT)
}

/// The first error of an operation over each transport, with the status and whether there is a `data` key.
async fn over_each(
    process: &Process,
    query: &str,
    variables: &Value,
) -> Vec<(&'static str, u16, Value, bool)> {
    let results = results_over_each(process, query, variables).await.into_iter();
    let errors = results.map(|(transport, status, mut result)| {
        let has_data = result.get("data").is_some();
        (transport, status, result["errors"][0].take(), has_data)
    });
    errors.collect()
}

/// The first result of an operation over each transport, with the status.
async fn results_over_each(
    process: &Process,
    query: &str,
    variables: &Value,
) -> Vec<(&'static str, u16, Value)> {
    let body = json!({"query": query, "variables": variables}).to_string();
    let mut answers = Vec::new();
    let mut note = |transport, answer: Answer| answers.push((transport, answer.status, answer.result()));
    if query.trim_start().starts_with("subscription") {
        note("events", Answer::of(post(process, EVENTS, body.clone())).await);
        note("parts", Answer::of(post(process, PARTS, body)).await);
    } else {
        note("strict", Answer::of(post(process, STRICT, body.clone())).await);
        note("plain", Answer::of(post(process, PLAIN, body.clone())).await);
        note("events", Answer::of(post(process, EVENTS, body.clone())).await);
        note("parts", Answer::of(post(process, PARTS, body)).await);
        if !query.contains("mutation") {
            note("get", Answer::of(get(process, query, variables)).await);
        }
    }
    let mut socket = Socket::connect(&process.url).await;
    let payload = json!({"query": query, "variables": variables});
    socket.send(json!({"type": "subscribe", "id": "1", "payload": payload})).await;
    let mut message = socket.next_message().await.expect("the socket stays open");
    let payload = message["payload"].take();
    let result = if message["type"] == "next" { payload } else { json!({"errors": payload}) };
    answers.push(("socket", 0, result));
    answers
}

const SUBMIT: &str = "mutation ($i: SubmitJobInput!) { submitJob(input: $i) { job { id } } }";
const UNKNOWN: &str = "0198f2a0-0000-7000-8000-000000000000";

/// Nineteen levels.
const TOO_DEEP: &str = "{ jobs { nodes { dependsOn { nodes { dependsOn { nodes { dependsOn { nodes { dependsOn { nodes \
    { dependsOn { nodes { dependsOn { nodes { dependsOn { nodes { dependsOn { nodes { id } } } } } \
    } } } } } } } } } } } } } }";

/// One more than are let through.
const TOO_MANY_ALIASES: &str = "{ a:__typename b:__typename c:__typename d:__typename e:__typename f:__typename \
    g:__typename h:__typename i:__typename j:__typename k:__typename l:__typename m:__typename n:__typename \
    o:__typename p:__typename q:__typename r:__typename s:__typename t:__typename u:__typename v:__typename \
    w:__typename x:__typename y:__typename z:__typename aa:__typename bb:__typename cc:__typename dd:__typename \
    ee:__typename }";

/// A page of pages.
const TOO_COMPLEX: &str =
    "{ jobs(first: 200) { nodes { dependsOn(first: 200) { nodes { id queuePosition { position } } } } } }";

const WITH_LARGE_INTEGER: &str =
    "mutation { submitJob(input: {kind: \"echo\", payload: {a: 18446744073709551616}}) { created } }";
const WITH_LARGE_NUMBER: &str =
    "mutation { submitJob(input: {kind: \"echo\", payload: [1e400]}) { created } }";
const WITH_KEY_TWICE: &str =
    "mutation { submitJob(input: {kind: \"echo\", payload: {a: 1, a: 2}}) { created } }";

fn nested(levels: usize) -> Value {
    (0..levels).fold(json!(1), |inner, _| json!([inner]))
}

/// The rows: an operation, its variables, the code, and whether it is found by executing.
fn rows() -> Vec<(&'static str, Value, &'static str, bool)> {
    let submit = |input: Value| json!({"i": input});
    vec![
        ("{ jobs {", json!({}), "GRAPHQL_PARSE_FAILED", false),
        ("{ nothing }", json!({}), "GRAPHQL_VALIDATION_FAILED", false),
        ("query ($id: ID!) { job(id: $id) { id } }", json!({}), "GRAPHQL_VALIDATION_FAILED", false),
        (
            "query ($n: Int) { jobs(first: $n) { totalCount } }",
            json!({"n": "x"}),
            "GRAPHQL_VALIDATION_FAILED",
            false,
        ),
        (SUBMIT, json!({}), "GRAPHQL_VALIDATION_FAILED", false),
        (TOO_DEEP, json!({}), "QUERY_TOO_COMPLEX", false),
        (TOO_MANY_ALIASES, json!({}), "QUERY_TOO_COMPLEX", false),
        (TOO_COMPLEX, json!({}), "QUERY_TOO_COMPLEX", false),
        ("{ job(id: \"x\") { id } }", json!({}), "BAD_USER_INPUT", true),
        ("{ jobs(first: 0) { totalCount } }", json!({}), "BAD_USER_INPUT", true),
        ("{ jobs(first: 1, last: 1) { nodes { id } } }", json!({}), "BAD_USER_INPUT", true),
        ("{ jobs(first: -1) { totalCount } }", json!({}), "BAD_USER_INPUT", true),
        ("{ jobs(last: 201) { totalCount } }", json!({}), "BAD_USER_INPUT", true),
        ("{ jobs(after: \"x\") { nodes { id } } }", json!({}), "BAD_USER_INPUT", true),
        (
            "query ($c: String) { jobs(after: $c, kind: [\"sum\"]) { nodes { id } } }",
            json!({"c": CursorSeal::of(&ANYONE, &JobFilter::default()).cursor(Uuid::nil())}),
            "BAD_USER_INPUT",
            true,
        ),
        ("{ node(id: \"x\") { id } }", json!({}), "BAD_USER_INPUT", true),
        ("{ queuePosition(jobId: \"x\") { ahead } }", json!({}), "BAD_USER_INPUT", true),
        (SUBMIT, submit(json!({"kind": "nothing"})), "UNKNOWN_KIND", true),
        (SUBMIT, submit(json!({"kind": "echo", "clientId": ""})), "BAD_USER_INPUT", true),
        (SUBMIT, submit(json!({"kind": "echo", "requestId": "a\u{7}"})), "BAD_USER_INPUT", true),
        (SUBMIT, submit(json!({"kind": "echo", "clientId": "x".repeat(129)})), "BAD_USER_INPUT", true),
        (SUBMIT, submit(json!({"kind": "echo", "requestId": ""})), "BAD_USER_INPUT", true),
        (SUBMIT, submit(json!({"kind": "echo", "priority": 99_999})), "BAD_USER_INPUT", true),
        (SUBMIT, submit(json!({"kind": "echo", "maxAttempts": 0})), "BAD_USER_INPUT", true),
        (SUBMIT, submit(json!({"kind": "echo", "timeoutSeconds": 86_401})), "BAD_USER_INPUT", true),
        (SUBMIT, submit(json!({"kind": "echo", "runAt": "2999-01-01T00:00:00Z"})), "BAD_USER_INPUT", true),
        (SUBMIT, submit(json!({"kind": "echo", "payload": "x".repeat(1 << 10)})), "PAYLOAD_TOO_LARGE", true),
        (SUBMIT, submit(json!({"kind": "echo", "payload": {"a": "\u{0}"}})), "INVALID_PAYLOAD", false),
        (SUBMIT, submit(json!({"kind": "echo", "payload": nested(65)})), "INVALID_PAYLOAD", true),
        (WITH_LARGE_INTEGER, json!({}), "INVALID_PAYLOAD", false),
        (WITH_LARGE_NUMBER, json!({}), "INVALID_PAYLOAD", false),
        (WITH_KEY_TWICE, json!({}), "INVALID_PAYLOAD", false),
        (
            SUBMIT,
            submit(json!({"kind": "echo", "callbackUrl": "https://127.0.0.1/"})),
            "CALLBACK_URL_REFUSED",
            true,
        ),
        ("mutation ($id: ID!) { cancelJob(id: $id) { id } }", json!({"id": UNKNOWN}), "NOT_FOUND", true),
        ("mutation ($id: ID!) { retryJob(id: $id) { id } }", json!({"id": UNKNOWN}), "NOT_FOUND", true),
        ("mutation { cancelJobs(filter: {ids: [\"x\"]}) { changed } }", json!({}), "BAD_USER_INPUT", true),
        (
            "subscription ($id: ID!) { jobUpdated(id: $id) { id } }",
            json!({}),
            "GRAPHQL_VALIDATION_FAILED",
            false,
        ),
        ("subscription ($id: ID!) { jobUpdated(id: $id) { id } }", json!({"id": UNKNOWN}), "NOT_FOUND", true),
        ("subscription { jobUpdated(id: \"x\") { id } }", json!({}), "BAD_USER_INPUT", true),
    ]
}

#[tokio::test]
async fn the_same_fault_has_the_same_code_over_every_transport_and_writes_nothing() {
    let db = TestDb::new().await;
    let process = Process::serve(&db.url(), &["--slots", "0", "--max-payload-bytes", "1024"]).await;
    for (query, variables, code, executed) in rows() {
        for (transport, status, error, has_data) in over_each(&process, query, &variables).await {
            let place = format!("{transport}: {query} {variables}: {error}");
            assert_eq!(error["extensions"]["code"], code, "{place}");
            assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{place}");
            assert_eq!(has_data, executed, "{place}");
            let expected = match transport {
                "strict" | "get" if !executed => 400,
                "socket" => 0,
                _ => 200,
            };
            assert_eq!(status, expected, "{place}");
        }
    }
    // By GET nothing is changed, well-formed or not.
    let refused = Answer::of(get(&process, SUBMIT, &json!({"i": {"kind": "echo"}}))).await;
    assert_eq!((refused.status, &refused.headers["allow"]), (405, &"POST".parse().unwrap()));
    let jobs: i64 = sqlx::query_scalar("SELECT count(*) FROM job").fetch_one(db.pool()).await.expect("count");
    assert_eq!(jobs, 0);
}

#[tokio::test]
async fn what_is_no_request_has_its_status_whatever_is_accepted() {
    let db = TestDb::new().await;
    let process = Process::serve(&db.url(), &["--slots", "0", "--max-body-bytes", "2048"]).await;
    for accept in [STRICT, PLAIN, EVENTS, PARTS, "*/*"] {
        for body in [
            "",
            "{",
            "[]",
            "[{\"query\": \"{ __typename }\"}]",
            "7",
            "{}",
            "{\"query\": 1}",
            "{\"query\": \"{",
        ] {
            let answer = Answer::of(post(&process, accept, body)).await;
            assert_eq!(answer.status, 400, "{accept} {body:?}: {}", answer.text);
            assert_eq!(
                answer.result()["errors"][0]["extensions"]["code"],
                "BAD_REQUEST",
                "{accept} {body:?}"
            );
        }
        let large = format!("{{\"query\": \"{}\"}}", " ".repeat(4_096));
        let answer = Answer::of(post(&process, accept, large)).await;
        assert_eq!(answer.status, 413, "{accept}: {}", answer.text);
        assert_eq!(answer.result()["errors"][0]["extensions"]["code"], "PAYLOAD_TOO_LARGE", "{accept}");
        for content_type in [
            "text/plain",
            "multipart/form-data; boundary=x",
            "application/x-www-form-urlencoded",
            "application/graphql",
        ] {
            let request = reqwest::Client::new().post(&process.url).header("accept", accept);
            let request =
                request.header("content-type", content_type).body("{\"query\": \"{ __typename }\"}");
            assert_eq!(Answer::of(request).await.status, 415, "{accept} {content_type}");
        }
        for method in [reqwest::Method::PUT, reqwest::Method::DELETE, reqwest::Method::PATCH] {
            let request = reqwest::Client::new().request(method, &process.url).header("accept", accept);
            let answer = Answer::of(request).await;
            assert_eq!(
                (answer.status, &answer.headers["allow"]),
                (405, &"GET, POST".parse().unwrap()),
                "{accept}"
            );
        }
    }
}

#[tokio::test]
async fn while_the_database_is_away_every_transport_says_so() {
    let db = TestDb::new().await;
    let process = Process::serve(&db.url(), &["--slots", "0"]).await;
    // Nobody gets in, and who is in is put out.
    let name: String =
        sqlx::query_scalar("SELECT current_database()").fetch_one(db.pool()).await.expect("a name");
    let mut elsewhere = db.options().database("postgres").connect().await.expect("a session");
    let close = format!("ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false");
    sqlx::raw_sql(sqlx::AssertSqlSafe(close)).execute(&mut elsewhere).await.expect("close");
    sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1")
        .bind(&name)
        .execute(&mut elsewhere)
        .await
        .expect("terminate");
    let query = "{ jobs { totalCount } }";
    eventually("it is refused before it executes", SOON, async || {
        let answer = Answer::of(post(&process, PLAIN, json!({"query": query}).to_string())).await;
        assert_eq!(answer.result()["errors"][0]["extensions"]["code"], "UNAVAILABLE", "{}", answer.text);
        (answer.status == 503).then_some(())
    })
    .await;
    for query in [
        query,
        "mutation { submitJob(input: {kind: \"echo\"}) { created } }",
        "subscription { jobUpdated { id } }",
    ] {
        for (transport, status, error, has_data) in over_each(&process, query, &json!({})).await {
            assert_eq!(error["extensions"]["code"], "UNAVAILABLE", "{transport} {query}: {error}");
            assert_eq!(error["extensions"]["retryAfterSeconds"], 1, "{transport} {query}: {error}");
            assert!(!has_data && [0, 503].contains(&status), "{transport} {query}: {status} {error}");
        }
    }
    // What needs no database is answered all the same.
    assert!(process.data("{ jobKinds { name } }", json!({})).await["jobKinds"].is_array());
    let open = format!("ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true");
    sqlx::raw_sql(sqlx::AssertSqlSafe(open)).execute(&mut elsewhere).await.expect("open");
    eventually("it comes back by itself", SOON, async || {
        process.ask(query, json!({})).await["data"]["jobs"]["totalCount"].as_i64().map(drop)
    })
    .await;
}

#[tokio::test]
async fn what_the_state_of_a_job_forbids_is_refused_alike_over_every_transport_and_changes_nothing() {
    let db = TestDb::new().await;
    let process = Process::serve(&db.url(), &["--slots", "0"]).await;
    let (pending, running) = (db.job_in(JobStatus::Pending).await.id, db.job_in(JobStatus::Running).await.id);
    let (done, used) = (db.job_in(JobStatus::Done).await.id, db.submit(request("used", json!(1))).await.id);
    let gone = db.submit(request("gone", json!(1))).await.id;
    sqlx::query("DELETE FROM job WHERE id = $1").bind(gone).execute(db.pool()).await.expect("by hand");
    // No process holds the running one, and it is not to be swept away.
    let lease = "UPDATE worker SET expires_at = now() + interval '1 hour'";
    sqlx::query(lease).execute(db.pool()).await.expect("by hand");
    let rows = async || {
        let rows: Vec<String> = sqlx::query_scalar("SELECT job::text FROM job ORDER BY id")
            .fetch_all(db.pool())
            .await
            .expect("rows");
        rows
    };
    let before = rows().await;
    let submit = |request_id: &str| json!({"i": {"kind": "echo", "payload": 2, "requestId": request_id}});
    for (query, variables, code, about) in [
        (
            "mutation ($id: ID!) { retryJob(id: $id) { id } }",
            json!({"id": pending}),
            "INVALID_TRANSITION",
            None,
        ),
        ("mutation ($id: ID!) { retryJob(id: $id) { id } }", json!({"id": done}), "INVALID_TRANSITION", None),
        ("mutation ($id: ID!) { deleteJob(id: $id) }", json!({"id": running}), "INVALID_TRANSITION", None),
        (
            "mutation ($id: ID!) { updateJob(id: $id, priority: 1) { id } }",
            json!({"id": done}),
            "INVALID_TRANSITION",
            None,
        ),
        (
            "mutation ($id: ID!) { redeliverCallback(jobId: $id) { id } }",
            json!({"id": done}),
            "NOT_FOUND",
            None,
        ),
        (SUBMIT, submit("used"), "IDEMPOTENCY_CONFLICT", Some(used)),
        (SUBMIT, submit("gone"), "JOB_GONE", Some(gone)),
    ] {
        for (transport, _, error, has_data) in over_each(&process, query, &variables).await {
            let place = format!("{transport}: {query} {variables}: {error}");
            assert_eq!(error["extensions"]["code"], code, "{place}");
            assert!(has_data, "{place}");
            if let Some(id) = about {
                assert_eq!(error["extensions"]["jobId"], json!(id), "{place}");
            }
        }
    }
    assert_eq!(rows().await, before);
    // A job that is not there is null where none is required; a cancel of what is over is answered with it as it is.
    for (query, id, expected) in [
        ("query ($id: ID!) { it: job(id: $id) { status } }", UNKNOWN.to_owned(), Value::Null),
        ("query ($id: ID!) { it: node(id: $id) { id } }", UNKNOWN.to_owned(), Value::Null),
        ("query ($id: ID!) { it: queuePosition(jobId: $id) { ahead } }", UNKNOWN.to_owned(), Value::Null),
        (
            "mutation ($id: ID!) { it: cancelJob(id: $id) { status } }",
            done.to_string(),
            json!({"status": "DONE"}),
        ),
    ] {
        for (transport, _, result) in results_over_each(&process, query, &json!({"id": id})).await {
            assert_eq!(result, json!({"data": {"it": expected}}), "{transport}: {query}");
        }
    }
    assert_eq!(rows().await, before);
}

/// Kinds whose programs end in each way that a program can.
const KINDS: &str = r#"
[kinds.endless]
runner = "command"
command = ["/usr/bin/yes"]
[kinds.chatty]
runner = "command"
command = ["/bin/sh", "-c", "echo no JSON"]
[kinds.killed]
runner = "command"
command = ["/bin/sh", "-c", "kill -SEGV $$"]
[kinds.strict]
runner = "command"
command = ["/bin/echo", "1"]
result_schema = { type = "object" }
"#;

/// A job that runs for somebody who is not there.
async fn running(db: &TestDb) -> (Uuid, Lease) {
    let once = Submission { max_attempts: Some(1), ..echo() };
    let job = db.job_of(JobStatus::Running, once).await;
    (job.id, Lease { job_id: job.id, epoch: job.lease_epoch })
}

#[tokio::test]
async fn how_an_attempt_ended_is_told_alike_over_every_transport() {
    let db = TestDb::new().await;
    let folder = std::env::temp_dir().join(format!("jobql-refusals-{}", Uuid::new_v4()));
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::write(folder.join("jobql.toml"), KINDS).expect("a file");
    // A handler that panics is native, and its program another; a worker that is gone leaves it to the sweep.
    let (panicked, lease) = running(&db).await;
    let panic = AttemptEnd::failed(Failure::retryable("PANIC", "the handler panicked"), Duration::ZERO);
    db.store.finish_if_leased(Finish { lease, end: panic }).await.expect("finish");
    let (lost, _) = running(&db).await;
    sqlx::query("UPDATE worker SET expires_at = now() WHERE id = (SELECT worker_id FROM job WHERE id = $1)")
        .bind(lost)
        .execute(db.pool())
        .await
        .expect("by hand");
    let config = folder.join("jobql.toml").display().to_string();
    let process = Process::serve(&db.url(), &["--config", &config]).await;
    std::fs::remove_dir_all(&folder).expect("remove");
    let submit = "mutation ($i: SubmitJobInput!) { submitJob(input: $i) { job { id } } }";
    let mut ends = Vec::new();
    for (of_kind, payload, status, code, outcome) in [
        ("echo", json!({}), "DONE", "", ""),
        ("fail", json!({"message": "no"}), "ERROR", "FAILED", "ERROR"),
        ("sleep", json!({"seconds": 600}), "ERROR", "TIMEOUT", "TIMEOUT"),
        ("endless", json!({}), "ERROR", "OUTPUT_LIMIT", "ERROR"),
        ("chatty", json!({}), "ERROR", "INVALID_RESULT", "ERROR"),
        ("strict", json!({}), "ERROR", "INVALID_RESULT", "ERROR"),
        ("killed", json!({}), "ERROR", "WORKER_LOST", "ERROR"),
        ("sum", json!({"start": "x"}), "ERROR", "INVALID_PAYLOAD", "ERROR"),
    ] {
        // Only one of them is to run out of time.
        let seconds = if code == "TIMEOUT" { 1 } else { 300 };
        let input = json!({"kind": of_kind, "payload": payload, "maxAttempts": 1, "timeoutSeconds": seconds});
        let data = process.data(submit, json!({"i": input})).await;
        let id = data["submitJob"]["job"]["id"].as_str().expect("an id").to_owned();
        ends.push((id, status, code, outcome));
    }
    ends.push((panicked.to_string(), "ERROR", "PANIC", "ERROR"));
    ends.push((lost.to_string(), "ERROR", "WORKER_LOST", "WORKER_LOST"));
    let stopped = process.submit("sleep", json!({"seconds": 600})).await;
    process.data("mutation ($id: ID!) { cancelJob(id: $id) { id } }", json!({"id": stopped})).await;
    ends.push((stopped, "CANCELLED", "", "CANCELLED"));

    let fields = "status error { code message retryable } attempts { outcome error { code } }";
    for (id, status, code, outcome) in ends {
        let what = format!("{status} {code}");
        let job = eventually(&what, SOON, async || {
            let job = process.job(&id, fields).await;
            (job["status"] == status).then_some(job)
        })
        .await;
        assert_eq!(job["error"]["code"].as_str().unwrap_or_default(), code, "{job}");
        let last = job["attempts"].as_array().expect("attempts").last().cloned().unwrap_or_default();
        match outcome {
            // Stopped before it began, it has no attempt.
            "CANCELLED" if last.is_null() => {}
            _ => assert_eq!(
                last["outcome"].as_str().unwrap_or("DONE"),
                if outcome.is_empty() { "DONE" } else { outcome },
                "{job}"
            ),
        }
        let message = job["error"]["message"].as_str().unwrap_or_default();
        assert!(!message.contains("src/") && !message.contains("SELECT"), "{message}");
        let query = format!("query ($id: ID!) {{ it: job(id: $id) {{ {fields} }} }}");
        let watch = format!("subscription ($id: ID!) {{ it: jobUpdated(id: $id) {{ {fields} }} }}");
        for query in [query, watch] {
            for (transport, _, result) in results_over_each(&process, &query, &json!({"id": id})).await {
                assert_eq!(result, json!({"data": {"it": job}}), "{transport}: {what}");
            }
        }
    }
}

#[tokio::test]
async fn a_row_that_cannot_be_read_ends_in_error_and_stops_nobody_else() {
    let db = TestDb::new().await;
    let unreadable = db.submit(kind("echo", json!({}))).await.id;
    let other = db.submit(kind("echo", json!({}))).await.id;
    // What came past the checks: beyond a double.
    sqlx::query("UPDATE job SET payload = '[1e400]' WHERE id = $1")
        .bind(unreadable)
        .execute(db.pool())
        .await
        .expect("by hand");
    let process = Process::serve(&db.url(), &[]).await;
    let mut feed = process.subscribe("subscription { jobUpdated { id status } }", json!({})).await;
    eventually("the other one is done", SOON, async || {
        (process.job(&other.to_string(), "status").await["status"] == "DONE").then_some(())
    })
    .await;
    eventually("it ends", SOON, async || {
        let status: String = sqlx::query_scalar("SELECT status FROM job WHERE id = $1")
            .bind(unreadable)
            .fetch_one(db.pool())
            .await
            .expect("a status");
        (status == "ERROR").then_some(())
    })
    .await;
    // A change of it is announced, and read with that of another.
    sqlx::query("UPDATE job SET priority = priority + 1 WHERE id = ANY($1)")
        .bind([unreadable, other])
        .execute(db.pool())
        .await
        .expect("by hand");
    let later = process.submit("echo", json!({})).await;
    eventually("whoever watches all hears of others", SOON, async || {
        let data = feed.next_data(SOON).await.expect("an event");
        (data["jobUpdated"]["id"] == later.as_str() && data["jobUpdated"]["status"] == "DONE").then_some(())
    })
    .await;
    let query = "query ($id: ID!) { it: job(id: $id) { status error { code } } jobs { nodes { id } } }";
    for (transport, _, result) in results_over_each(&process, query, &json!({"id": unreadable})).await {
        assert_eq!(
            result["data"]["it"],
            json!({"status": "ERROR", "error": {"code": "UNREADABLE"}}),
            "{transport}"
        );
        assert_eq!(result["data"]["jobs"]["nodes"].as_array().expect("nodes").len(), 3, "{transport}");
    }
}
