//! Watching: no gap, no step back, one terminal event, whatever becomes of the listener.

use std::sync::Arc;
use std::time::{Duration, Instant};

use entity::{JobStatus, job};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use jobql::error::{Error, Result};
use jobql::events::{EventFilter, Events};
use jobql::job::viewer::Viewer;
use jobql::store::finish::{AttemptEnd, Finish};
use serde_json::json;
use sqlx::postgres::PgConnectOptions;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::support::proxy::Proxy;
use crate::support::{ANYONE, SOON, TestDb, deadline, echo, eventually, kind};

/// A hub and a listener as a process has them, stopped when dropped.
struct Watching {
    events: Events,
    _stop: DropGuard,
}

impl Watching {
    /// Listening, and done with its first look at everything.
    async fn start(db: &TestDb) -> Watching {
        let watching = Watching::with_listener(db, db.database.listen_options()).await;
        watching.hears().await;
        watching
    }

    /// Returns once notifications are known to arrive, so that nothing is polled for.
    async fn hears(&self) {
        eventually("a ping comes through", SOON, async || self.events.is_listening().then_some(())).await;
    }

    async fn with_listener(db: &TestDb, options: PgConnectOptions) -> Watching {
        let stop = CancellationToken::new();
        let events = Events::start(db.store.clone(), options, &TaskTracker::new(), stop.clone());
        Watching { events, _stop: stop.drop_guard() }
    }

    async fn follow(&self, id: Uuid) -> Followed {
        Followed { stream: self.events.follow_job(&ANYONE, id, None).await.expect("follow") }
    }
}

struct Followed {
    stream: BoxStream<'static, Result<Arc<job::Model>>>,
}

impl Followed {
    async fn next(&mut self) -> Option<(JobStatus, i32)> {
        self.next_within(SOON).await
    }

    /// The version of the next job that is in `status`.
    async fn next_in(&mut self, status: JobStatus) -> i32 {
        loop {
            match self.next().await {
                Some((seen, version)) if seen == status => return version,
                Some(_) => {}
                None => panic!("the feed ended"),
            }
        }
    }

    async fn next_within(&mut self, within: Duration) -> Option<(JobStatus, i32)> {
        let event = tokio::time::timeout(within, self.stream.next()).await;
        let event = event.unwrap_or_else(|_| panic!("no event within {within:?}"));
        event.map(|job| job.expect("an event")).map(|job| (job.status, job.version))
    }
}

/// Process ids of the sessions that listen on this database.
async fn listeners(db: &TestDb) -> Vec<i32> {
    sqlx::query_scalar(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'",
    )
    .fetch_all(db.pool())
    .await
    .unwrap_or_default()
}

async fn listening(db: &TestDb) -> i32 {
    eventually("a session listens", SOON, async || listeners(db).await.first().copied()).await
}

async fn run_to_done(db: &TestDb, id: Uuid) {
    let worker = db.worker(30).await;
    let claimed = eventually("the job is claimed", SOON, async || db.claim(worker, 1).await.pop()).await;
    assert_eq!(claimed.lease.job_id, id);
    db.store
        .finish_if_leased(Finish { lease: claimed.lease, end: AttemptEnd::Done(json!(1)) })
        .await
        .expect("done");
}

#[tokio::test]
async fn a_watcher_sees_the_present_state_each_change_and_the_end() {
    let db = TestDb::new().await;
    let watching = Watching::start(&db).await;
    let job = db.submit(echo()).await;
    let mut followed = watching.follow(job.id).await;
    assert_eq!(followed.next().await, Some((JobStatus::Pending, 1)));
    let worker = db.worker(30).await;
    let lease = db.claim(worker, 1).await.remove(0).lease;
    assert_eq!(followed.next().await, Some((JobStatus::Running, 2)));
    db.store.finish_if_leased(Finish { lease, end: AttemptEnd::Done(json!(1)) }).await.expect("done");
    assert_eq!(followed.next().await, Some((JobStatus::Done, 3)));
    assert_eq!(followed.next().await, None, "the stream completes after the terminal state");
}

#[tokio::test]
async fn watching_after_the_end_gives_the_state_and_completes() {
    let db = TestDb::new().await;
    let watching = Watching::start(&db).await;
    let job = db.job_in(JobStatus::Done).await;
    let mut followed = watching.follow(job.id).await;
    assert_eq!(followed.next().await, Some((JobStatus::Done, job.version)));
    assert_eq!(followed.next().await, None);
    let stream = watching.events.follow_job(&ANYONE, job.id, Some(job.version)).await.expect("follow");
    assert_eq!(
        Followed { stream }.next().await,
        None,
        "a caller that has the terminal state is told no more"
    );
}

