//! Races that no other file has: a prune against a callback, a delete against a submit that comes again; in each order.

use jobql::config::Retention;
use jobql::error::Error;
use jobql::job::submission::Submission;
use jobql::store::callback::{DeliveryOutcome, DeliveryStatus};
use serde_json::json;
use sqlx::{Executor, PgConnection};
use uuid::Uuid;

use crate::support::{ANYONE, TestDb, echo, request};

const AT_ONCE: Retention = Retention { done_days: Some(1), error_days: Some(1), cancelled_days: Some(1) };

/// A job that was cancelled two days ago and whose receiver knows.
async fn told_long_ago(db: &TestDb) -> Uuid {
    let url = Some("http://127.0.0.1:9/".to_owned());
    let id = db.submit(Submission { callback_url: url, ..echo() }).await.id;
    db.store.cancel_job(&ANYONE, id).await.expect("cancel");
    let taken = db.store.take_due_callbacks(1).await.expect("take").remove(0);
    db.store.record_delivery(id, (taken.event, 1), DeliveryOutcome::Delivered).await.expect("record");
    // What is pruned is found by its id, which has the time of its submit.
    let old = Uuid::parse_str("01900000-0000-7000-8000-000000000001").expect("an id");
    let mut session = db.session().await;
    session
        .execute(
            "ALTER TABLE callback_delivery DROP CONSTRAINT callback_delivery_job_id_fkey;
             UPDATE callback_delivery SET job_id = '01900000-0000-7000-8000-000000000001';
             UPDATE job SET id = '01900000-0000-7000-8000-000000000001', finished_at = now() - interval '2 days';
             ALTER TABLE callback_delivery ADD FOREIGN KEY (job_id) REFERENCES job (id) ON DELETE CASCADE",
        )
        .await
        .expect("age");
    old
}

/// A session that is in the middle of a transaction.
async fn begun(db: &TestDb, sql: &'static str) -> PgConnection {
    let mut session = db.session().await;
    session.execute("BEGIN").await.expect("begin");
    session.execute(sql).await.expect("a statement");
    session
}

#[tokio::test]
async fn of_a_prune_and_a_redelivery_at_once_one_comes_first() {
    let db = TestDb::new().await;
    let mut kept = 0;
    for _ in 0..40 {
        let id = told_long_ago(&db).await;
        let (pruned, answer) =
            tokio::join!(db.store.prune(AT_ONCE), db.store.redeliver_callback(&ANYONE, id));
        let is_gone = pruned.expect("prune").cancelled == 1;
        match answer {
            Ok(_) => {
                kept += 1;
                assert!(!is_gone, "it was promised to be told");
                let delivery = db.store.delivery(&ANYONE, id).await.expect("delivery");
                assert_eq!(delivery.status, DeliveryStatus::Waiting);
                sqlx::query("DELETE FROM job").execute(db.pool()).await.expect("delete");
            }
            Err(error) => assert!(is_gone && matches!(error, Error::NotFound { .. }), "{error:?}"),
        }
    }
    eprintln!("the redelivery came first {kept} times of 40");
}

#[tokio::test]
async fn a_prune_passes_by_a_job_that_is_being_told_again() {
    let db = TestDb::new().await;
    let id = told_long_ago(&db).await;
    let mut holding = begun(&db, "SELECT FROM job FOR SHARE").await;
    assert_eq!(db.store.prune(AT_ONCE).await.expect("prune").total(), 0, "it is held");
    holding.execute("COMMIT").await.expect("commit");
    db.store.redeliver_callback(&ANYONE, id).await.expect("redeliver");
    assert_eq!(db.store.prune(AT_ONCE).await.expect("prune").total(), 0, "it waits for its receiver");
    let taken = db.store.take_due_callbacks(1).await.expect("take").remove(0);
    assert_eq!(db.store.prune(AT_ONCE).await.expect("prune").total(), 0, "it is being sent");
    db.store.record_delivery(id, (taken.event, 1), DeliveryOutcome::Delivered).await.expect("record");
    assert_eq!(db.store.prune(AT_ONCE).await.expect("prune").cancelled, 1);
    // A record that comes after it changes nothing.
    db.store.record_delivery(id, (taken.event, 1), DeliveryOutcome::Delivered).await.expect("late");
}

#[tokio::test]
async fn a_callback_of_a_job_that_is_being_pruned_is_not_promised_again() {
    let db = TestDb::new().await;
    let id = told_long_ago(&db).await;
    let mut pruning = begun(&db, "SELECT FROM job FOR UPDATE").await;
    let redelivering = {
        let store = db.store.clone();
        tokio::spawn(async move { store.redeliver_callback(&ANYONE, id).await })
    };
    db.until_sessions_wait(1).await;
    pruning.execute("DELETE FROM job; COMMIT").await.expect("pruned");
    let answer = redelivering.await.expect("task");
    assert!(matches!(answer, Err(Error::NotFound { .. })), "{answer:?}");
}

#[tokio::test]
async fn a_submit_that_comes_again_while_its_job_is_deleted_makes_no_second_one() {
    let db = TestDb::new().await;
    let first = db.submit(request("r", json!({}))).await.id;
    db.store.cancel_job(&ANYONE, first).await.expect("cancel");
    let again = || db.store.submit(db.new_job(request("r", json!({}))));
    // The delete is under way: the job is still there for everyone else.
    let mut deleting = begun(&db, "DELETE FROM job").await;
    let answer = again().await.expect("the first job");
    assert_eq!((answer.job.id, answer.created), (first, false));
    deleting.execute("COMMIT").await.expect("commit");
    let gone = again().await;
    assert!(matches!(gone, Err(Error::JobGone { job_id, .. }) if job_id == first), "{gone:?}");

    // The submit is under way, its key written and its job too: there is nothing yet that could be deleted.
    let id = db.submit(request("s", json!({}))).await.id;
    db.store.cancel_job(&ANYONE, id).await.expect("cancel");
    let mut holding = begun(&db, "SELECT FROM submit_key WHERE request_id = 's' FOR UPDATE").await;
    let submitting = tokio::spawn({
        let (store, job) = (db.store.clone(), db.new_job(request("s", json!({}))));
        async move { store.submit(job).await }
    });
    db.store.delete_job(&ANYONE, id).await.expect("delete");
    holding.execute("COMMIT").await.expect("commit");
    match submitting.await.expect("task") {
        Ok(answer) => assert!(!answer.created && answer.job.id == id, "it came first"),
        Err(error) => assert!(matches!(error, Error::JobGone { job_id, .. } if job_id == id), "{error:?}"),
    }
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM job").fetch_one(db.pool()).await.expect("n");
    assert_eq!(left, 0);
}
