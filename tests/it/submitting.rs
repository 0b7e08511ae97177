//! Submit: idempotent on (client, request id) under any race, all or nothing where promised, never lost, never twice.

use std::sync::Arc;
use std::time::Duration;

use entity::JobStatus;
use futures_util::future::join_all;
use jobql::error::Error;
use jobql::job::submission::Submission;
use serde_json::{Value, json};
use tokio::sync::Barrier;
use uuid::Uuid;

use crate::support::process::Process;
use crate::support::proxy::Proxy;
use crate::support::{ANYONE, SOON, TestDb, deadline, echo, eventually, kind, request};

async fn count(db: &TestDb, table: &'static str) -> i64 {
    let sql = format!("SELECT count(*) FROM {table}");
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(db.pool()).await.expect("count")
}

#[tokio::test]
async fn what_was_answered_is_what_was_written() {
    let db = TestDb::new().await;
    let submitted =
        db.store.submit(db.new_job(request("a", json!({"z": 1, "a": [1.5, null]})))).await.expect("submit");
    assert!(submitted.created);
    assert_eq!(submitted.job, db.job(submitted.job.id).await);
    let found = db.store.job_by_request(&ANYONE, "default", "a").await.expect("read").expect("found");
    assert_eq!(found, submitted.job);
    assert!(db.store.job_by_request(&ANYONE, "another", "a").await.expect("read").is_none());
}

#[tokio::test]
async fn two_hundred_concurrent_submits_of_one_request_make_one_job() {
    let db = Arc::new(TestDb::new().await);
    let other = Arc::new(db.opened_again().await);
    let barrier = Arc::new(Barrier::new(200));
    let calls = (0..200).map(|number| {
        let (db, barrier) = (if number % 2 == 0 { db.clone() } else { other.clone() }, barrier.clone());
        tokio::spawn(async move {
            let new_job = db.new_job(request("one", json!({"n": 1})));
            barrier.wait().await;
            db.store.submit(new_job).await.expect("submit")
        })
    });
    let answers: Vec<_> = join_all(calls).await.into_iter().map(|answer| answer.expect("task")).collect();
    assert_eq!(answers.iter().filter(|answer| answer.created).count(), 1);
    assert!(answers.iter().all(|answer| answer.job.id == answers[0].job.id));
    assert_eq!((count(&db, "job").await, count(&db, "submit_key").await), (1, 1));
}

#[tokio::test]
async fn the_same_request_with_another_payload_or_kind_is_a_conflict_and_writes_nothing() {
    let db = TestDb::new().await;
    let first = db.submit(request("a", json!({"n": 1}))).await;
    for other in [
        request("a", json!({"n": 2})),
        Submission { kind: "fail".to_owned(), ..request("a", json!({"n": 1})) },
    ] {
        let outcome = db.store.submit(db.new_job(other)).await;
        assert!(
            matches!(outcome, Err(Error::IdempotencyConflict { job_id }) if job_id == first.id),
            "{outcome:?}"
        );
    }
    assert_eq!(count(&db, "job").await, 1);
    // Key order is no difference, another client is.
    let again = db.store.submit(db.new_job(request("a", json!({"n": 1})))).await.expect("again");
    assert!(!again.created);
    let other_client = Submission { client_id: Some("b".to_owned()), ..request("a", json!({"n": 2})) };
    assert!(db.store.submit(db.new_job(other_client)).await.expect("another client").created);
}

#[tokio::test]
async fn the_id_that_the_server_made_stands_for_a_request_id() {
    let db = TestDb::new().await;
    let first = db.submit(kind("echo", json!({"n": 1}))).await;
    assert_eq!(first.request_id, first.id.to_string());
    assert_eq!(count(&db, "submit_key").await, 0);
    let again =
        db.store.submit(db.new_job(request(&first.request_id, json!({"n": 1})))).await.expect("again");
    assert!(!again.created && again.job.id == first.id);
    let other = db.store.submit(db.new_job(request(&first.request_id, json!({"n": 2})))).await;
    assert!(matches!(other, Err(Error::IdempotencyConflict { job_id }) if job_id == first.id), "{other:?}");
    let found = db.store.job_by_request(&ANYONE, "default", &first.request_id).await.expect("read");
    assert_eq!(found.map(|job| job.id), Some(first.id));
}

