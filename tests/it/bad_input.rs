//! What bad input gets: a code, the name of the field, and nothing written. Through the real server, as a client sends it.

use serde_json::{Value, json};

use crate::support::TestDb;
use crate::support::process::Process;

struct Server {
    db: TestDb,
    process: Process,
}

impl Server {
    async fn start() -> Server {
        let db = TestDb::new().await;
        let process = Process::serve(&db.url(), &["--slots", "0"]).await;
        Server { db, process }
    }

    /// The first error of an operation that must have one and must have written nothing.
    async fn refused(&self, query: &str, variables: Value) -> Value {
        let before = self.jobs().await;
        let answer = self.process.ask(query, variables.clone()).await;
        let error = answer["errors"][0].clone();
        assert!(error.is_object(), "{query} {variables} was not refused: {answer}");
        assert_eq!(self.jobs().await, before, "{query} {variables} wrote something");
        error
    }

    async fn refused_submit(&self, input: Value) -> Value {
        self.refused(
            "mutation ($i: SubmitJobInput!) { submitJob(input: $i) { job { id } } }",
            json!({"i": input}),
        )
        .await
    }

    /// Sends this body as it is; the status and the answer.
    async fn post(&self, body: Vec<u8>) -> (u16, Value) {
        let request =
            reqwest::Client::new().post(&self.process.url).header("content-type", "application/json");
        let response = request.body(body).send().await.expect("a response");
        (response.status().as_u16(), response.json().await.expect("JSON"))
    }

    async fn jobs(&self) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM job").fetch_one(self.db.pool()).await.expect("count")
    }
}

#[track_caller]
fn is(error: &Value, code: &str, mentions: &[&str]) {
    assert_eq!(error["extensions"]["code"], code, "{error}");
    let message = error["message"].as_str().expect("a message");
    for word in mentions {
        assert!(message.contains(word), "{message:?} does not mention {word:?}");
    }
}

#[tokio::test]
async fn submissions_out_of_range_name_the_field_and_its_range() {
    let server = Server::start().await;
    let long = "x".repeat(129);
    let far = (chrono::Utc::now() + chrono::TimeDelta::days(400)).to_rfc3339();
    let cases = [
        (json!({"kind": "nothing"}), "UNKNOWN_KIND", vec!["nothing"]),
        (json!({"kind": "echo", "clientId": ""}), "BAD_USER_INPUT", vec!["clientId", "128"]),
        (json!({"kind": "echo", "clientId": long}), "BAD_USER_INPUT", vec!["clientId", "128"]),
        (json!({"kind": "echo", "clientId": "a\u{7}b"}), "BAD_USER_INPUT", vec!["clientId", "control"]),
        (json!({"kind": "echo", "requestId": ""}), "BAD_USER_INPUT", vec!["requestId", "128"]),
        (json!({"kind": "echo", "requestId": long}), "BAD_USER_INPUT", vec!["requestId", "128"]),
        (json!({"kind": "echo", "requestId": "a\nb"}), "BAD_USER_INPUT", vec!["requestId", "control"]),
        (json!({"kind": "echo", "priority": -1}), "BAD_USER_INPUT", vec!["priority", "0", "32767"]),
        (json!({"kind": "echo", "priority": 32768}), "BAD_USER_INPUT", vec!["priority", "0", "32767"]),
        (json!({"kind": "echo", "maxAttempts": 0}), "BAD_USER_INPUT", vec!["maxAttempts", "1", "100"]),
        (json!({"kind": "echo", "maxAttempts": 101}), "BAD_USER_INPUT", vec!["maxAttempts", "1", "100"]),
        (
            json!({"kind": "echo", "timeoutSeconds": 0}),
            "BAD_USER_INPUT",
            vec!["timeoutSeconds", "1", "86400"],
        ),
        (
            json!({"kind": "echo", "timeoutSeconds": 86_401}),
            "BAD_USER_INPUT",
            vec!["timeoutSeconds", "1", "86400"],
        ),
        (json!({"kind": "echo", "runAt": far}), "BAD_USER_INPUT", vec!["runAt", "year"]),
        (json!({"kind": "echo", "displayName": ""}), "BAD_USER_INPUT", vec!["displayName"]),
    ];
    for (input, code, mentions) in cases {
        let error = server.refused_submit(input).await;
        is(&error, code, &mentions);
    }
    let zoneless = server.refused_submit(json!({"kind": "echo", "runAt": "2030-01-01T00:00:00"})).await;
    let code = zoneless["extensions"]["code"].as_str().expect("a code");
    assert!(["BAD_USER_INPUT", "GRAPHQL_VALIDATION_FAILED"].contains(&code), "{zoneless}");
    let wait = server
        .refused("mutation { submitJob(input: {kind: \"echo\"}, waitSeconds: 26) { job { id } } }", json!({}))
        .await;
    is(&wait, "BAD_USER_INPUT", &["waitSeconds", "0", "25"]);
    // In a list the input is named too.
    let query = "mutation ($i: [SubmitJobInput!]!) { submitJobs(inputs: $i) { job { id } } }";
    let inputs = json!({"i": [{"kind": "echo"}, {"kind": "echo", "priority": -5}]});
    is(&server.refused(query, inputs).await, "BAD_USER_INPUT", &["inputs[1]", "priority"]);
    let many = json!({"i": vec![json!({"kind": "echo"}); 1_001]});
    is(&server.refused(query, many).await, "BAD_USER_INPUT", &["inputs", "1000"]);
}

