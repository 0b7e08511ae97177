//! Bad input over every transport: the same code for the same fault, however it comes. What is at fault stands in
//! `bad_input`; here each class of it goes by POST, by GET, as a stream of events, as multipart, and over a WebSocket.

use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use sqlx::ConnectOptions;

use crate::support::process::{Process, Socket};
use crate::support::{SOON, TestDb, eventually};

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
    let body = json!({"query": query, "variables": variables}).to_string();
    let mut answers = Vec::new();
    let mut note = |transport, answer: Answer| {
        let mut result = answer.result();
        let has_data = result.get("data").is_some();
        answers.push((transport, answer.status, result["errors"][0].take(), has_data));
    };
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
    let executed = message["type"] == "next";
    let mut errors = if executed { message["payload"]["errors"].take() } else { message["payload"].take() };
    answers.push(("socket", 0, errors[0].take(), executed));
    answers
}

const SUBMIT: &str = "mutation ($i: SubmitJobInput!) { submitJob(input: $i) { job { id } } }";
const UNKNOWN: &str = "0198f2a0-0000-7000-8000-000000000000";

/// Nineteen levels.
const TOO_DEEP: &str = "{ jobs { nodes { dependsOn { nodes { dependsOn { nodes { dependsOn { nodes { dependsOn { nodes \
    { dependsOn { nodes { dependsOn { nodes { dependsOn { nodes { dependsOn { nodes { id } } } } } \
    } } } } } } } } } } } } } }";

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
        ("{ job(id: \"x\") { id } }", json!({}), "BAD_USER_INPUT", true),
        ("{ jobs(first: 0) { totalCount } }", json!({}), "BAD_USER_INPUT", true),
        ("{ jobs(first: 1, last: 1) { nodes { id } } }", json!({}), "BAD_USER_INPUT", true),
        ("{ jobs(after: \"x\") { nodes { id } } }", json!({}), "BAD_USER_INPUT", true),
        (SUBMIT, submit(json!({"kind": "nothing"})), "UNKNOWN_KIND", true),
        (SUBMIT, submit(json!({"kind": "echo", "clientId": ""})), "BAD_USER_INPUT", true),
        (SUBMIT, submit(json!({"kind": "echo", "requestId": "a\u{7}"})), "BAD_USER_INPUT", true),
        (SUBMIT, submit(json!({"kind": "echo", "priority": 99_999})), "BAD_USER_INPUT", true),
        (SUBMIT, submit(json!({"kind": "echo", "payload": "x".repeat(1 << 10)})), "PAYLOAD_TOO_LARGE", true),
        (SUBMIT, submit(json!({"kind": "echo", "payload": {"a": "\u{0}"}})), "INVALID_PAYLOAD", false),
        (
            SUBMIT,
            submit(json!({"kind": "echo", "callbackUrl": "https://127.0.0.1/"})),
            "CALLBACK_URL_REFUSED",
            true,
        ),
        ("mutation ($id: ID!) { cancelJob(id: $id) { id } }", json!({"id": UNKNOWN}), "NOT_FOUND", true),
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
