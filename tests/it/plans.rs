//! What the statements that are really run read of a table with a million jobs.
//!
//! `auto_explain` writes the plan of each statement, those of triggers included, with the rows that its nodes gave. So
//! nothing here repeats SQL: the operations of the store are called. No node may scan the table or handle more rows than
//! the operation is allowed, which no sort or walk of the backlog could keep to.

use std::time::{Duration, Instant};

use entity::JobStatus;
use entity::job_log::LogStream;
use entity::queue::ClaimOrder;
use jobql::config::Retention;
use jobql::job::submission::Submission;
use jobql::job::viewer::Viewer;
use jobql::store::bulk::BulkAction;
use jobql::store::changes::watched_sql;
use jobql::store::finish::{AttemptEnd, DONE_SQL, Finish};
use jobql::store::list::{JobFilter, Page, PageEnd};
use jobql::store::log::{LogBatch, LogPlace, NewLine};
use jobql::store::position::ledger_sql;
use jobql::store::queue::{QueueChange, Turn, UpcomingRequest};
use serde_json::{Value, json};
use sqlx::{ConnectOptions, Executor, PgConnection};
use uuid::Uuid;

use crate::support::{ANYONE, QUEUE, SOON, TestDb, echo, eventually};

const LIVE: Uuid = Uuid::from_u128(1);

/// A million jobs of the last six days, most of them pending, and some that have been over for long. One client has half of
/// them, 500 others the rest.
const FILL: &str = "
    SET session_replication_role = replica;
    SET synchronous_commit = off;
    INSERT INTO worker (id, name, queues, kinds, slots, expires_at, lost_at)
    VALUES ('00000000-0000-0000-0000-000000000001', 'live', '{default}', '{echo}', 4000, now() + interval '1 hour', NULL),
           ('00000000-0000-0000-0000-000000000002', 'lost', '{default}', '{echo}', 4000, now(), now());
    INSERT INTO job (id, client_id, request_id, kind, queue, display_name, status, priority, level, payload, max_attempts,
                     timeout_seconds, attempt, lease_epoch, worker_id, created_at, run_at, started_at, finished_at, error,
                     start_before)
    SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '70008000' || lpad(to_hex(n), 12, '0'))::uuid,
           CASE n % 2 WHEN 0 THEN 'most' ELSE 'c' || n % 1000 END, n, (ARRAY['echo', 'sum', 'sleep'])[n % 3 + 1], 'default', 'echo', status, n % 3, n % 3, '{}',
           5, 300, (status = 'RUNNING')::int, (status = 'RUNNING')::int,
           CASE status WHEN 'RUNNING' THEN ('00000000-0000-0000-0000-00000000000' || n / 1000 % 2 + 1)::uuid END,
           at, CASE WHEN status = 'SCHEDULED' AND n % 1000 <> 94 THEN now() + interval '1 hour' ELSE at END,
           CASE status WHEN 'RUNNING' THEN at END,
           CASE WHEN status IN ('DONE', 'CANCELLED', 'ERROR') THEN at END,
           CASE status WHEN 'ERROR' THEN '{}'::jsonb END,
           CASE WHEN status = 'PENDING' AND n % 10000 = 0 THEN now() END
    FROM (SELECT n, CASE WHEN n <= 2000 THEN now() - interval '40 days'
                         ELSE now() - make_interval(secs => (1000001 - n) * 0.5) END AS at,
                 CASE WHEN n <= 2000 THEN 'DONE' WHEN n % 100 < 60 THEN 'PENDING' WHEN n % 100 < 94 THEN 'DONE'
                      WHEN n % 100 < 96 THEN 'SCHEDULED' WHEN n % 100 < 98 THEN 'CANCELLED'
                      WHEN n % 100 < 99 THEN 'ERROR' WHEN n % 1000 = 999 THEN 'RUNNING' ELSE 'DONE' END AS status
          FROM generate_series(1, 1000000) AS n) AS made;
    INSERT INTO submit_key (client_id, request_id, job_id, kind, payload_hash, expires_at)
    SELECT client_id, request_id, id, kind, '', now() + interval '90 days' FROM job WHERE seq % 10 = 0;
    INSERT INTO job_log (job_id, lease_epoch, number, at, stream, text)
    SELECT id, 1, line, now(), 'STDOUT', 'a line' FROM (SELECT id FROM job WHERE status = 'RUNNING') AS j,
           generate_series(1, 100) AS line;";

