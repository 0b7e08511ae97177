//! Claim: in true order, never more than asked for, never one job to two workers.

use std::sync::Arc;

use entity::JobStatus;
use entity::queue::ClaimOrder;
use futures_util::future::join_all;
use jobql::job::submission::Submission;
use jobql::store::claim::{ClaimRequest, LEDGER_CLAIM_SQL, LIFO_CLAIM_SQL, PLAIN_CLAIM_SQL};
use jobql::store::finish::{AttemptEnd, DONE_SQL, Finish};
use jobql::store::queue::{QueueChange, Turn, UpcomingRequest};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::json;
use tokio::sync::Barrier;
use uuid::Uuid;

use crate::support::process::Process;
use crate::support::{ANYONE, QUEUE, SOON, TestDb, echo, eventually, kind};

#[tokio::test]
async fn jobs_are_claimed_by_priority_then_by_age() {
    let db = TestDb::new().await;
    let mut ids = Vec::new();
    for priority in [5, 1, 5, 0, 1] {
        ids.push(db.submit(Submission { priority: Some(priority), ..echo() }).await.id);
    }
    let worker = db.worker(30).await;
    let claimed: Vec<Uuid> = db.claim(worker, 4).await.iter().map(|job| job.lease.job_id).collect();
    assert_eq!(claimed, [ids[3], ids[1], ids[4], ids[0]]);
    let job = db.job(ids[3]).await;
    assert_eq!((job.status, job.attempt, job.lease_epoch, job.version), (JobStatus::Running, 1, 1, 2));
    assert_eq!(job.worker_id, Some(worker));
}

async fn set(db: &TestDb, change: QueueChange) {
    db.store.change_queue(QUEUE, change).await.expect("settings");
}

/// All upcoming jobs, read page by page.
async fn upcoming(db: &TestDb, page: i64) -> Vec<Uuid> {
    let (mut after, mut ids) = (None, Vec::new());
    loop {
        let request =
            UpcomingRequest { queue: QUEUE.to_owned(), except_kinds: Vec::new(), after, limit: page };
        let (jobs, more) = db.store.upcoming(&ANYONE, &request).await.expect("upcoming");
        ids.extend(jobs.iter().map(|job| job.id));
        after = jobs.last().map(|job| Turn { level: job.level, seq: job.seq });
        if !more {
            return ids;
        }
    }
}

#[tokio::test]
async fn positions_are_one_to_n_in_the_order_of_claims() {
    let db = TestDb::new().await;
    // A lease that outlasts the test, however slow the machine.
    let worker = db.worker(600).await;
    let mut runner = TestRunner::deterministic();
    let cases = (any::<bool>(), prop::collection::vec((0..4i32, 0..10u8), 1..40));
    for _ in 0..40 {
        let (lifo, case) = cases.new_tree(&mut runner).expect("a case").current();
        let order = if lifo { ClaimOrder::Lifo } else { ClaimOrder::Fifo };
        set(&db, QueueChange { order: Some(order), ..QueueChange::default() }).await;
        sqlx::query("TRUNCATE job CASCADE").execute(db.pool()).await.expect("truncate");
        for (priority, fate) in &case {
            let job = db.submit(Submission { priority: Some(*priority), ..echo() }).await;
            match fate {
                0 => drop(db.store.cancel_job(&ANYONE, job.id).await.expect("cancel")),
                1 => drop(db.claim(worker, 1).await),
                2 => {
                    db.store.cancel_job(&ANYONE, job.id).await.expect("cancel");
                    db.store.retry_job(&ANYONE, job.id, Some(1)).await.expect("retry");
                }
                _ => {}
            }
        }
        let ids: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM job WHERE status = 'PENDING'")
            .fetch_all(db.pool())
            .await
            .expect("ids");
        let running: i64 = sqlx::query_scalar("SELECT count(*) FROM job WHERE status = 'RUNNING'")
            .fetch_one(db.pool())
            .await
            .expect("n");
        let positions = db.store.positions(&ANYONE, &ids).await.expect("positions");
        let mut by_position: Vec<(i64, Uuid)> =
            positions.iter().map(|(id, place)| (place.position().expect("pending"), *id)).collect();
        by_position.sort_unstable();
        let numbers: Vec<i64> = by_position.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, (1..=ids.len() as i64).collect::<Vec<_>>(), "{case:?}");
        for (id, place) in &positions {
            assert_eq!(place.running_ahead, running, "{case:?}");
            assert_eq!(place.total_active, running + ids.len() as i64, "{case:?}");
            let alone = db.store.positions(&ANYONE, &[*id]).await.expect("position");
            assert_eq!(alone.get(id), Some(place), "one at a time gives the same");
        }
        let in_order: Vec<Uuid> = by_position.iter().map(|(_, id)| *id).collect();
        assert_eq!(upcoming(&db, 4).await, in_order, "{order:?} {case:?}");
        let mut claimed = Vec::new();
        while claimed.len() < ids.len() {
            claimed.extend(db.claim(worker, 3).await.iter().map(|job| job.lease.job_id));
        }
        assert_eq!(claimed, in_order, "{order:?} {case:?}");
    }
}