/// A request whose payload is this raw text.
fn with_payload(payload: &str) -> Vec<u8> {
    let query =
        "mutation ($p: JSON!) { submitJob(input: {kind: \\\"echo\\\", payload: $p}) { job { payload } } }";
    format!("{{\"query\": \"{query}\", \"variables\": {{\"p\": {payload}}}}}").into_bytes()
}

#[tokio::test]
async fn json_that_cannot_be_kept_is_refused_before_it_is_parsed() {
    let server = Server::start().await;
    let deep = format!("{}1{}", "[".repeat(65), "]".repeat(65));
    let cases = [
        ("{\"a\": 1, \"a\": 2}", "/a"),
        ("{\"x\": [{\"b\": 1, \"b\": 1}]}", "/x/0/b"),
        ("{\"a\": \"nul \\u0000\"}", "/a"),
        ("{\"\\u0000\": 1}", ""),
        ("{\"a\": \"\\ud800\"}", "/a"),
        ("{\"a\": \"\\udc00\\ud800\"}", "/a"),
        ("{\"a\": 18446744073709551616}", "/a"),
        ("{\"a\": -9223372036854775809}", "/a"),
        ("{\"a\": 1e400000}", "/a"),
        ("{\"a\": -1e309}", "/a"),
        (deep.as_str(), "/0"),
    ];
    for (payload, pointer) in cases {
        let (_, answer) = server.post(with_payload(payload)).await;
        let error = &answer["errors"][0];
        is(error, "INVALID_PAYLOAD", &[]);
        let pointers = error["extensions"]["pointers"].to_string();
        assert!(pointers.contains(pointer), "{payload}: {error}");
    }
    assert_eq!(server.jobs().await, 0);
    for kept in [
        "{\"a\": 18446744073709551615, \"b\": -9223372036854775808}",
        "{\"a\": 1.7976931348623157e308}",
        "{\"a\": \"\\ud83d\\ude00 ä\"}",
        "[]",
        "null",
        "\"text\"",
    ] {
        let (status, answer) = server.post(with_payload(kept)).await;
        assert_eq!(status, 200, "{kept}: {answer}");
        if kept == "null" {
            // A null is no `JSON!`.
            is(&answer["errors"][0], "GRAPHQL_VALIDATION_FAILED", &[]);
            continue;
        }
        let expected: Value = serde_json::from_str(kept).expect("JSON");
        assert_eq!(answer["data"]["submitJob"]["job"]["payload"], expected, "{kept}: {answer}");
    }
}

#[tokio::test]
async fn a_payload_above_its_limit_is_too_large_and_so_is_a_body() {
    let server = Server::start().await;
    let (_, answer) = server.post(with_payload(&format!("\"{}\"", "x".repeat(1 << 20)))).await;
    is(&answer["errors"][0], "PAYLOAD_TOO_LARGE", &["1048576"]);
    let (status, answer) = server.post(with_payload(&format!("\"{}\"", "x".repeat(9 << 20)))).await;
    assert_eq!(status, 413, "{answer}");
    is(&answer["errors"][0], "PAYLOAD_TOO_LARGE", &[]);
    assert_eq!(server.jobs().await, 0);
}