/// A database whose statements tell their plans.
struct Told {
    db: TestDb,
    /// A superuser's session, which reads the server's log and tells no plan.
    log: PgConnection,
    read_to: i64,
    marks: u32,
    /// What was found, told together at the end.
    faults: Vec<String>,
}

impl Told {
    async fn new() -> Told {
        let db = TestDb::new().await;
        let mut log = db.options().username("postgres").connect().await.expect("superuser");
        log.execute(FILL).await.expect("a million jobs");
        db.store.repair_counts().await.expect("counts");
        db.store.repair_lists().await.expect("lists");
        log.execute("VACUUM ANALYZE").await.expect("analyze");
        let name: String =
            sqlx::query_scalar("SELECT current_database()").fetch_one(&mut log).await.expect("name");
        log.execute("LOAD 'auto_explain'")
            .await
            .expect("auto_explain, which is in PostgreSQL's contrib package");
        for (setting, value) in [
            ("session_preload_libraries", "auto_explain"),
            ("auto_explain.log_min_duration", "0"),
            ("auto_explain.log_analyze", "on"),
            ("auto_explain.log_timing", "off"),
            ("auto_explain.log_nested_statements", "on"),
            ("auto_explain.log_format", "json"),
        ] {
            let sql = format!("ALTER DATABASE {name} SET {setting} = '{value}'");
            log.execute(sqlx::AssertSqlSafe(sql)).await.expect("setting");
        }
        let read_to = sqlx::query_scalar("SELECT (pg_stat_file(pg_current_logfile())).size")
            .fetch_one(&mut log)
            .await
            .expect("the log");
        Told { db: db.opened_again().await, log, read_to, marks: 0, faults: Vec::new() }
    }

    /// The plans of the statements since the last time.
    async fn plans(&mut self) -> Vec<Value> {
        self.marks += 1;
        let mark = format!("mark {} of {}", self.marks, std::process::id());
        // Another session would do as well: a plan is in the log before the answer is on its way.
        let marking = sqlx::AssertSqlSafe(format!("SELECT '{mark}'"));
        sqlx::query(marking).execute(self.db.pool()).await.expect("mark");
        let sql = "SELECT convert_from(pg_read_binary_file(pg_current_logfile(), $1, 1 << 28), 'UTF8')";
        let (log, from) = (&mut self.log, self.read_to);
        let text: String = eventually("the plans are in the log", SOON, async || {
            let text: String =
                sqlx::query_scalar(sql).bind(from).fetch_one(&mut *log).await.expect("the log");
            text.contains(&mark).then_some(text)
        })
        .await;
        self.read_to += i64::try_from(text.len()).expect("a length");
        plans_in(&text)
    }

    /// Runs the operation; none of its statements may handle more than `budget` rows in a node.
    async fn within<T>(&mut self, what: &str, budget: f64, operation: impl AsyncFnOnce(&TestDb) -> T) -> T {
        drop(self.plans().await);
        let began = Instant::now();
        let outcome = operation(&self.db).await;
        let took = began.elapsed();
        let plans: Vec<Value> = self
            .plans()
            .await
            .into_iter()
            .filter(|plan| plan["Query Text"].as_str().is_some_and(|text| !text.starts_with("SELECT 'mark")))
            .collect();
        if plans.is_empty() {
            self.faults.push(format!("{what}: no plan was told"));
        }
        let mut most: f64 = 0.0;
        for plan in &plans {
            let statement = plan["Query Text"].as_str().unwrap_or_default();
            walk(&plan["Plan"], &mut |node| {
                let loops = node["Actual Loops"].as_f64().unwrap_or_default();
                if loops == 0.0 {
                    return;
                }
                let number = |key: &str| node[key].as_f64().unwrap_or_default() * loops;
                let rows = number("Actual Rows")
                    + number("Rows Removed by Filter")
                    + number("Rows Removed by Join Filter");
                most = most.max(rows);
                let scans_all = node["Node Type"] == "Seq Scan" && node["Relation Name"] == "job";
                if rows > budget || scans_all {
                    let mut shown = node.clone();
                    shown["Plans"] = Value::Null;
                    self.faults
                        .push(format!("{what}: {rows} rows, {budget} are allowed\n{statement}\n{shown}"));
                }
            });
        }
        eprintln!("{what}: at most {most} rows in a node, {took:?}");
        outcome
    }
}

