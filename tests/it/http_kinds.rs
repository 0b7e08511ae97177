//! Kinds that are run by a signed POST, and kinds that are run by a program with the library.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use jobql::config::{CallbackSecret, Config, Overrides};
use jobql::job::callback::signed_headers;
use jobql::native::{Job, JobError, Worker};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::api_worker::ApiWorker;
use crate::support::process::Process;
use crate::support::{SOON, TestDb, eventually};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A receiver that answers as it was told, and with 500 after that.
#[derive(Clone, Default)]
struct Receiver {
    answers: Arc<Mutex<VecDeque<(u16, &'static str)>>>,
    got: Arc<Mutex<Vec<(HeaderMap, String)>>>,
}

impl Receiver {
    async fn start(answers: &[(u16, &'static str)]) -> (Receiver, String) {
        let receiver = Receiver::default();
        receiver.answers.lock().expect("lock").extend(answers);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/run?key=s3cret", listener.local_addr().expect("an address"));
        let router = Router::new().route("/run", post(receive)).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (receiver, url)
    }

    fn got(&self) -> Vec<(HeaderMap, String)> {
        self.got.lock().expect("lock").clone()
    }
}

async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, body: String) -> Response {
    receiver.got.lock().expect("lock").push((headers, body));
    let (status, body) = receiver.answers.lock().expect("lock").pop_front().unwrap_or((500, ""));
    let status = StatusCode::from_u16(status).expect("a status");
    let mut response = (status, body).into_response();
    if status == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert("retry-after", HeaderValue::from_static("3600"));
    }
    response
}

/// A server whose kind `remote` is posted to the URL.
async fn serve(db: &TestDb, url: &str, timeout_seconds: u32) -> Process {
    static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let path = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("http-kinds-{}-{number}.toml", std::process::id()));
    let kinds = format!(
        "[kinds.remote]\nrunner = \"http\"\nurl = \"{url}\"\nsecret_env = \"JOBQL_TEST_HTTP_SECRET\"\n\
         allow_private = true\ntimeout_seconds = {timeout_seconds}\nbackoff = {{ initial_seconds = 0 }}\n\
         result_schema = {{ type = \"object\" }}\n"
    );
    std::fs::write(&path, kinds).expect("a configuration");
    let path = path.display().to_string();
    Process::serve_with(&db.url(), &["--config", &path], &[("JOBQL_TEST_HTTP_SECRET", SECRET)]).await
}

async fn ends(server: &Process, id: &str) -> Value {
    eventually("the job ends", SOON, async || {
        let job = server.job(id, "status result error { code message details } attempt").await;
        matches!(job["status"].as_str(), Some("DONE" | "ERROR" | "CANCELLED")).then_some(job)
    })
    .await
}

#[tokio::test]
async fn a_job_is_posted_signed_and_the_answer_is_its_result() {
    let db = TestDb::new().await;
    let (receiver, url) = Receiver::start(&[(503, ""), (200, "{\"n\": 1}")]).await;
    let server = serve(&db, &url, 60).await;
    let id = server.submit("remote", json!({"a": ["ä"]})).await;
    let job = ends(&server, &id).await;
    assert_eq!(
        (&job["status"], &job["result"], &job["attempt"]),
        (&json!("DONE"), &json!({"n": 1}), &json!(2))
    );
    let got = receiver.got();
    let ids: Vec<_> = got.iter().map(|(headers, _)| headers["webhook-id"].clone()).collect();
    assert!(ids.len() == 2 && ids[0] != ids[1], "each attempt has its own: {ids:?}");
    for (headers, body) in &got {
        let text = |name: &str| headers[name].to_str().expect("text").to_owned();
        let secret: CallbackSecret = SECRET.parse().expect("a secret");
        let at = text("webhook-timestamp").parse().expect("seconds");
        let [.., (_, expected)] = signed_headers(std::iter::once(&secret), &text("webhook-id"), at, body);
        assert_eq!(text("webhook-signature"), expected);
        let body: Value = serde_json::from_str(body).expect("JSON");
        assert_eq!((&body["kind"], &body["payload"]), (&json!("remote"), &json!({"a": ["ä"]})));
        assert_eq!((&body["jobId"], &body["lease"]["jobId"]), (&json!(id), &json!(id)));
    }
    assert!(!server.logged().contains("s3cret"), "the URL's query is not logged");
}

#[tokio::test]
async fn a_refusal_is_final_and_a_receiver_that_asks_for_time_gets_it() {
    let db = TestDb::new().await;
    let (receiver, url) = Receiver::start(&[(422, "no")]).await;
    let server = serve(&db, &url, 60).await;
    let id = server.submit("remote", json!({})).await;
    let job = ends(&server, &id).await;
    let expected = json!({"code": "HTTP_STATUS", "message": "the receiver answered 422 Unprocessable Entity", "details": {"status": 422}});
    assert_eq!((&job["status"], &job["error"], &job["attempt"]), (&json!("ERROR"), &expected, &json!(1)));
    for (answer, code) in
        [((307, ""), "HTTP_STATUS"), ((200, "not JSON"), "INVALID_RESULT"), ((200, "[]"), "INVALID_RESULT")]
    {
        receiver.answers.lock().expect("lock").push_back(answer);
        let id = server.submit("remote", json!({})).await;
        let job = ends(&server, &id).await;
        assert_eq!((&job["status"], &job["error"]["code"]), (&json!("ERROR"), &json!(code)), "{answer:?}");
    }
    receiver.answers.lock().expect("lock").push_back((429, ""));
    let id = server.submit("remote", json!({})).await;
    let job = eventually("the job waits", SOON, async || {
        let job = server.job(&id, "status runAt attempts { outcome }").await;
        (job["status"] == "SCHEDULED").then_some(job)
    })
    .await;
    let run_at =
        chrono::DateTime::parse_from_rfc3339(job["runAt"].as_str().expect("runAt")).expect("an instant");
    assert!((run_at.to_utc() - chrono::Utc::now()).num_seconds() > 3_500, "{job}");
}

