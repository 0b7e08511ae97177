//! The real processes on one database: the whole way of a job, and what becomes of it when processes die, stop,
//! freeze or drain.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::process::{Process, ask};
use crate::support::{SOON, TestDb, eventually};

const WATCH: &str = "subscription ($id: ID!) { jobUpdated(id: $id) { id status version result } }";

/// The last state of a job, and that each version came once and in order.
async fn watch_to_the_end(server: &Process, id: &str, within: Duration) -> Value {
    let mut socket = server.subscribe(WATCH, json!({"id": id})).await;
    let mut last = Value::Null;
    while let Some(data) = socket.next_data(within).await {
        let job = data["jobUpdated"].clone();
        assert!(last.is_null() || job["version"].as_i64() > last["version"].as_i64(), "{last} then {job}");
        last = job;
    }
    last
}

async fn submit_many(server: &Process, count: usize, kind: &str, payload: Value) -> Vec<String> {
    let query = "mutation ($inputs: [SubmitJobInput!]!) { submitJobs(inputs: $inputs) { job { id } } }";
    let mut ids = Vec::with_capacity(count);
    while ids.len() < count {
        let inputs = vec![json!({"kind": kind, "payload": payload}); (count - ids.len()).min(1_000)];
        let data = server.data(query, json!({"inputs": inputs})).await;
        let answers = data["submitJobs"].as_array().expect("a list").clone();
        ids.extend(answers.iter().map(|answer| answer["job"]["id"].as_str().expect("an id").to_owned()));
    }
    ids
}

async fn count(db: &TestDb, condition: &'static str) -> i64 {
    let sql = format!("SELECT count(*) FROM job WHERE {condition}");
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(db.pool()).await.expect("count")
}