#[tokio::test]
async fn malformed_requests_are_400_and_write_nothing() {
    let server = Server::start().await;
    for body in [
        "",
        "{",
        "{\"query\": \"{ __typename }\"",
        "nonsense",
        "[]",
        "[{\"query\": \"{ __typename }\"}]",
        "7",
        "{}",
    ] {
        let (status, answer) = server.post(body.as_bytes().to_vec()).await;
        assert_eq!(status, 400, "{body:?}: {answer}");
        is(&answer["errors"][0], "BAD_REQUEST", &[]);
    }
    let response =
        reqwest::Client::new().post(&server.process.url).body("{\"query\": \"{ __typename }\"}").send().await;
    assert_eq!(response.expect("a response").status(), 415);
}

#[tokio::test]
async fn documents_that_cannot_run_say_so_before_anything_runs() {
    let server = Server::start().await;
    let submit = "submitJob(input: {kind: \"echo\"}) { job { id } }";
    let cases = [
        ("mutation { submitJob(".to_owned(), "GRAPHQL_PARSE_FAILED"),
        (format!("mutation {{ a: {submit} b: nothing }}"), "GRAPHQL_VALIDATION_FAILED"),
        (
            format!("mutation ($id: ID!) {{ {submit} cancelJob(id: $id) {{ id }} }}"),
            "GRAPHQL_VALIDATION_FAILED",
        ),
        (
            format!(
                "mutation ($n: Int!) {{ a: {submit} submitJob(input: {{kind: \"echo\", priority: $n}}) {{ job {{ id }} }} }}"
            ),
            "GRAPHQL_VALIDATION_FAILED",
        ),
        (
            "mutation { submitJob(input: {kind: \"echo\", priority: \"high\"}) { job { id } } }".to_owned(),
            "GRAPHQL_VALIDATION_FAILED",
        ),
        (
            format!("mutation ($k: String) {{ a: {submit} submitJob(input: {{kind: $k}}) {{ created }} }}"),
            "GRAPHQL_VALIDATION_FAILED",
        ),
        (
            format!("mutation {{ {} }}", (0..31).map(|n| format!("a{n}: {submit} ")).collect::<String>()),
            "QUERY_TOO_COMPLEX",
        ),
        (
            "mutation { submitJob(input: {kind: \"echo\", payload: {a: 1, a: 2}}) { job { id } } }"
                .to_owned(),
            "INVALID_PAYLOAD",
        ),
    ];
    for (query, code) in cases {
        let error = server.refused(&query, json!({})).await;
        is(&error, code, &[]);
    }
    let deep = format!("{{ jobs {}", "{ nodes { queuePosition { jobId } } ");
    is(&server.refused(&deep, json!({})).await, "GRAPHQL_PARSE_FAILED", &[]);
}

#[tokio::test]
async fn ids_that_are_none_and_ids_that_are_unknown() {
    let server = Server::start().await;
    let unknown = uuid::Uuid::now_v7().to_string();
    for field in ["job(id: $id) { id }", "node(id: $id) { id }", "queuePosition(jobId: $id) { position }"] {
        let query = format!("query ($id: ID!) {{ it: {field} }}");
        let error = server.refused(&query, json!({"id": "not-an-id"})).await;
        is(&error, "BAD_USER_INPUT", &[if field.contains("jobId") { "jobId" } else { "id" }]);
        assert_eq!(server.process.data(&query, json!({"id": unknown})).await, json!({"it": null}), "{field}");
    }
    for field in ["cancelJob", "retryJob"] {
        let query = format!("mutation ($id: ID!) {{ {field}(id: $id) {{ id }} }}");
        is(&server.refused(&query, json!({"id": ""})).await, "BAD_USER_INPUT", &["id"]);
        is(&server.refused(&query, json!({"id": unknown})).await, "NOT_FOUND", &[]);
    }
    let query = "{ jobByRequest(clientId: \"a\", requestId: \"b\") { id } }";
    assert_eq!(server.process.data(query, json!({})).await, json!({"jobByRequest": null}));
    for id in ["not-an-id", unknown.as_str()] {
        let mut socket = server
            .process
            .subscribe("subscription ($id: ID!) { jobUpdated(id: $id) { id } }", json!({"id": id}))
            .await;
        let message = socket.next_message().await.expect("a message");
        let code = if id == unknown { "NOT_FOUND" } else { "BAD_USER_INPUT" };
        let payload = &message["payload"];
        let error = if payload.is_array() { &payload[0] } else { &payload["errors"][0] };
        is(error, code, &[]);
    }
}

