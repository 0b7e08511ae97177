//! Positions and queues as they change, and the load over time.

use std::time::Instant;

use chrono::{TimeDelta, Utc};
use entity::JobStatus;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use jobql::error::Error;
use jobql::events::{Events, QueueState};
use jobql::job::submission::Submission;
use jobql::job::viewer::Viewer;
use jobql::store::load::LoadRequest;
use jobql::store::position::Position;
use jobql::store::queue::QueueChange;
use serde_json::json;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::support::process::Process;
use crate::support::{ANYONE, QUEUE, SOON, TestDb, deadline, echo, eventually, kind};

fn events(db: &TestDb) -> (Events, DropGuard) {
    let stop = CancellationToken::new();
    let events =
        Events::start(db.store.clone(), db.database.listen_options(), &TaskTracker::new(), stop.clone());
    (events, stop.drop_guard())
}

async fn follow(events: &Events, id: Uuid) -> BoxStream<'static, Position> {
    events.follow_position(&ANYONE, id).await.expect("follow")
}

async fn next(positions: &mut BoxStream<'static, Position>) -> Option<Position> {
    deadline("a position", positions.next()).await
}

#[tokio::test]
async fn a_waiting_job_is_told_its_position_until_it_runs() {
    let db = TestDb::new().await;
    let (events, _stop) = events(&db);
    let jobs = db.store.submit_all((0..6).map(|_| db.new_job(echo())).collect()).await.expect("submit");
    let last = jobs[5].job.id;
    let mut positions = follow(&events, last).await;
    assert_eq!(next(&mut positions).await.expect("the present one").position(), Some(6));
    let worker = db.worker(30).await;
    let started = Instant::now();
    let mut told = Vec::new();
    for taken in 1..=5 {
        db.claim(worker, 1).await;
        if taken % 2 == 1 {
            let position = next(&mut positions).await.expect("a change");
            assert_eq!(position.position(), Some(6 - taken), "true when it was told, as nothing moved since");
            assert_eq!((position.running_ahead, position.pending_ahead), (taken, 5 - taken));
            told.push(position);
        }
    }
    db.claim(worker, 1).await;
    let end = next(&mut positions).await.expect("the end");
    assert_eq!((end.position(), end.status), (Some(0), JobStatus::Running));
    assert_eq!(next(&mut positions).await, None);
    let rounds = (told.len() + 1) as u128;
    assert!(started.elapsed().as_millis() >= (rounds - 2) * 500, "at most two a second");
}

#[tokio::test]
async fn a_cancelled_or_deleted_job_ends_its_stream_and_a_foreign_one_has_none() {
    let db = TestDb::new().await;
    let (events, _stop) = events(&db);
    let job = db.submit(echo()).await;
    let other = db.submit(echo()).await;
    let mut positions = follow(&events, other.id).await;
    assert_eq!(next(&mut positions).await.expect("present").position(), Some(2));
    db.store.cancel_job(&ANYONE, job.id).await.expect("cancel");
    assert_eq!(next(&mut positions).await.expect("moved up").position(), Some(1));
    db.store.cancel_job(&ANYONE, other.id).await.expect("cancel");
    let end = next(&mut positions).await.expect("the end");
    assert_eq!((end.position(), end.total_active), (None, 0));
    assert_eq!(next(&mut positions).await, None);
    let stranger = Viewer::Client("stranger".to_owned());
    for (viewer, id) in [(&stranger, other.id), (&ANYONE, Uuid::now_v7())] {
        let refused = events.follow_position(viewer, id).await;
        assert!(matches!(refused.err(), Some(Error::NotFound { .. })));
    }
}

