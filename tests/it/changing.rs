//! What users change about jobs: one by one, many by a filter, and by a time that they set.

use std::collections::HashSet;
use std::sync::Arc;

use chrono::{TimeDelta, Utc};
use entity::{JobStatus, job};
use jobql::error::Error;
use jobql::job::submission::Submission;
use jobql::job::viewer::Viewer;
use jobql::store::bulk::{BulkAction, BulkOutcome, step_sql};
use jobql::store::finish::{AttemptEnd, Finish};
use jobql::store::list::JobFilter;
use jobql::store::queue::QueueChange;
use jobql::store::update::JobChange;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::process::Process;
use crate::support::{ANYONE, QUEUE, SOON, TestDb, deadline, echo, eventually, kind, request};

async fn update(db: &TestDb, id: Uuid, change: JobChange) -> job::Model {
    db.store.update_job(&ANYONE, id, change).await.expect("update")
}

#[tokio::test]
async fn a_waiting_job_gets_another_priority_and_keeps_its_age() {
    let db = TestDb::new().await;
    let first = db.submit(Submission { priority: Some(5), ..echo() }).await;
    let second = db.submit(Submission { priority: Some(3), ..echo() }).await;
    let third = db.submit(Submission { priority: Some(5), ..echo() }).await;
    let changed = update(&db, first.id, JobChange { priority: Some(3), run_at: None }).await;
    assert_eq!((changed.priority, changed.seq, changed.version), (3, first.seq, 2));
    let again = update(&db, first.id, JobChange { priority: Some(3), run_at: None }).await;
    assert_eq!(again.version, 2, "what changes nothing is no version");
    let claimed = db.claim(db.worker(30).await, 10).await;
    let claimed: Vec<Uuid> = claimed.iter().map(|job| job.lease.job_id).collect();
    assert_eq!(claimed, [first.id, second.id, third.id]);
}

#[tokio::test]
async fn a_ready_job_is_put_off_and_brought_forward_behind_those_that_were_ready() {
    let db = TestDb::new().await;
    let job = db.submit(echo()).await;
    let other = db.submit(echo()).await;
    let later = Utc::now() + TimeDelta::hours(1);
    let put_off = update(&db, job.id, JobChange { run_at: Some(later), priority: None }).await;
    assert_eq!((put_off.status, put_off.run_at.timestamp()), (JobStatus::Scheduled, later.timestamp()));
    assert_eq!(db.store.promote().await.expect("promote"), 0);
    let past = Utc::now() - TimeDelta::hours(1);
    let ready = update(&db, job.id, JobChange { run_at: Some(past), priority: None }).await;
    assert_eq!(ready.status, JobStatus::Pending);
    assert!(ready.run_at > past && ready.seq > other.seq);
    let same = update(&db, job.id, JobChange { run_at: Some(past), priority: None }).await;
    assert_eq!((same.version, same.run_at), (ready.version, ready.run_at), "it is ready already");
}

#[tokio::test]
async fn a_job_is_given_up_when_no_worker_has_started_it_in_time() {
    let db = TestDb::new().await;
    let soon = Utc::now() + TimeDelta::milliseconds(300);
    let with_time = || Submission { start_before: Some(soon), ..echo() };
    let started = db.submit(with_time()).await;
    let lease = db.claim(db.worker(30).await, 1).await.remove(0).lease;
    let late = db.submit(with_time()).await;
    let without = db.submit(echo()).await;
    let expired = eventually("it is given up", SOON, async || {
        let expired = db.store.expire().await.expect("expire");
        (expired > 0).then_some(expired)
    })
    .await;
    assert_eq!(expired, 1);
    assert!(Utc::now() >= soon, "not before its time");
    let late = db.job(late.id).await;
    assert_eq!((late.status, late.cancel_requested_at), (JobStatus::Cancelled, None));
    assert_eq!(late.error.as_ref().expect("a reason")["code"], "EXPIRED");
    assert_eq!(db.job(without.id).await.status, JobStatus::Pending);
    // One that was started in time goes on, also when it comes back.
    db.store.finish_if_leased(Finish { lease, end: AttemptEnd::Released }).await.expect("release");
    assert_eq!(db.store.expire().await.expect("expire"), 0);
    assert_eq!(db.job(started.id).await.status, JobStatus::Pending);
    let retried = db.store.retry_job(&ANYONE, late.id, None).await.expect("retry");
    assert_eq!((retried.status, retried.error, retried.start_before), (JobStatus::Pending, None, None));
    assert_eq!(db.store.expire().await.expect("expire"), 0, "the retry lifts the time");
}