#[tokio::test]
async fn a_request_whose_job_is_gone_says_so() {
    let db = TestDb::new().await;
    let first = db.submit(request("a", json!({}))).await;
    sqlx::query("DELETE FROM job").execute(db.pool()).await.expect("delete");
    let outcome = db.store.submit(db.new_job(request("a", json!({})))).await;
    assert!(
        matches!(&outcome, Err(Error::JobGone { job_id, kind }) if *job_id == first.id && kind == "echo"),
        "{outcome:?}"
    );
    assert_eq!(count(&db, "job").await, 0);
}

/// The loser waits for the winner's transaction, which another session holds open.
async fn race_for_a_key(winner_commits: bool) {
    let db = TestDb::new().await;
    let mut winner = db.session().await;
    sqlx::raw_sql("BEGIN").execute(&mut winner).await.expect("begin");
    let new_job = db.new_job(request("a", json!({})));
    sqlx::query(
        "WITH key AS (INSERT INTO submit_key VALUES ('default', 'a', $1, 'echo', $2, now()) RETURNING job_id)
         INSERT INTO job (id, client_id, request_id, kind, queue, display_name, status, priority, level, payload,
                          max_attempts, timeout_seconds)
         SELECT job_id, 'default', 'a', 'echo', 'default', 'echo', 'PENDING', 100, 100, '{}', 5, 300 FROM key",
    )
    .bind(new_job.id)
    .bind(new_job.payload_hash.as_ref().map(<[u8; 32]>::as_slice))
    .execute(&mut winner)
    .await
    .expect("insert");
    let losers: Vec<_> = (0..2)
        .map(|_| {
            let (store, rival) = (db.store.clone(), db.new_job(request("a", json!({}))));
            tokio::spawn(async move { store.submit(rival).await })
        })
        .collect();
    db.until_sessions_wait(1).await;
    let end = if winner_commits { "COMMIT" } else { "ROLLBACK" };
    sqlx::raw_sql(end).execute(&mut winner).await.expect(end);
    let answers = deadline("the losers are answered", join_all(losers)).await;
    let answers: Vec<_> =
        answers.into_iter().map(|answer| answer.expect("task").expect("an answer")).collect();
    let created = answers.iter().filter(|answer| answer.created).count();
    assert_eq!(created, usize::from(!winner_commits), "winner commits: {winner_commits}");
    assert!(answers.iter().all(|answer| answer.job.id == answers[0].job.id));
    if winner_commits {
        assert_eq!(answers[0].job.id, new_job.id);
    }
    assert_eq!((count(&db, "job").await, count(&db, "submit_key").await), (1, 1));
}

#[tokio::test]
async fn a_loser_of_the_race_for_a_key_gets_the_winners_job() {
    race_for_a_key(true).await;
}

#[tokio::test]
async fn when_the_winner_rolls_back_exactly_one_loser_inserts() {
    race_for_a_key(false).await;
}

#[tokio::test]
async fn submit_all_writes_all_or_nothing_and_keeps_the_order() {
    let db = TestDb::new().await;
    let taken = db.submit(request("taken", json!({"n": 0}))).await;
    let batch = |last: Submission| {
        let mut batch: Vec<_> =
            (0..500).map(|n| db.new_job(request(&format!("r{:03}", 499 - n), json!({"n": n})))).collect();
        batch.push(db.new_job(last));
        batch
    };
    let refused = db.store.submit_all(batch(request("taken", json!({"n": 1})))).await;
    assert!(
        matches!(refused, Err(Error::IdempotencyConflict { job_id }) if job_id == taken.id),
        "{refused:?}"
    );
    assert_eq!((count(&db, "job").await, count(&db, "submit_key").await), (1, 1));

    let written = db.store.submit_all(batch(request("taken", json!({"n": 0})))).await.expect("written");
    assert_eq!(written.iter().filter(|answer| answer.created).count(), 500);
    assert_eq!(written[500].job.id, taken.id);
    assert!(written[..500].windows(2).all(|pair| pair[0].job.seq < pair[1].job.seq), "age follows the input");
    assert!(written[..500].windows(2).all(|pair| pair[0].job.id < pair[1].job.id), "and so do the ids");
}

