//! Callbacks: told after the end, signed, under one id, until the receiver has it, and only where they may go.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use entity::JobStatus;
use jobql::config::Callbacks;
use jobql::job::callback::signed_headers;
use jobql::job::failure::Failure;
use jobql::job::submission::Submission;
use jobql::maintenance::callbacks::Sender;
use jobql::store::callback::{DeliveryOutcome, DeliveryStatus};
use jobql::store::finish::{AttemptEnd, Finish};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::process::Process;
use crate::support::{ANYONE, SOON, TestDb, echo, eventually};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A receiver that answers as it was told, then 204.
#[derive(Clone, Default)]
struct Receiver {
    answers: Arc<Mutex<VecDeque<StatusCode>>>,
    got: Arc<Mutex<Vec<(HeaderMap, String)>>>,
}

impl Receiver {
    async fn start(answers: &[StatusCode]) -> (Receiver, String) {
        let receiver = Receiver::default();
        receiver.answers.lock().expect("lock").extend(answers);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
        let router = Router::new().route("/hook", post(receive)).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (receiver, url)
    }

    fn got(&self) -> Vec<(HeaderMap, String)> {
        self.got.lock().expect("lock").clone()
    }
}

async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, body: String) -> Response {
    receiver.got.lock().expect("lock").push((headers, body));
    let status = receiver.answers.lock().expect("lock").pop_front().unwrap_or(StatusCode::NO_CONTENT);
    let mut response = status.into_response();
    response.headers_mut().insert("location", HeaderValue::from_static("/hook"));
    response
}

fn callbacks() -> Callbacks {
    let secret = Some(SECRET.parse().expect("a secret"));
    Callbacks { secret, previous_secret: None, hosts: vec!["127.0.0.1".to_owned()] }
}

/// The id of a message whose signature is right.
fn verified((headers, body): &(HeaderMap, String)) -> String {
    let header = |name: &str| headers[name].to_str().expect("text").to_owned();
    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
    let seconds: i64 = timestamp.parse().expect("seconds");
    assert!((chrono::Utc::now().timestamp() - seconds).abs() < 60, "a fresh timestamp");
    let [.., (name, signature)] = signed_headers(callbacks().secrets(), &id, seconds, body);
    assert_eq!(header(name), signature);
    id
}

async fn make_due(db: &TestDb) {
    sqlx::query("UPDATE callback_delivery SET next_at = now() WHERE next_at IS NOT NULL")
        .execute(db.pool())
        .await
        .expect("due");
}

async fn cancelled(db: &TestDb, url: &str) -> Uuid {
    let id = db.submit(Submission { callback_url: Some(url.to_owned()), ..echo() }).await.id;
    db.store.cancel_job(&ANYONE, id).await.expect("cancel");
    id
}

#[tokio::test]
async fn there_is_nothing_to_tell_before_the_end() {
    let db = TestDb::new().await;
    let with_callback = Submission { callback_url: Some("http://127.0.0.1/hook".to_owned()), ..echo() };
    let id = db.submit(with_callback).await.id;
    let worker = db.worker(30).await;
    let deliveries = async || -> i64 {
        let count = sqlx::query_scalar("SELECT count(*) FROM callback_delivery WHERE job_id = $1").bind(id);
        count.fetch_one(db.pool()).await.expect("a count")
    };
    for end in
        [AttemptEnd::Released, AttemptEnd::failed(Failure::retryable("BUSY", "not now"), Duration::ZERO)]
    {
        let lease = db.claim(worker, 1).await[0].lease;
        assert_eq!(deliveries().await, 0, "it runs");
        db.store.finish_if_leased(Finish { lease, end }).await.expect("end of the attempt");
        assert_eq!(deliveries().await, 0, "it waits again");
    }
    db.store.cancel_job(&ANYONE, id).await.expect("cancel");
    assert_eq!(deliveries().await, 1);
}