#[tokio::test]
async fn only_terminal_jobs_are_deleted_and_their_request_id_stays_used() {
    let db = TestDb::new().await;
    for status in JobStatus::ALL {
        let job = db.job_in(status).await;
        let outcome = db.store.delete_job(&ANYONE, job.id).await;
        let stands = db.store.job(&ANYONE, job.id).await.expect("read").is_some();
        assert_eq!(stands, !status.is_terminal(), "{status}");
        match outcome {
            Ok(()) => assert!(status.is_terminal(), "{status}"),
            Err(error) => assert!(matches!(error, Error::InvalidTransition { .. }), "{status}: {error}"),
        }
    }
    let job = db.submit(request("r", json!({}))).await;
    db.store.cancel_job(&ANYONE, job.id).await.expect("cancel");
    let stranger = Viewer::Client("stranger".to_owned());
    assert!(matches!(db.store.delete_job(&stranger, job.id).await, Err(Error::NotFound { .. })));
    db.store.delete_job(&ANYONE, job.id).await.expect("delete");
    assert!(matches!(db.store.delete_job(&ANYONE, job.id).await, Err(Error::NotFound { .. })));
    let again = db.store.submit(db.new_job(request("r", json!({})))).await;
    assert!(matches!(again, Err(Error::JobGone { job_id, .. }) if job_id == job.id), "{again:?}");
}

/// Every action, and the states that it applies to.
const ACTIONS: [(BulkAction, &[JobStatus]); 3] = [
    (BulkAction::Cancel, &[JobStatus::Blocked, JobStatus::Scheduled, JobStatus::Pending, JobStatus::Running]),
    (BulkAction::Retry { priority: Some(7) }, &[JobStatus::Error, JobStatus::Cancelled]),
    (BulkAction::Delete, &[JobStatus::Done, JobStatus::Error, JobStatus::Cancelled]),
];

#[tokio::test]
async fn a_bulk_change_does_to_each_job_what_the_single_one_does_and_a_dry_run_nothing() {
    for (action, applies) in ACTIONS {
        let db = TestDb::new().await;
        let mut jobs = Vec::new();
        for status in JobStatus::ALL {
            jobs.push(db.job_in(status).await);
        }
        let all = JobFilter::default();
        let count = applies.len() as i64;
        let dry = db.store.count_changeable(&ANYONE, &all, action).await.expect("dry run");
        assert_eq!(dry, BulkOutcome { matched: count, changed: 0 }, "{action:?}");
        for before in &jobs {
            assert_eq!(&db.job(before.id).await, before, "{action:?}");
        }
        let done = db.store.change_jobs(&ANYONE, all.clone(), action).await.expect("change");
        assert_eq!(done, BulkOutcome { matched: count, changed: count }, "{action:?}");
        for before in &jobs {
            let after = db.store.job(&ANYONE, before.id).await.expect("read");
            if !applies.contains(&before.status) {
                assert_eq!(after.as_ref(), Some(before), "{action:?}");
                continue;
            }
            match (action, after) {
                (BulkAction::Delete, after) => assert_eq!(after, None),
                (BulkAction::Cancel, Some(after)) if before.status == JobStatus::Running => {
                    assert_eq!((after.status, after.version), (JobStatus::Running, before.version + 1));
                    assert!(after.cancel_requested_at.is_some());
                }
                (BulkAction::Cancel, Some(after)) => {
                    assert_eq!((after.status, after.version), (JobStatus::Cancelled, before.version + 1));
                }
                (BulkAction::Retry { .. }, Some(after)) => {
                    assert_eq!((after.status, after.priority, after.level), (JobStatus::Pending, 7, 7));
                    assert_eq!((after.attempt, after.version), (0, before.version + 1));
                }
                (_, None) => panic!("{action:?} lost {before:?}"),
            }
        }
        let again = db.store.change_jobs(&ANYONE, all, action).await.expect("again");
        let again_applies = match action {
            BulkAction::Retry { .. } | BulkAction::Cancel | BulkAction::Delete => 0,
        };
        assert_eq!(again.changed, again_applies, "{action:?} once more finds nothing");
    }
}