#[tokio::test]
async fn concurrent_claims_share_the_jobs_and_give_none_twice() {
    let db = Arc::new(TestDb::new().await);
    let new_jobs = (0..600).map(|_| db.new_job(echo())).collect();
    db.store.submit_all(new_jobs).await.expect("submit");
    let barrier = Arc::new(Barrier::new(6));
    let claimers = (0..6).map(|_| {
        let (db, barrier) = (db.clone(), barrier.clone());
        tokio::spawn(async move {
            let worker = db.worker(30).await;
            barrier.wait().await;
            let mut mine = Vec::new();
            loop {
                let claimed = db.claim(worker, 7).await;
                if claimed.is_empty() {
                    return mine;
                }
                mine.extend(claimed.iter().map(|job| job.lease.job_id));
            }
        })
    });
    let mut all: Vec<Uuid> =
        join_all(claimers).await.into_iter().flat_map(|mine| mine.expect("task")).collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 600);
    let epochs: Vec<i32> =
        sqlx::query_scalar("SELECT DISTINCT lease_epoch FROM job").fetch_all(db.pool()).await.expect("n");
    assert_eq!(epochs, [1]);
}

/// The plan of a claim.
async fn claim_plan(db: &TestDb, worker: Uuid, limit: i64, sql: &str) -> String {
    let mut session = db.session().await;
    let explain = format!("EXPLAIN (COSTS OFF) {sql}");
    let mut query =
        sqlx::query_scalar(sqlx::AssertSqlSafe(explain)).bind(worker).bind(QUEUE).bind(limit).bind(false);
    if sql.contains("$5") {
        query = query.bind(None::<i64>);
    }
    let lines: Vec<String> = query.fetch_all(&mut session).await.expect("plan");
    lines.join("\n")
}

/// The lines of a plan below this one.
fn part<'a>(plan: &'a str, head: &str) -> Vec<&'a str> {
    let lines = plan.lines().skip_while(|line| *line != head).skip(1);
    let part: Vec<&str> = lines.take_while(|line| line.starts_with("    ")).collect();
    assert!(!part.is_empty(), "no {head} in {plan}");
    part
}

/// 100,000 jobs that wait, and statistics of them.
async fn backlog(db: &TestDb) {
    sqlx::query(
        "INSERT INTO job (id, client_id, request_id, kind, queue, display_name, status, priority, level, payload,
                          max_attempts, timeout_seconds, finished_at)
         SELECT gen_random_uuid(), 'c', n::text, 'echo', 'default', 'echo',
                CASE WHEN n % 2 = 0 THEN 'PENDING' ELSE 'CANCELLED' END, n % 7, n % 7, '{}', 5, 300,
                CASE WHEN n % 2 = 0 THEN NULL ELSE now() END
         FROM generate_series(1, 100000) AS n",
    )
    .execute(db.pool())
    .await
    .expect("a backlog");
    sqlx::query("ANALYZE job").execute(db.pool()).await.expect("analyze");
}