fn walk(node: &Value, look: &mut impl FnMut(&Value)) {
    look(node);
    for child in node["Plans"].as_array().into_iter().flatten() {
        walk(child, look);
    }
}

/// What `auto_explain` wrote: a line that ends with `plan:`, then JSON, each line of it after a tab.
fn plans_in(text: &str) -> Vec<Value> {
    let mut plans = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line.ends_with("plan:") {
            let mut json = String::new();
            while let Some(line) = lines.next_if(|line| line.starts_with('\t')) {
                json.push_str(line.trim_start_matches('\t'));
                json.push('\n');
            }
            // The last one may not be there as a whole; that is a mark's.
            plans.extend(serde_json::from_str::<Value>(&json));
        }
    }
    plans
}

fn of_status(status: JobStatus) -> JobFilter {
    JobFilter { status: Some(vec![status]), ..JobFilter::default() }
}

fn first(limit: u64, after: Option<Uuid>) -> Page {
    Page { after, before: None, limit, from: PageEnd::Newest, columns: None }
}

async fn set(db: &TestDb, change: QueueChange) {
    db.store.change_queue(QUEUE, change).await.expect("settings");
}

#[tokio::test]
async fn at_a_million_jobs_no_statement_reads_more_than_it_needs() {
    let mut told = Told::new().await;
    reads(&mut told).await;
    work(&mut told).await;
    upkeep(&mut told).await;
    changes(&mut told).await;
    // What all of it left of the counts.
    assert_eq!(told.db.store.wrong_counts().await.expect("check"), 0);
    assert_eq!(told.db.store.wrong_list_entries().await.expect("check"), 0);
    assert!(told.faults.is_empty(), "{}", told.faults.join("\n\n"));
}

async fn reads(told: &mut Told) {
    let ids: Vec<Uuid> =
        sqlx::query_scalar("SELECT id FROM job WHERE status = 'PENDING' AND seq % 30000 = 3001 + seq % 7")
            .fetch_all(&mut told.log)
            .await
            .expect("ids");
    assert!(ids.len() >= 20, "{}", ids.len());
    for order in [ClaimOrder::Fifo, ClaimOrder::Lifo] {
        set(&told.db, QueueChange { order: Some(order), ..QueueChange::default() }).await;
        let what = format!("{order:?}: ");
        told.within(&(what.clone() + "a position"), 3_000.0, async |db| {
            assert!(
                db.store.positions(&ANYONE, &ids[..1]).await.expect("position")[&ids[0]].pending_ahead > 0
            );
        })
        .await;
        told.within(&(what.clone() + "20 positions"), 60_000.0, async |db| {
            assert_eq!(db.store.positions(&ANYONE, &ids[..20]).await.expect("positions").len(), 20);
        })
        .await;
        for after in [None, Some(Turn { level: 1, seq: 500_000 })] {
            let request =
                UpcomingRequest { queue: QUEUE.to_owned(), except_kinds: Vec::new(), after, limit: 50 };
            told.within(&(what.clone() + "upcoming"), 200.0, async |db| {
                assert_eq!(db.store.upcoming(&ANYONE, &request).await.expect("upcoming").0.len(), 50);
            })
            .await;
        }
    }
    told.within("a forecast", 20_000.0, async |db| db.store.forecast(QUEUE).await.expect("forecast")).await;
    set(&told.db, QueueChange { order: Some(ClaimOrder::Fifo), ..QueueChange::default() }).await;
    let queue = [QUEUE.to_owned()];
    told.within("what is in a queue", 5_000.0, async |db| {
        let content =
            db.store.queue_content(&queue).await.expect("content").remove(QUEUE).expect("the queue");
        assert!(content.total.counts.of(JobStatus::Pending) > 500_000 && content.by_kind.len() == 3);
    })
    .await;
    told.within("the queues", 5_000.0, async |db| {
        drop(db.store.queues(&[]).await.expect("queues"));
        drop(db.store.queue_waits(&queue).await.expect("waits"));
        assert!(db.store.count_upcoming(QUEUE, &["sum".to_owned()]).await.expect("count") > 300_000);
    })
    .await;
    told.within("the load", 5_000.0, async |db| db.store.sample_load().await.expect("sample")).await;
    lists(told, ids[10]).await;
}

