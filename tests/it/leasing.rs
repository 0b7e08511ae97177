//! Leases: what a dead, slow or returning worker may and may not do to the jobs that it held.

use std::time::Duration;

use entity::JobStatus;
use entity::attempt::AttemptOutcome;
use jobql::error::Error;
use jobql::job::failure::Failure;
use jobql::job::submission::Submission;
use jobql::store::finish::{AttemptEnd, Finish};
use jobql::store::lease::{Lease, LeaseState};
use jobql::store::progress::Progress;
use serde_json::json;
use uuid::Uuid;

use crate::support::{ANYONE, TestDb, echo};

async fn expire(db: &TestDb, worker: Uuid) {
    sqlx::query("UPDATE worker SET expires_at = now() - interval '1 second' WHERE id = $1")
        .bind(worker)
        .execute(db.pool())
        .await
        .expect("expire");
}

async fn outcomes(db: &TestDb, job: Uuid) -> Vec<AttemptOutcome> {
    let attempts = db.store.attempts(&ANYONE, &[job]).await.expect("attempts");
    attempts.iter().map(|attempt| attempt.outcome).collect()
}

fn done(lease: Lease) -> Finish {
    Finish { lease, end: AttemptEnd::Done(json!({"ok": true})) }
}

fn failed(lease: Lease, failure: Failure) -> Finish {
    let retry_after = Duration::from_secs(60);
    Finish { lease, end: AttemptEnd::Failed { outcome: AttemptOutcome::Error, failure, retry_after } }
}

#[tokio::test]
async fn a_stale_epoch_changes_nothing() {
    let db = TestDb::new().await;
    let job = db.submit(echo()).await;
    let zombie = db.worker(30).await;
    let stale = db.claim(zombie, 1).await.remove(0).lease;
    expire(&db, zombie).await;
    assert_eq!(db.store.sweep().await.expect("sweep").jobs, 1);
    let present = db.claim(db.worker(30).await, 1).await.remove(0).lease;
    assert_eq!((present.job_id, present.epoch), (stale.job_id, stale.epoch + 1));
    let before = db.job(job.id).await;
    let writes = [
        db.store.finish_if_leased(done(stale)).await,
        db.store.finish_if_leased(failed(stale, Failure::fatal("FAILED", "late"))).await,
        db.store.finish_if_leased(Finish { lease: stale, end: AttemptEnd::Released }).await,
        db.store
            .report_progress_if_leased(Progress { lease: stale, fraction: Some(1.0), message: None })
            .await,
    ];
    for write in writes {
        assert!(matches!(write, Err(Error::LeaseLost)), "{write:?}");
    }
    assert_eq!(db.job(job.id).await, before);
    db.store.finish_if_leased(done(present)).await.expect("the present holder may");
    assert_eq!(db.job(job.id).await.status, JobStatus::Done);
}

#[tokio::test]
async fn in_one_batch_each_end_is_fenced_by_itself() {
    let db = TestDb::new().await;
    db.store.submit_all((0..30).map(|_| db.new_job(echo())).collect()).await.expect("submit");
    let claimed = db.claim(db.worker(30).await, 30).await;
    let ends = claimed.iter().enumerate().map(|(n, job)| {
        let epoch = if n % 5 == 0 { job.lease.epoch + 1 } else { job.lease.epoch };
        let lease = Lease { epoch, ..job.lease };
        let finish = if n % 2 == 0 { done(lease) } else { failed(lease, Failure::fatal("FAILED", "\0")) };
        db.store.finish_if_leased(finish)
    });
    for (n, outcome) in futures_util::future::join_all(ends).await.into_iter().enumerate() {
        assert_eq!(outcome.is_err(), n % 5 == 0, "{n}: {outcome:?}");
        let status = db.job(claimed[n].lease.job_id).await.status;
        let expected = match n {
            n if n % 5 == 0 => JobStatus::Running,
            n if n % 2 == 0 => JobStatus::Done,
            _ => JobStatus::Error,
        };
        assert_eq!(status, expected, "{n}");
    }
}