#[tokio::test]
async fn an_accepted_job_is_its_receivers_until_it_ends_it() {
    let db = TestDb::new().await;
    let (receiver, url) = Receiver::start(&[(202, ""), (202, ""), (202, "")]).await;
    let mut server = serve(&db, &url, 600).await;
    let (done, cancelled, late) = (
        server.submit("remote", json!({})).await,
        server.submit("remote", json!({})).await,
        server.submit("remote", json!({})).await,
    );
    let handed_over = "SELECT count(*) FROM job JOIN worker ON worker.id = worker_id
                       WHERE status = 'RUNNING' AND owner = 'http'";
    eventually("the jobs are handed over", SOON, async || {
        let count: i64 = sqlx::query_scalar(handed_over).fetch_one(db.pool()).await.expect("count");
        (count == 3).then_some(())
    })
    .await;
    // It outlives the process that posted it.
    server.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(server.ended(SOON).await.success());
    let server = serve(&db, &url, 600).await;
    let lease_of = |id: &str| {
        let bodies =
            receiver.got().into_iter().map(|(_, body)| serde_json::from_str::<Value>(&body).expect("JSON"));
        bodies.into_iter().find(|body| body["jobId"] == id).expect("posted")["lease"].clone()
    };
    let caller = ApiWorker::new(&server, "receiver");
    let job = caller.complete(&lease_of(&done), json!({"ok": true})).await.expect("complete");
    assert_eq!((&job["status"], &job["attempt"]), (&json!("DONE"), &json!(1)));
    server.data("mutation ($id: ID!) { cancelJob(id: $id) { status } }", json!({"id": cancelled})).await;
    assert_eq!(ends(&server, &cancelled).await["status"], "CANCELLED");
    assert_eq!(caller.complete(&lease_of(&cancelled), json!({})).await, Err("LEASE_LOST".to_owned()));
    sqlx::query("UPDATE job SET started_at = now() - interval '601 seconds' WHERE status = 'RUNNING'")
        .execute(db.pool())
        .await
        .expect("late");
    eventually("its time is up", SOON, async || {
        let job = server.job(&late, "attempts { outcome }").await;
        (job["attempts"][0]["outcome"] == "TIMEOUT").then_some(())
    })
    .await;
}

#[derive(serde::Deserialize)]
struct Greeting {
    name: String,
}

async fn greet(job: Job, greeting: Greeting) -> Result<Value, JobError> {
    match greeting.name.as_str() {
        "forbidden" => Err(JobError::fatal("FORBIDDEN", "not this one")),
        "broken" => Ok(json!({"n": "x".parse::<u8>()?})),
        "slow" => {
            job.progress(0.5, "waiting");
            job.log("said once");
            job.stopped().cancelled().await;
            Err(JobError::retryable("STOPPED", "stopped"))
        }
        name => Ok(json!({"text": format!("Hello {name}"), "attempt": job.attempt()})),
    }
}

#[tokio::test]
async fn a_program_runs_native_kinds_with_typed_handlers() {
    let db = TestDb::new().await;
    let path = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("native-{}.toml", std::process::id()));
    std::fs::write(
        &path,
        "[kinds.greet]\nrunner = \"native\"\nmax_attempts = 1\n[kinds.other]\nrunner = \"native\"\n",
    )
    .expect("a configuration");
    let file = path.display().to_string();
    // The server has no handler, and leaves the queue alone.
    let server = Process::serve(&db.url(), &["--config", &file]).await;
    let id = server.submit("greet", json!({"name": "World"})).await;
    assert_eq!(server.job(&id, "waitReason").await["waitReason"], "NO_LIVE_WORKER");
    let overrides =
        Overrides { config_file: Some(path), database_url: Some(db.url()), ..Overrides::default() };
    let config = Config::load(&overrides).expect("a configuration");
    let unknown =
        Worker::new().handle("nothing", greet).run_until(config.clone(), CancellationToken::new()).await;
    assert!(unknown.expect_err("no such kind").to_string().contains("nothing"));
    let shutdown = CancellationToken::new();
    let worker = tokio::spawn(Worker::new().handle("greet", greet).run_until(config, shutdown.clone()));
    assert_eq!(ends(&server, &id).await["result"], json!({"text": "Hello World", "attempt": 1}));
    for (payload, code) in [
        (json!({"name": "forbidden"}), "FORBIDDEN"),
        (json!({"name": "broken"}), "FAILED"),
        (json!({"nam": 1}), "INVALID_PAYLOAD"),
    ] {
        let id = server.submit("greet", payload.clone()).await;
        assert_eq!(ends(&server, &id).await["error"]["code"], code, "{payload}");
    }
    let id = server.submit("greet", json!({"name": "slow"})).await;
    eventually("it tells its progress", SOON, async || {
        let job = server.job(&id, "progress { fraction message } logs { nodes { text } }").await;
        (job["progress"]["message"] == "waiting" && job["logs"]["nodes"][0]["text"] == "said once")
            .then_some(())
    })
    .await;
    server.data("mutation ($id: ID!) { cancelJob(id: $id) { status } }", json!({"id": id})).await;
    assert_eq!(ends(&server, &id).await["status"], "CANCELLED");
    shutdown.cancel();
    let ended =
        tokio::time::timeout(Duration::from_secs(15), worker).await.expect("it drains").expect("no panic");
    ended.expect("in order");
}
