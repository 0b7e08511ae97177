//! A process that is killed with -9 after a job has ended and before what follows from that: nothing is lost, and nothing
//! happens twice.

use entity::JobStatus;
use entity::workflow::WorkflowStatus;
use serde_json::{Value, json};
use sqlx::{Connection, Row};
use uuid::Uuid;

use crate::support::process::Process;
use crate::support::{ANYONE, SOON, TestDb, eventually};

/// What is held while the first job ends, so that the process stands still at a step of what follows; and how the second
/// one stands then.
const STEPS: [(&str, JobStatus, Option<i32>); 3] = [
    // Before the release.
    ("SELECT FROM job WHERE workflow_key = 'b' FOR UPDATE", JobStatus::Blocked, Some(1)),
    // Released, before the result of the first is handed down to it.
    ("LOCK TABLE workflow IN ACCESS EXCLUSIVE MODE", JobStatus::Blocked, Some(0)),
    // Both have ended, the workflow has not.
    ("SELECT FROM workflow FOR UPDATE", JobStatus::Done, Some(0)),
];

struct Standing {
    status: JobStatus,
    waits_for: Option<i32>,
    attempt: i16,
    payload: Value,
}

/// The job of this key, past all that is held.
async fn standing(db: &TestDb, key: &str) -> Standing {
    let row = sqlx::query("SELECT id FROM job WHERE workflow_key = $1").bind(key).fetch_one(db.pool()).await;
    let id: Uuid = row.and_then(|row| row.try_get("id")).expect("the job");
    let job = db.job(id).await;
    Standing { status: job.status, waits_for: job.waits_for, attempt: job.attempt, payload: job.payload }
}

/// Ends what the killed process had begun in the database: its sessions would go on once they get what they wait for.
async fn end_its_sessions(db: &TestDb) {
    eventually("its sessions are gone", SOON, async || {
        let waiting: i64 = sqlx::query_scalar(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
             WHERE datname = current_database() AND wait_event_type = 'Lock'",
        )
        .fetch_one(db.pool())
        .await
        .expect("terminate");
        (waiting == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_process_that_is_killed_between_an_end_and_what_follows_loses_nothing() {
    for (hold, status, waits_for) in STEPS {
        let db = TestDb::new().await;
        let jobs = json!([
            {"key": "a", "kind": "echo", "payload": {"n": 7}},
            {"key": "b", "kind": "echo", "dependsOn": ["a"], "resultsAs": "of"},
        ]);
        let submitter = Process::serve(&db.url(), &["--slots", "0"]).await;
        let submit = "mutation ($jobs: [WorkflowJobInput!]!) { submitWorkflow(input: {jobs: $jobs}) { id } }";
        let id = submitter.data(submit, json!({"jobs": jobs})).await["submitWorkflow"]["id"].take();
        let id: Uuid = id.as_str().expect("an id").parse().expect("an id");
        submitter.kill().await;

        let mut session = db.session().await;
        let mut holding = session.begin().await.expect("begin");
        sqlx::raw_sql(hold).execute(&mut *holding).await.expect("hold");
        let victim = Process::serve(&db.url(), &["--slots", "2"]).await;
        eventually("it stands still", SOON, async || {
            let (a, b) = (standing(&db, "a").await, standing(&db, "b").await);
            let is_there = a.status == JobStatus::Done && (b.status, b.waits_for) == (status, waits_for);
            is_there.then_some(())
        })
        .await;
        db.until_sessions_wait(1).await;
        victim.kill().await;
        end_its_sessions(&db).await;
        holding.rollback().await.expect("let go");
        let b = standing(&db, "b").await;
        assert_eq!((b.status, b.waits_for), (status, waits_for), "nothing has followed: {hold}");
        let left: i64 =
            sqlx::query_scalar("SELECT count(*) FROM job_end").fetch_one(db.pool()).await.expect("n");
        assert!(left > 0, "what is to follow is noted: {hold}");

        let next = Process::serve(&db.url(), &["--slots", "2"]).await;
        let done = eventually("the workflow ends", SOON, async || {
            let workflow = db.store.workflow(&ANYONE, id).await.expect("read").expect("it exists");
            (workflow.status == WorkflowStatus::Done).then_some(workflow)
        })
        .await;
        assert_eq!(done.ends, 1, "{hold}");
        let (a, b) = (standing(&db, "a").await, standing(&db, "b").await);
        assert_eq!((a.attempt, b.attempt, b.status), (1, 1, JobStatus::Done), "{hold}");
        assert_eq!(b.payload, json!({"of": {"a": {"n": 7}}}), "{hold}");
        // Of two that settle at once one ends the workflow, and the other then finds nothing more to do with its note.
        eventually("nothing is left to follow", SOON, async || {
            let left: i64 =
                sqlx::query_scalar("SELECT count(*) FROM job_end").fetch_one(db.pool()).await.expect("n");
            (left == 0).then_some(())
        })
        .await;
        next.kill().await;
    }
}