#[tokio::test]
async fn who_has_a_version_is_not_told_it_again() {
    let db = TestDb::new().await;
    let watching = Watching::start(&db).await;
    let job = db.submit(echo()).await;
    let stream = watching.events.follow_job(&ANYONE, job.id, Some(1)).await.expect("follow");
    let mut followed = Followed { stream };
    db.store.cancel_job(&ANYONE, job.id).await.expect("cancel");
    assert_eq!(followed.next().await, Some((JobStatus::Cancelled, 2)));
    assert_eq!(followed.next().await, None);
}

#[tokio::test]
async fn an_unknown_job_and_another_clients_job_cannot_be_watched() {
    let db = TestDb::new().await;
    let watching = Watching::start(&db).await;
    let job = db.submit(echo()).await;
    let stranger = Viewer::Client("stranger".to_owned());
    for (viewer, id) in [(&ANYONE, Uuid::now_v7()), (&stranger, job.id)] {
        let outcome = watching.events.follow_job(viewer, id, None).await;
        assert!(matches!(outcome, Err(Error::NotFound { .. })));
    }
}

#[tokio::test]
async fn a_change_by_hand_and_a_deletion_are_seen() {
    let db = TestDb::new().await;
    let watching = Watching::start(&db).await;
    let job = db.submit(echo()).await;
    let mut followed = watching.follow(job.id).await;
    followed.next().await;
    let mut psql = db.session().await;
    sqlx::query("UPDATE job SET display_name = 'by hand'").execute(&mut psql).await.expect("update");
    assert_eq!(followed.next().await, Some((JobStatus::Pending, 2)));
    sqlx::query("DELETE FROM job").execute(&mut psql).await.expect("delete");
    assert_eq!(followed.next().await, None, "a deleted job has no more states");
}

#[tokio::test]
async fn a_feed_gives_what_matches_in_each_state_from_now_on() {
    let db = TestDb::new().await;
    db.submit(echo()).await;
    let watching = Watching::start(&db).await;
    let filter = EventFilter {
        kind: Some(vec!["echo".to_owned()]),
        status: Some(vec![JobStatus::Pending, JobStatus::Cancelled]),
        ..EventFilter::default()
    };
    let mut feed = Followed { stream: watching.events.follow_jobs(&ANYONE, filter) };
    let nothing = EventFilter { queue: Some(vec![]), ..EventFilter::default() };
    let mut nothing = watching.events.follow_jobs(&ANYONE, nothing);
    let stranger = Viewer::Client("stranger".to_owned());
    let mut foreign = watching.events.follow_jobs(&stranger, EventFilter::default());
    db.submit(kind("fail", json!({}))).await;
    let job = db.submit(echo()).await;
    assert_eq!(feed.next().await, Some((JobStatus::Pending, 1)));
    db.store.cancel_job(&ANYONE, job.id).await.expect("cancel");
    assert_eq!(feed.next().await, Some((JobStatus::Cancelled, 2)));
    use futures_util::FutureExt;
    assert!(nothing.next().now_or_never().is_none(), "an empty list matches nothing");
    assert!(foreign.next().now_or_never().is_none(), "another client's jobs are not shown");
}

#[tokio::test]
async fn a_slow_watcher_gets_the_latest_state_and_the_terminal_one() {
    let db = TestDb::new().await;
    let watching = Watching::start(&db).await;
    let job = db.submit(echo()).await;
    let mut slow = watching.follow(job.id).await;
    let mut quick = watching.follow(job.id).await;
    for n in 0..50 {
        sqlx::query("UPDATE job SET display_name = $1")
            .bind(n.to_string())
            .execute(db.pool())
            .await
            .expect("update");
    }
    run_to_done(&db, job.id).await;
    let mut versions = Vec::new();
    while let Some((status, version)) = quick.next().await {
        versions.push(version);
        assert_eq!(status == JobStatus::Done, version == 53, "{versions:?}");
    }
    assert!(versions.windows(2).all(|pair| pair[0] < pair[1]), "{versions:?}");
    // The slow one takes its first event only now: the state from its start, then the last one.
    assert_eq!(slow.next().await, Some((JobStatus::Pending, 1)));
    assert_eq!(slow.next().await, Some((JobStatus::Done, 53)));
    assert_eq!(slow.next().await, None);
}