#[tokio::test]
async fn one_request_twice_in_a_batch_is_one_job() {
    let db = TestDb::new().await;
    let twice = vec![db.new_job(request("a", json!({}))), db.new_job(request("a", json!({})))];
    let answers = db.store.submit_all(twice).await.expect("submit");
    assert_eq!(answers.iter().map(|answer| answer.created).collect::<Vec<_>>(), [true, false]);
    assert_eq!(answers[0].job.id, answers[1].job.id);
    let conflicting = vec![db.new_job(request("b", json!({}))), db.new_job(request("b", json!({"n": 1})))];
    assert!(matches!(db.store.submit_all(conflicting).await, Err(Error::IdempotencyConflict { .. })));
    assert_eq!(count(&db, "job").await, 1);
}

#[tokio::test]
async fn a_row_that_the_database_refuses_fails_alone() {
    let db = TestDb::new().await;
    let mut bad = db.new_job(echo());
    bad.payload_text = "{\"nul\": \"\\u0000\"}".to_owned();
    let calls = (0..20).map(|n| {
        let new_job = if n == 7 { bad.clone() } else { db.new_job(echo()) };
        let store = db.store.clone();
        tokio::spawn(async move { store.submit(new_job).await })
    });
    let answers: Vec<_> = join_all(calls).await.into_iter().map(|answer| answer.expect("task")).collect();
    for (n, answer) in answers.iter().enumerate() {
        assert_eq!(answer.is_err(), n == 7, "{n}: {answer:?}");
    }
    assert_eq!(count(&db, "job").await, 19);
}