async fn running(server: &Process, id: &str) {
    eventually("the job runs", SOON, async || {
        (server.job(id, "status").await["status"] == "RUNNING").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_job_goes_from_submit_to_its_result_watched_from_before_and_from_after() {
    let db = TestDb::new().await;
    let server = Process::serve(&db.url(), &[]).await;
    let feed = "subscription { jobUpdated(kind: [\"sum\"]) { id status version result } }";
    let mut before = server.subscribe(feed, json!({})).await;
    // The subscription runs once an operation sent after it on the same socket is answered.
    before.send(json!({"type": "subscribe", "id": "2", "payload": {"query": "{ __typename }"}})).await;
    assert_eq!(before.next_message().await.expect("an answer")["id"], "2");
    assert_eq!(before.next_message().await.expect("an answer")["type"], "complete");
    let id = server.submit("sum", json!({"start": 1, "end": 100_000})).await;
    let last = watch_to_the_end(&server, &id, SOON).await;
    assert_eq!((&last["status"], &last["result"]), (&json!("DONE"), &json!({"sum": 5_000_050_000_i64})));
    let seen = eventually("the feed tells the end", SOON, async || {
        let job = before.next_data(SOON).await.expect("a feed goes on")["jobUpdated"].take();
        assert_eq!(job["id"], json!(id));
        (job["status"] == "DONE").then_some(job)
    })
    .await;
    assert_eq!(seen, last);
    let waited = server
        .data(
            "mutation { submitJob(input: {kind: \"sum\", payload: {start: 1, end: 10}}, waitSeconds: 20) {
                created job { status result attempt attempts { number outcome } clientId } } }",
            json!({}),
        )
        .await;
    assert_eq!(
        waited["submitJob"],
        json!({"created": true, "job": {"status": "DONE", "result": {"sum": 55}, "attempt": 1,
               "attempts": [{"number": 1, "outcome": "DONE"}], "clientId": "default"}})
    );
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

#[tokio::test]
async fn wordcount_and_pdftext_give_the_right_result_on_real_input() {
    let db = TestDb::new().await;
    let config = repository().join("jobql.toml");
    let server = Process::serve(&db.url(), &["--config", &config.display().to_string()]).await;
    // As long as a novel: 120,000 words in 10,000 lines.
    let line = "It was a bright cold day in April and the clocks were\n";
    let id = server.submit("wordcount", json!({"text": line.repeat(10_000)})).await;
    let done = watch_to_the_end(&server, &id, SOON).await;
    assert_eq!(done["status"], "DONE", "{}", server.job(&id, "error { code message }").await);
    assert_eq!(done["result"]["words"], 120_000);
    assert_eq!(done["result"]["lines"], 10_000);
    assert_eq!(done["result"]["characters"], 54 * 10_000);

    let pdf = std::fs::read(repository().join("tests/data/two-pages.pdf")).expect("a PDF");
    use base64::Engine;
    let encoded = base64::engine::general_purpose::STANDARD.encode(&pdf);
    let id = server.submit("pdftext", json!({"pdf": encoded})).await;
    let done = watch_to_the_end(&server, &id, SOON).await;
    assert_eq!(done["status"], "DONE", "{}", server.job(&id, "error { code message }").await);
    assert_eq!(done["result"]["pages"], 2);
    let text = done["result"]["text"].as_str().expect("text");
    assert!(text.contains("The first page of two.") && text.contains("Größe"), "{text:?}");

    let id = server.submit("pdftext", json!({"pdf": "bm90IGEgUERG"})).await;
    let failed = watch_to_the_end(&server, &id, SOON).await;
    assert_eq!(failed["status"], "ERROR");
    let job = server.job(&id, "attempt error { code retryable message }").await;
    assert_eq!((&job["attempt"], &job["error"]["retryable"]), (&json!(1), &json!(false)), "{job}");
}

#[tokio::test]
async fn two_servers_and_two_workers_run_ten_thousand_jobs_once_each() {
    let db = TestDb::new().await;
    let one = Process::serve(&db.url(), &["--slots", "2"]).await;
    let two = Process::serve(&db.url(), &["--slots", "2"]).await;
    let _works = [Process::work(&db.url(), &["--slots", "8"]), Process::work(&db.url(), &["--slots", "8"])];
    let feed = "subscription { jobUpdated(status: [DONE, ERROR, CANCELLED]) { id status } }";
    let mut socket = two.subscribe(feed, json!({})).await;
    socket.send(json!({"type": "subscribe", "id": "2", "payload": {"query": "{ __typename }"}})).await;
    assert_eq!(socket.next_message().await.expect("an answer")["id"], "2");
    assert_eq!(socket.next_message().await.expect("an answer")["type"], "complete");
    let ids: HashSet<String> = submit_many(&one, 10_000, "echo", json!({"n": 1})).await.into_iter().collect();
    assert_eq!(ids.len(), 10_000);
    let mut seen = HashSet::new();
    while seen.len() < 10_000 {
        let data = socket.next_data(Duration::from_secs(60)).await.expect("the feed goes on");
        let job = &data["jobUpdated"];
        assert_eq!(job["status"], "DONE");
        let id = job["id"].as_str().expect("an id").to_owned();
        assert!(ids.contains(&id), "nobody submitted {id}");
        assert!(seen.insert(id), "a terminal state arrived twice: {job}");
    }
    assert_eq!(count(&db, "status = 'DONE'").await, 10_000);
    assert_eq!(count(&db, "lease_epoch <> 1 OR version <> 3").await, 0, "none ran twice");
    let workers: i64 = sqlx::query_scalar("SELECT count(DISTINCT worker_id) FROM job")
        .fetch_one(db.pool())
        .await
        .expect("n");
    assert!(workers >= 2, "the work was shared by {workers}");
}

#[tokio::test]
async fn workers_that_are_killed_lose_no_job() {
    let db = TestDb::new().await;
    let server = Process::serve(&db.url(), &["--slots", "2"]).await;
    let arguments = ["--slots", "4", "--lease-seconds", "5"];
    let mut worker = Process::work(&db.url(), &arguments);
    let total = 300;
    submit_many(&server, total, "sleep", json!({"seconds": 0.2})).await;
    for _ in 0..4 {
        let done = count(&db, "status = 'DONE'").await;
        eventually("some more are done by anyone", SOON, async || {
            (count(&db, "status = 'DONE'").await > done + 10).then_some(())
        })
        .await;
        worker.kill().await;
        worker = Process::work(&db.url(), &arguments);
    }
    eventually("all are done", Duration::from_secs(90), async || {
        (count(&db, "status = 'DONE'").await == total as i64).then_some(())
    })
    .await;
    assert!(count(&db, "lease_epoch > 1").await > 0, "no kill met a running job");
    let outcomes: Vec<String> = sqlx::query_scalar("SELECT DISTINCT outcome FROM attempt")
        .fetch_all(db.pool())
        .await
        .expect("outcomes");
    assert_eq!(outcomes, ["WORKER_LOST"]);
}

#[tokio::test]
async fn a_job_of_a_killed_worker_runs_again_within_36_seconds() {
    let db = TestDb::new().await;
    let server = Process::serve(&db.url(), &["--slots", "0"]).await;
    let worker = Process::work(&db.url(), &["--slots", "1"]);
    let id = server.submit("sleep", json!({"seconds": 120})).await;
    running(&server, &id).await;
    let other = Process::work(&db.url(), &["--slots", "1"]);
    let killed_at = Instant::now();
    worker.kill().await;
    eventually("it runs again", Duration::from_secs(37), async || {
        let job = server.job(&id, "status attempt attempts { outcome }").await;
        (job["status"] == "RUNNING" && job["attempt"] == 2).then_some(())
    })
    .await;
    assert!(killed_at.elapsed() <= Duration::from_secs(37));
    drop(other);
}

#[tokio::test]
async fn a_worker_that_was_frozen_for_longer_than_its_lease_does_no_harm() {
    let db = TestDb::new().await;
    let server = Process::serve(&db.url(), &["--slots", "0"]).await;
    let arguments = ["--slots", "1", "--lease-seconds", "5"];
    let frozen = Process::work(&db.url(), &arguments);
    // Longer than the other one may take to have it: a handler that is over when the worker thaws has nothing to stop.
    let id = server.submit("sleep", json!({"seconds": 22})).await;
    running(&server, &id).await;
    frozen.signal(Signal::SIGSTOP);
    let other = Process::work(&db.url(), &arguments);
    let second = eventually("another worker has it", Duration::from_secs(20), async || {
        let job = server.job(&id, "status attempt version").await;
        (job["status"] == "RUNNING" && job["attempt"] == 2).then_some(job)
    })
    .await;
    frozen.signal(Signal::SIGCONT);
    eventually("the frozen one stops its handler", SOON, async || {
        frozen.logged().contains("jobs are stopped").then_some(())
    })
    .await;
    let last = watch_to_the_end(&server, &id, Duration::from_secs(30)).await;
    assert_eq!(last["status"], "DONE");
    assert_eq!(
        last["version"].as_i64(),
        second["version"].as_i64().map(|version| version + 1),
        "one end only"
    );
    let attempts = server.job(&id, "attempts { number outcome }").await;
    assert_eq!(
        attempts["attempts"],
        json!([{"number": 1, "outcome": "WORKER_LOST"}, {"number": 2, "outcome": "DONE"}])
    );
    drop(other);
}

#[tokio::test]
async fn sigterm_lets_short_jobs_finish_and_gives_long_ones_back_unused() {
    let db = TestDb::new().await;
    let server = Process::serve(&db.url(), &["--slots", "0"]).await;
    let mut worker = Process::work(&db.url(), &["--slots", "2", "--drain-seconds", "4"]);
    let short = server.submit("sleep", json!({"seconds": 3})).await;
    let long = server.submit("sleep", json!({"seconds": 300})).await;
    let waiting = server.submit("echo", json!({})).await;
    running(&server, &short).await;
    running(&server, &long).await;
    worker.signal(Signal::SIGTERM);
    assert!(worker.ended(Duration::from_secs(15)).await.success(), "{}", worker.logged());
    assert_eq!(server.job(&short, "status").await["status"], "DONE");
    let released = server.job(&long, "status attempt attempts { outcome }").await;
    assert_eq!(released, json!({"status": "PENDING", "attempt": 0, "attempts": [{"outcome": "RELEASED"}]}));
    assert_eq!(server.job(&waiting, "status attempt").await, json!({"status": "PENDING", "attempt": 0}));
    let workers: i64 =
        sqlx::query_scalar("SELECT count(*) FROM worker").fetch_one(db.pool()).await.expect("workers");
    assert_eq!(workers, 0, "it took its row with it");
}

#[tokio::test]
async fn a_running_job_stops_soon_after_it_is_cancelled() {
    let db = TestDb::new().await;
    let server = Process::serve(&db.url(), &["--slots", "1"]).await;
    let id = server.submit("sleep", json!({"seconds": 300})).await;
    running(&server, &id).await;
    let asked = server
        .data("mutation ($id: ID!) { cancelJob(id: $id) { status cancelRequestedAt } }", json!({"id": id}))
        .await;
    assert_eq!(asked["cancelJob"]["status"], "RUNNING");
    let last = watch_to_the_end(&server, &id, SOON).await;
    assert_eq!(last["status"], "CANCELLED");
    let next = server.submit("echo", json!({"slot": "free"})).await;
    assert_eq!(watch_to_the_end(&server, &next, SOON).await["status"], "DONE", "the slot lives on");
}

#[tokio::test]
async fn a_failing_job_is_tried_again_and_a_slow_one_times_out() {
    let db = TestDb::new().await;
    let server = Process::serve(&db.url(), &["--slots", "2"]).await;
    let query = "mutation ($input: SubmitJobInput!) { submitJob(input: $input, waitSeconds: 25) {
        job { status attempt error { code message retryable } attempts { number outcome error { code } } } } }";
    let fatal = json!({"kind": "fail", "payload": {"message": "no way", "retryable": false}});
    let data = server.data(query, json!({"input": fatal})).await;
    assert_eq!(
        data["submitJob"]["job"],
        json!({"status": "ERROR", "attempt": 1,
               "error": {"code": "FAILED", "message": "no way", "retryable": false},
               "attempts": [{"number": 1, "outcome": "ERROR", "error": {"code": "FAILED"}}]})
    );
    let slow = json!({"kind": "sleep", "payload": {"seconds": 60}, "timeoutSeconds": 1, "maxAttempts": 1});
    let data = server.data(query, json!({"input": slow})).await;
    let job = &data["submitJob"]["job"];
    assert_eq!((&job["status"], &job["error"]["code"]), (&json!("ERROR"), &json!("TIMEOUT")), "{job}");
    assert_eq!(job["attempts"][0]["outcome"], "TIMEOUT");
    let id = server.submit("fail", json!({})).await;
    eventually("it waits its back-off", SOON, async || {
        let job = server.job(&id, "status attempt").await;
        (job == json!({"status": "SCHEDULED", "attempt": 1})).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_stopped_is_not_ready_closes_its_sockets_and_ends_with_zero() {
    let db = TestDb::new().await;
    let mut server = Process::serve(&db.url(), &["--slots", "1"]).await;
    let base = server.url.replace("/graphql", "");
    for path in ["/healthz", "/readyz"] {
        let status = reqwest::get(format!("{base}{path}")).await.expect("an answer").status();
        assert_eq!(status, 200, "{path}");
    }
    let id = server.submit("sleep", json!({"seconds": 300})).await;
    let mut socket = server.subscribe(WATCH, json!({"id": id})).await;
    socket.next_data(SOON).await.expect("an event");
    server.signal(Signal::SIGINT);
    // The job outlasts every drain, but nothing waits for sockets.
    while socket.next_message().await.is_some() {}
    drop(socket);
    assert!(server.ended(Duration::from_secs(40)).await.success(), "{}", server.logged());
    assert_eq!(db.job(id.parse().expect("an id")).await.status, entity::JobStatus::Pending);
}

#[tokio::test]
async fn settings_that_may_lose_what_was_acknowledged_are_refused_unless_told_otherwise() {
    let db = TestDb::new().await;
    sqlx::raw_sql(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$",
    )
    .execute(db.pool())
    .await
    .expect("alter");
    let mut refused = Process::start(&db.url(), &["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(refused.ended(SOON).await.code(), Some(1));
    assert!(refused.logged().contains("synchronous_commit = off"), "{}", refused.logged());
    let told = Process::serve(&db.url(), &["--allow-unsafe-durability"]).await;
    let id = told.submit("echo", json!({})).await;
    assert_eq!(watch_to_the_end(&told, &id, SOON).await["status"], "DONE");
}

#[tokio::test]
async fn where_no_notification_arrives_it_says_so_and_jobs_run_and_are_seen_all_the_same() {
    let (db, elsewhere) = (TestDb::new().await, TestDb::new().await);
    // A listener on another database hears nothing, as behind a pooler.
    let server = Process::serve(&db.url(), &["--listen-database-url", &elsewhere.url()]).await;
    assert!(server.logged().contains("WARN"), "{}", server.logged());
    for _ in 0..3 {
        let id = server.submit("echo", json!({"n": 1})).await;
        // The worker polls each second, and so does the hub.
        let last = watch_to_the_end(&server, &id, Duration::from_secs(4)).await;
        assert_eq!(last["status"], "DONE");
    }
}

#[tokio::test]
async fn jobs_that_have_lost_a_worker_follow_each_other_without_a_pause() {
    let db = TestDb::new().await;
    let server = Process::serve(&db.url(), &["--slots", "0"]).await;
    submit_many(&server, 60, "echo", json!({})).await;
    sqlx::query("UPDATE job SET losses = 1").execute(db.pool()).await.expect("suspects");
    let started = Instant::now();
    let _worker = Process::work(&db.url(), &["--slots", "4"]);
    eventually("all are done", Duration::from_secs(30), async || {
        (count(&db, "status = 'DONE'").await == 60).then_some(())
    })
    .await;
    // One after the other, but not one a poll.
    assert!(started.elapsed() < Duration::from_secs(25), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_stop_ends_waits_and_does_not_wait_for_another_process_to_migrate() {
    let db = TestDb::new().await;
    let mut server = Process::serve(&db.url(), &["--slots", "0"]).await;
    let url = server.url.clone();
    let waiting = tokio::spawn(async move {
        let query = "mutation { submitJob(input: {kind: \"echo\"}, waitSeconds: 25) { job { status } } }";
        ask(&url, query, json!({})).await
    });
    eventually("the job is there", SOON, async || (count(&db, "true").await == 1).then_some(())).await;
    server.signal(Signal::SIGTERM);
    let answer = waiting.await.expect("an answer");
    assert_eq!(answer["data"]["submitJob"]["job"]["status"], "PENDING");
    assert!(server.ended(Duration::from_secs(10)).await.success(), "{}", server.logged());

    let mut migrating = db.session().await;
    sqlx::query("SELECT pg_advisory_lock(7669456929718009857)").execute(&mut migrating).await.expect("lock");
    let mut blocked = Process::start(&db.url(), &["serve", "--listen", "127.0.0.1:0"]);
    eventually("it says what it waits for", SOON, async || {
        blocked.logged().contains("waiting for another process").then_some(())
    })
    .await;
    blocked.signal(Signal::SIGTERM);
    assert!(blocked.ended(Duration::from_secs(10)).await.success(), "{}", blocked.logged());
}