#[tokio::test]
async fn a_bulk_change_heeds_every_part_of_its_filter_and_who_asks() {
    let db = TestDb::new().await;
    let mine = db.submit(Submission { client_id: Some("me".to_owned()), ..echo() }).await;
    let other = db.submit(Submission { client_id: Some("you".to_owned()), ..kind("fail", json!({})) }).await;
    let count = async |viewer: &Viewer, filter: JobFilter| {
        db.store.count_changeable(viewer, &filter, BulkAction::Cancel).await.expect("count").matched
    };
    let me = Viewer::Client("me".to_owned());
    let names = |name: &str| Some(vec![name.to_owned()]);
    assert_eq!(count(&ANYONE, JobFilter::default()).await, 2);
    assert_eq!(count(&me, JobFilter::default()).await, 1);
    assert_eq!(count(&me, JobFilter { client_id: Some("you".to_owned()), ..JobFilter::default() }).await, 0);
    for (filter, expected) in [
        (JobFilter { ids: Some(vec![mine.id]), ..JobFilter::default() }, 1),
        (JobFilter { ids: Some(vec![]), ..JobFilter::default() }, 0),
        (JobFilter { status: Some(vec![JobStatus::Pending]), ..JobFilter::default() }, 2),
        (JobFilter { status: Some(vec![JobStatus::Done]), ..JobFilter::default() }, 0),
        (JobFilter { kind: names("fail"), ..JobFilter::default() }, 1),
        (JobFilter { kind: names("fail"), ids: Some(vec![mine.id]), ..JobFilter::default() }, 0),
        (JobFilter { queue: names(QUEUE), ..JobFilter::default() }, 2),
        (JobFilter { queue: names("elsewhere"), ..JobFilter::default() }, 0),
        (JobFilter { workflow_id: Some(Uuid::now_v7()), ..JobFilter::default() }, 0),
        (JobFilter { created_after: Some(mine.created_at), ..JobFilter::default() }, 1),
        (JobFilter { created_before: Some(other.created_at), ..JobFilter::default() }, 1),
    ] {
        assert_eq!(count(&ANYONE, filter.clone()).await, expected, "{filter:?}");
    }
    let changed = db.store.change_jobs(&me, JobFilter::default(), BulkAction::Cancel).await.expect("cancel");
    assert_eq!(changed.changed, 1);
    assert_eq!(db.job(other.id).await.status, JobStatus::Pending);
}

/// So many jobs, newest last, of which each `pending`th is pending and the others are cancelled.
async fn backlog(db: &TestDb, count: i64, pending: i64) {
    sqlx::query(
        "INSERT INTO job (id, client_id, request_id, kind, queue, display_name, status, priority, level, payload,
                          max_attempts, timeout_seconds, finished_at)
         SELECT ('01900000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'c', n::text, 'echo', 'default',
                'echo', CASE WHEN n % $2 = 0 THEN 'PENDING' ELSE 'CANCELLED' END, 5, 5, '{}', 5, 300,
                CASE WHEN n % $2 = 0 THEN NULL ELSE now() END
         FROM generate_series(1, $1) AS n",
    )
    .bind(count)
    .bind(pending)
    .execute(db.pool())
    .await
    .expect("a backlog");
    sqlx::query("ANALYZE job, client_job").execute(db.pool()).await.expect("analyze");
}

#[tokio::test]
async fn a_bulk_change_goes_in_steps_and_meets_every_job_once_in_the_order_of_age() {
    let db = TestDb::new().await;
    backlog(&db, 1_250, 1_251).await;
    let retry = BulkAction::Retry { priority: None };
    let outcome = db.store.change_jobs(&ANYONE, JobFilter::default(), retry).await.expect("retry");
    assert_eq!(outcome, BulkOutcome { matched: 1_250, changed: 1_250 });
    let in_order: bool = sqlx::query_scalar(
        "SELECT bool_and(seq > before) FROM (SELECT seq, lag(seq, 1, 0::bigint) OVER (ORDER BY id) AS before FROM job) AS j",
    )
    .fetch_one(db.pool())
    .await
    .expect("order");
    assert!(in_order, "the oldest becomes ready first");
    let transactions: i64 = sqlx::query_scalar("SELECT count(DISTINCT xmin::text) FROM job")
        .fetch_one(db.pool())
        .await
        .expect("n");
    assert_eq!(transactions, 3, "three steps of at most 500");
}