#[tokio::test]
async fn a_change_between_the_look_and_the_watch_is_not_missed() {
    let db = Arc::new(TestDb::new().await);
    let watching = Watching::start(&db).await;
    for _ in 0..40 {
        let job = db.submit(echo()).await;
        let canceller = {
            let db = db.clone();
            tokio::spawn(async move { db.store.cancel_job(&ANYONE, job.id).await.map(drop) })
        };
        let mut followed = watching.follow(job.id).await;
        let mut last = None;
        while let Some(event) = followed.next().await {
            last = Some(event);
        }
        assert_eq!(last, Some((JobStatus::Cancelled, 2)));
        canceller.await.expect("task").expect("cancel");
    }
}

#[tokio::test]
async fn a_terminated_listener_loses_no_change() {
    let db = TestDb::new().await;
    let watching = Watching::start(&db).await;
    for round in 0..5 {
        let job = db.submit(echo()).await;
        let mut followed = watching.follow(job.id).await;
        let mut feed = Followed { stream: watching.events.follow_jobs(&ANYONE, EventFilter::default()) };
        assert_eq!(followed.next().await, Some((JobStatus::Pending, 1)));
        let pid = listening(&db).await;
        // Terminated and changed in one statement, so that nobody listens when the change is announced.
        sqlx::query("SELECT pg_terminate_backend($1, 5000)")
            .bind(pid)
            .execute(db.pool())
            .await
            .expect("terminate");
        db.store.cancel_job(&ANYONE, job.id).await.expect("cancel");
        assert_eq!(
            followed.next_within(Duration::from_secs(2)).await,
            Some((JobStatus::Cancelled, 2)),
            "round {round}"
        );
        assert_eq!(followed.next().await, None);
        assert_eq!(feed.next_in(JobStatus::Cancelled).await, 2);
    }
}

#[tokio::test]
async fn without_any_listener_changes_arrive_by_polling() {
    let db = TestDb::new().await;
    let nowhere = PgConnectOptions::new_without_pgpass().socket("/nonexistent").port(1);
    let watching = Watching::with_listener(&db, nowhere).await;
    let job = db.submit(echo()).await;
    let mut followed = watching.follow(job.id).await;
    assert_eq!(followed.next().await, Some((JobStatus::Pending, 1)));
    let mut feed = Followed { stream: watching.events.follow_jobs(&ANYONE, EventFilter::default()) };
    // The feed looks back to a horizon; the first poll sets it.
    db.store.cancel_job(&ANYONE, job.id).await.expect("cancel");
    assert_eq!(followed.next_within(Duration::from_secs(5)).await, Some((JobStatus::Cancelled, 2)));
    assert_eq!(feed.next_in(JobStatus::Cancelled).await, 2);
}

#[tokio::test]
async fn garbage_and_forged_notifications_cause_reads_and_nothing_else() {
    let db = TestDb::new().await;
    let watching = Watching::start(&db).await;
    let job = db.submit(echo()).await;
    let mut followed = watching.follow(job.id).await;
    followed.next().await;
    let forged = [
        "garbage".to_owned(),
        String::new(),
        format!("{}:DONE:99", job.id),
        format!("{}:GONE:99", job.id),
        format!("{}:DONE:3", Uuid::now_v7()),
        "x".repeat(7_000),
    ];
    for channel in ["jobql_job", "jobql_ready", "jobql_cancel"] {
        for payload in &forged {
            sqlx::query("SELECT pg_notify($1, $2)")
                .bind(channel)
                .bind(payload)
                .execute(db.pool())
                .await
                .expect("notify");
        }
    }
    db.store.cancel_job(&ANYONE, job.id).await.expect("cancel");
    assert_eq!(followed.next().await, Some((JobStatus::Cancelled, 2)), "the forged states were never shown");
}

#[tokio::test]
async fn a_half_open_link_is_noticed_within_sixteen_seconds() {
    let db = TestDb::new().await;
    let proxy = Proxy::to_socket(&db.options()).await;
    let watching = Watching::with_listener(&db, proxy.options(db.database.listen_options())).await;
    watching.hears().await;
    let job = db.submit(echo()).await;
    let mut followed = watching.follow(job.id).await;
    assert_eq!(followed.next().await, Some((JobStatus::Pending, 1)));
    proxy.black_hole();
    let started = Instant::now();
    db.store.cancel_job(&ANYONE, job.id).await.expect("cancel");
    assert_eq!(followed.next_within(Duration::from_secs(16)).await, Some((JobStatus::Cancelled, 2)));
    assert!(started.elapsed() > Duration::from_secs(1), "the black hole swallowed nothing");
}

