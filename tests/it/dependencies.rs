//! Jobs that wait for others: released once all are DONE, whoever ends them and whoever dies in between.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use entity::attempt::AttemptOutcome;
use entity::{JobStatus, job};
use jobql::error::Error;
use jobql::job::failure::Failure;
use jobql::job::submission::Submission;
use jobql::store::bulk::BulkAction;
use jobql::store::dependency::{Direction, HELD_BY_FAILURES_SQL, NeighbourRequest, neighbours_sql};
use jobql::store::finish::{AttemptEnd, Finish};
use jobql::store::lease::Lease;
use jobql::store::list::JobFilter;
use jobql::store::release::RELEASE_SQL;
use serde_json::{Value, json};
use sqlx::Connection;
use uuid::Uuid;

use crate::support::process::Process;
use crate::support::{ANYONE, SOON, TestDb, deadline, echo, eventually, request};

/// A submission that depends on these.
fn after(parents: &[Uuid]) -> Submission {
    Submission { depends_on: parents.to_vec(), ..echo() }
}

async fn pending(db: &TestDb) -> Uuid {
    db.submit(echo()).await.id
}

/// Starts the job under a fresh worker, whatever else is ready.
async fn start(db: &TestDb, id: Uuid) -> Lease {
    let worker = db.worker(30).await;
    sqlx::query(
        "UPDATE job SET status = 'RUNNING', attempt = attempt + 1, lease_epoch = lease_epoch + 1, worker_id = $2,
                        started_at = now() WHERE id = $1",
    )
    .bind(id)
    .bind(worker)
    .execute(db.pool())
    .await
    .expect("start");
    Lease { job_id: id, epoch: db.job(id).await.lease_epoch }
}

async fn finish(db: &TestDb, id: Uuid) {
    let lease = start(db, id).await;
    db.store.finish_if_leased(Finish { lease, end: AttemptEnd::Done(json!(1)) }).await.expect("finish");
}

async fn fail(db: &TestDb, id: Uuid) {
    let lease = start(db, id).await;
    let end = AttemptEnd::Failed {
        outcome: AttemptOutcome::Error,
        failure: Failure::fatal("NO", "no"),
        retry_after: Duration::ZERO,
    };
    db.store.finish_if_leased(Finish { lease, end }).await.expect("finish");
}

/// The job once it is in this status, which the store's own task brings about.
async fn until(db: &TestDb, id: Uuid, status: JobStatus) -> job::Model {
    eventually("the status", SOON, async || Some(db.job(id).await).filter(|job| job.status == status)).await
}

async fn is_held_by_failure(db: &TestDb, id: Uuid) -> bool {
    !db.store.held_by_failures(&[id]).await.expect("look").is_empty()
}

#[tokio::test]
async fn a_job_becomes_ready_once_all_that_it_depends_on_is_done_behind_what_was_ready_before() {
    let db = TestDb::new().await;
    let (one, two) = (pending(&db).await, pending(&db).await);
    let child = db.submit(after(&[two, one])).await;
    assert_eq!((child.status, child.waits_for, child.version), (JobStatus::Blocked, Some(2), 1));
    assert!(db.job(one).await.has_dependents);
    let before_it = db.submit(echo()).await;
    finish(&db, one).await;
    db.settled().await;
    let waiting = db.job(child.id).await;
    assert_eq!((waiting.status, waiting.waits_for), (JobStatus::Blocked, Some(1)));
    finish(&db, two).await;
    let ready = until(&db, child.id, JobStatus::Pending).await;
    assert_eq!((ready.waits_for, ready.version), (Some(0), 3));
    assert!(ready.seq > before_it.seq, "a new place at the end");
    assert!(ready.run_at > before_it.created_at, "when it became ready");

    let later = chrono::Utc::now() + chrono::TimeDelta::hours(1);
    let parent = pending(&db).await;
    let scheduled = db.submit(Submission { run_at: Some(later), ..after(&[parent]) }).await;
    assert_eq!(scheduled.status, JobStatus::Blocked);
    finish(&db, parent).await;
    let scheduled = until(&db, scheduled.id, JobStatus::Scheduled).await;
    assert_eq!(scheduled.run_at.timestamp_micros(), later.timestamp_micros(), "its time counts");
}

