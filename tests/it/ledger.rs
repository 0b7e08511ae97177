//! The ledger: after any change, by whomever, it says what a count says, and so positions are exact. And the lists of
//! clients, which triggers keep as well.

use std::collections::HashMap;
use std::sync::Arc;

use entity::JobStatus;
use entity::queue::ClaimOrder;
use jobql::job::failure::Failure;
use jobql::job::submission::Submission;
use jobql::job::viewer::Viewer;
use jobql::store::bulk::BulkAction;
use jobql::store::claim::ClaimedJob;
use jobql::store::finish::{AttemptEnd, Finish};
use jobql::store::list::JobFilter;
use jobql::store::position::ledger_sql;
use jobql::store::queue::QueueChange;
use jobql::store::update::JobChange;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::json;
use sqlx::{Executor, PgConnection, Row};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::{ANYONE, QUEUE, TestDb, echo};

/// A change of jobs; numbers choose one of those that there are.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Submit { jobs: usize, priority: i16, kind: usize },
    Schedule,
    Claim(i64),
    Done(usize),
    Fail(usize),
    Release(usize),
    Cancel(usize),
    Retry(usize, i16),
    Update(usize, i16),
    PutOff(usize),
    Delete(usize),
    CancelAll,
    RetryAll,
    DeleteAll,
    Turn(bool),
    Age,
    LoseWorker,
    ByHand(usize),
    RolledBack,
    Jump,
    Fold,
    Truncate,
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        8 => (1..30usize, 0..4i16, 0..2usize)
            .prop_map(|(jobs, priority, kind)| Operation::Submit { jobs, priority, kind }),
        1 => Just(Operation::Schedule),
        4 => (1..9i64).prop_map(Operation::Claim),
        3 => any::<usize>().prop_map(Operation::Done),
        2 => any::<usize>().prop_map(Operation::Fail),
        2 => any::<usize>().prop_map(Operation::Release),
        2 => any::<usize>().prop_map(Operation::Cancel),
        2 => (any::<usize>(), 0..4i16).prop_map(|(job, priority)| Operation::Retry(job, priority)),
        2 => (any::<usize>(), 0..4i16).prop_map(|(job, priority)| Operation::Update(job, priority)),
        1 => any::<usize>().prop_map(Operation::PutOff),
        1 => any::<usize>().prop_map(Operation::Delete),
        1 => Just(Operation::CancelAll),
        1 => Just(Operation::RetryAll),
        1 => Just(Operation::DeleteAll),
        2 => any::<bool>().prop_map(Operation::Turn),
        1 => Just(Operation::Age),
        1 => Just(Operation::LoseWorker),
        2 => any::<usize>().prop_map(Operation::ByHand),
        1 => Just(Operation::RolledBack),
        2 => Just(Operation::Jump),
        3 => Just(Operation::Fold),
        1 => Just(Operation::Truncate),
    ]
}

/// A database with what its workers hold.
struct World {
    db: TestDb,
    worker: Uuid,
    held: Vec<ClaimedJob>,
}

async fn by_hand(db: &TestDb, sql: &'static str) {
    sqlx::query(sql).execute(db.pool()).await.expect("by hand");
}

impl World {
    async fn new() -> World {
        let db = TestDb::new().await;
        let worker = db.worker(30).await;
        World { db, worker, held: Vec::new() }
    }

    /// One of the jobs that stand in this status.
    async fn one(&self, status: JobStatus, choice: usize) -> Option<Uuid> {
        let ids: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM job WHERE status = $1 ORDER BY id")
            .bind(status.as_str())
            .fetch_all(self.db.pool())
            .await
            .expect("ids");
        (!ids.is_empty()).then(|| ids[choice % ids.len()])
    }

    async fn end(&mut self, choice: usize, end: AttemptEnd) {
        if self.held.is_empty() {
            return;
        }
        let job = self.held.remove(choice % self.held.len());
        // It may have been taken away or deleted meanwhile.
        drop(self.db.store.finish_if_leased(Finish { lease: job.lease, end }).await);
    }

