//! The table of legal changes of status: the database's trigger has the same one, and no operation of the store
//! leaves it, whatever state it meets.

use std::time::Duration;

use entity::attempt::AttemptOutcome;
use entity::{Cause, JobStatus, Transition, job};
use jobql::error::Error;
use jobql::job::failure::Failure;
use jobql::store::finish::{AttemptEnd, Finish};
use jobql::store::lease::Lease;
use jobql::store::progress::Progress;
use jobql::store::update::JobChange;
use serde_json::json;

use crate::support::{ANYONE, TestDb};

#[tokio::test]
async fn the_database_allows_what_the_table_has_and_nothing_else() {
    let db = TestDb::new().await;
    for from in JobStatus::ALL {
        for to in JobStatus::ALL {
            let job = db.job_in(from).await;
            // Everything that the CHECKs ask for in the new state, so that only the guard can refuse.
            let changed = sqlx::query(
                "UPDATE job SET status = $2,
                     finished_at = CASE WHEN $2 IN ('DONE', 'ERROR', 'CANCELLED') THEN now() END,
                     error = CASE $2 WHEN 'ERROR' THEN '{}'::jsonb END, result = NULL,
                     worker_id = gen_random_uuid(), started_at = now(), lease_epoch = 1
                 WHERE id = $1",
            )
            .bind(job.id)
            .bind(to.as_str())
            .execute(db.pool())
            .await;
            let legal = from == to || Transition::find(from, to).is_some();
            match changed {
                Ok(_) => assert!(legal, "{from} to {to} was allowed"),
                Err(error) => {
                    assert!(!legal, "{from} to {to} was refused: {error}");
                    let database = error.as_database_error().expect("a database error");
                    assert_eq!(database.constraint(), Some("job_transition"), "{from} to {to}: {error}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_change_by_hand_raises_the_version_by_one_whatever_it_sets() {
    let db = TestDb::new().await;
    let job = db.job_in(JobStatus::Pending).await;
    for sql in [
        "UPDATE job SET display_name = 'by hand' WHERE id = $1",
        "UPDATE job SET version = 1 WHERE id = $1",
        "UPDATE job SET version = 900 WHERE id = $1",
    ] {
        sqlx::query(sql).bind(job.id).execute(db.pool()).await.expect("update");
    }
    assert_eq!(db.job(job.id).await.version, job.version + 3);
}

/// Every operation that may change a job's status.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Cancel,
    Retry,
    Claim,
    Done,
    FailRetryable,
    FailFinal,
    TimedOut,
    Release,
    Progress,
    Sweep,
    Promote,
    Heartbeat,
    PutOff,
    BringForward,
    Expire,
    ParentDone,
    ParentFailed,
}

impl Operation {
    const ALL: [Operation; 17] = [
        Operation::Cancel,
        Operation::Retry,
        Operation::Claim,
        Operation::Done,
        Operation::FailRetryable,
        Operation::FailFinal,
        Operation::TimedOut,
        Operation::Release,
        Operation::Progress,
        Operation::Sweep,
        Operation::Promote,
        Operation::Heartbeat,
        Operation::PutOff,
        Operation::BringForward,
        Operation::Expire,
        Operation::ParentDone,
        Operation::ParentFailed,
    ];

    /// What the table calls it; none for what never changes a status by itself.
    fn cause(self) -> Option<Cause> {
        match self {
            Operation::Cancel => Some(Cause::Cancel),
            Operation::Retry => Some(Cause::Retry),
            Operation::Claim => Some(Cause::Claim),
            Operation::Done | Operation::FailRetryable | Operation::FailFinal | Operation::TimedOut => {
                Some(Cause::Finish)
            }
            Operation::Release => Some(Cause::Release),
            Operation::Sweep => Some(Cause::Sweep),
            Operation::Promote => Some(Cause::Promote),
            Operation::PutOff | Operation::BringForward => Some(Cause::Update),
            Operation::Expire => Some(Cause::StartBefore),
            Operation::ParentDone | Operation::ParentFailed => Some(Cause::ParentEnd),
            Operation::Progress | Operation::Heartbeat => None,
        }
    }

    /// Where it must lead from `from`; `from` itself when it must leave the job alone.
    fn expected(self, from: JobStatus, cancel_requested: bool) -> JobStatus {
        use JobStatus::*;
        match (self, from) {
            (Operation::Cancel, Blocked | Scheduled | Pending) => Cancelled,
            (Operation::Expire, Blocked | Scheduled | Pending) => Cancelled,
            (Operation::ParentDone, Blocked) => Pending,
            (Operation::ParentFailed, Blocked) => Cancelled,
            (Operation::PutOff, Pending) => Scheduled,
            (Operation::BringForward, Scheduled) => Pending,
            (Operation::Retry, Error | Cancelled) => Pending,
            (Operation::Claim, Pending) => Running,
            (Operation::Done, Running) => Done,
            (
                Operation::FailRetryable
                | Operation::FailFinal
                | Operation::TimedOut
                | Operation::Release
                | Operation::Sweep,
                Running,
            ) if cancel_requested => Cancelled,
            (Operation::FailRetryable | Operation::TimedOut, Running) => Scheduled,
            (Operation::FailFinal, Running) => Error,
            (Operation::Release | Operation::Sweep, Running) => Pending,
            _ => from,
        }
    }

    async fn perform(self, db: &TestDb, job: &job::Model) -> Result<(), Error> {
        let lease = Lease { job_id: job.id, epoch: job.lease_epoch };
        let failed =
            |outcome, failure| AttemptEnd::Failed { outcome, failure, retry_after: Duration::from_secs(60) };
        let finish = |end| db.store.finish_if_leased(Finish { lease, end });
        match self {
            Operation::Cancel => db.store.cancel_job(&ANYONE, job.id).await.map(drop),
            Operation::Retry => db.store.retry_job(&ANYONE, job.id, None).await.map(drop),
            Operation::Claim => {
                let worker = db.worker(30).await;
                db.claim(worker, 100).await;
                Ok(())
            }
            Operation::Done => finish(AttemptEnd::Done(json!(1))).await,
            Operation::FailRetryable => {
                finish(failed(AttemptOutcome::Error, Failure::retryable("FAILED", "no"))).await
            }
            Operation::FailFinal => {
                finish(failed(AttemptOutcome::Error, Failure::fatal("FAILED", "no"))).await
            }
            Operation::TimedOut => {
                finish(failed(AttemptOutcome::Timeout, Failure::retryable("TIMEOUT", "too long"))).await
            }
            Operation::Release => finish(AttemptEnd::Released).await,
            Operation::Progress => {
                let progress = Progress { lease, fraction: Some(0.5), message: None };
                db.store.report_progress_if_leased(progress).await
            }
            Operation::Sweep => {
                sqlx::query("UPDATE worker SET expires_at = now() - interval '1 second'")
                    .execute(db.pool())
                    .await
                    .expect("expire");
                db.store.sweep().await.map(drop)
            }
            Operation::PutOff => {
                let run_at = Some(chrono::Utc::now() + chrono::TimeDelta::hours(2));
                db.store.update_job(&ANYONE, job.id, JobChange { run_at, priority: None }).await.map(drop)
            }
            Operation::BringForward => {
                let run_at = Some(chrono::Utc::now() - chrono::TimeDelta::hours(2));
                db.store.update_job(&ANYONE, job.id, JobChange { run_at, priority: None }).await.map(drop)
            }
            Operation::Expire => {
                sqlx::query("UPDATE job SET start_before = now() WHERE id = $1")
                    .bind(job.id)
                    .execute(db.pool())
                    .await
                    .expect("a time");
                db.store.expire().await.map(drop)
            }
            Operation::ParentDone | Operation::ParentFailed => {
                let status =
                    if matches!(self, Operation::ParentDone) { JobStatus::Done } else { JobStatus::Error };
                let parent = db.job_in(status).await.id;
                for sql in [
                    "INSERT INTO dependency (child, parent, cancels) VALUES ($1, $2, true)",
                    "INSERT INTO job_end (job_id) SELECT $2 WHERE $1::uuid IS NOT NULL",
                ] {
                    sqlx::query(sql).bind(job.id).bind(parent).execute(db.pool()).await.expect("an end");
                }
                db.store.release_dependents().await.map(drop)
            }
            Operation::Promote => db.store.promote().await.map(drop),
            Operation::Heartbeat => {
                let worker = job.worker_id.unwrap_or_default();
                db.store.heartbeat(worker, vec![lease], 30).await.map(drop)
            }
        }
    }
}

#[tokio::test]
async fn every_operation_in_every_state_does_what_the_table_says() {
    for cancel_requested in [false, true] {
        let db = TestDb::new().await;
        for operation in Operation::ALL {
            for from in JobStatus::ALL {
                if cancel_requested && from != JobStatus::Running {
                    continue;
                }
                for table in ["job", "worker", "dependency", "job_end"] {
                    let sql = format!("DELETE FROM {table}");
                    sqlx::query(sqlx::AssertSqlSafe(sql)).execute(db.pool()).await.expect("an empty table");
                }
                let mut before = db.job_in(from).await;
                if cancel_requested {
                    before = db.store.cancel_job(&ANYONE, before.id).await.expect("ask to stop");
                }
                let outcome = operation.perform(&db, &before).await;
                let after = db.job(before.id).await;
                let expected = operation.expected(from, cancel_requested);
                let case =
                    format!("{operation:?} on {from}, cancel requested: {cancel_requested}, {outcome:?}");
                assert_eq!(after.status, expected, "{case}");
                if expected != from {
                    let line = Transition::find(from, expected)
                        .unwrap_or_else(|| panic!("not in the table: {case}"));
                    let cause = operation.cause().unwrap_or_else(|| panic!("has no cause: {case}"));
                    assert!(line.causes.contains(&cause), "{case}");
                    // The time that is over is set by hand, which is a version too.
                    let by_hand = i32::from(matches!(operation, Operation::Expire));
                    assert_eq!(after.version, before.version + 1 + by_hand, "{case}");
                }
                if operation.cause() == Some(Cause::Update) && !from.is_waiting() {
                    assert!(matches!(outcome, Err(Error::InvalidTransition { .. })), "{case}");
                }
                let fenced = matches!(operation.cause(), Some(Cause::Finish | Cause::Release))
                    || matches!(operation, Operation::Progress);
                if fenced && from != JobStatus::Running {
                    assert!(matches!(outcome, Err(Error::LeaseLost)), "{case}");
                }
                if matches!(operation, Operation::Retry)
                    && !matches!(from, JobStatus::Error | JobStatus::Cancelled)
                {
                    assert!(matches!(outcome, Err(Error::InvalidTransition { .. })), "{case}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_scheduled_job_is_promoted_when_its_time_has_come_and_not_before() {
    let db = TestDb::new().await;
    let early = db.job_in(JobStatus::Scheduled).await;
    let due = db.job_in(JobStatus::Scheduled).await;
    sqlx::query("UPDATE job SET run_at = now() WHERE id = $1")
        .bind(due.id)
        .execute(db.pool())
        .await
        .expect("due");
    assert_eq!(db.store.promote().await.expect("promote"), 1);
    let promoted = db.job(due.id).await;
    assert_eq!(promoted.status, JobStatus::Pending);
    assert!(promoted.seq > due.seq, "it waits behind those that were ready before it");
    assert_eq!(db.job(early.id).await.status, JobStatus::Scheduled);
}