#[tokio::test]
async fn what_has_ended_before_the_submit_counts_as_it_ended() {
    let db = TestDb::new().await;
    let done = db.job_in(JobStatus::Done).await.id;
    assert_eq!(db.submit(after(&[done])).await.status, JobStatus::Pending);
    for status in [JobStatus::Error, JobStatus::Cancelled] {
        let failed = db.job_in(status).await;
        let child = db.submit(after(&[failed.id, done])).await;
        assert_eq!((child.status, child.waits_for), (JobStatus::Blocked, Some(1)));
        assert!(is_held_by_failure(&db, child.id).await);
        assert_eq!(db.job(failed.id).await.version, failed.version, "what has ended is left as it is");
        db.store.retry_job(&ANYONE, failed.id, None).await.expect("retry");
        assert!(!is_held_by_failure(&db, child.id).await, "it may still come to something");
        finish(&db, failed.id).await;
        until(&db, child.id, JobStatus::Pending).await;
    }
}

#[tokio::test]
async fn a_failure_holds_all_that_comes_after_it_until_a_retry_gets_past_it() {
    let db = TestDb::new().await;
    let first = pending(&db).await;
    let second = db.submit(after(&[first])).await.id;
    let third = db.submit(after(&[second])).await.id;
    fail(&db, first).await;
    db.settled().await;
    for id in [second, third] {
        assert_eq!(db.job(id).await.status, JobStatus::Blocked);
        assert!(is_held_by_failure(&db, id).await);
    }
    db.store.retry_job(&ANYONE, first, None).await.expect("retry");
    finish(&db, first).await;
    until(&db, second, JobStatus::Pending).await;
    assert!(!is_held_by_failure(&db, third).await);
    finish(&db, second).await;
    until(&db, third, JobStatus::Pending).await;
}

#[tokio::test]
async fn a_parent_that_is_unknown_or_another_clients_is_refused_alike_and_nothing_is_written() {
    let db = TestDb::new().await;
    let foreign = db.submit(Submission { client_id: Some("other".to_owned()), ..echo() }).await.id;
    let own = pending(&db).await;
    let before = db.job(own).await;
    let mut messages = HashSet::new();
    for parent in [Uuid::now_v7(), foreign] {
        let refused = db.store.submit(db.new_job(after(&[own, parent]))).await.expect_err("refused");
        let Error::InvalidInput { field, problem } = refused else { panic!("{refused:?}") };
        assert_eq!(field, "dependsOn[1]");
        messages.insert(problem.replace(&parent.to_string(), ""));
        let all = vec![db.new_job(echo()), db.new_job(after(&[parent]))];
        let refused = db.store.submit_all(all).await.expect_err("refused");
        assert!(
            matches!(&refused, Error::InvalidInput { field, .. } if field == "[1].dependsOn[0]"),
            "{refused:?}"
        );
    }
    assert_eq!(messages.len(), 1, "{messages:?}");
    let jobs: i64 = sqlx::query_scalar("SELECT count(*) FROM job").fetch_one(db.pool()).await.expect("jobs");
    assert_eq!(jobs, 2);
    assert_eq!(db.job(own).await, before, "a refused submit leaves the parent as it was");
    let refused = after(&[own, own]).check(&ANYONE, &db.config.kinds, 1024).expect_err("twice");
    assert!(matches!(&refused, Error::InvalidInput { field, .. } if field == "dependsOn[1]"), "{refused:?}");
}