    async fn perform(&mut self, operation: Operation) {
        let store = self.db.store.clone();
        match operation {
            Operation::Submit { jobs, priority, kind } => {
                let kind = ["echo", "sum"][kind].to_owned();
                let payload = json!({"start": 1, "end": 1});
                let one = Submission { kind, payload, priority: Some(priority.into()), ..echo() };
                let jobs = (0..jobs).map(|_| self.db.new_job(one.clone())).collect();
                store.submit_all(jobs).await.expect("submit");
            }
            Operation::Schedule => {
                let run_at = Some(chrono::Utc::now() + chrono::TimeDelta::hours(1));
                self.db.submit(Submission { run_at, ..echo() }).await;
            }
            Operation::Claim(limit) => self.held.extend(self.db.claim(self.worker, limit).await),
            Operation::Done(choice) => self.end(choice, AttemptEnd::Done(json!(1))).await,
            Operation::Fail(choice) => {
                let failure = Failure { retryable: choice % 2 == 0, ..Failure::retryable("E", "no") };
                let (outcome, retry_after) =
                    (entity::attempt::AttemptOutcome::Error, std::time::Duration::ZERO);
                self.end(choice, AttemptEnd::Failed { outcome, failure, retry_after }).await;
                store.promote().await.expect("promote");
            }
            Operation::Release(choice) => self.end(choice, AttemptEnd::Released).await,
            Operation::Cancel(choice) => {
                for status in [JobStatus::Pending, JobStatus::Running, JobStatus::Scheduled] {
                    if let Some(id) = self.one(status, choice).await {
                        store.cancel_job(&ANYONE, id).await.expect("cancel");
                    }
                }
            }
            Operation::Retry(choice, priority) => {
                if let Some(id) = self.one(JobStatus::Cancelled, choice).await {
                    store.retry_job(&ANYONE, id, Some(priority)).await.expect("retry");
                }
            }
            Operation::Update(choice, priority) => {
                if let Some(id) = self.one(JobStatus::Pending, choice).await {
                    let change = JobChange { priority: Some(priority), run_at: None };
                    store.update_job(&ANYONE, id, change).await.expect("update");
                }
            }
            Operation::PutOff(choice) => {
                if let Some(id) = self.one(JobStatus::Pending, choice).await {
                    let run_at = Some(chrono::Utc::now() + chrono::TimeDelta::hours(1));
                    store
                        .update_job(&ANYONE, id, JobChange { priority: None, run_at })
                        .await
                        .expect("put off");
                }
            }
            Operation::Delete(choice) => {
                if let Some(id) = self.one(JobStatus::Cancelled, choice).await {
                    store.delete_job(&ANYONE, id).await.expect("delete");
                }
            }
            Operation::CancelAll => self.bulk(BulkAction::Cancel).await,
            Operation::RetryAll => self.bulk(BulkAction::Retry { priority: None }).await,
            Operation::DeleteAll => self.bulk(BulkAction::Delete).await,
            other => self.disturb(other).await,
        }
    }

    async fn bulk(&self, action: BulkAction) {
        self.db.store.change_jobs(&ANYONE, JobFilter::default(), action).await.expect("bulk");
    }