#[tokio::test]
async fn pages_that_cannot_be() {
    let server = Server::start().await;
    for _ in 0..3 {
        server.process.submit("echo", json!({})).await;
    }
    let first = server.process.data("{ jobs(first: 1) { pageInfo { endCursor } } }", json!({})).await;
    let cursor = first["jobs"]["pageInfo"]["endCursor"].as_str().expect("a cursor").to_owned();
    let cases = [
        ("first: 1, last: 1".to_owned(), vec!["first", "last"]),
        ("first: 0".to_owned(), vec!["first", "200"]),
        ("first: -1".to_owned(), vec!["first", "200"]),
        ("first: 201".to_owned(), vec!["first", "200"]),
        ("last: 0".to_owned(), vec!["last", "200"]),
        ("last: 201".to_owned(), vec!["last", "200"]),
        ("after: \"garbage\"".to_owned(), vec!["after"]),
        ("before: \"\"".to_owned(), vec!["before"]),
        (format!("after: \"{}\"", cursor.chars().rev().collect::<String>()), vec!["after"]),
        (format!("after: \"{cursor}\", kind: [\"echo\"]"), vec!["after"]),
        (format!("before: \"{cursor}\", status: [DONE]"), vec!["before"]),
        ("workflowId: \"x\"".to_owned(), vec!["workflowId"]),
    ];
    for (arguments, mentions) in cases {
        let error = server.refused(&format!("{{ jobs({arguments}) {{ nodes {{ id }} }} }}"), json!({})).await;
        is(&error, "BAD_USER_INPUT", &mentions);
    }
    let rest = server
        .process
        .data("query ($c: String) { jobs(after: $c) { totalCount nodes { id } pageInfo { hasNextPage hasPreviousPage } } }", json!({"c": cursor}))
        .await;
    assert_eq!(rest["jobs"]["totalCount"], 3);
    assert_eq!(rest["jobs"]["nodes"].as_array().expect("nodes").len(), 2);
    assert_eq!(rest["jobs"]["pageInfo"], json!({"hasNextPage": false, "hasPreviousPage": true}));
    let nothing = server.process.data("{ jobs(status: []) { totalCount nodes { id } } }", json!({})).await;
    assert_eq!(nothing["jobs"], json!({"totalCount": 0, "nodes": []}));
    let null = server.process.data("{ jobs(status: null, first: null) { totalCount } }", json!({})).await;
    assert_eq!(null["jobs"]["totalCount"], 3, "null does not filter");
}

#[tokio::test]
async fn a_repeated_request_id_gets_the_first_job_or_a_conflict_with_its_id() {
    let server = Server::start().await;
    let query = "mutation ($i: SubmitJobInput!) { submitJob(input: $i) { created job { id } } }";
    let input = json!({"kind": "echo", "payload": {"n": 1}, "requestId": "r", "clientId": "c"});
    let first = server.process.data(query, json!({"i": input})).await["submitJob"].take();
    assert_eq!(first["created"], true);
    let again = server.process.data(query, json!({"i": input})).await["submitJob"].take();
    assert_eq!(again, json!({"created": false, "job": first["job"]}));
    let other = json!({"kind": "echo", "payload": {"n": 2}, "requestId": "r", "clientId": "c"});
    let conflict = server.refused(query, json!({"i": other})).await;
    is(&conflict, "IDEMPOTENCY_CONFLICT", &[]);
    assert_eq!(conflict["extensions"]["jobId"], first["job"]["id"]);
    sqlx::query("DELETE FROM job").execute(server.db.pool()).await.expect("delete");
    let gone = server.refused(query, json!({"i": input})).await;
    is(&gone, "JOB_GONE", &[]);
    assert_eq!(gone["extensions"]["jobId"], first["job"]["id"]);
    assert_eq!(gone["extensions"]["kind"], "echo");
}