#[tokio::test]
async fn a_repeated_submit_gives_the_first_job_whatever_has_become_of_its_parents() {
    let db = TestDb::new().await;
    let parent = pending(&db).await;
    let submission = || Submission { depends_on: vec![parent], ..request("once", json!({})) };
    let first = db.submit(submission()).await;
    assert_eq!(db.submit(submission()).await.id, first.id);
    db.store.cancel_job(&ANYONE, first.id).await.expect("cancel");
    db.store.cancel_job(&ANYONE, parent).await.expect("cancel");
    db.store.delete_job(&ANYONE, parent).await.expect("delete");
    let again = db.store.submit(db.new_job(submission())).await.expect("submit");
    assert_eq!((again.job.id, again.created), (first.id, false));
}

#[tokio::test]
async fn whoever_ends_a_parent_the_end_is_noted_and_a_retry_that_succeeds_lets_the_rest_go_on() {
    let db = TestDb::new().await;
    for road in ["finish", "cancel", "cancel while it runs", "bulk", "expire", "sweep", "by hand"] {
        let parent = pending(&db).await;
        let child = db.submit(after(&[parent])).await.id;
        match road {
            "finish" => fail(&db, parent).await,
            "cancel" => drop(db.store.cancel_job(&ANYONE, parent).await.expect("cancel")),
            "cancel while it runs" => {
                let lease = start(&db, parent).await;
                db.store.cancel_job(&ANYONE, parent).await.expect("ask");
                db.store.finish_if_leased(Finish { lease, end: AttemptEnd::Released }).await.expect("stop");
            }
            "bulk" => {
                let filter = JobFilter { ids: Some(vec![parent]), ..JobFilter::default() };
                db.store.change_jobs(&ANYONE, filter, BulkAction::Cancel).await.expect("cancel");
            }
            "expire" => {
                by_hand(&db, parent, "UPDATE job SET start_before = now() WHERE id = $1").await;
                db.store.expire().await.expect("expire");
            }
            "sweep" => {
                let lease = start(&db, parent).await;
                by_hand(&db, lease.job_id, "UPDATE job SET attempt = max_attempts WHERE id = $1").await;
                by_hand(&db, lease.job_id,
                    "UPDATE worker SET expires_at = now() - interval '1 s' FROM job WHERE job.id = $1 AND worker.id = worker_id",
                ).await;
                db.store.sweep().await.expect("sweep");
            }
            _ => {
                by_hand(
                    &db,
                    parent,
                    "UPDATE job SET status = 'CANCELLED', finished_at = now() WHERE id = $1",
                )
                .await;
            }
        }
        assert!(db.job(parent).await.status.is_terminal(), "{road}");
        db.settled().await;
        assert_eq!(db.job(child).await.status, JobStatus::Blocked, "{road}");
        assert!(is_held_by_failure(&db, child).await, "{road}");
        db.store.retry_job(&ANYONE, parent, None).await.expect("retry");
        finish(&db, parent).await;
        until(&db, child, JobStatus::Pending).await;
    }
}

async fn by_hand(db: &TestDb, id: Uuid, sql: &'static str) {
    sqlx::query(sql).bind(id).execute(db.pool()).await.expect("by hand");
}

#[tokio::test]
async fn what_a_process_left_behind_between_an_end_and_its_release_another_one_does() {
    let db = TestDb::new().await;
    let parent = pending(&db).await;
    let child = db.submit(after(&[parent])).await.id;
    start(&db, parent).await;
    // The end is committed, and whoever wrote it is gone.
    by_hand(&db, parent, "UPDATE job SET status = 'DONE', result = '1', finished_at = now() WHERE id = $1")
        .await;
    assert_eq!(db.job(child).await.status, JobStatus::Blocked);
    let other = db.opened_again().await;
    let released = other.store.release_dependents().await.expect("release");
    assert_eq!((released.ends, released.released), (1, 1));
    assert_eq!(db.job(child).await.status, JobStatus::Pending);
    assert_eq!(other.store.release_dependents().await.expect("again").ends, 0);
}