#[tokio::test]
async fn the_claim_walks_the_index_in_order_and_never_sorts_the_backlog() {
    let db = TestDb::new().await;
    backlog(&db).await;
    let worker = db.worker(30).await;
    let lifo = claim_plan(&db, worker, 100, &LIFO_CLAIM_SQL).await;
    let of_the_backlog: Vec<&str> = part(&lifo, "  CTE ready");
    assert!(of_the_backlog.iter().any(|line| line.contains("Index Scan Backward using job_ready")), "{lifo}");
    assert!(!of_the_backlog.iter().any(|line| line.contains("Sort")), "the backlog is sorted:\n{lifo}");
    assert!(!lifo.contains("Seq Scan on job"), "{lifo}");
    let plan = claim_plan(&db, worker, 100, &PLAIN_CLAIM_SQL).await;
    // The sort of what was chosen, at most the limit, is fine; it stands outside of the CTE, further left.
    let of_the_backlog: Vec<&str> = part(&plan, "  CTE ready");
    assert!(of_the_backlog.iter().any(|line| line.contains("job_ready")), "{plan}");
    assert!(!of_the_backlog.iter().any(|line| line.contains("Sort")), "the backlog is sorted:\n{plan}");
    assert!(!plan.contains("Seq Scan on job"), "{plan}");
    // It starts within the index, at the ledger's place.
    let plan = claim_plan(&db, worker, 100, &LEDGER_CLAIM_SQL).await;
    let of_the_backlog: Vec<&str> = part(&plan, "  CTE ready");
    let starts = "Index Cond: ((queue = 'default'::text) AND (ROW(level, seq) >= ROW(";
    assert!(of_the_backlog.iter().any(|line| line.contains(starts)), "{plan}");
    assert!(!of_the_backlog.iter().any(|line| line.contains("Sort")), "the backlog is sorted:\n{plan}");
    assert!(!format!("{plan}\n").contains("Seq Scan on job\n"), "{plan}");
}

#[tokio::test]
async fn a_claim_by_the_ledger_takes_what_stands_first() {
    let db = TestDb::new().await;
    let worker = db.worker(600).await;
    let steps = prop::collection::vec((0..6u8, 0..3i32), 400);
    let steps = steps.new_tree(&mut TestRunner::deterministic()).expect("steps").current();
    let (mut held, mut claimed_in_all) = (Vec::new(), 0);
    for (step, number) in steps {
        match step {
            0..=2 => {
                db.submit(Submission { priority: Some(number), ..echo() }).await;
            }
            3 => {
                let first = "SELECT id FROM job WHERE status = 'PENDING' ORDER BY level, seq LIMIT 2";
                let first: Vec<Uuid> =
                    sqlx::query_scalar(first).fetch_all(db.pool()).await.expect("the first");
                let claimed = db.claim_by_ledger(worker, 2).await;
                let ids: Vec<Uuid> = claimed.iter().map(|job| job.lease.job_id).collect();
                assert_eq!(ids, first);
                claimed_in_all += ids.len();
                held.extend(claimed);
            }
            // Back to its old place, before all that came after it.
            4 if !held.is_empty() => {
                let lease = held.swap_remove(0).lease;
                db.store
                    .finish_if_leased(Finish { lease, end: AttemptEnd::Released })
                    .await
                    .expect("release");
            }
            _ if number == 0 => {
                db.store.fold_counts().await.expect("fold");
            }
            _ => {
                let another_block = "SELECT setval('job_seq', nextval('job_seq') + 2048)";
                sqlx::query(another_block).execute(db.pool()).await.expect("a jump");
            }
        }
    }
    assert!(claimed_in_all > 50, "{claimed_in_all}");
}

#[tokio::test]
async fn a_job_that_the_ledger_does_not_know_has_its_turn_all_the_same() {
    let db = TestDb::new().await;
    let count = async |which: &str| -> i64 {
        let sql = format!("SELECT count(*) FROM job WHERE {which}");
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(db.pool()).await.expect("a count")
    };
    // Half a minute of work, of which each claim gets as much as it asks for.
    let slow = || db.new_job(kind("sleep", json!({"seconds": 0.05})));
    db.store.submit_all((0..600).map(|_| slow()).collect()).await.expect("submit");
    let _worker = Process::work(&db.url(), &["--slots", "1"]);
    eventually("it is in its stride", SOON, async || (count("status = 'DONE'").await >= 5).then_some(()))
        .await;
    let by_hand = async |sql: &'static str| sqlx::raw_sql(sql).execute(db.pool()).await.expect("by hand");
    by_hand("ALTER TABLE job DISABLE TRIGGER job_count_insert").await;
    db.submit(Submission { priority: Some(0), ..echo() }).await;
    by_hand("ALTER TABLE job ENABLE TRIGGER job_count_insert").await;
    eventually("the first in line is done", SOON, async || {
        (count("kind = 'echo' AND status = 'DONE'").await == 1).then_some(())
    })
    .await;
    assert!(count("status = 'PENDING'").await > 0, "it came last");
}

