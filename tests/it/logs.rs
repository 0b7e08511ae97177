//! Logs: fenced, in order, and followed without gap or repeat.

use std::time::Duration;

use entity::job_log::LogStream;
use futures_util::StreamExt;
use jobql::error::Error;
use jobql::events::Events;
use jobql::job::viewer::Viewer;
use jobql::store::finish::{AttemptEnd, Finish};
use jobql::store::lease::Lease;
use jobql::store::log::{LogBatch, NewLine};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::support::process::Process;
use crate::support::{ANYONE, SOON, TestDb, deadline, echo};

fn lines(lease: Lease, numbers: std::ops::RangeInclusive<i32>) -> LogBatch {
    let line = |number| NewLine {
        number,
        stream: LogStream::Stderr,
        text: format!("{}.{number}", lease.epoch),
        age: Duration::ZERO,
    };
    LogBatch { lease, lines: numbers.map(line).collect() }
}

async fn texts(db: &TestDb, lease: Lease) -> Vec<String> {
    let lines = db.store.logs(&ANYONE, lease.job_id, None, 100).await.expect("logs");
    lines.into_iter().map(|line| line.text).collect()
}

#[tokio::test]
async fn lines_are_fenced_and_can_be_appended_again() {
    let db = TestDb::new().await;
    db.submit(echo()).await;
    let worker = db.worker(30).await;
    let first = db.claim(worker, 1).await.remove(0).lease;
    db.store.append_logs_if_leased(lines(first, 1..=2)).await.expect("append");
    db.store.append_logs_if_leased(lines(first, 2..=3)).await.expect("append again");
    db.store.finish_if_leased(Finish { lease: first, end: AttemptEnd::Released }).await.expect("release");
    let late = db.store.append_logs_if_leased(lines(first, 4..=4)).await;
    assert!(matches!(late, Err(Error::LeaseLost)), "{late:?}");
    let second = db.claim(worker, 1).await.remove(0).lease;
    let late = db.store.append_logs_if_leased(lines(first, 5..=5)).await;
    assert!(matches!(late, Err(Error::LeaseLost)), "{late:?}");
    db.store.append_logs_if_leased(lines(second, 1..=1)).await.expect("append");
    assert_eq!(texts(&db, second).await, ["1.1", "1.2", "1.3", "2.1"]);
    let stranger = Viewer::Client("stranger".to_owned());
    assert!(db.store.logs(&stranger, first.job_id, None, 10).await.expect("logs").is_empty());
}

#[tokio::test]
async fn lines_of_many_jobs_in_one_batch_are_fenced_each_by_itself() {
    let db = TestDb::new().await;
    db.store.submit_all((0..20).map(|_| db.new_job(echo())).collect()).await.expect("submit");
    let held = db.claim(db.worker(30).await, 20).await;
    let appends = held.iter().enumerate().map(|(n, job)| {
        let stale = Lease { epoch: job.lease.epoch + i32::from(n % 3 == 0), ..job.lease };
        db.store.append_logs_if_leased(lines(stale, 1..=1))
    });
    for (n, outcome) in futures_util::future::join_all(appends).await.into_iter().enumerate() {
        assert_eq!(outcome.is_err(), n % 3 == 0, "{n}: {outcome:?}");
        assert_eq!(texts(&db, held[n].lease).await.len(), usize::from(n % 3 != 0));
    }
}

#[tokio::test]
async fn a_follower_gets_the_stored_lines_then_the_tail_then_the_end() {
    let db = TestDb::new().await;
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let events = Events::start(db.store.clone(), db.database.listen_options(), &TaskTracker::new(), stop);
    db.submit(echo()).await;
    let lease = db.claim(db.worker(30).await, 1).await.remove(0).lease;
    db.store.append_logs_if_leased(lines(lease, 1..=700)).await.expect("append");
    let mut follower = events.follow_log(&ANYONE, lease.job_id, None).await.expect("follow");
    let writing = async {
        for from in 0..60 {
            let from = 701 + from * 5;
            db.store.append_logs_if_leased(lines(lease, from..=from + 4)).await.expect("append");
        }
        let end = AttemptEnd::Done(json!(1));
        db.store.finish_if_leased(Finish { lease, end }).await.expect("end");
    };
    let reading = async {
        let mut numbers = Vec::new();
        while let Some(line) = follower.next().await {
            numbers.push(line.expect("a line").number);
        }
        numbers
    };
    let ((), numbers) = deadline("the whole log", async { tokio::join!(writing, reading) }).await;
    assert_eq!(numbers, (1..=1_000).collect::<Vec<_>>());
    let stranger = Viewer::Client("stranger".to_owned());
    assert!(matches!(events.follow_log(&stranger, lease.job_id, None).await, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn what_a_command_prints_is_its_log() {
    let db = TestDb::new().await;
    let file = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("logs-{}.toml", std::process::id()));
    let script = "echo reading >&2; echo '::progress 0.5 half' >&2; echo '{\"a\":'; echo '1}'; echo last >&2; sleep 0.3; exit \"$0\"";
    let kind = |name: &str, status: &str| {
        format!(
            "[kinds.{name}]\nrunner = \"command\"\nmax_attempts = 1\ncommand = [\"/bin/sh\", \"-c\", '''{script}''', \"{status}\"]\n"
        )
    };
    std::fs::write(&file, kind("good", "0") + &kind("bad", "3")).expect("a file");
    let server = Process::serve(&db.url(), &["--slots", "2", "--config", &file.display().to_string()]).await;
    for (name, status) in [("good", "DONE"), ("bad", "ERROR")] {
        let id = server.submit(name, json!({})).await;
        let watch = "subscription ($id: ID!) { jobLogAppended(id: $id) { attempt stream text } }";
        let mut socket = server.subscribe(watch, json!({"id": id})).await;
        let mut followed = Vec::new();
        while let Some(mut data) = socket.next_data(SOON).await {
            followed.push(data["jobLogAppended"].take());
        }
        let seen =
            server.job(&id, "status logs { nodes { attempt stream text } pageInfo { hasNextPage } }").await;
        assert_eq!(seen["status"], status, "the stream ends with the job");
        assert_eq!(seen["logs"]["nodes"], json!(followed));
        let of = |stream: &str| -> Vec<Value> {
            followed.iter().filter(|line| line["stream"] == stream).map(|line| line["text"].clone()).collect()
        };
        assert_eq!(of("STDERR"), ["reading", "last"]);
        assert_eq!(of("STDOUT"), ["{\"a\":", "1}"]);
        let page =
            server.job(&id, "logs(first: 3) { nodes { text } pageInfo { hasNextPage endCursor } }").await;
        assert_eq!(page["logs"]["pageInfo"]["hasNextPage"], json!(true));
        let after = page["logs"]["pageInfo"]["endCursor"].as_str().expect("a cursor");
        let rest = server.job(&id, &format!("logs(after: \"{after}\") {{ nodes {{ text }} pageInfo {{ hasNextPage hasPreviousPage }} }}")).await;
        assert_eq!(rest["logs"]["nodes"].as_array().expect("lines").len(), 1);
        assert_eq!(rest["logs"]["pageInfo"], json!({"hasNextPage": false, "hasPreviousPage": true}));
    }
}