#[tokio::test]
async fn a_child_that_is_submitted_while_its_parent_ends_is_never_left_behind() {
    let db = TestDb::new().await;
    // The end first: the submit waits for it, and finds the parent DONE.
    let parent = pending(&db).await;
    start(&db, parent).await;
    let mut session = db.session().await;
    let mut ending = session.begin().await.expect("begin");
    sqlx::query("UPDATE job SET status = 'DONE', result = '1', finished_at = now() WHERE id = $1")
        .bind(parent)
        .execute(&mut *ending)
        .await
        .expect("end");
    let submit = tokio::spawn(submit_owned(db.store.clone(), db.new_job(after(&[parent]))));
    db.until_sessions_wait(1).await;
    ending.commit().await.expect("commit");
    let child = deadline("the submit", submit).await.expect("task").expect("submit").job;
    assert_eq!(child.status, JobStatus::Pending);

    // The submit first: it holds the parent while it waits for somebody who holds its request id.
    let parent = pending(&db).await;
    let lease = start(&db, parent).await;
    let mut holding = session.begin().await.expect("begin");
    sqlx::query(
        "INSERT INTO submit_key (client_id, request_id, job_id, kind, payload_hash, expires_at)
         VALUES ('default', 'held', gen_random_uuid(), 'echo', '', now())",
    )
    .execute(&mut *holding)
    .await
    .expect("key");
    let new_job = db.new_job(Submission { depends_on: vec![parent], ..request("held", json!({})) });
    let submit = tokio::spawn(submit_owned(db.store.clone(), new_job));
    db.until_sessions_wait(1).await;
    let store = db.store.clone();
    let end = tokio::spawn(async move {
        store.finish_if_leased(Finish { lease, end: AttemptEnd::Done(json!(1)) }).await
    });
    db.until_sessions_wait(2).await;
    holding.rollback().await.expect("rollback");
    let child = deadline("the submit", submit).await.expect("task").expect("submit").job;
    assert_eq!(child.status, JobStatus::Blocked, "its parent had not ended then");
    deadline("the end", end).await.expect("task").expect("finish");
    until(&db, child.id, JobStatus::Pending).await;
}

async fn submit_owned(
    store: jobql::store::Store,
    new_job: jobql::job::submission::NewJob,
) -> jobql::error::Result<jobql::store::submit::Submitted> {
    store.submit(new_job).await
}

#[tokio::test]
async fn two_last_parents_that_end_at_once_release_their_child_once() {
    let db = TestDb::new().await;
    let (one, two) = (pending(&db).await, pending(&db).await);
    let child = db.submit(after(&[one, two])).await;
    let mut session = db.session().await;
    let mut holding = session.begin().await.expect("begin");
    sqlx::query("SELECT FROM job WHERE id = $1 FOR UPDATE")
        .bind(child.id)
        .execute(&mut *holding)
        .await
        .expect("hold");
    // Each release has met its dependency and waits for the child.
    finish(&db, one).await;
    db.until_sessions_wait(1).await;
    let other = db.opened_again().await;
    finish(&other, two).await;
    db.until_sessions_wait(2).await;
    holding.rollback().await.expect("let go");
    let ready = until(&db, child.id, JobStatus::Pending).await;
    assert_eq!((ready.waits_for, ready.version), (Some(0), 3));
    db.settled().await;
    assert_eq!(db.job(child.id).await.version, 3, "once");
}

/// What meets a release in the child's row.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rival {
    Cancel,
    Retry,
    RetryOfMany,
}

async fn rival(store: jobql::store::Store, rival: Rival, id: Uuid) {
    let filter = JobFilter { ids: Some(vec![id]), ..JobFilter::default() };
    match rival {
        Rival::Cancel => drop(store.cancel_job(&ANYONE, id).await.expect("cancel")),
        Rival::Retry => drop(store.retry_job(&ANYONE, id, None).await.expect("retry")),
        Rival::RetryOfMany => {
            let many = BulkAction::Retry { priority: None };
            store.change_jobs(&ANYONE, filter, many).await.expect("retry");
        }
    }
}