#[tokio::test]
async fn a_step_of_a_bulk_change_starts_behind_the_one_before_it() {
    let db = TestDb::new().await;
    backlog(&db, 50_000, 2).await;
    let middle: Uuid = sqlx::query_scalar("SELECT id FROM job ORDER BY id OFFSET 25000 LIMIT 1")
        .fetch_one(db.pool())
        .await
        .expect("an id");
    let named = JobFilter { client_id: Some("c".to_owned()), ..JobFilter::default() };
    for (viewer, filter) in [
        (ANYONE, JobFilter::default()),
        (ANYONE, named.clone()),
        (Viewer::Client("c".to_owned()), JobFilter::default()),
    ] {
        for (action, _) in ACTIONS {
            let explain = format!(
                "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, FORMAT JSON) {}",
                step_sql(&viewer, &filter, action)
            );
            let own = matches!(viewer, Viewer::Client(_)).then(|| vec!["c".to_owned()]);
            let plan: Value = sqlx::query_scalar(sqlx::AssertSqlSafe(explain))
                .bind(None::<Vec<Uuid>>)
                .bind(None::<Vec<String>>)
                .bind(own)
                .bind(&filter.client_id)
                .bind(None::<Vec<String>>)
                .bind(None::<Vec<String>>)
                .bind(None::<Uuid>)
                .bind(None::<chrono::DateTime<Utc>>)
                .bind(None::<chrono::DateTime<Utc>>)
                .bind(middle)
                .bind(Uuid::now_v7())
                .fetch_one(db.pool())
                .await
                .expect("plan");
            let most = most_rows(&plan[0]["Plan"]);
            // Each second job matches, and no step but the last reads beyond its 500.
            assert!(
                (500.0..=1_100.0).contains(&most),
                "{most} rows: {viewer:?}, {filter:?}, {action:?}:\n{plan:#}"
            );
        }
    }
}

/// What the node of the plan that handled most rows read, those included that it left out.
fn most_rows(node: &Value) -> f64 {
    let number = |key: &str| {
        node[key].as_f64().unwrap_or_default() * node["Actual Loops"].as_f64().unwrap_or_default()
    };
    let own =
        number("Actual Rows") + number("Rows Removed by Filter") + number("Rows Removed by Join Filter");
    node["Plans"].as_array().into_iter().flatten().map(most_rows).fold(own, f64::max)
}

#[tokio::test]
async fn a_bulk_change_and_ends_of_attempts_do_not_stand_in_each_others_way() {
    let db = Arc::new(TestDb::new().await);
    db.store.submit_all((0..900).map(|_| db.new_job(echo())).collect()).await.expect("submit");
    let worker = db.worker(30).await;
    let held = db.claim(worker, 600).await;
    let cancelling = {
        let db = db.clone();
        tokio::spawn(async move {
            db.store.change_jobs(&ANYONE, JobFilter::default(), BulkAction::Cancel).await.expect("cancel")
        })
    };
    let ends = held
        .iter()
        .map(|job| db.store.finish_if_leased(Finish { lease: job.lease, end: AttemptEnd::Done(json!(1)) }));
    for end in deadline("the ends", futures_util::future::join_all(ends)).await {
        end.expect("an end is never lost to a cancel");
    }
    let outcome = deadline("the cancel", cancelling).await.expect("task");
    assert!(outcome.changed >= 300, "{outcome:?}");
    let left: HashSet<String> = sqlx::query_scalar("SELECT DISTINCT status FROM job")
        .fetch_all(db.pool())
        .await
        .expect("states")
        .into_iter()
        .collect();
    assert_eq!(left, HashSet::from(["DONE".to_owned(), "CANCELLED".to_owned()]));
}