#[tokio::test]
async fn many_watchers_are_told_the_same_round() {
    let db = TestDb::new().await;
    let (events, _stop) = events(&db);
    let jobs = db.store.submit_all((0..300).map(|_| db.new_job(echo())).collect()).await.expect("submit");
    let mut followers = Vec::new();
    for submitted in &jobs[10..] {
        followers.push(follow(&events, submitted.job.id).await);
    }
    for (index, follower) in followers.iter_mut().enumerate() {
        assert_eq!(next(follower).await.expect("present").position(), Some(11 + index as i64));
    }
    let scans = async || -> i64 {
        let mut session = db.session().await;
        sqlx::query_scalar("SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'job_ready'")
            .fetch_one(&mut session)
            .await
            .expect("scans")
    };
    let before = scans().await;
    db.claim(db.worker(30).await, 10).await;
    for (index, follower) in followers.iter_mut().enumerate() {
        assert_eq!(next(follower).await.expect("moved up").position(), Some(1 + index as i64));
    }
    // A round looks between each two neighbours once; one computation for each watcher would be 290 times that.
    let looked = scans().await - before;
    assert!(looked < 290 * 10, "{looked} scans");
}

async fn next_queue(queues: &mut BoxStream<'static, QueueState>) -> QueueState {
    deadline("a queue", queues.next()).await.expect("it goes on")
}

#[tokio::test]
async fn a_queue_is_told_when_its_settings_or_its_jobs_change_and_not_otherwise() {
    let db = TestDb::new().await;
    let (events, _stop) = events(&db);
    let configured = [QUEUE.to_owned(), "other".to_owned()];
    let mut queues = events.follow_queues(&configured, Some(QUEUE.to_owned()));
    let (settings, content) = next_queue(&mut queues).await;
    assert_eq!((settings.paused, content.total.counts.of(JobStatus::Pending)), (false, 0));
    db.submit(echo()).await;
    assert_eq!(next_queue(&mut queues).await.1.total.counts.of(JobStatus::Pending), 1);
    let paused = QueueChange { paused: Some(true), ..QueueChange::default() };
    db.store.change_queue("other", paused).await.expect("another queue");
    db.store.change_queue(QUEUE, paused).await.expect("pause");
    let (settings, _) = next_queue(&mut queues).await;
    assert!(settings.paused && settings.name == QUEUE);
    let mut all = events.follow_queues(&configured, None);
    assert_eq!(next_queue(&mut all).await.0.name, QUEUE);
    assert_eq!(next_queue(&mut all).await.0.name, "other");
    // Nothing changes any more: after the next change there is just that.
    db.submit(echo()).await;
    assert_eq!(next_queue(&mut queues).await.1.total.counts.of(JobStatus::Pending), 2);
}

#[tokio::test]
async fn a_minute_is_sampled_once_however_many_sample_and_old_samples_go() {
    let db = TestDb::new().await;
    let later = Some(Utc::now() + TimeDelta::hours(1));
    db.submit(echo()).await;
    db.submit(Submission { run_at: later, ..echo() }).await;
    db.submit(kind("fail", json!({}))).await;
    db.job_in(JobStatus::Done).await;
    sqlx::query("INSERT INTO job_load VALUES (now() - interval '32 days', 'echo', 1, 1, 1), (now() - interval '1 hour', 'echo', 4, 0, 9)")
        .execute(db.pool())
        .await
        .expect("old samples");
    let other = db.opened_again().await;
    for _ in 0..3 {
        let (one, two) = tokio::join!(db.store.sample_load(), other.store.sample_load());
        one.and(two).expect("sample");
    }
    let request = LoadRequest {
        from: Utc::now() - TimeDelta::days(40),
        to: Utc::now() + TimeDelta::minutes(1),
        kinds: None,
        bucket_seconds: 60,
        limit: 100,
    };
    let loads = db.store.loads(&request).await.expect("loads");
    let counts: Vec<(&str, i32, i32, i32, i32)> = loads
        .iter()
        .map(|load| (load.kind.as_str(), load.pending, load.scheduled, load.running, load.total))
        .collect();
    // The minute may have ended in between.
    let minutes = if counts.len() == 3 { 1 } else { 2 };
    let mut expected = vec![("echo", 4, 0, 9, 13)];
    for _ in 0..minutes {
        expected.extend([("echo", 1, 1, 0, 2), ("fail", 1, 0, 0, 1)]);
    }
    assert_eq!(counts, expected);
    let wide = LoadRequest { bucket_seconds: 2_678_400, kinds: Some(vec!["echo".to_owned()]), ..request };
    let most: i32 =
        db.store.loads(&wide).await.expect("loads").iter().map(|load| load.running).max().expect("one");
    assert_eq!(most, 9, "the largest of a bucket");
}