#[tokio::test]
async fn a_submit_goes_on_when_its_caller_goes_away() {
    let db = TestDb::new().await;
    let mut blocker = db.session().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE job IN SHARE MODE").execute(&mut blocker).await.expect("lock");
    for alone in [true, false] {
        let (store, new_job) = (db.store.clone(), db.new_job(echo()));
        let call = tokio::spawn(async move {
            if alone {
                store.submit_all(vec![new_job]).await.map(drop)
            } else {
                store.submit(new_job).await.map(drop)
            }
        });
        let expected = if alone { 1 } else { 2 };
        db.until_sessions_wait(expected).await;
        call.abort();
        assert!(call.await.expect_err("aborted").is_cancelled());
    }
    sqlx::raw_sql("COMMIT").execute(&mut blocker).await.expect("commit");
    eventually("both are written", crate::support::SOON, async || {
        (count(&db, "job").await == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_backend_that_dies_under_submits_loses_none_and_doubles_none() {
    let db = Arc::new(TestDb::new().await);
    let mut killer = db.session().await;
    let calls: Vec<_> = (0..50)
        .map(|n| {
            let db = db.clone();
            tokio::spawn(async move {
                for m in 0..20 {
                    let keyed = m % 2 == 0;
                    let submission = if keyed { request(&format!("{n}-{m}"), json!({})) } else { echo() };
                    assert!(db.store.submit(db.new_job(submission)).await.expect("submit").created);
                }
            })
        })
        .collect();
    let mut kills = 0;
    while !calls.iter().all(tokio::task::JoinHandle::is_finished) && kills < 5 {
        let killed: i64 = sqlx::query_scalar(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
             WHERE datname = current_database() AND query LIKE 'WITH input%' AND state = 'active'
                 AND pid <> pg_backend_pid()",
        )
        .fetch_one(&mut killer)
        .await
        .expect("kill");
        kills += killed;
        tokio::task::yield_now().await;
    }
    for call in deadline("all are answered", join_all(calls)).await {
        call.expect("task");
    }
    assert!(kills > 0, "no insert was met");
    assert_eq!((count(&db, "job").await, count(&db, "submit_key").await), (1000, 500));
}

#[tokio::test]
async fn a_database_that_is_away_is_unavailable_and_never_ok() {
    let db = TestDb::new().await;
    let mut hog = Vec::new();
    let pool = &db.database.work_pool;
    for _ in 0..pool.options().get_max_connections() {
        hog.push(pool.acquire().await.expect("a connection"));
    }
    let outcome = db.store.submit(db.new_job(echo())).await;
    assert!(matches!(outcome, Err(Error::Unavailable { .. })), "{outcome:?}");
    drop(hog);
    assert!(db.store.submit(db.new_job(echo())).await.is_ok());
    assert_eq!(count(&db, "job").await, 1);
}

#[tokio::test]
async fn a_begin_that_is_dropped_in_flight_takes_no_later_write_with_it() {
    use std::task::{Context, Poll, Waker};
    let db = TestDb::new().await;
    // A connection rests in the pool, so that BEGIN is sent at the first poll.
    db.worker(60).await;
    let rests = async || (db.database.work_pool.num_idle() > 0).then_some(());
    eventually("the connection is back", SOON, rests).await;
    let mut acknowledged: i64 = 1;
    // The future is dropped after one poll more each time, until it comes to its end by itself.
    for polls in 1.. {
        let mut begin = Box::pin(db.database.work_pool.begin());
        let mut context = Context::from_waker(Waker::noop());
        let mut finished = false;
        for _ in 0..polls {
            if let Poll::Ready(transaction) = begin.as_mut().poll(&mut context) {
                transaction.expect("begin").rollback().await.expect("rollback");
                finished = true;
                break;
            }
            // Lets the reply come in.
            tokio::task::spawn_blocking(std::thread::yield_now).await.expect("yield");
        }
        drop(begin);
        // A write of one statement, by each of the pool's connections in turn; submits keep one of their own.
        for _ in 0..db.database.work_pool.options().get_max_connections() {
            db.worker(60).await;
            acknowledged += 1;
        }
        if finished {
            break;
        }
    }
    let open: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'",
    )
    .fetch_one(&mut db.session().await)
    .await
    .expect("activity");
    assert_eq!(open, 0, "no session is left inside a transaction");
    // What was acknowledged is seen by a session that is apart.
    let written: i64 = sqlx::query_scalar("SELECT count(*) FROM worker")
        .fetch_one(&mut db.session().await)
        .await
        .expect("count");
    assert_eq!(written, acknowledged);
}

#[tokio::test]
async fn run_at_decides_between_pending_and_scheduled_by_the_databases_clock() {
    let db = TestDb::new().await;
    let now = chrono::Utc::now();
    let past = db.submit(Submission { run_at: Some(now - chrono::TimeDelta::days(3)), ..echo() }).await;
    assert_eq!(past.status, JobStatus::Pending);
    assert_eq!(past.run_at, past.created_at, "a past instant means now");
    let future = db.submit(Submission { run_at: Some(now + chrono::TimeDelta::days(3)), ..echo() }).await;
    assert_eq!(future.status, JobStatus::Scheduled);
}

#[tokio::test]
async fn payload_and_result_must_fit_their_kind_and_an_inactive_kind_takes_no_new_jobs() {
    let db = TestDb::new().await;
    let file = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("schemas-{}.toml", std::process::id()));
    let kinds = |active: bool| {
        let text = format!(
            "[kinds.echo]
             active = {active}
             input_schema = {{ type = \"object\", properties = {{ n = {{ type = \"integer\" }} }} }}
             result_schema = {{ required = [\"n\"] }}"
        );
        std::fs::write(&file, text).expect("a file");
    };
    kinds(true);
    let path = file.display().to_string();
    let server = Process::serve(&db.url(), &["--slots", "0", "--config", &path]).await;
    let submit =
        "mutation ($payload: JSON!) { submitJob(input: {kind: \"echo\", payload: $payload}) { job { id } } }";
    let refused =
        server.ask(submit, json!({"payload": {"n": "one"}})).await["errors"][0]["extensions"].take();
    assert_eq!(refused, json!({"code": "INVALID_PAYLOAD", "field": "input.payload", "pointers": ["/n"]}));
    let fits = server.submit("echo", json!({"n": 1})).await;
    let misfits = server.submit("echo", json!({"m": 1})).await;
    let data = server.data("{ jobKinds { name active inputSchema resultSchema } }", json!({})).await;
    assert_eq!(
        data["jobKinds"][0],
        json!({"name": "echo", "active": true, "resultSchema": {"required": ["n"]},
               "inputSchema": {"type": "object", "properties": {"n": {"type": "integer"}}}})
    );
    kinds(false);
    let inactive = Process::serve(&db.url(), &["--slots", "2", "--config", &path]).await;
    let refused = inactive.ask(submit, json!({"payload": {"n": 1}})).await;
    assert_eq!(refused["errors"][0]["extensions"], json!({"code": "BAD_USER_INPUT", "field": "input.kind"}));
    for (id, status, pointers) in [(fits, "DONE", Value::Null), (misfits, "ERROR", json!([""]))] {
        let done = eventually("the job ends", SOON, async || {
            let job = inactive.job(&id, "status attempt error { code details }").await;
            matches!(job["status"].as_str(), Some("DONE" | "ERROR")).then_some(job)
        })
        .await;
        assert_eq!((&done["status"], &done["attempt"]), (&json!(status), &json!(1)));
        assert_eq!(done["error"]["details"]["pointers"], pointers);
    }
}

/// Forty submits of which some are under way when `fault` happens; the outcome of each.
async fn submits_under(
    fault: impl Fn(&Proxy),
    then: impl Fn(&Proxy),
) -> (TestDb, Vec<(Uuid, Result<(), Error>)>) {
    let db = TestDb::new().await;
    let proxy = Proxy::to_socket(&db.options()).await;
    let through = db.opened_through(&proxy).await;
    let mut blocker = db.session().await;
    // Holds every key, so that the inserts wait in the midst of their execution.
    sqlx::raw_sql("BEGIN").execute(&mut blocker).await.expect("begin");
    sqlx::query(
        "INSERT INTO submit_key SELECT 'default', 'k' || n, gen_random_uuid(), 'echo', '', now()
         FROM generate_series(0, 39) AS n",
    )
    .execute(&mut blocker)
    .await
    .expect("hold");
    let calls: Vec<_> = (0..40)
        .map(|n| {
            let new_job = through.new_job(request(&format!("k{n}"), json!({})));
            let store = through.store.clone();
            tokio::spawn(async move { (new_job.id, store.submit(new_job).await.map(drop)) })
        })
        .collect();
    // Both writers have sent theirs.
    db.until_sessions_wait(2).await;
    fault(&proxy);
    sqlx::raw_sql("ROLLBACK").execute(&mut blocker).await.expect("rollback");
    eventually("something was written", crate::support::SOON, async || {
        (count(&db, "job").await > 0).then_some(())
    })
    .await;
    then(&proxy);
    let outcomes =
        tokio::time::timeout(Duration::from_secs(60), join_all(calls)).await.expect("all are answered");
    (db, outcomes.into_iter().map(|outcome| outcome.expect("task")).collect())
}

#[tokio::test]
async fn an_answer_that_is_lost_on_the_way_is_asked_for_again() {
    let (db, outcomes) = submits_under(Proxy::mute, |proxy| {
        proxy.cut();
        proxy.mend();
    })
    .await;
    assert!(outcomes.iter().all(|(_, outcome)| outcome.is_ok()), "{outcomes:?}");
    assert_eq!(count(&db, "job").await, 40);
}

#[tokio::test]
async fn a_link_that_falls_silent_under_submits_stops_them_for_seconds_and_doubles_none() {
    let (db, outcomes) = submits_under(Proxy::black_hole, |_| {}).await;
    assert!(outcomes.iter().all(|(_, outcome)| outcome.is_ok()), "{outcomes:?}");
    assert_eq!(count(&db, "job").await, 40);
}

#[tokio::test]
async fn when_the_database_stays_away_nothing_that_was_written_is_called_unwritten() {
    let (db, outcomes) = submits_under(Proxy::mute, Proxy::cut).await;
    let written: Vec<Uuid> =
        sqlx::query_scalar("SELECT id FROM job").fetch_all(db.pool()).await.expect("ids");
    assert!(!written.is_empty());
    for (id, outcome) in &outcomes {
        match outcome {
            Err(Error::UnknownOutcome { .. }) => {}
            Err(Error::Unavailable { .. }) => assert!(!written.contains(id), "{id} was written"),
            other => panic!("{other:?}"),
        }
    }
}