#[tokio::test]
async fn a_release_and_a_cancel_or_a_retry_of_the_child_come_to_the_same_in_either_order() {
    let db = TestDb::new().await;
    let other = db.opened_again().await;
    for kind in [Rival::Cancel, Rival::Retry, Rival::RetryOfMany] {
        for release_first in [true, false] {
            let parent = pending(&db).await;
            let child = db.submit(after(&[parent])).await.id;
            if kind != Rival::Cancel {
                db.store.cancel_job(&ANYONE, child).await.expect("cancel");
            }
            let lease = start(&db, parent).await;
            let mut session = db.session().await;
            let mut holding = session.begin().await.expect("begin");
            sqlx::query("SELECT FROM job WHERE id = $1 FOR UPDATE")
                .bind(child)
                .execute(&mut *holding)
                .await
                .expect("hold");
            let end = Finish { lease, end: AttemptEnd::Done(json!(1)) };
            let rivals = if release_first {
                db.store.finish_if_leased(end).await.expect("finish");
                db.until_sessions_wait(1).await;
                let rivals = tokio::spawn(rival(other.store.clone(), kind, child));
                db.until_sessions_wait(2).await;
                rivals
            } else {
                let rivals = tokio::spawn(rival(other.store.clone(), kind, child));
                db.until_sessions_wait(1).await;
                db.store.finish_if_leased(end).await.expect("finish");
                db.until_sessions_wait(2).await;
                rivals
            };
            holding.rollback().await.expect("let go");
            deadline("the rival", rivals).await.expect("task");
            db.settled().await;
            let expected = if kind == Rival::Cancel { JobStatus::Cancelled } else { JobStatus::Pending };
            assert_eq!(db.job(child).await.status, expected, "{kind:?}, release first: {release_first}");
        }
    }
}

#[tokio::test]
async fn a_retried_job_waits_again_while_what_it_depends_on_is_not_done() {
    let db = TestDb::new().await;
    let (parent, done) = (pending(&db).await, db.job_in(JobStatus::Done).await.id);
    let child = db.submit(after(&[parent, done])).await.id;
    db.store.cancel_job(&ANYONE, child).await.expect("cancel");
    let again = db.store.retry_job(&ANYONE, child, None).await.expect("retry");
    assert_eq!((again.status, again.waits_for), (JobStatus::Blocked, Some(1)));
    // All of them at once, parents first.
    let filter = JobFilter { ids: Some(vec![parent, child]), ..JobFilter::default() };
    db.store.change_jobs(&ANYONE, filter.clone(), BulkAction::Cancel).await.expect("cancel");
    let many =
        db.store.change_jobs(&ANYONE, filter, BulkAction::Retry { priority: None }).await.expect("retry");
    assert_eq!(many.changed, 2);
    assert_eq!(db.job(parent).await.status, JobStatus::Pending);
    assert_eq!(db.job(child).await.status, JobStatus::Blocked);
    finish(&db, parent).await;
    until(&db, child, JobStatus::Pending).await;
    db.store.retry_job(&ANYONE, child, None).await.expect_err("it waits");
}

#[tokio::test]
async fn a_blocked_job_that_is_too_late_is_given_up() {
    let db = TestDb::new().await;
    let parent = pending(&db).await;
    let soon = Some(chrono::Utc::now() + chrono::TimeDelta::milliseconds(300));
    let child = db.submit(Submission { start_before: soon, ..after(&[parent]) }).await;
    assert_eq!(child.status, JobStatus::Blocked);
    let given_up = eventually("it is given up", SOON, async || {
        db.store.expire().await.expect("expire");
        Some(db.job(child.id).await).filter(|job| job.status == JobStatus::Cancelled)
    })
    .await;
    assert_eq!(given_up.error.expect("why")["code"], "EXPIRED");
    finish(&db, parent).await;
    db.settled().await;
    assert_eq!(db.job(child.id).await.status, JobStatus::Cancelled);
}