#[tokio::test]
async fn a_job_says_what_it_waits_for_and_workers_are_seen_over_the_api() {
    let db = TestDb::new().await;
    let server = Process::serve(&db.url(), &["--slots", "0"]).await;
    let id = server.submit("echo", json!({})).await;
    let reason = async |id: &str| server.job(id, "waitReason").await["waitReason"].take();
    assert_eq!(reason(&id).await, "NO_LIVE_WORKER");
    let worker = db.worker(30).await;
    assert_eq!(reason(&id).await, "AHEAD_IN_QUEUE");
    let limited = QueueChange { max_running: Some(Some(1)), ..QueueChange::default() };
    db.store.change_queue(QUEUE, limited).await.expect("limit");
    let second = server.submit("echo", json!({})).await;
    db.claim(worker, 1).await;
    assert_eq!(reason(&id).await, Value::Null, "it runs");
    assert_eq!(reason(&second).await, "CONCURRENCY_LIMIT");
    let paused = QueueChange { paused: Some(true), ..QueueChange::default() };
    db.store.change_queue(QUEUE, paused).await.expect("pause");
    assert_eq!(reason(&second).await, "QUEUE_PAUSED");
    for (status, expected) in [
        (JobStatus::Scheduled, json!("SCHEDULED")),
        (JobStatus::Blocked, json!("DEPENDENCY")),
        (JobStatus::Done, Value::Null),
    ] {
        let id = db.job_in(status).await.id.to_string();
        assert_eq!(reason(&id).await, expected, "{status}");
    }
    sqlx::query("UPDATE job SET status = 'SCHEDULED', attempt = 1 WHERE id = $1::uuid")
        .bind(Uuid::parse_str(&second).expect("an id"))
        .execute(db.pool())
        .await
        .expect("back-off");
    assert_eq!(reason(&second).await, "BACK_OFF");

    let lost = db.worker(30).await;
    sqlx::query("UPDATE worker SET expires_at = now() WHERE id = $1")
        .bind(lost)
        .execute(db.pool())
        .await
        .expect("lost");
    let draining = db.worker(30).await;
    db.store.drain_worker(draining).await.expect("drain");
    let data = server
        .data("{ workers { id name slots running state queues } viewer { scope clientId } }", json!({}))
        .await;
    let workers = data["workers"].as_array().expect("a list");
    let state_of =
        |id: Uuid| workers.iter().find(|seen| seen["id"] == json!(id)).expect("the worker").clone();
    let live = json!({"id": worker, "name": "test", "slots": 8, "running": 1, "state": "LIVE", "queues": ["default"]});
    assert_eq!(state_of(worker), live);
    assert_eq!(state_of(lost)["state"], "LOST");
    assert_eq!(state_of(draining)["state"], "DRAINING");
    assert_eq!(data["viewer"], json!({"scope": "OPERATOR", "clientId": null}));
}

#[tokio::test]
async fn jobs_are_changed_over_the_api() {
    let db = TestDb::new().await;
    let server = Process::serve(&db.url(), &["--slots", "0"]).await;
    let id = server.submit("echo", json!({})).await;
    let ask = async |mutation: String| server.ask(&format!("mutation {{ {mutation} }}"), json!({})).await;
    let updated = ask(format!("updateJob(id: \"{id}\", priority: 3) {{ priority status version }}")).await;
    assert_eq!(updated["data"]["updateJob"], json!({"priority": 3, "status": "PENDING", "version": 2}));
    let dry =
        ask("cancelJobs(filter: {kind: [\"echo\"]}, dryRun: true) { matched changed }".to_owned()).await;
    assert_eq!(dry["data"]["cancelJobs"], json!({"matched": 1, "changed": 0}));
    let cancelled = ask("cancelJobs(filter: {kind: [\"echo\"]}) { matched changed }".to_owned()).await;
    assert_eq!(cancelled["data"]["cancelJobs"], json!({"matched": 1, "changed": 1}));
    let retried = ask(format!("retryJobs(filter: {{ids: [\"{id}\"]}}, priority: 9) {{ changed }}")).await;
    assert_eq!(retried["data"]["retryJobs"], json!({"changed": 1}));
    assert_eq!(server.job(&id, "status priority").await, json!({"status": "PENDING", "priority": 9}));
    let refused = ask(format!("deleteJob(id: \"{id}\")")).await;
    assert_eq!(refused["errors"][0]["extensions"]["code"], "INVALID_TRANSITION");
    ask(format!("cancelJob(id: \"{id}\") {{ id }}")).await;
    assert_eq!(ask(format!("deleteJob(id: \"{id}\")")).await["data"]["deleteJob"], json!(id));
    assert_eq!(
        ask("deleteJobs(filter: {}) { matched changed }".to_owned()).await["data"]["deleteJobs"],
        json!({"matched": 0, "changed": 0})
    );
    for (mutation, field) in [
        ("cancelJobs(filter: {ids: [\"x\"]}) { changed }", "filter.ids[0]"),
        ("cancelJobs(filter: {kind: [\"\"]}) { changed }", "filter.kind[0]"),
        ("retryJobs(filter: {}, priority: -1) { changed }", "priority"),
        (
            "submitJob(input: {kind: \"echo\", runAt: \"2030-01-01T00:00:00Z\", startBefore: \"2029-01-01T00:00:00Z\"}) { created }",
            "input.runAt",
        ),
        (
            "submitJob(input: {kind: \"echo\", runAt: \"2026-11-01T00:00:00Z\", startBefore: \"2026-10-01T00:00:00Z\"}) { created }",
            "input.startBefore",
        ),
    ] {
        let answer = ask(mutation.to_owned()).await;
        assert_eq!(answer["errors"][0]["extensions"]["field"], field, "{mutation}: {answer}");
    }
}