    /// What no client asks for.
    async fn disturb(&mut self, operation: Operation) {
        let store = self.db.store.clone();
        match operation {
            Operation::Turn(lifo) => {
                let order = Some(if lifo { ClaimOrder::Lifo } else { ClaimOrder::Fifo });
                store
                    .change_queue(QUEUE, QueueChange { order, ..QueueChange::default() })
                    .await
                    .expect("turn");
            }
            Operation::Age => {
                by_hand(&self.db, "UPDATE job SET run_at = run_at - interval '1 minute' WHERE seq % 3 = 0")
                    .await;
                store.age_queue(QUEUE, 30).await.expect("age");
            }
            Operation::LoseWorker => {
                by_hand(&self.db, "UPDATE worker SET expires_at = now() - interval '1 second'").await;
                store.sweep().await.expect("sweep");
                self.held.clear();
                self.worker = self.db.worker(30).await;
            }
            Operation::ByHand(choice) => match choice % 5 {
                0 => {
                    by_hand(
                        &self.db,
                        "UPDATE job SET queue = 'other' WHERE seq % 7 = 0 AND status = 'PENDING'",
                    )
                    .await
                }
                1 => by_hand(&self.db, "UPDATE job SET level = 3, kind = 'sleep' WHERE seq % 5 = 0").await,
                2 => by_hand(&self.db, "UPDATE job SET seq = seq + 4096 WHERE seq % 11 = 0").await,
                3 => by_hand(&self.db, "UPDATE job SET client_id = 'other' WHERE seq % 3 = 0").await,
                _ => by_hand(&self.db, "DELETE FROM job WHERE seq % 13 = 0").await,
            },
            Operation::RolledBack => {
                let mut session = self.db.session().await;
                session
                    .execute("BEGIN; UPDATE job SET level = 2; DELETE FROM job; ROLLBACK")
                    .await
                    .expect("rolled back");
            }
            // Into another block.
            Operation::Jump => {
                by_hand(&self.db, "SELECT setval('job_seq', nextval('job_seq') + 1500)").await;
            }
            Operation::Fold => {
                store.fold_counts().await.expect("fold");
            }
            Operation::Truncate => by_hand(&self.db, "TRUNCATE job CASCADE").await,
            _ => {}
        }
    }
}

/// In one snapshot the positions of the first and last pending jobs of each queue are those of a numbering of all.
async fn positions_are_those_of_a_count(session: &mut PgConnection) -> Result<(), String> {
    session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await.expect("begin");
    let numbered = sqlx::query(
        "SELECT job.id, row_number() OVER (
                    PARTITION BY job.queue
                    ORDER BY level, CASE WHEN claim_order = 'LIFO' THEN -seq ELSE seq END) - 1 AS ahead,
                count(*) OVER (PARTITION BY job.queue)
                    + (SELECT count(*) FROM job AS r WHERE r.status = 'RUNNING' AND r.queue = job.queue) AS active
         FROM job LEFT JOIN queue ON queue.name = job.queue
         WHERE status = 'PENDING' ORDER BY md5(job.id::text) LIMIT 60",
    )
    .fetch_all(&mut *session)
    .await
    .expect("numbers");
    let numbered: HashMap<Uuid, (i64, i64)> =
        numbered.iter().map(|row| (row.get("id"), (row.get("ahead"), row.get("active")))).collect();
    let ids: Vec<Uuid> = numbered.keys().copied().collect();
    let said = sqlx::query(sqlx::AssertSqlSafe(ledger_sql(&Viewer::Operator, &ids)))
        .bind(&ids)
        .bind(None::<Vec<String>>)
        .fetch_all(&mut *session)
        .await
        .expect("positions");
    session.execute("ROLLBACK").await.expect("rollback");
    let said: HashMap<Uuid, (i64, i64)> =
        said.iter().map(|row| (row.get("id"), (row.get("pending_ahead"), row.get("total_active")))).collect();
    if said == numbered { Ok(()) } else { Err(format!("said {said:?}, counted {numbered:?}")) }
}

#[tokio::test]
async fn after_any_operation_the_ledger_says_what_a_count_says() {
    let mut runner = TestRunner::deterministic();
    let cases = prop::collection::vec(operation(), 30..60);
    for case in 0..8 {
        let mut world = World::new().await;
        let mut session = world.db.session().await;
        let operations = cases.new_tree(&mut runner).expect("a case").current();
        for (step, operation) in operations.iter().enumerate() {
            world.perform(*operation).await;
            let store = &world.db.store;
            let wrong = (store.wrong_counts().await, store.wrong_list_entries().await);
            assert!(
                matches!(wrong, (Ok(0), Ok(0))),
                "{wrong:?}: case {case}, after {:?}",
                &operations[..=step]
            );
            let exact = positions_are_those_of_a_count(&mut session).await;
            assert_eq!(exact, Ok(()), "case {case}, after {:?}", &operations[..=step]);
            // The way for many jobs at once says the same.
            let ids: Vec<Uuid> =
                sqlx::query_scalar("SELECT id FROM job").fetch_all(&mut session).await.expect("ids");
            let few = world.db.store.positions(&ANYONE, &ids[..ids.len().min(200)]).await.expect("few");
            let padding = std::iter::repeat_n(Uuid::nil(), 201);
            let many: Vec<Uuid> = ids.iter().take(200).copied().chain(padding).collect();
            assert_eq!(world.db.store.positions(&ANYONE, &many).await.expect("many"), few);
        }
    }
}