#[tokio::test]
async fn cancel_is_repeatable_and_a_retry_out_of_turn_is_refused() {
    let server = Server::start().await;
    let id = server.process.submit("echo", json!({})).await;
    let retry = "mutation ($id: ID!, $p: Int) { retryJob(id: $id, priority: $p) { status priority } }";
    is(&server.refused(retry, json!({"id": id})).await, "INVALID_TRANSITION", &["PENDING"]);
    let cancel = "mutation ($id: ID!) { cancelJob(id: $id) { status version } }";
    let once = server.process.data(cancel, json!({"id": id})).await;
    assert_eq!(once["cancelJob"]["status"], "CANCELLED");
    assert_eq!(server.process.data(cancel, json!({"id": id})).await, once, "the job as it is");
    is(&server.refused(retry, json!({"id": id, "p": -1})).await, "BAD_USER_INPUT", &["priority", "32767"]);
    let retried = server.process.data(retry, json!({"id": id, "p": 5})).await;
    assert_eq!(retried["retryJob"], json!({"status": "PENDING", "priority": 5}));
}

#[tokio::test]
async fn a_database_that_is_away_is_unavailable_and_the_server_says_so() {
    let server = Server::start().await;
    // Nobody gets in, and who is in is put out.
    let mut admin = server.db.session().await;
    let name: String =
        sqlx::query_scalar("SELECT current_database()").fetch_one(&mut admin).await.expect("a name");
    let close = format!("ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false");
    let open = format!("ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true");
    let mut elsewhere = {
        use sqlx::ConnectOptions;
        server.db.options().database("postgres").connect().await.expect("a session")
    };
    sqlx::raw_sql(sqlx::AssertSqlSafe(close)).execute(&mut elsewhere).await.expect("close");
    // What is sent over a connection that was in use a moment ago counts as sent: its outcome is open until the database is
    // back, or for 40 s, which this waits for should it happen all the same.
    let in_use = "SELECT count(*) FROM pg_stat_activity
         WHERE datname = $1 AND application_name = 'jobql' AND state_change > clock_timestamp() - interval '150 ms'";
    crate::support::eventually("the server's connections are at rest", crate::support::SOON, async || {
        let in_use: i64 =
            sqlx::query_scalar(in_use).bind(&name).fetch_one(&mut admin).await.expect("a count");
        (in_use == 0).then_some(())
    })
    .await;
    let patience = json!({"input": {"waitSeconds": 60}});
    sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1")
        .bind(&name)
        .execute(&mut elsewhere)
        .await
        .expect("terminate");
    let submit = "mutation { submitJob(input: {kind: \"echo\"}) { job { id } } }";
    let answer = server.process.ask(submit, patience).await;
    let code = answer["errors"][0]["extensions"]["code"].as_str().unwrap_or_default().to_owned();
    assert!(["UNAVAILABLE", "UNKNOWN_OUTCOME"].contains(&code.as_str()), "{answer}");
    let base = server.process.url.replace("/graphql", "");
    let ready = reqwest::get(format!("{base}/readyz")).await.expect("an answer");
    assert_eq!(ready.status(), 503);
    assert_eq!(reqwest::get(format!("{base}/healthz")).await.expect("an answer").status(), 200);
    sqlx::raw_sql(sqlx::AssertSqlSafe(open)).execute(&mut elsewhere).await.expect("open");
    crate::support::eventually("it recovers by itself", crate::support::SOON, async || {
        server.process.ask(submit, json!({})).await["data"]["submitJob"]["job"]["id"].as_str().map(drop)
    })
    .await;
}

#[tokio::test]
async fn a_bad_configuration_ends_with_two_naming_file_key_and_what_is_allowed() {
    let folder =
        std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("config-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let cases = [
        ("slotz = 3", "slotz"),
        ("slots = -1", "slots"),
        ("lease_seconds = 4", "lease_seconds"),
        ("[kinds.a]\nrunner = \"magic\"", "runner"),
        ("[kinds.a]\nrunner = \"command\"", "command"),
        ("[kinds.a]\nrunner = \"command\"\ncommand = [\"./missing\"]", "command"),
        ("[kinds.sum]\npriority = 40000", "priority"),
        ("[kinds.\"no good\"]\nrunner = \"builtin\"", "no good"),
        ("not toml", "toml"),
    ];
    for (text, mentions) in cases {
        let file = folder.join("bad.toml");
        std::fs::write(&file, text).expect("a file");
        let path = file.display().to_string();
        let mut process = Process::start("postgres://nowhere.invalid/x", &["serve", "--config", &path]);
        let status = process.ended(crate::support::SOON).await;
        let said = process.logged();
        assert_eq!(status.code(), Some(2), "{text:?}: {said}");
        assert!(said.contains("bad.toml") && said.contains(mentions), "{text:?}: {said}");
    }
}
