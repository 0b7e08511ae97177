//! Queues: pause, order and limit hold for every claim, and what is shown of them is true.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use entity::queue::ClaimOrder;
use entity::{JobStatus, job};
use futures_util::future::join_all;
use jobql::job::submission::Submission;
use jobql::store::finish::{AttemptEnd, Finish};
use jobql::store::queue::QueueChange;
use serde_json::{Value, json};
use tokio::sync::Barrier;
use uuid::Uuid;

use crate::support::process::Process;
use crate::support::{QUEUE, SOON, TestDb, echo, eventually, kind};

async fn set(db: &TestDb, change: QueueChange) {
    db.store.change_queue(QUEUE, change).await.expect("settings");
}

fn paused(paused: bool) -> QueueChange {
    QueueChange { paused: Some(paused), ..QueueChange::default() }
}

fn limit(limit: Option<i32>) -> QueueChange {
    QueueChange { max_running: Some(limit), ..QueueChange::default() }
}

#[tokio::test]
async fn a_paused_queue_gives_nothing_whatever_else_is_set_and_what_runs_goes_on() {
    let db = TestDb::new().await;
    let worker = db.worker(30).await;
    let first = db.submit(echo()).await;
    let held = db.claim(worker, 1).await.remove(0);
    for change in [
        QueueChange::default(),
        limit(Some(50)),
        QueueChange { order: Some(ClaimOrder::Lifo), ..QueueChange::default() },
        limit(None),
    ] {
        set(&db, change).await;
        db.submit(echo()).await;
        set(&db, paused(true)).await;
        assert!(db.claim(worker, 10).await.is_empty(), "{change:?}");
        set(&db, paused(false)).await;
        assert_eq!(db.claim(worker, 10).await.len(), 1, "{change:?}");
    }
    set(&db, paused(true)).await;
    let end = AttemptEnd::Done(json!(1));
    db.store.finish_if_leased(Finish { lease: held.lease, end }).await.expect("it ends");
    assert_eq!(db.job(first.id).await.status, JobStatus::Done);
}

#[tokio::test]
async fn a_switch_of_the_order_is_instant_and_stays_within_a_priority() {
    let db = TestDb::new().await;
    let worker = db.worker(30).await;
    let mut ids = Vec::new();
    for priority in [1, 0, 1, 0, 1] {
        ids.push(db.submit(Submission { priority: Some(priority), ..echo() }).await.id);
    }
    let claimed = async |count| -> Vec<Uuid> {
        db.claim(worker, count).await.iter().map(|job| job.lease.job_id).collect()
    };
    set(&db, QueueChange { order: Some(ClaimOrder::Lifo), ..QueueChange::default() }).await;
    assert_eq!(claimed(3).await, [ids[3], ids[1], ids[4]]);
    set(&db, QueueChange { order: Some(ClaimOrder::Fifo), ..QueueChange::default() }).await;
    assert_eq!(claimed(5).await, [ids[0], ids[2]]);
}

