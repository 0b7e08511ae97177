//! Retention: only what is finished and old goes, in small batches, and request ids stay used.

use entity::JobStatus;
use jobql::config::Retention;
use jobql::error::Error;
use jobql::store::prune::Pruned;
use serde_json::json;
use tokio::process::Command;
use uuid::Uuid;

use crate::support::{ANYONE, TestDb, request};

const RETENTION: Retention = Retention { done_days: Some(7), error_days: Some(30), cancelled_days: Some(30) };

/// Makes the job so many days older, its id too.
async fn age(db: &TestDb, id: Uuid, days: i32) -> Uuid {
    let millis = chrono::Utc::now().timestamp_millis() - i64::from(days) * 86_400_000;
    let millis = u64::try_from(millis).expect("after 1970");
    let aged = uuid::Builder::from_unix_timestamp_millis(millis, &rand_bytes(id)).into_uuid();
    sqlx::query(
        "UPDATE job SET id = $2, created_at = created_at - make_interval(days => $3),
                finished_at = finished_at - make_interval(days => $3) WHERE id = $1",
    )
    .bind(id)
    .bind(aged)
    .bind(days)
    .execute(db.pool())
    .await
    .expect("age");
    sqlx::query("UPDATE submit_key SET job_id = $2 WHERE job_id = $1")
        .bind(id)
        .bind(aged)
        .execute(db.pool())
        .await
        .expect("key");
    aged
}

fn rand_bytes(id: Uuid) -> [u8; 10] {
    let mut bytes = [0; 10];
    bytes.copy_from_slice(&id.as_bytes()[6..]);
    bytes
}

#[tokio::test]
async fn only_terminal_jobs_go_and_each_after_its_own_time() {
    let db = TestDb::new().await;
    let mut kept = Vec::new();
    for status in JobStatus::ALL {
        for days in [6, 8, 29, 31] {
            let id = age(&db, db.job_in(status).await.id, days).await;
            let goes = match status {
                JobStatus::Done => days > 7,
                JobStatus::Error | JobStatus::Cancelled => days > 30,
                _ => false,
            };
            if !goes {
                kept.push(id);
            }
        }
    }
    let expected = Pruned { done: 3, error: 1, cancelled: 1, keys: 0 };
    assert_eq!(db.store.count_prunable(&RETENTION).await.expect("dry run"), expected);
    assert_eq!(db.store.prune(RETENTION).await.expect("prune"), expected);
    assert_eq!(db.store.prune(RETENTION).await.expect("again"), Pruned::default());
    let mut left: Vec<Uuid> =
        sqlx::query_scalar("SELECT id FROM job").fetch_all(db.pool()).await.expect("ids");
    left.sort_unstable();
    kept.sort_unstable();
    assert_eq!(left, kept);
    let for_ever = Retention { done_days: None, error_days: None, cancelled_days: None };
    assert_eq!(db.store.prune(for_ever).await.expect("prune"), Pruned::default());
    let short = Retention { error_days: Some(1), ..for_ever };
    assert_eq!(db.store.prune(short).await.expect("prune"), Pruned { error: 3, ..Pruned::default() });
}

#[tokio::test]
async fn a_request_id_stays_used_until_its_own_time_is_over_and_its_job_is_gone() {
    let db = TestDb::new().await;
    let job = db.submit(request("r", json!({}))).await;
    db.store.cancel_job(&ANYONE, job.id).await.expect("cancel");
    let id = age(&db, job.id, 40).await;
    let expire = || async {
        sqlx::query("UPDATE submit_key SET expires_at = now() - interval '1 day'").execute(db.pool()).await
    };
    expire().await.expect("expire");
    let for_ever = Retention { done_days: None, error_days: None, cancelled_days: None };
    assert_eq!(db.store.prune(for_ever).await.expect("prune").keys, 0, "its job is there");
    sqlx::query("UPDATE submit_key SET expires_at = now() + interval '1 day'")
        .execute(db.pool())
        .await
        .expect("not over");
    let pruned = db.store.prune(RETENTION).await.expect("prune");
    assert_eq!((pruned.cancelled, pruned.keys), (1, 0));
    let again = db.store.submit(db.new_job(request("r", json!({})))).await;
    assert!(matches!(again, Err(Error::JobGone { job_id, .. }) if job_id == id), "{again:?}");
    expire().await.expect("expire");
    assert_eq!(db.store.prune(RETENTION).await.expect("prune").keys, 1);
    assert!(db.store.submit(db.new_job(request("r", json!({})))).await.expect("free again").created);
}

#[tokio::test]
async fn much_goes_in_batches_once_however_many_prune() {
    let db = TestDb::new().await;
    sqlx::query(
        "INSERT INTO job (id, client_id, request_id, kind, queue, display_name, status, priority, level, payload,
                          max_attempts, timeout_seconds, finished_at)
         SELECT ('01900000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'c', n::text, 'echo', 'default',
                'echo', 'CANCELLED', 5, 5, '{}', 5, 300, now() - interval '40 days'
         FROM generate_series(1, 1700) AS n",
    )
    .execute(db.pool())
    .await
    .expect("a backlog");
    let other = db.opened_again().await;
    let (one, two) = tokio::join!(db.store.prune(RETENTION), other.store.prune(RETENTION));
    let both = one.expect("prune").cancelled + two.expect("prune").cancelled;
    let rest = db.store.prune(RETENTION).await.expect("prune").cancelled;
    assert_eq!(both + rest, 1_700);
}

#[tokio::test]
async fn the_command_says_what_would_go_and_takes_it() {
    let db = TestDb::new().await;
    age(&db, db.job_in(JobStatus::Done).await.id, 8).await;
    let prune = async |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_jobql"))
            .arg("prune")
            .args(arguments)
            .env("JOBQL_DATABASE_URL", db.url())
            .output()
            .await
            .expect("jobql runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    let would = "would delete 1 DONE, 0 ERROR and 0 CANCELLED jobs, and 0 request ids\n";
    assert_eq!(prune(&["--dry-run"]).await, would);
    assert_eq!(prune(&["--dry-run"]).await, would, "a dry run takes nothing");
    assert_eq!(prune(&[]).await, would.replace("would delete", "deleted"));
    assert_eq!(prune(&["--dry-run", "--retention-done-days", "1"]).await, would.replace("1 DONE", "0 DONE"));
}