#[tokio::test]
async fn positions_queues_and_loads_are_told_over_the_api() {
    let db = TestDb::new().await;
    let server = Process::serve(&db.url(), &["--slots", "0"]).await;
    let id = server.submit("echo", json!({})).await;
    let watch = "subscription ($id: ID!) { queuePositionUpdated(jobId: $id) { jobId position totalActive } }";
    let mut positions = server.subscribe(watch, json!({"id": id})).await;
    let position = positions.next_data(SOON).await.expect("present");
    assert_eq!(position["queuePositionUpdated"], json!({"jobId": id, "position": 1, "totalActive": 1}));
    let watch =
        "subscription { queueUpdated(name: \"default\") { name paused counts { pending cancelled } } }";
    let mut queues = server.subscribe(watch, json!({})).await;
    let queue = queues.next_data(SOON).await.expect("present");
    assert_eq!(queue["queueUpdated"]["counts"], json!({"pending": 1, "cancelled": 0}));
    db.store.cancel_job(&ANYONE, Uuid::parse_str(&id).expect("an id")).await.expect("cancel");
    let queue = queues.next_data(SOON).await.expect("a change");
    assert_eq!(queue["queueUpdated"]["counts"], json!({"pending": 0, "cancelled": 1}));
    assert_eq!(
        positions.next_data(SOON).await.expect("the end")["queuePositionUpdated"]["position"],
        json!(null)
    );
    assert!(positions.next_data(SOON).await.is_none(), "it completes");

    server.submit("echo", json!({})).await;
    let loads =
        "query ($from: DateTime!, $to: DateTime!) { jobLoads(from: $from, to: $to) { kind pending total } }";
    let now = Utc::now();
    let span = |days| json!({"from": now - TimeDelta::days(days), "to": now + TimeDelta::minutes(1)});
    db.store.sample_load().await.expect("sample");
    let data = eventually("the sample is shown", SOON, async || {
        let data = server.data(loads, span(1)).await["jobLoads"].take();
        (data != json!([])).then_some(data)
    })
    .await;
    assert_eq!(data[0], json!({"kind": "echo", "pending": 1, "total": 1}));
    let refused = server.ask(loads, span(32)).await;
    assert_eq!(refused["errors"][0]["extensions"]["field"], "to");
}