async fn lists(told: &mut Told, deep: Uuid) {
    let client = |id: &str| JobFilter { client_id: Some(id.to_owned()), ..JobFilter::default() };
    let filters = [
        ("all", JobFilter::default(), 200.0),
        ("of a client", client("c7"), 200.0),
        ("of the client that has most", client("most"), 200.0),
        (
            "of the client that has most, and of a status",
            JobFilter { status: Some(vec![JobStatus::Done]), ..client("most") },
            1_000.0,
        ),
        ("DONE", of_status(JobStatus::Done), 1_000.0),
        ("RUNNING", of_status(JobStatus::Running), 2_000.0),
        ("ERROR", of_status(JobStatus::Error), 10_000.0),
        ("of a kind", JobFilter { kind: Some(vec!["sum".to_owned()]), ..JobFilter::default() }, 1_000.0),
        ("of a queue", JobFilter { queue: Some(vec![QUEUE.to_owned()]), ..JobFilter::default() }, 1_000.0),
        (
            "of an hour",
            JobFilter {
                created_after: Some(chrono::Utc::now() - chrono::TimeDelta::hours(1)),
                created_before: Some(chrono::Utc::now()),
                ..JobFilter::default()
            },
            1_000.0,
        ),
    ];
    for (what, filter, budget) in &filters {
        for after in [None, Some(deep)] {
            if after.is_some() && *what == "of an hour" {
                continue;
            }
            told.within(&format!("a page of jobs, {what}, after {after:?}"), *budget, async |db| {
                let page = db.store.list_jobs(&ANYONE, filter, &first(50, after)).await.expect("page");
                assert!(!page.jobs.is_empty());
                db.store.lies_beyond(&ANYONE, filter, page.previous).await.expect("a look");
                // There is no index by time; its oldest are found from the other end.
                if *what == "of an hour" {
                    return;
                }
                let oldest = Page { from: PageEnd::Oldest, after: None, before: after, ..first(50, None) };
                let page = db.store.list_jobs(&ANYONE, filter, &oldest).await.expect("page");
                db.store.lies_beyond(&ANYONE, filter, page.next).await.expect("a look");
            })
            .await;
        }
    }
    told.within("a client's own page", 200.0, async |db| {
        let own = Viewer::Client("c9".to_owned());
        let page =
            db.store.list_jobs(&own, &JobFilter::default(), &first(50, Some(deep))).await.expect("page");
        assert!(!page.jobs.is_empty());
        assert!(db.store.lies_beyond(&own, &JobFilter::default(), page.previous).await.expect("a look"));
        // As a web page asks that names itself and what it shows.
        let filter = JobFilter { kind: Some(vec!["sum".to_owned()]), ..client("c9") };
        assert!(!db.store.list_jobs(&own, &filter, &first(10, None)).await.expect("page").jobs.is_empty());
    })
    .await;
    told.within("totalCount", 5_000.0, async |db| {
        assert!(db.store.count_jobs(&ANYONE, &of_status(JobStatus::Done)).await.expect("count") > 300_000);
        assert!(db.store.count_jobs(&ANYONE, &client("c7")).await.expect("count") >= 1_000);
    })
    .await;
}

async fn work(told: &mut Told) {
    for (what, change) in [
        ("a claim", QueueChange { max_running: Some(None), order: Some(ClaimOrder::Fifo), paused: None }),
        ("a claim under a limit", QueueChange { max_running: Some(Some(900_000)), ..QueueChange::default() }),
        (
            "a LIFO claim",
            QueueChange { max_running: Some(None), order: Some(ClaimOrder::Lifo), paused: None },
        ),
    ] {
        set(&told.db, change).await;
        let claimed = told.within(what, 3_000.0, async |db| db.claim(LIVE, 100).await).await;
        assert_eq!(claimed.len(), 100, "{what}");
        let leases: Vec<_> = claimed.iter().map(|job| job.lease).collect();
        told.within("a heartbeat", 5_000.0, async |db| {
            drop(db.store.heartbeat(LIVE, leases.clone(), 30).await.expect("heartbeat"));
        })
        .await;
        told.within("lines of logs", 500.0, async |db| {
            let line =
                NewLine { number: 1, stream: LogStream::Stdout, text: "a".to_owned(), age: Duration::ZERO };
            db.store
                .append_logs_if_leased(LogBatch { lease: leases[0], lines: vec![line] })
                .await
                .expect("append");
        })
        .await;
        told.within("ends", 1_000.0, async |db| {
            let ends = leases.iter().enumerate().map(|(n, lease)| {
                let end = if n % 2 == 0 { AttemptEnd::Done(json!(1)) } else { AttemptEnd::Released };
                db.store.finish_if_leased(Finish { lease: *lease, end })
            });
            for end in futures_util::future::join_all(ends).await {
                end.expect("end");
            }
        })
        .await;
    }
    let running: Uuid =
        sqlx::query_scalar("SELECT job_id FROM job_log LIMIT 1").fetch_one(&mut told.log).await.expect("id");
    told.within("a page of a log", 100.0, async |db| {
        let after = Some(LogPlace { epoch: 1, number: 40 });
        assert_eq!(db.store.logs(&ANYONE, running, after, 50).await.expect("lines").len(), 50);
    })
    .await;
    told.within("submits", 2_000.0, async |db| {
        let jobs = (0..300).map(|n| {
            db.new_job(Submission {
                request_id: Some(format!("new-{n}")),
                client_id: Some("c7".to_owned()),
                ..echo()
            })
        });
        assert_eq!(db.store.submit_all(jobs.collect()).await.expect("submit").len(), 300);
    })
    .await;
}