#[tokio::test]
async fn ends_are_found_by_id_and_not_among_all_that_ran_lately() {
    let db = TestDb::new().await;
    // What the statistics say of a queue that keeps up: nothing runs.
    backlog(&db).await;
    let ids: Vec<Uuid> = (0..100).map(|_| Uuid::now_v7()).collect();
    let plan: Vec<String> =
        sqlx::query_scalar(sqlx::AssertSqlSafe(format!("EXPLAIN (COSTS OFF) {DONE_SQL}")))
            .bind(ids)
            .bind(vec![1; 100])
            .bind(vec!["1"; 100])
            .fetch_all(db.pool())
            .await
            .expect("a plan");
    let plan = plan.join("\n");
    assert!(plan.contains("job_pkey") && !plan.contains("job_running"), "{plan}");
}

#[tokio::test]
async fn a_claim_takes_no_more_than_asked_for_whatever_join_the_planner_chooses() {
    let db = TestDb::new().await;
    db.store.submit_all((0..1000).map(|_| db.new_job(echo())).collect()).await.expect("submit");
    let worker = db.worker(30).await;
    for settings in [
        "SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_material = off; SET enable_memoize = off",
        "SET enable_nestloop = off; SET enable_mergejoin = off",
        "SET enable_nestloop = off; SET enable_hashjoin = off",
    ] {
        let mut session = db.session().await;
        sqlx::raw_sql(settings).execute(&mut session).await.expect("settings");
        let claimed = sqlx::query(PLAIN_CLAIM_SQL.as_str())
            .bind(worker)
            .bind(QUEUE)
            .bind(5i64)
            .bind(false)
            .fetch_all(&mut session)
            .await
            .expect("claim");
        assert_eq!(claimed.len(), 5, "{settings}");
    }
    let running: i64 = sqlx::query_scalar("SELECT count(*) FROM job WHERE status = 'RUNNING'")
        .fetch_one(db.pool())
        .await
        .expect("n");
    assert_eq!(running, 15);
}

#[tokio::test]
async fn a_process_gets_at_most_one_job_that_has_lost_a_worker() {
    let db = TestDb::new().await;
    let worker = db.worker(30).await;
    db.store.submit_all((0..4).map(|_| db.new_job(echo())).collect()).await.expect("submit");
    sqlx::query("UPDATE job SET losses = 1 WHERE seq IN (SELECT seq FROM job ORDER BY seq LIMIT 2)")
        .execute(db.pool())
        .await
        .expect("suspects");
    let claimed = db.claim(worker, 10).await;
    assert_eq!(claimed.iter().filter(|job| job.suspect).count(), 1);
    assert_eq!(claimed.len(), 3);
    let request = ClaimRequest {
        worker_id: worker,
        queue: QUEUE.to_owned(),
        limit: 10,
        holds_suspect: true,
        from_ledger: false,
    };
    assert!(db.store.claim(request).await.expect("claim").is_empty());
    let other = db.worker(30).await;
    assert_eq!(db.claim(other, 10).await.len(), 1);
}

#[tokio::test]
async fn a_worker_without_a_live_lease_gets_nothing() {
    let db = TestDb::new().await;
    db.submit(echo()).await;
    assert!(db.claim(Uuid::now_v7(), 10).await.is_empty(), "never registered");
    let draining = db.worker(30).await;
    db.store.drain_worker(draining).await.expect("drain");
    assert!(db.claim(draining, 10).await.is_empty(), "draining");
    let expired = db.worker(30).await;
    sqlx::query("UPDATE worker SET expires_at = now() WHERE id = $1")
        .bind(expired)
        .execute(db.pool())
        .await
        .expect("expire");
    assert!(db.claim(expired, 10).await.is_empty(), "expired");
    assert_eq!(db.claim(db.worker(30).await, 10).await.len(), 1);
}