#[tokio::test]
async fn a_job_is_not_deleted_or_pruned_while_an_unfinished_one_depends_on_it() {
    let db = TestDb::new().await;
    let retention =
        jobql::config::Retention { done_days: Some(7), error_days: Some(7), cancelled_days: Some(7) };
    let parent = db.job_in(JobStatus::Done).await.id;
    // Old, its id as well, so that the pruner looks at it.
    let old = Uuid::parse_str("01900000-0000-7000-8000-000000000001").expect("an id");
    sqlx::query("UPDATE job SET id = $2, finished_at = now() - interval '20 days' WHERE id = $1")
        .bind(parent)
        .bind(old)
        .execute(db.pool())
        .await
        .expect("age");
    let child = db.submit(after(&[old])).await;
    assert_eq!(child.status, JobStatus::Pending);
    let refused = db.store.delete_job(&ANYONE, old).await.expect_err("refused");
    assert!(
        matches!(refused, Error::InvalidTransition { from: JobStatus::Done, action } if action.contains("depends"))
    );
    let filter = JobFilter { ids: Some(vec![old]), ..JobFilter::default() };
    let many = db.store.change_jobs(&ANYONE, filter, BulkAction::Delete).await.expect("delete");
    assert_eq!((many.matched, many.changed), (1, 0));
    assert_eq!(db.store.count_prunable(&retention).await.expect("dry run").total(), 0);
    assert_eq!(db.store.prune(retention).await.expect("prune").total(), 0);
    finish(&db, child.id).await;
    assert_eq!(db.store.count_prunable(&retention).await.expect("dry run").done, 1);
    assert_eq!(db.store.prune(retention).await.expect("prune").done, 1);
    let dependencies = async || -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM dependency").fetch_one(db.pool()).await.expect("count")
    };
    assert_eq!(dependencies().await, 1, "they go with the child");
    db.store.delete_job(&ANYONE, child.id).await.expect("delete");
    assert_eq!(dependencies().await, 0);
}

#[tokio::test]
async fn a_submit_that_holds_a_parent_keeps_it_from_being_deleted() {
    let db = TestDb::new().await;
    let parent = db.job_in(JobStatus::Error).await.id;
    let mut session = db.session().await;
    let mut holding = session.begin().await.expect("begin");
    sqlx::query("SELECT FROM job WHERE id = $1 FOR NO KEY UPDATE")
        .bind(parent)
        .execute(&mut *holding)
        .await
        .expect("hold");
    let store = db.store.clone();
    let delete = tokio::spawn(async move { store.delete_job(&ANYONE, parent).await });
    db.until_sessions_wait(1).await;
    // What a submit writes.
    let child = db.job_in(JobStatus::Pending).await.id;
    sqlx::query("INSERT INTO dependency (child, parent) VALUES ($1, $2)")
        .bind(child)
        .bind(parent)
        .execute(&mut *holding)
        .await
        .expect("dependency");
    holding.commit().await.expect("commit");
    let outcome = deadline("the delete", delete).await.expect("task");
    assert!(matches!(outcome, Err(Error::InvalidTransition { .. })), "{outcome:?}");
}

/// A parent with so many children, written by hand, and its end.
async fn fan_out(db: &TestDb, children: i32) -> Uuid {
    let parent = pending(db).await;
    sqlx::query(
        "WITH child AS (
             INSERT INTO job (id, client_id, request_id, kind, queue, display_name, status, priority, level, payload,
                              max_attempts, timeout_seconds, waits_for)
             SELECT gen_random_uuid(), 'c', n::text, 'echo', 'default', 'echo', 'BLOCKED', 5, 5, '{}', 5, 300, 1
             FROM generate_series(1, $2) AS n
             RETURNING id)
         INSERT INTO dependency (child, parent) SELECT id, $1 FROM child",
    )
    .bind(parent)
    .bind(children)
    .execute(db.pool())
    .await
    .expect("children");
    by_hand(db, parent, "UPDATE job SET has_dependents = true WHERE id = $1").await;
    parent
}