async fn upkeep(told: &mut Told) {
    // Of the 20,000 that wait for their time only those are read that are due; the ledger looks at both states of each.
    told.within("promote", 2_100.0, async |db| assert_eq!(db.store.promote().await.expect("promote"), 998))
        .await;
    told.within("expire", 1_100.0, async |db| assert!(db.store.expire().await.expect("expire") > 90)).await;
    told.within("age", 6_000.0, async |db| assert!(db.store.age_queue(QUEUE, 60).await.expect("age") > 0))
        .await;
    told.within("sweep", 5_000.0, async |db| assert!(db.store.sweep().await.expect("sweep").jobs >= 400))
        .await;
    told.within("fold", 20_000.0, async |db| assert!(db.store.fold_counts().await.expect("fold") > 0)).await;
    // The request ids, 100,000 here, are read whole: an index for it would be paid for by every submit.
    told.within("prune", 110_000.0, async |db| {
        let retention = Retention { done_days: Some(7), error_days: Some(30), cancelled_days: Some(30) };
        assert_eq!(db.store.prune(retention).await.expect("prune").done, 2_000);
    })
    .await;
}

async fn changes(told: &mut Told) {
    let mut some = JobFilter { client_id: Some("c7".to_owned()), ..JobFilter::default() };
    for (what, action) in [("cancel", BulkAction::Cancel), ("retry", BulkAction::Retry { priority: Some(1) })]
    {
        told.within(&format!("{what} by filter"), 3_000.0, async |db| {
            let outcome = db.store.change_jobs(&ANYONE, some.clone(), action).await.expect("change");
            assert!(outcome.changed > 300, "{outcome:?}");
        })
        .await;
    }
    some.client_id = Some("c97".to_owned());
    told.within("delete by filter", 3_000.0, async |db| {
        let outcome = db.store.change_jobs(&ANYONE, some.clone(), BulkAction::Delete).await.expect("delete");
        assert!(outcome.changed > 300, "{outcome:?}");
    })
    .await;
}

#[tokio::test]
async fn what_is_run_again_and_again_for_one_job_is_not_planned_each_time() {
    let db = TestDb::new().await;
    let (mut session, id) = (db.session().await, db.submit(echo()).await.id);
    let (watched, position) = (watched_sql(&[id]), ledger_sql(&ANYONE, &[id]));
    // PostgreSQL compares what the first five plans came to with one for any parameters.
    for _ in 0..8 {
        let query = |sql: &str| sqlx::query(sqlx::AssertSqlSafe(sql.to_owned())).bind(vec![id]);
        query(&watched).fetch_all(&mut session).await.expect("a watched job");
        query(&position).bind(None::<Vec<String>>).fetch_all(&mut session).await.expect("a position");
        query(DONE_SQL).bind(vec![1]).bind(vec!["1"]).fetch_all(&mut session).await.expect("an end");
    }
    for sql in [watched.as_str(), position.as_str(), DONE_SQL] {
        let kept: i64 =
            sqlx::query_scalar("SELECT generic_plans FROM pg_prepared_statements WHERE statement = $1")
                .bind(sql)
                .fetch_one(&mut session)
                .await
                .expect("a statement");
        assert_eq!(kept, 3, "{sql}");
    }
}