#[tokio::test]
async fn the_end_of_a_job_is_told_until_the_receiver_has_it() {
    let db = TestDb::new().await;
    let (receiver, url) = Receiver::start(&[StatusCode::INTERNAL_SERVER_ERROR, StatusCode::FOUND]).await;
    let server = Process::serve(
        &db.url(),
        &["--slots", "2", "--callback-secret", SECRET, "--callback-hosts", "127.0.0.1"],
    )
    .await;
    let submit = "mutation ($url: String!, $payload: JSON!) {
        submitJob(input: {kind: \"echo\", payload: $payload, callbackUrl: $url}) { job { id callback { status attempts } } } }";
    let job = server.data(submit, json!({"url": url, "payload": {"n": 1}})).await["submitJob"]["job"].take();
    assert_eq!(job["callback"], json!({"status": "WAITING", "attempts": 0}));
    let id = job["id"].as_str().expect("an id").to_owned();
    let fields = "status callback { url status attempts lastError deliveredAt }";
    let after = async |attempts: i32| -> Value {
        eventually("an attempt is recorded", SOON, async || {
            let job = server.job(&id, fields).await;
            let callback = &job["callback"];
            (callback["attempts"] == attempts && (attempts > 2 || !callback["lastError"].is_null()))
                .then_some(job)
        })
        .await
    };
    let failed = after(1).await;
    assert_eq!(failed["status"], "DONE", "told after the end");
    assert!(failed["callback"]["lastError"].as_str().expect("a reason").contains("500"), "{failed}");
    make_due(&db).await;
    // A redirect is an answer like any other, and is not followed.
    eventually("the redirect", SOON, async || (receiver.got().len() == 2).then_some(())).await;
    make_due(&db).await;
    let delivered = eventually("it is delivered", SOON, async || {
        make_due(&db).await;
        let job = server.job(&id, fields).await;
        (job["callback"]["status"] == "DELIVERED").then_some(job)
    })
    .await;
    assert_eq!(delivered["callback"]["url"], json!(url));
    assert!(!delivered["callback"]["deliveredAt"].is_null());
    let got = receiver.got();
    let ids: Vec<String> = got.iter().map(verified).collect();
    assert!(ids.len() >= 3 && ids.iter().all(|one| *one == ids[0]), "the same id each time: {ids:?}");
    let told: Value = serde_json::from_str(&got[0].1).expect("JSON");
    assert_eq!((&told["type"], &told["data"]["id"]), (&json!("job.done"), &json!(id)));
    assert_eq!(told["data"]["result"], json!({"n": 1}));

    let before = receiver.got().len();
    let again = "mutation ($id: ID!) { redeliverCallback(jobId: $id) { callback { status } } }";
    server.data(again, json!({"id": id})).await;
    let got = eventually("once more", SOON, async || {
        let got = receiver.got();
        (got.len() > before).then_some(got)
    })
    .await;
    assert_eq!(verified(&got[before]), ids[0]);

    for refused in ["http://10.0.0.1/", "https://169.254.169.254/latest", "https://a:b@example.com/", "x"] {
        let answer = server.ask(submit, json!({"url": refused, "payload": {}})).await;
        assert_eq!(answer["errors"][0]["extensions"]["code"], "CALLBACK_URL_REFUSED", "{refused}: {answer}");
    }
    let without = server.submit("echo", json!({})).await;
    let answer = server.ask(again, json!({"id": without})).await;
    assert_eq!(answer["errors"][0]["extensions"]["code"], "NOT_FOUND");
}

#[tokio::test]
async fn a_delivery_that_was_taken_and_not_recorded_is_taken_again_and_a_late_record_changes_nothing() {
    let db = TestDb::new().await;
    let id = cancelled(&db, "http://127.0.0.1:9/").await;
    let first = db.store.take_due_callbacks(10).await.expect("take").remove(0);
    assert_eq!((first.job.id, first.attempt), (id, 1));
    assert!(db.store.take_due_callbacks(10).await.expect("take").is_empty(), "it is taken");
    make_due(&db).await;
    let second = db.store.take_due_callbacks(10).await.expect("take").remove(0);
    assert_eq!((second.event, second.attempt), (first.event, 2));
    let record = |attempt| db.store.record_delivery(id, (first.event, attempt), DeliveryOutcome::Delivered);
    record(1).await.expect("record");
    let status = async || db.store.delivery(&ANYONE, id).await.expect("delivery").status;
    assert_eq!(status().await, DeliveryStatus::Waiting, "the record of an attempt that was given up");
    // A retry leaves the end: it is not told any more, and the next one anew.
    db.store.retry_job(&ANYONE, id, None).await.expect("retry");
    make_due(&db).await;
    record(2).await.expect("record");
    assert_eq!(status().await, DeliveryStatus::Waiting);
    assert!(db.store.take_due_callbacks(10).await.expect("take").is_empty(), "not while it is active");
    db.store.cancel_job(&ANYONE, id).await.expect("cancel");
    let third = db.store.take_due_callbacks(10).await.expect("take").remove(0);
    assert_eq!(third.attempt, 1);
    assert!(third.event > first.event, "another end is another message");
    db.store.record_delivery(id, (third.event, 1), DeliveryOutcome::Delivered).await.expect("record");
    assert_eq!(status().await, DeliveryStatus::Delivered);
}

#[tokio::test]
async fn what_is_gone_or_refused_or_tried_often_enough_is_given_up() {
    let db = TestDb::new().await;
    let (receiver, url) = Receiver::start(&[StatusCode::GONE]).await;
    let sender = Sender::new(callbacks()).expect("a sender");
    let gone = cancelled(&db, &url).await;
    sender.deliver(&db.store).await.expect("deliver");
    let delivery = db.store.delivery(&ANYONE, gone).await.expect("delivery");
    assert_eq!((delivery.status, delivery.attempts), (DeliveryStatus::Failed, 1));
    assert_eq!(receiver.got().len(), 1);
    // A name is let through when it is submitted; the address that it leads to is not.
    let inside = cancelled(&db, "https://localhost:9/").await;
    sender.deliver(&db.store).await.expect("deliver");
    let delivery = db.store.delivery(&ANYONE, inside).await.expect("delivery");
    let error = delivery.last_error.expect("a reason");
    assert!(error.contains("no public address"), "{error}");
    assert_eq!(delivery.status, DeliveryStatus::Waiting);
    for attempt in 2..=10 {
        make_due(&db).await;
        sender.deliver(&db.store).await.expect("deliver");
        let delivery = db.store.delivery(&ANYONE, inside).await.expect("delivery");
        let is_last = attempt == 10;
        assert_eq!((delivery.attempts, delivery.status == DeliveryStatus::Failed), (attempt, is_last));
    }
    // Settings that changed since the submit hold.
    let strict = Sender::new(Callbacks { hosts: Vec::new(), ..callbacks() }).expect("a sender");
    let refused = cancelled(&db, &url).await;
    strict.deliver(&db.store).await.expect("deliver");
    assert_eq!(db.store.delivery(&ANYONE, refused).await.expect("delivery").status, DeliveryStatus::Failed);
    assert_eq!(receiver.got().len(), 1);
    assert!(Sender::new(Callbacks::default()).is_none(), "nothing is sent unsigned");
    assert_eq!(db.job(refused).await.status, JobStatus::Cancelled);
}