#[tokio::test]
async fn a_large_fan_out_is_released_in_steps_that_hold_no_more_than_a_thousand_rows() {
    let db = TestDb::new().await;
    let parent = fan_out(&db, 9_998).await;
    let began_at = Instant::now();
    finish(&db, parent).await;
    // Longer than others: a busy machine may take its time over ten steps.
    eventually("all are ready", Duration::from_secs(120), async || {
        let pending: i64 = sqlx::query_scalar("SELECT count(*) FROM job WHERE status = 'PENDING'")
            .fetch_one(db.pool())
            .await
            .expect("count");
        (pending == 9_998).then_some(())
    })
    .await;
    println!("9,998 dependents of one job were released within {:?}", began_at.elapsed());
    let largest: i64 =
        sqlx::query_scalar("SELECT max(n) FROM (SELECT count(*) AS n FROM job GROUP BY xmin::text) AS t")
            .fetch_one(db.pool())
            .await
            .expect("steps");
    assert_eq!(largest, 1_000);
    let versions: Vec<i32> = sqlx::query_scalar("SELECT DISTINCT version FROM job WHERE status = 'PENDING'")
        .fetch_all(db.pool())
        .await
        .expect("versions");
    assert_eq!(versions, [2], "each once");
}

type Explain = sqlx::query::QueryScalar<'static, sqlx::Postgres, String, sqlx::postgres::PgArguments>;

#[tokio::test]
async fn nothing_about_dependencies_is_looked_for_by_a_scan() {
    let db = TestDb::new().await;
    for _ in 0..20 {
        fan_out(&db, 10_000).await;
    }
    sqlx::raw_sql("INSERT INTO job_end (job_id) SELECT id FROM job WHERE has_dependents; ANALYZE job, dependency, job_end")
        .execute(db.pool())
        .await
        .expect("ends");
    let ids: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM job WHERE status = 'BLOCKED' LIMIT 50")
        .fetch_all(db.pool())
        .await
        .expect("ids");
    let release =
        explain(&db, RELEASE_SQL.to_owned(), |query| query.bind(500_i64).bind(1_000_i64).bind(json!({})))
            .await;
    let held = ids.clone();
    let failures = explain(&db, HELD_BY_FAILURES_SQL.to_owned(), |query| query.bind(held)).await;
    let mut plans = vec![("release", release), ("failures", failures)];
    for direction in [Direction::Parents, Direction::Children] {
        let sizes = vec![51_i64; ids.len()];
        let (of, from) = (ids.clone(), vec![Uuid::nil(); ids.len()]);
        let sql = neighbours_sql(&ANYONE, direction);
        let bind = |query: Explain| query.bind(of).bind(from).bind(sizes).bind(None::<Vec<String>>);
        plans.push(("neighbours", explain(&db, sql, bind).await));
    }
    for (what, plan) in plans {
        for table in ["job", "dependency"] {
            let scan = format!("Seq Scan on {table} ");
            assert!(!format!("{plan}\n").replace('\n', " \n").contains(&scan), "{what}:\n{plan}");
        }
    }
}

async fn explain(db: &TestDb, sql: String, bind: impl FnOnce(Explain) -> Explain) -> String {
    let explain = format!("EXPLAIN (COSTS OFF) {sql}");
    let plan: Vec<String> =
        bind(sqlx::query_scalar(sqlx::AssertSqlSafe(explain))).fetch_all(db.pool()).await.expect("plan");
    plan.join("\n")
}