#[tokio::test]
async fn a_limit_is_never_passed_however_many_claim_at_once() {
    const LIMIT: i64 = 3;
    const CLAIMERS: usize = 8;
    let db = Arc::new(TestDb::new().await);
    db.store.submit_all((0..300).map(|_| db.new_job(echo())).collect()).await.expect("submit");
    for order in [ClaimOrder::Fifo, ClaimOrder::Lifo] {
        set(&db, QueueChange { order: Some(order), max_running: Some(Some(3)), ..QueueChange::default() })
            .await;
        let (most, ended) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicI64::new(0)));
        let barrier = Arc::new(Barrier::new(CLAIMERS));
        let claimers = (0..CLAIMERS).map(|_| {
            let (db, barrier, most, ended) = (db.clone(), barrier.clone(), most.clone(), ended.clone());
            tokio::spawn(async move {
                let worker = db.worker(30).await;
                barrier.wait().await;
                while ended.load(Ordering::Relaxed) < 120 {
                    let claimed = db.claim(worker, 2).await;
                    let running: i64 =
                        sqlx::query_scalar("SELECT count(*) FROM job WHERE status = 'RUNNING'")
                            .fetch_one(db.pool())
                            .await
                            .expect("count");
                    most.fetch_max(running, Ordering::Relaxed);
                    let ends = claimed.iter().map(|job| {
                        let end = AttemptEnd::Done(json!(1));
                        db.store.finish_if_leased(Finish { lease: job.lease, end })
                    });
                    for end in join_all(ends).await {
                        end.expect("the end");
                        ended.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        });
        for claimer in join_all(claimers).await {
            claimer.expect("a claimer");
        }
        assert_eq!(most.load(Ordering::Relaxed), LIMIT, "{order:?}: reached, and never passed");
    }
}

#[tokio::test]
async fn a_limit_that_is_lowered_below_what_runs_lets_nothing_in_until_it_fits() {
    let db = TestDb::new().await;
    let worker = db.worker(30).await;
    db.store.submit_all((0..6).map(|_| db.new_job(echo())).collect()).await.expect("submit");
    let held = db.claim(worker, 3).await;
    set(&db, limit(Some(1))).await;
    assert!(db.claim(worker, 5).await.is_empty());
    for (left, job) in held.iter().enumerate() {
        assert!(db.claim(worker, 5).await.is_empty(), "{left}");
        let end = AttemptEnd::Done(json!(1));
        db.store.finish_if_leased(Finish { lease: job.lease, end }).await.expect("end");
    }
    assert_eq!(db.claim(worker, 5).await.len(), 1);
    set(&db, limit(None)).await;
    assert_eq!(db.claim(worker, 5).await.len(), 2);
}

#[tokio::test]
async fn an_end_under_a_limit_lets_the_next_job_in_without_a_poll() {
    let db = TestDb::new().await;
    set(&db, limit(Some(1))).await;
    let jobs = db.store.submit_all((0..60).map(|_| db.new_job(echo())).collect()).await.expect("submit");
    let _server = Process::serve(&db.url(), &["--slots", "4"]).await;
    // By polls alone, one a second, it would take a minute.
    eventually("all are done", SOON, async || {
        let last = db.job(jobs.last()?.job.id).await;
        (last.status == JobStatus::Done).then_some(())
    })
    .await;
}

async fn queue(server: &Process, fields: &str) -> Value {
    let query = format!("{{ queue(name: \"default\") {{ {fields} }} }}");
    server.data(&query, json!({})).await["queue"].take()
}

#[tokio::test]
async fn operators_see_and_steer_queues_over_the_api() {
    let db = TestDb::new().await;
    let server = Process::serve(&db.url(), &["--slots", "0"]).await;
    let mut jobs: Vec<job::Model> = Vec::new();
    for (name, priority) in [("echo", 7), ("fail", 5), ("echo", 5)] {
        jobs.push(db.submit(Submission { priority: Some(priority), ..kind(name, json!({})) }).await);
    }
    db.job_in(JobStatus::Cancelled).await;
    let data = server.data("{ queues { name paused order maxRunning liveWorkers } }", json!({})).await;
    let plain =
        json!({"name": "default", "paused": false, "order": "FIFO", "maxRunning": null, "liveWorkers": 0});
    // The other one is a queue of the jobql.toml beside these tests.
    assert_eq!((&data["queues"][0], &data["queues"][1]["name"]), (&plain, &json!("primes")));
    db.worker(30).await;
    let counts = "counts { pending cancelled done } liveWorkers highestPriority oldestPendingAt";
    let seen =
        queue(&server, &format!("{counts} byKind {{ kind counts {{ pending }} highestPriority }}")).await;
    assert_eq!(seen["counts"], json!({"pending": 3, "cancelled": 1, "done": 0}));
    assert_eq!((&seen["liveWorkers"], &seen["highestPriority"]), (&json!(1), &json!(5)));
    let oldest = jobs[0].run_at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    assert_eq!(seen["oldestPendingAt"], json!(oldest));
    assert_eq!(
        seen["byKind"],
        json!([{"kind": "echo", "counts": {"pending": 2}, "highestPriority": 5},
               {"kind": "fail", "counts": {"pending": 1}, "highestPriority": 5}])
    );

    let page = "totalCount nodes { id } pageInfo { hasNextPage hasPreviousPage endCursor }";
    let first = queue(&server, &format!("upcoming(first: 2) {{ {page} }}")).await["upcoming"].take();
    assert_eq!(first["nodes"], json!([{"id": jobs[1].id}, {"id": jobs[2].id}]));
    assert_eq!((&first["totalCount"], &first["pageInfo"]["hasNextPage"]), (&json!(3), &json!(true)));
    let after = first["pageInfo"]["endCursor"].as_str().expect("a cursor");
    let rest = queue(&server, &format!("upcoming(after: \"{after}\") {{ {page} }}")).await["upcoming"].take();
    assert_eq!(rest["nodes"], json!([{"id": jobs[0].id}]));
    assert_eq!(rest["pageInfo"]["hasPreviousPage"], json!(true));
    let others = queue(&server, &format!("upcoming(exceptKinds: [\"echo\"]) {{ {page} }}")).await;
    assert_eq!(others["upcoming"]["nodes"], json!([{"id": jobs[1].id}]));
    let foreign = format!(
        "{{ queue(name: \"default\") {{ upcoming(exceptKinds: [\"a\"], after: \"{after}\") {{ totalCount }} }} }}"
    );
    assert_eq!(server.ask(&foreign, json!({})).await["errors"][0]["extensions"]["field"], "after");

    let steer = async |mutation: &str| -> Value {
        let query = format!("mutation {{ q: {mutation} {{ paused order maxRunning }} }}");
        server.data(&query, json!({})).await["q"].take()
    };
    let settings =
        |paused, order, limit: Option<i32>| json!({"paused": paused, "order": order, "maxRunning": limit});
    assert_eq!(steer("pauseQueue(name: \"default\")").await, settings(true, "FIFO", None));
    let both = "configureQueue(name: \"default\", order: LIFO, maxRunning: 4)";
    assert_eq!(steer(both).await, settings(true, "LIFO", Some(4)));
    assert_eq!(steer("resumeQueue(name: \"default\")").await, settings(false, "LIFO", Some(4)));
    assert_eq!(
        steer("configureQueue(name: \"default\", order: FIFO)").await,
        settings(false, "FIFO", Some(4))
    );
    assert_eq!(
        steer("configureQueue(name: \"default\", maxRunning: null)").await,
        settings(false, "FIFO", None)
    );
    for (mutation, code) in [
        ("pauseQueue(name: \"defualt\")", "NOT_FOUND"),
        ("configureQueue(name: \"default\", maxRunning: 0)", "BAD_USER_INPUT"),
        ("configureQueue(name: \"\")", "BAD_USER_INPUT"),
    ] {
        let answer = server.ask(&format!("mutation {{ {mutation} {{ name }} }}"), json!({})).await;
        assert_eq!(answer["errors"][0]["extensions"]["code"], code, "{mutation}");
    }
    assert_eq!(server.data("{ queue(name: \"defualt\") { name } }", json!({})).await["queue"], Value::Null);
}

#[tokio::test]
async fn a_worker_serves_the_queues_that_it_is_told_to_and_a_resumed_queue_wakes_it() {
    let db = TestDb::new().await;
    let folder = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let config = folder.join(format!("queues-{}.toml", std::process::id()));
    std::fs::write(&config, "[kinds.echo]\nqueue = \"fast\"\n").expect("a file");
    let config = config.display().to_string();
    let server = Process::serve(&db.url(), &["--slots", "2", "--config", &config, "--queues", "fast"]).await;
    let slow = server.submit("sum", json!({"start": 1, "end": 2})).await;
    let fast = server.submit("echo", json!({})).await;
    let done = async |id: &str| {
        eventually("the job is done", SOON, async || {
            (server.job(id, "status").await["status"] == "DONE").then_some(())
        })
        .await;
    };
    done(&fast).await;
    assert_eq!(server.job(&slow, "status").await["status"], "PENDING");
    server.data("mutation { pauseQueue(name: \"fast\") { name } }", json!({})).await;
    let held = server.submit("echo", json!({})).await;
    let other = Process::work(&db.url(), &["--config", &config, "--queues", "default"]);
    done(&slow).await;
    assert_eq!(server.job(&held, "status").await["status"], "PENDING");
    server.data("mutation { resumeQueue(name: \"fast\") { name } }", json!({})).await;
    done(&held).await;
    drop(other);
}

#[tokio::test]
async fn a_job_that_has_waited_too_long_goes_first_and_its_position_says_so() {
    let db = TestDb::new().await;
    let mut ids = Vec::new();
    for priority in [9, 7, 9, 1, 0] {
        ids.push(db.submit(Submission { priority: Some(priority), ..echo() }).await.id);
    }
    assert_eq!(db.store.age_queue(QUEUE, 60).await.expect("age"), 0, "none has waited");
    sqlx::query("UPDATE job SET run_at = run_at - interval '2 minutes' WHERE id = ANY($1)")
        .bind(vec![ids[0], ids[1]])
        .execute(db.pool())
        .await
        .expect("by hand");
    assert_eq!(db.store.age_queue("other", 60).await.expect("age"), 0);
    assert_eq!(db.store.age_queue(QUEUE, 600).await.expect("age"), 0);
    assert_eq!(db.store.age_queue(QUEUE, 60).await.expect("age"), 2);
    assert_eq!(db.store.age_queue(QUEUE, 60).await.expect("age"), 0, "once");
    let aged = db.job(ids[0]).await;
    assert_eq!((aged.priority, aged.level), (9, 0));
    let positions = db.store.positions(&crate::support::ANYONE, &ids).await.expect("positions");
    let order = [ids[0], ids[1], ids[4], ids[3], ids[2]];
    let told: Vec<Option<i64>> = order.iter().map(|id| positions[id].position()).collect();
    assert_eq!(told, [Some(1), Some(2), Some(3), Some(4), Some(5)]);
    let claimed = db.claim(db.worker(30).await, 5).await;
    assert_eq!(claimed.iter().map(|job| job.lease.job_id).collect::<Vec<_>>(), order);
}