#[tokio::test]
async fn a_start_is_estimated_where_that_is_honest() {
    let db = TestDb::new().await;
    let server = Process::serve(&db.url(), &["--slots", "0"]).await;
    db.store.submit_all((0..20).map(|_| db.new_job(echo())).collect()).await.expect("submit");
    let last = db.submit(echo()).await.id.to_string();
    let seconds = async || {
        let asked_at = Utc::now();
        let position =
            server.job(&last, "queuePosition { position estimatedStartAt }").await["queuePosition"].take();
        let at = position["estimatedStartAt"].as_str()?.parse::<chrono::DateTime<Utc>>().expect("an instant");
        Some((at - asked_at).as_seconds_f64())
    };
    assert_eq!(seconds().await, None, "no live worker");
    db.worker(30).await;
    // A forecast is kept for half a second.
    let now = async || eventually("an estimate", SOON, &seconds).await;
    db.store
        .add_durations(vec![("echo".to_owned(), 4, 30.0), ("fail".to_owned(), 1, 900.0)])
        .await
        .expect("report");
    db.store.add_durations(vec![("echo".to_owned(), 6, 70.0)]).await.expect("report");
    // 20 jobs of 10 s ahead on 8 free slots: it starts in the third row.
    let estimate = now().await;
    assert!((estimate - 20.0).abs() < 2.0, "{estimate}");
    let set = async |change: QueueChange| drop(db.store.change_queue(QUEUE, change).await.expect("settings"));
    set(QueueChange { max_running: Some(Some(2)), ..QueueChange::default() }).await;
    eventually("the limit counts", SOON, async || {
        (seconds().await.is_some_and(|estimate| (estimate - 100.0).abs() < 2.0)).then_some(())
    })
    .await;
    set(QueueChange { paused: Some(true), ..QueueChange::default() }).await;
    eventually("a paused queue has none", SOON, async || seconds().await.is_none().then_some(())).await;
    set(QueueChange { paused: Some(false), ..QueueChange::default() }).await;
    now().await;
    let unknown = Submission { priority: Some(0), ..kind("sum", json!({})) };
    db.submit(unknown).await;
    eventually("a kind without history goes before", SOON, async || seconds().await.is_none().then_some(()))
        .await;
}

#[tokio::test]
async fn workers_report_how_long_attempts_took() {
    let db = TestDb::new().await;
    let server = Process::serve(&db.url(), &["--slots", "2"]).await;
    for _ in 0..3 {
        server.submit("sleep", json!({"seconds": 0.2})).await;
    }
    let (jobs, seconds): (i64, f64) = eventually("the report", SOON, async || {
        let sums = sqlx::query_as::<_, (i64, f64)>(
            "SELECT COALESCE(sum(jobs), 0)::bigint, COALESCE(sum(seconds), 0) FROM kind_duration WHERE kind = 'sleep'",
        );
        let sums = sums.fetch_one(db.pool()).await.expect("sums");
        (sums.0 == 3).then_some(sums)
    })
    .await;
    assert!((0.6..3.0).contains(&seconds), "{seconds} for {jobs}");
}

#[tokio::test]
async fn what_workers_hold_and_have_done_is_told_over_the_api() {
    let db = TestDb::new().await;
    let server = Process::serve(&db.url(), &["--slots", "2"]).await;
    let held = server.submit("sleep", json!({"seconds": 60})).await;
    // The number and the jobs are read one after the other: the claim may come in between.
    let holding = eventually("a worker holds it", SOON, async || {
        let data = server.data("{ workers { running jobs { id status } } }", json!({})).await;
        (data["workers"][0]["running"] != json!(0)).then_some(data)
    })
    .await;
    assert_eq!(
        holding["workers"],
        json!([{"running": 1, "jobs": [{"id": held, "status": "RUNNING"}]}]),
        "what it holds, and nothing else"
    );
    for _ in 0..3 {
        server.submit("echo", json!({})).await;
    }
    let now = Utc::now();
    let span = |days| json!({"from": now - TimeDelta::days(days), "to": now + TimeDelta::minutes(2)});
    let query = "query ($from: DateTime!, $to: DateTime!) {
        jobThroughput(from: $from, to: $to, bucketSeconds: 3600) { kind attempts seconds } }";
    eventually("three attempts are told", SOON, async || {
        let done = server.data(query, span(1)).await["jobThroughput"].take();
        // The hour may have ended in between.
        let attempts: i64 = done.as_array()?.iter().filter_map(|each| each["attempts"].as_i64()).sum();
        let only_echo = done.as_array()?.iter().all(|each| each["kind"] == "echo");
        (only_echo && attempts == 3).then_some(())
    })
    .await;
    let refused = server.ask(query, span(32)).await;
    assert_eq!(refused["errors"][0]["extensions"]["field"], "to");
}