#[tokio::test]
async fn neighbours_come_in_pages_by_age_and_only_those_that_the_viewer_sees() {
    let db = TestDb::new().await;
    let parent = pending(&db).await;
    let mut children = Vec::new();
    for _ in 0..5 {
        children.push(db.submit(after(&[parent])).await.id);
    }
    let page = async |viewer: &jobql::job::viewer::Viewer, after: Option<Uuid>| -> Vec<Uuid> {
        let request = NeighbourRequest { job_id: parent, direction: Direction::Children, after, limit: 3 };
        let pages = db.store.neighbours(viewer, &[request]).await.expect("page");
        pages[&request].iter().map(|job| job.id).collect()
    };
    assert_eq!(page(&ANYONE, None).await, children[..3]);
    assert_eq!(page(&ANYONE, Some(children[2])).await, children[3..]);
    let stranger = jobql::job::viewer::Viewer::Client("stranger".to_owned());
    assert!(page(&stranger, None).await.is_empty());
    let count = |viewer| db.store.count_neighbours(viewer, parent, Direction::Children);
    assert_eq!(count(&ANYONE).await.expect("count"), 5);
    assert_eq!(count(&stranger).await.expect("count"), 0);
}

#[tokio::test]
async fn a_client_sees_what_a_job_waits_for_and_why() {
    let db = TestDb::new().await;
    let server = Process::serve(&db.url(), &["--slots", "2"]).await;
    let submit = "mutation ($kind: String!, $payload: JSON!, $on: [ID!]) {
        submitJob(input: {kind: $kind, payload: $payload, dependsOn: $on}) { job { id status waitReason } } }";
    let submitted = async |kind: &str, payload: Value, on: Vec<&str>| -> Value {
        server.data(submit, json!({"kind": kind, "payload": payload, "on": on})).await["submitJob"]["job"]
            .take()
    };
    let id = |job: &Value| job["id"].as_str().expect("an id").to_owned();
    let failing = submitted("fail", json!({"message": "no", "retryable": false}), vec![]).await;
    let sleeping = submitted("sleep", json!({"seconds": 600}), vec![]).await;
    let held = submitted("echo", json!({}), vec![&id(&failing), &id(&sleeping)]).await;
    assert_eq!(held["status"], "BLOCKED");
    let waiting = submitted("echo", json!({}), vec![&id(&sleeping)]).await;
    assert_eq!(waiting["waitReason"], "DEPENDENCY");
    let fields =
        "status waitReason dependsOn(first: 1) { nodes { id } pageInfo { hasNextPage endCursor } totalCount }
        dependents { totalCount nodes { id } }";
    let shown = eventually("the failure shows", SOON, async || {
        let job = server.job(&id(&held), fields).await;
        (job["waitReason"] == "DEPENDENCY_FAILED").then_some(job)
    })
    .await;
    assert_eq!(shown["dependsOn"]["nodes"], json!([{"id": id(&failing)}]));
    assert_eq!(
        (&shown["dependsOn"]["totalCount"], &shown["dependsOn"]["pageInfo"]["hasNextPage"]),
        (&json!(2), &json!(true))
    );
    let next = "query ($id: ID!, $after: String) { job(id: $id) { dependsOn(first: 1, after: $after) { nodes { id } } } }";
    let cursor = &shown["dependsOn"]["pageInfo"]["endCursor"];
    let page = server.data(next, json!({"id": id(&held), "after": cursor})).await;
    assert_eq!(page["job"]["dependsOn"]["nodes"], json!([{"id": id(&sleeping)}]));
    let parent = server.job(&id(&sleeping), "dependents { totalCount }").await;
    assert_eq!(parent["dependents"]["totalCount"], 2);
    for (on, field) in
        [(json!(["x"]), "input.dependsOn[0]"), (json!([id(&held), Uuid::now_v7()]), "input.dependsOn[1]")]
    {
        let answer = server.ask(submit, json!({"kind": "echo", "payload": {}, "on": on})).await;
        let error = &answer["errors"][0]["extensions"];
        assert_eq!((&error["code"], &error["field"]), (&json!("BAD_USER_INPUT"), &json!(field)), "{answer}");
    }
    let quick = submitted("echo", json!({}), vec![]).await;
    let last = submitted("echo", json!({"n": 1}), vec![&id(&quick)]).await;
    eventually("the chain runs", SOON, async || {
        (server.job(&id(&last), "status").await["status"] == "DONE").then_some(())
    })
    .await;
}