#[tokio::test]
async fn an_outage_of_35_seconds_loses_no_change() {
    let db = TestDb::new().await;
    let proxy = Proxy::to_socket(&db.options()).await;
    let watching = Watching::with_listener(&db, proxy.options(db.database.listen_options())).await;
    watching.hears().await;
    let job = db.submit(echo()).await;
    let mut followed = watching.follow(job.id).await;
    let mut feed = Followed { stream: watching.events.follow_jobs(&ANYONE, EventFilter::default()) };
    assert_eq!(followed.next().await, Some((JobStatus::Pending, 1)));
    // Longer than a pool waits for a connection, after which a library listener reconnects without a word.
    proxy.cut();
    let back = tokio::time::Instant::now() + Duration::from_secs(35);
    sqlx::query("UPDATE job SET display_name = 'during the outage'")
        .execute(db.pool())
        .await
        .expect("update");
    tokio::time::timeout_at(back, std::future::pending::<()>()).await.expect_err("35 seconds pass");
    db.store.cancel_job(&ANYONE, job.id).await.expect("cancel");
    proxy.mend();
    let mut last = None;
    while let Some(event) = followed.next_within(Duration::from_secs(2)).await {
        last = Some(event);
    }
    assert_eq!(last, Some((JobStatus::Cancelled, 3)));
    assert_eq!(feed.next_in(JobStatus::Cancelled).await, 3);
}

#[tokio::test]
async fn a_transaction_that_commits_late_is_seen_by_a_feed_that_had_lost_its_listener() {
    let db = TestDb::new().await;
    let watching = Watching::start(&db).await;
    let mut feed = Followed { stream: watching.events.follow_jobs(&ANYONE, EventFilter::default()) };
    let late = db.new_job(echo());
    let mut slow = db.session().await;
    sqlx::raw_sql("BEGIN").execute(&mut slow).await.expect("begin");
    sqlx::query(
        "INSERT INTO job (id, client_id, request_id, kind, queue, display_name, status, priority, level, payload,
                          max_attempts, timeout_seconds)
         VALUES ($1, 'late', 'late', 'echo', 'default', 'late', 'PENDING', 1, 1, '{}', 5, 300)",
    )
    .bind(late.id)
    .execute(&mut slow)
    .await
    .expect("insert");
    // Others with higher ids and later transactions go first, and the horizon moves with them.
    for _ in 0..3 {
        db.submit(echo()).await;
        feed.next().await;
    }
    let pid = listening(&db).await;
    sqlx::query("SELECT pg_terminate_backend($1, 5000)")
        .bind(pid)
        .execute(db.pool())
        .await
        .expect("terminate");
    sqlx::raw_sql("COMMIT").execute(&mut slow).await.expect("commit");
    deadline("the late one", async {
        loop {
            let job = feed.stream.next().await.expect("an event").expect("a job");
            if job.id == late.id {
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn waiting_for_the_end_answers_at_the_end_or_when_the_time_is_over() {
    let db = TestDb::new().await;
    let watching = Watching::start(&db).await;
    let job = db.submit(echo()).await;
    let short = Duration::from_millis(100);
    let waiting = watching.events.await_terminal(&ANYONE, job.id, short).await.expect("wait").expect("a job");
    assert_eq!(waiting.status, JobStatus::Pending);
    let (done, ()) =
        tokio::join!(watching.events.await_terminal(&ANYONE, job.id, SOON), run_to_done(&db, job.id));
    assert_eq!(done.expect("wait").expect("a job").status, JobStatus::Done);
    assert!(watching.events.await_terminal(&ANYONE, Uuid::now_v7(), SOON).await.expect("wait").is_none());
}

#[tokio::test]
async fn a_feed_misses_nothing_of_a_gap_in_which_very_many_jobs_changed() {
    let db = TestDb::new().await;
    let watching = Watching::start(&db).await;
    let filter = EventFilter { client_id: Some("target".to_owned()), ..EventFilter::default() };
    let mut feed = Followed { stream: watching.events.follow_jobs(&ANYONE, filter) };
    let pid = listening(&db).await;
    // In one transaction, so that nobody listens at its commit.
    sqlx::query(
        "WITH gone AS MATERIALIZED (SELECT pg_terminate_backend($1, 5000))
         INSERT INTO job (id, client_id, request_id, kind, queue, display_name, status, priority, level, payload,
                          max_attempts, timeout_seconds)
         SELECT gen_random_uuid(), CASE n WHEN 7000 THEN 'target' ELSE 'other' END, n::text, 'echo', 'default', 'x',
                'PENDING', 1, 1, '{}', 5, 300
         FROM gone, generate_series(1, 15000) AS n",
    )
    .bind(pid)
    .execute(db.pool())
    .await
    .expect("a flood");
    assert_eq!(feed.next_in(JobStatus::Pending).await, 1);
}