#[tokio::test]
async fn a_result_that_the_database_refuses_fails_alone() {
    let db = TestDb::new().await;
    db.store.submit_all((0..10).map(|_| db.new_job(echo())).collect()).await.expect("submit");
    let claimed = db.claim(db.worker(30).await, 10).await;
    let ends = claimed.iter().enumerate().map(|(n, job)| {
        let result = if n == 4 { json!("a \u{0} b") } else { json!(n) };
        db.store.finish_if_leased(Finish { lease: job.lease, end: AttemptEnd::Done(result) })
    });
    for (n, outcome) in futures_util::future::join_all(ends).await.into_iter().enumerate() {
        assert_eq!(outcome.is_err(), n == 4, "{n}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_failed_attempt_is_tried_again_until_attempts_are_used_up() {
    let db = TestDb::new().await;
    let job = db.submit(Submission { max_attempts: Some(2), ..echo() }).await;
    let worker = db.worker(30).await;
    let lease = db.claim(worker, 1).await.remove(0).lease;
    db.store.finish_if_leased(failed(lease, Failure::retryable("FAILED", "first"))).await.expect("fail");
    let waiting = db.job(job.id).await;
    assert_eq!((waiting.status, waiting.attempt), (JobStatus::Scheduled, 1));
    let wait = waiting.run_at - waiting.started_at.expect("started");
    assert!((59..=62).contains(&wait.num_seconds()), "the back-off that was asked for: {wait}");
    sqlx::query("UPDATE job SET run_at = now()").execute(db.pool()).await.expect("due");
    db.store.promote().await.expect("promote");
    let lease = db.claim(worker, 1).await.remove(0).lease;
    assert_eq!(lease.epoch, 2);
    db.store.finish_if_leased(failed(lease, Failure::retryable("FAILED", "second"))).await.expect("fail");
    let over = db.job(job.id).await;
    assert_eq!(over.status, JobStatus::Error);
    assert_eq!(over.error.expect("an error")["message"], "second");
    assert_eq!(outcomes(&db, job.id).await, [AttemptOutcome::Error, AttemptOutcome::Error]);
    // A user's retry grants attempts anew and keeps the history.
    let again = db.store.retry_job(&ANYONE, job.id, Some(7)).await.expect("retry");
    assert_eq!((again.status, again.attempt, again.priority, again.level), (JobStatus::Pending, 0, 7, 7));
    assert_eq!(again.error, None);
    assert_eq!(outcomes(&db, job.id).await.len(), 2);
    assert_eq!(db.claim(worker, 1).await.remove(0).lease.epoch, 3);
}

#[tokio::test]
async fn a_release_gives_the_attempt_back_and_keeps_the_place() {
    let db = TestDb::new().await;
    let first = db.submit(echo()).await;
    db.submit(echo()).await;
    let worker = db.worker(30).await;
    let lease = db.claim(worker, 1).await.remove(0).lease;
    db.store.finish_if_leased(Finish { lease, end: AttemptEnd::Released }).await.expect("release");
    let released = db.job(first.id).await;
    assert_eq!((released.status, released.attempt, released.seq), (JobStatus::Pending, 0, first.seq));
    assert_eq!(db.claim(worker, 1).await[0].lease, Lease { job_id: first.id, epoch: 2 });
    assert_eq!(outcomes(&db, first.id).await, [AttemptOutcome::Released]);
}

#[tokio::test]
async fn the_first_loss_keeps_the_place_later_ones_back_off_and_the_last_is_an_error() {
    let db = TestDb::new().await;
    let job = db.submit(Submission { max_attempts: Some(3), ..echo() }).await;
    let mut expected = [JobStatus::Pending, JobStatus::Scheduled, JobStatus::Error].into_iter();
    for attempt in 1..=3 {
        let worker = db.worker(30).await;
        assert_eq!(db.claim(worker, 1).await.len(), 1, "attempt {attempt}");
        expire(&db, worker).await;
        let swept = db.store.sweep().await.expect("sweep");
        assert_eq!((swept.workers, swept.jobs), (1, 1));
        let lost = db.job(job.id).await;
        assert_eq!((Some(lost.status), lost.attempt, lost.losses), (expected.next(), attempt, attempt));
        match lost.status {
            JobStatus::Pending => assert_eq!(lost.seq, job.seq),
            JobStatus::Scheduled => {
                sqlx::query("UPDATE job SET run_at = now()").execute(db.pool()).await.expect("due");
                db.store.promote().await.expect("promote");
            }
            _ => assert_eq!(lost.error.expect("an error")["code"], "WORKER_LOST"),
        }
    }
    assert_eq!(outcomes(&db, job.id).await, [AttemptOutcome::WorkerLost; 3]);
}

#[tokio::test]
async fn a_lost_worker_stays_lost_and_is_told_so() {
    let db = TestDb::new().await;
    db.submit(echo()).await;
    let worker = db.worker(30).await;
    let lease = db.claim(worker, 1).await.remove(0).lease;
    expire(&db, worker).await;
    // Late, but before any sweep: nobody took anything away yet.
    let states = db.store.heartbeat(worker, vec![lease], 30).await.expect("heartbeat").states;
    assert_eq!(states, [(lease, LeaseState::Held)]);
    expire(&db, worker).await;
    db.store.sweep().await.expect("sweep");
    let late = db.store.heartbeat(worker, vec![lease], 30).await;
    assert!(matches!(late, Err(Error::LeaseLost)), "{late:?}");
}

#[tokio::test]
async fn a_heartbeat_tells_each_lease_apart() {
    let db = TestDb::new().await;
    db.store.submit_all((0..3).map(|_| db.new_job(echo())).collect()).await.expect("submit");
    let worker = db.worker(30).await;
    let leases: Vec<Lease> = db.claim(worker, 3).await.iter().map(|job| job.lease).collect();
    db.store.cancel_job(&ANYONE, leases[1].job_id).await.expect("cancel");
    db.store.finish_if_leased(done(leases[2])).await.expect("done");
    let unknown = Lease { job_id: Uuid::now_v7(), epoch: 1 };
    let mut named = leases.clone();
    named.push(unknown);
    let mut states = db.store.heartbeat(worker, named, 30).await.expect("heartbeat").states;
    states.sort_unstable_by_key(|(lease, _)| leases.iter().position(|other| other == lease));
    let state = |lease| states.iter().find(|(other, _)| *other == lease).map(|(_, state)| *state);
    assert_eq!(state(leases[0]), Some(LeaseState::Held));
    assert_eq!(state(leases[1]), Some(LeaseState::CancelRequested));
    assert_eq!(state(leases[2]), Some(LeaseState::Lost));
    assert_eq!(state(unknown), Some(LeaseState::Lost));
}

#[tokio::test]
async fn a_job_that_its_worker_never_names_goes_back_after_a_lease() {
    let db = TestDb::new().await;
    let job = db.submit(echo()).await;
    let worker = db.worker(30).await;
    db.claim(worker, 1).await;
    db.store.heartbeat(worker, vec![], 30).await.expect("heartbeat");
    assert_eq!(db.job(job.id).await.status, JobStatus::Running, "the claim's answer may still be under way");
    sqlx::query("UPDATE job SET started_at = now() - interval '31 seconds'")
        .execute(db.pool())
        .await
        .expect("age");
    db.store.heartbeat(worker, vec![], 30).await.expect("heartbeat");
    assert_eq!(db.job(job.id).await.status, JobStatus::Pending);
}

/// Runs `first` while a session holds the job's row, then `second` behind it, and lets both go.
async fn in_this_order<A, B>(db: &TestDb, id: Uuid, first: A, second: B) -> (A::Output, B::Output)
where
    A: Future<Output: Send + 'static> + Send + 'static,
    B: Future<Output: Send + 'static> + Send + 'static,
{
    let mut blocker = db.session().await;
    sqlx::raw_sql("BEGIN").execute(&mut blocker).await.expect("begin");
    sqlx::query("SELECT FROM job WHERE id = $1 FOR UPDATE")
        .bind(id)
        .execute(&mut blocker)
        .await
        .expect("lock");
    let first = tokio::spawn(first);
    db.until_sessions_wait(1).await;
    let second = tokio::spawn(second);
    db.until_sessions_wait(2).await;
    sqlx::raw_sql("COMMIT").execute(&mut blocker).await.expect("commit");
    (first.await.expect("first"), second.await.expect("second"))
}

#[tokio::test]
async fn cancel_and_finish_in_either_order_leave_a_terminal_job() {
    for cancel_first in [true, false] {
        let db = TestDb::new().await;
        let job = db.submit(echo()).await;
        let lease = db.claim(db.worker(30).await, 1).await.remove(0).lease;
        let (store, other) = (db.store.clone(), db.store.clone());
        let cancel = async move { store.cancel_job(&ANYONE, lease.job_id).await.map(drop) };
        let finish = async move { other.finish_if_leased(done(lease)).await };
        if cancel_first {
            let (cancelled, finished) = in_this_order(&db, job.id, cancel, finish).await;
            cancelled.expect("cancel");
            finished.expect("a result that is there counts");
        } else {
            let (finished, cancelled) = in_this_order(&db, job.id, finish, cancel).await;
            finished.expect("finish");
            cancelled.expect("cancel of a terminal job leaves it as it is");
        }
        assert_eq!(db.job(job.id).await.status, JobStatus::Done);
    }
}

#[tokio::test]
async fn cancel_and_failure_in_either_order_never_run_again() {
    for cancel_first in [true, false] {
        let db = TestDb::new().await;
        let job = db.submit(echo()).await;
        let lease = db.claim(db.worker(30).await, 1).await.remove(0).lease;
        let (store, other) = (db.store.clone(), db.store.clone());
        let cancel = async move { store.cancel_job(&ANYONE, lease.job_id).await.map(drop) };
        let fail =
            async move { other.finish_if_leased(failed(lease, Failure::retryable("FAILED", "x"))).await };
        if cancel_first {
            drop(in_this_order(&db, job.id, cancel, fail).await);
        } else {
            drop(in_this_order(&db, job.id, fail, cancel).await);
        }
        assert_eq!(db.job(job.id).await.status, JobStatus::Cancelled);
    }
}

#[tokio::test]
async fn a_claim_passes_by_what_is_being_cancelled_and_a_cancel_reaches_what_was_claimed() {
    let db = TestDb::new().await;
    let job = db.submit(echo()).await;
    let worker = db.worker(30).await;
    let mut canceller = db.session().await;
    sqlx::raw_sql("BEGIN").execute(&mut canceller).await.expect("begin");
    sqlx::query(
        "UPDATE job SET status = 'CANCELLED', finished_at = now(), version = version + 1 WHERE id = $1",
    )
    .bind(job.id)
    .execute(&mut canceller)
    .await
    .expect("cancel");
    assert!(db.claim(worker, 1).await.is_empty(), "locked rows are skipped");
    sqlx::raw_sql("ROLLBACK").execute(&mut canceller).await.expect("rollback");
    // The cancel waits behind a claim that commits: it sees the job running, and asks.
    let mut claimer = db.session().await;
    sqlx::raw_sql("BEGIN").execute(&mut claimer).await.expect("begin");
    sqlx::query(
        "UPDATE job SET status = 'RUNNING', version = version + 1, attempt = 1, lease_epoch = 1, worker_id = $2,
                        started_at = now() WHERE id = $1",
    )
    .bind(job.id)
    .bind(worker)
    .execute(&mut claimer)
    .await
    .expect("claim");
    let store = db.store.clone();
    let cancel = tokio::spawn(async move { store.cancel_job(&ANYONE, job.id).await });
    db.until_sessions_wait(1).await;
    sqlx::raw_sql("COMMIT").execute(&mut claimer).await.expect("commit");
    let asked = cancel.await.expect("task").expect("cancel");
    assert_eq!(asked.status, JobStatus::Running);
    assert!(asked.cancel_requested_at.is_some());
}

#[tokio::test]
async fn sweep_and_finish_in_either_order_end_an_attempt_once() {
    let db = TestDb::new().await;
    let job = db.submit(echo()).await;
    let worker = db.worker(30).await;
    let lease = db.claim(worker, 1).await.remove(0).lease;
    expire(&db, worker).await;
    // The end of the attempt holds the row: the sweep passes it by.
    let mut finisher = db.session().await;
    sqlx::raw_sql("BEGIN").execute(&mut finisher).await.expect("begin");
    sqlx::query("UPDATE job SET status = 'DONE', result = '1', finished_at = now(), version = version + 1 WHERE id = $1")
        .bind(job.id)
        .execute(&mut finisher)
        .await
        .expect("finish");
    assert_eq!(db.store.sweep().await.expect("sweep").jobs, 0);
    sqlx::raw_sql("ROLLBACK").execute(&mut finisher).await.expect("rollback");
    // The sweep came first: the end is refused.
    assert_eq!(db.store.sweep().await.expect("sweep").jobs, 1);
    assert!(matches!(db.store.finish_if_leased(done(lease)).await, Err(Error::LeaseLost)));
    assert_eq!(db.job(job.id).await.status, JobStatus::Pending);
}

#[tokio::test]
async fn two_sweepers_take_each_job_away_once() {
    let db = TestDb::new().await;
    let other = db.opened_again().await;
    db.store.submit_all((0..800).map(|_| db.new_job(echo())).collect()).await.expect("submit");
    let worker = db.worker(30).await;
    assert_eq!(db.claim(worker, 800).await.len(), 800);
    expire(&db, worker).await;
    let (one, two) = tokio::join!(db.store.sweep(), other.store.sweep());
    let swept =
        one.expect("sweep").jobs + two.expect("sweep").jobs + db.store.sweep().await.expect("sweep").jobs;
    assert_eq!(swept, 800);
    let losses: Vec<i16> =
        sqlx::query_scalar("SELECT DISTINCT losses FROM job").fetch_all(db.pool()).await.expect("n");
    assert_eq!(losses, [1]);
}

#[tokio::test]
async fn a_cancelled_running_job_is_cancelled_when_its_worker_is_gone() {
    let db = TestDb::new().await;
    let job = db.submit(echo()).await;
    let worker = db.worker(30).await;
    db.claim(worker, 1).await;
    db.store.cancel_job(&ANYONE, job.id).await.expect("cancel");
    let twice = db.store.cancel_job(&ANYONE, job.id).await.expect("cancel twice");
    assert_eq!(twice.version, 3, "the second one changes nothing");
    expire(&db, worker).await;
    db.store.sweep().await.expect("sweep");
    assert_eq!(db.job(job.id).await.status, JobStatus::Cancelled);
}

#[tokio::test]
async fn a_heartbeat_that_commits_under_a_sweep_saves_the_worker() {
    let db = TestDb::new().await;
    let job = db.submit(echo()).await;
    let worker = db.worker(30).await;
    db.claim(worker, 1).await;
    expire(&db, worker).await;
    let mut heartbeat = db.session().await;
    sqlx::raw_sql("BEGIN").execute(&mut heartbeat).await.expect("begin");
    sqlx::query("UPDATE worker SET expires_at = now() + interval '30 seconds' WHERE id = $1")
        .bind(worker)
        .execute(&mut heartbeat)
        .await
        .expect("heartbeat");
    let store = db.store.clone();
    let sweep = tokio::spawn(async move { store.sweep().await });
    db.until_sessions_wait(1).await;
    sqlx::raw_sql("COMMIT").execute(&mut heartbeat).await.expect("commit");
    let swept = sweep.await.expect("task").expect("sweep");
    assert_eq!((swept.workers, swept.jobs), (0, 0));
    assert_eq!(db.job(job.id).await.status, JobStatus::Running);
}

#[tokio::test]
async fn cancel_and_retry_at_once_answer_as_if_one_came_first() {
    let db = TestDb::new().await;
    for _ in 0..30 {
        let job = db.job_in(JobStatus::Error).await;
        let (cancelled, retried) =
            tokio::join!(db.store.cancel_job(&ANYONE, job.id), db.store.retry_job(&ANYONE, job.id, None));
        assert_eq!(retried.expect("retry").status, JobStatus::Pending);
        let (answered, left) = (cancelled.expect("cancel").status, db.job(job.id).await.status);
        // The cancel met a terminal job and left it, or a pending one and ended it.
        let cancel_first =
            (answered == JobStatus::Error || answered == JobStatus::Pending) && left == JobStatus::Pending;
        let retry_first = (answered, left) == (JobStatus::Cancelled, JobStatus::Cancelled);
        assert!(cancel_first || retry_first, "the cancel answered {answered} and left {left}");
    }
}