#[tokio::test]
async fn while_many_write_and_fold_each_snapshot_is_exact() {
    let db = Arc::new(TestDb::new().await);
    let other = db.opened_again().await;
    let stop = CancellationToken::new();
    let mut tasks = Vec::new();
    for _ in 0..3 {
        let (db, stop) = (db.clone(), stop.clone());
        tasks.push(tokio::spawn(async move {
            let worker = db.worker(300).await;
            while !stop.is_cancelled() {
                let jobs =
                    (0..40).map(|n| db.new_job(Submission { priority: Some(n % 3), ..echo() })).collect();
                db.store.submit_all(jobs).await.expect("submit");
                let held = db.claim(worker, 35).await;
                let ends = held.iter().enumerate().map(|(n, job)| {
                    let end = if n % 5 == 0 { AttemptEnd::Released } else { AttemptEnd::Done(json!(1)) };
                    db.store.finish_if_leased(Finish { lease: job.lease, end })
                });
                for end in futures_util::future::join_all(ends).await {
                    end.expect("end");
                }
            }
        }));
    }
    for store in [db.store.clone(), other.store.clone()] {
        let stop = stop.clone();
        tasks.push(tokio::spawn(async move {
            while !stop.is_cancelled() {
                store.fold_counts().await.expect("fold");
            }
        }));
    }
    let mut session = db.session().await;
    for _ in 0..60 {
        assert_eq!(db.store.wrong_counts().await.expect("check"), 0);
        assert_eq!(positions_are_those_of_a_count(&mut session).await, Ok(()));
    }
    stop.cancel();
    for task in tasks {
        task.await.expect("task");
    }
    assert!(db.store.fold_counts().await.expect("fold") < 20_000);
    assert_eq!(db.store.wrong_counts().await.expect("check"), 0);
    let rows: i64 =
        sqlx::query_scalar("SELECT count(*) FROM job_count_change").fetch_one(db.pool()).await.expect("n");
    assert_eq!(rows, 0, "nothing is left to fold");
    let empty: i64 = sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM job_count WHERE jobs <= 0) + (SELECT count(*) FROM ready_block WHERE jobs <= 0)",
    )
    .fetch_one(db.pool())
    .await
    .expect("n");
    assert_eq!(empty, 0, "what is over is not kept");
}

#[tokio::test]
async fn the_command_finds_and_repairs_what_passed_by_the_triggers() {
    let db = TestDb::new().await;
    db.store.submit_all((0..50).map(|_| db.new_job(echo())).collect()).await.expect("submit");
    let check = async |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_jobql"))
            .arg("check")
            .args(arguments)
            .env("JOBQL_DATABASE_URL", db.url())
            .output()
            .await
            .expect("jobql runs");
        let said =
            String::from_utf8_lossy(if output.status.success() { &output.stdout } else { &output.stderr });
        (output.status.code(), said.into_owned())
    };
    let right = (Some(0), "the counts and the lists are right\n".to_owned());
    assert_eq!(check(&[]).await, right);
    let mut session = db.session().await;
    session
        .execute(
            "ALTER TABLE job DISABLE TRIGGER USER; UPDATE job SET level = 7 WHERE seq % 5 = 0;
             UPDATE job SET client_id = 'other' WHERE seq % 10 = 1; ALTER TABLE job ENABLE TRIGGER USER",
        )
        .await
        .expect("past the triggers");
    let (code, said) = check(&[]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("wrong entries of lists: 10; `jobql check --repair`"), "{said}");
    let (code, said) = check(&["--repair"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("have been written anew"), "{said}");
    assert_eq!(check(&["--repair"]).await, right);
    assert_eq!(positions_are_those_of_a_count(&mut session).await, Ok(()));
}
