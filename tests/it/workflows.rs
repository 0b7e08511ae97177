//! Workflows: written at once, run in order, ended once, whatever fails on the way.

mod graphs;

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use entity::workflow::{FailurePolicy, WorkflowStatus};
use entity::{JobStatus, job};
use jobql::config::Retention;
use jobql::error::Error;
use jobql::job::failure::Failure;
use jobql::job::submission::Submission;
use jobql::job::viewer::Viewer;
use jobql::job::workflow::{NewWorkflow, WorkflowJob, WorkflowSubmission};
use jobql::store::bulk::BulkAction;
use jobql::store::finish::{AttemptEnd, Finish};
use jobql::store::hand_down::HAND_DOWN_SQL;
use jobql::store::lease::Lease;
use jobql::store::list::{JobFilter, Page, PageEnd};
use jobql::store::settle::SETTLE_SQL;
use serde_json::{Value, json};
use sqlx::Connection;
use uuid::Uuid;

use crate::support::process::Process;
use crate::support::{ANYONE, SOON, TestDb, deadline, echo, eventually, kind};

fn job(key: &str, depends_on: &[&str], submission: Submission) -> WorkflowJob {
    let depends_on = depends_on.iter().map(|&key| key.to_owned()).collect();
    WorkflowJob { key: key.to_owned(), depends_on, results_as: None, submission }
}

fn of(jobs: Vec<WorkflowJob>) -> WorkflowSubmission {
    WorkflowSubmission {
        name: None,
        client_id: None,
        request_id: None,
        on_failure: FailurePolicy::Block,
        callback_url: None,
        jobs,
    }
}

fn checked(db: &TestDb, submission: WorkflowSubmission) -> NewWorkflow {
    submission.check(&ANYONE, &db.config.kinds, db.config.max_payload_bytes).expect("a fair workflow")
}

async fn submitted(db: &TestDb, submission: WorkflowSubmission) -> Uuid {
    db.store.submit_workflow(checked(db, submission)).await.expect("submit").id
}

/// The jobs of a workflow by their keys.
async fn jobs_of(db: &TestDb, id: Uuid) -> HashMap<String, job::Model> {
    let filter = JobFilter { workflow_id: Some(id), ..JobFilter::default() };
    let page = Page { after: None, before: None, limit: 200, from: PageEnd::Newest, columns: None };
    let jobs = db.store.list_jobs(&ANYONE, &filter, &page).await.expect("jobs").jobs;
    jobs.into_iter().map(|job| (job.workflow_key.clone().expect("a key"), job)).collect()
}

async fn until_workflow(db: &TestDb, id: Uuid, status: WorkflowStatus) -> entity::workflow::Model {
    eventually("the workflow's status", SOON, async || {
        db.store.release_dependents().await.expect("release");
        let workflow = db.store.workflow(&ANYONE, id).await.expect("read").expect("it exists");
        (workflow.status == status).then_some(workflow)
    })
    .await
}

/// Starts a job that is ready.
async fn start(db: &TestDb, id: Uuid) -> Lease {
    let worker = db.worker(30).await;
    sqlx::query(
        "UPDATE job SET status = 'RUNNING', attempt = attempt + 1, lease_epoch = lease_epoch + 1, worker_id = $2,
                        started_at = now() WHERE id = $1",
    )
    .bind(id)
    .bind(worker)
    .execute(db.pool())
    .await
    .expect("start");
    Lease { job_id: id, epoch: db.job(id).await.lease_epoch }
}

async fn finish_with(db: &TestDb, id: Uuid, result: Value) {
    eventually("it is ready", SOON, async || (db.job(id).await.status == JobStatus::Pending).then_some(()))
        .await;
    let lease = start(db, id).await;
    db.store.finish_if_leased(Finish { lease, end: AttemptEnd::Done(result) }).await.expect("finish");
}

async fn fail(db: &TestDb, id: Uuid) {
    let lease = start(db, id).await;
    let end = AttemptEnd::Failed {
        outcome: entity::attempt::AttemptOutcome::Error,
        failure: Failure::fatal("NO", "no"),
        retry_after: Duration::ZERO,
    };
    db.store.finish_if_leased(Finish { lease, end }).await.expect("finish");
}

/// a, then b and c, then d.
fn diamond() -> Vec<WorkflowJob> {
    vec![
        job("d", &["b", "c"], echo()),
        job("b", &["a"], echo()),
        job("c", &["a"], echo()),
        job("a", &[], echo()),
    ]
}

#[tokio::test]
async fn a_workflow_is_written_at_once_and_runs_to_its_end() {
    let db = TestDb::new().await;
    let id = submitted(&db, of(diamond())).await;
    let jobs = jobs_of(&db, id).await;
    let status = |key: &str| (jobs[key].status, jobs[key].waits_for);
    assert_eq!(status("a"), (JobStatus::Pending, None));
    assert_eq!(status("b"), (JobStatus::Blocked, Some(1)));
    assert_eq!(status("d"), (JobStatus::Blocked, Some(2)));
    assert!(jobs["a"].id < jobs["b"].id && jobs["c"].id < jobs["d"].id && id < jobs["a"].id);
    for key in ["a", "b", "c"] {
        finish_with(&db, jobs[key].id, json!(key)).await;
        db.settled().await;
        let workflow = db.store.workflow(&ANYONE, id).await.expect("read").expect("it exists");
        assert_eq!((workflow.status, workflow.finished_at), (WorkflowStatus::Running, None), "after {key}");
    }
    finish_with(&db, jobs["d"].id, json!("d")).await;
    let done = until_workflow(&db, id, WorkflowStatus::Done).await;
    assert!(done.finished_at.is_some());
    assert_eq!(done.ends, 1);
    let counts = db.store.workflow_counts(&[id]).await.expect("counts");
    assert_eq!(counts[&id].of(JobStatus::Done), 4);
}

#[tokio::test]
async fn a_request_id_stands_for_one_workflow_and_for_nothing_else() {
    let db = TestDb::new().await;
    let with = |jobs: Vec<WorkflowJob>| WorkflowSubmission { request_id: Some("w".to_owned()), ..of(jobs) };
    let id = submitted(&db, with(diamond())).await;
    assert_eq!(submitted(&db, with(diamond())).await, id);
    let conflict = db.store.submit_workflow(checked(&db, with(vec![job("a", &[], echo())]))).await;
    assert!(matches!(conflict, Err(Error::IdempotencyConflict { job_id }) if job_id == id), "{conflict:?}");
    let other_policy = WorkflowSubmission { on_failure: FailurePolicy::Cancel, ..with(diamond()) };
    let conflict = db.store.submit_workflow(checked(&db, other_policy)).await;
    assert!(matches!(conflict, Err(Error::IdempotencyConflict { .. })), "{conflict:?}");
    let as_job = db.store.submit(db.new_job(crate::support::request("w", json!({})))).await;
    assert!(matches!(as_job, Err(Error::IdempotencyConflict { .. })), "{as_job:?}");
    let jobs: i64 = sqlx::query_scalar("SELECT count(*) FROM job").fetch_one(db.pool()).await.expect("jobs");
    assert_eq!(jobs, 4);
    let (one, two) = tokio::join!(
        db.store.submit_workflow(checked(
            &db,
            WorkflowSubmission { request_id: Some("x".to_owned()), ..of(diamond()) }
        )),
        db.store.submit_workflow(checked(
            &db,
            WorkflowSubmission { request_id: Some("x".to_owned()), ..of(diamond()) }
        )),
    );
    assert_eq!(one.expect("submit").id, two.expect("submit").id, "also of two at once");
}

#[tokio::test]
async fn under_block_a_failure_ends_the_workflow_in_error_and_a_retry_lets_it_go_on() {
    let db = TestDb::new().await;
    let id = submitted(&db, of(diamond())).await;
    let jobs = jobs_of(&db, id).await;
    finish_with(&db, jobs["a"].id, json!(1)).await;
    finish_with(&db, jobs["b"].id, json!(1)).await;
    fail(&db, jobs["c"].id).await;
    let failed = until_workflow(&db, id, WorkflowStatus::Error).await;
    assert!(failed.finished_at.is_some());
    assert_eq!(db.job(jobs["d"].id).await.status, JobStatus::Blocked);
    db.store.retry_job(&ANYONE, jobs["c"].id, None).await.expect("retry");
    let again = db.store.workflow(&ANYONE, id).await.expect("read").expect("it exists");
    assert_eq!((again.status, again.finished_at), (WorkflowStatus::Running, None), "with the retry, at once");
    finish_with(&db, jobs["c"].id, json!(1)).await;
    finish_with(&db, jobs["d"].id, json!(1)).await;
    assert_eq!(until_workflow(&db, id, WorkflowStatus::Done).await.ends, 2);
}

#[tokio::test]
async fn under_cancel_all_that_depends_on_a_failure_is_cancelled_and_can_be_retried_as_a_whole() {
    let db = TestDb::new().await;
    let jobs = vec![
        job("a", &[], echo()),
        job("b", &["a"], echo()),
        job("c", &["b"], echo()),
        job("x", &[], echo()),
    ];
    let id = submitted(&db, WorkflowSubmission { on_failure: FailurePolicy::Cancel, ..of(jobs) }).await;
    let jobs = jobs_of(&db, id).await;
    fail(&db, jobs["a"].id).await;
    db.settled().await;
    for key in ["b", "c"] {
        let job = db.job(jobs[key].id).await;
        assert_eq!(job.status, JobStatus::Cancelled, "{key}");
        assert_eq!(job.error.expect("why")["code"], "DEPENDENCY_FAILED");
    }
    finish_with(&db, jobs["x"].id, json!(1)).await;
    until_workflow(&db, id, WorkflowStatus::Error).await;
    let filter = JobFilter { workflow_id: Some(id), ..JobFilter::default() };
    let all =
        db.store.change_jobs(&ANYONE, filter, BulkAction::Retry { priority: None }).await.expect("retry");
    assert_eq!(all.changed, 3);
    for key in ["a", "b", "c"] {
        finish_with(&db, jobs[key].id, json!(1)).await;
    }
    until_workflow(&db, id, WorkflowStatus::Done).await;
}

#[tokio::test]
async fn a_workflow_that_is_cancelled_as_a_whole_ends_so() {
    let db = TestDb::new().await;
    let id = submitted(&db, of(diamond())).await;
    let filter = JobFilter { workflow_id: Some(id), ..JobFilter::default() };
    let all = db.store.change_jobs(&ANYONE, filter, BulkAction::Cancel).await.expect("cancel");
    assert_eq!(all.changed, 4);
    let ended = until_workflow(&db, id, WorkflowStatus::Cancelled).await;
    assert_eq!(ended.ends, 1);
    // One that is retried and waits for a job that nobody retries cannot run.
    let jobs = jobs_of(&db, id).await;
    let again = db.store.retry_job(&ANYONE, jobs["d"].id, None).await.expect("retry");
    assert_eq!(again.status, JobStatus::Blocked);
    db.settled().await;
    until_workflow(&db, id, WorkflowStatus::Cancelled).await;
}

#[tokio::test]
async fn of_two_last_jobs_that_end_at_once_one_ends_the_workflow() {
    let db = TestDb::new().await;
    let other = db.opened_again().await;
    let id = submitted(&db, of(vec![job("a", &[], echo()), job("b", &[], echo())])).await;
    let jobs = jobs_of(&db, id).await;
    let mut session = db.session().await;
    let mut holding = session.begin().await.expect("begin");
    sqlx::query("SELECT FROM workflow WHERE id = $1 FOR UPDATE")
        .bind(id)
        .execute(&mut *holding)
        .await
        .expect("hold");
    // Each settle has taken the end of one job, and waits for the workflow.
    finish_with(&db, jobs["a"].id, json!(1)).await;
    db.until_sessions_wait(1).await;
    finish_with(&other, jobs["b"].id, json!(1)).await;
    db.until_sessions_wait(2).await;
    holding.rollback().await.expect("let go");
    assert_eq!(until_workflow(&db, id, WorkflowStatus::Done).await.ends, 1);
}

#[tokio::test]
async fn a_retry_and_the_end_of_the_workflow_come_to_the_same_in_either_order() {
    let db = TestDb::new().await;
    for settle_first in [true, false] {
        let id = submitted(&db, of(vec![job("a", &[], echo()), job("b", &[], echo())])).await;
        let jobs = jobs_of(&db, id).await;
        fail(&db, jobs["a"].id).await;
        db.settled().await;
        let lease = start(&db, jobs["b"].id).await;
        let mut session = db.session().await;
        let mut holding = session.begin().await.expect("begin");
        sqlx::query("SELECT FROM workflow WHERE id = $1 FOR UPDATE")
            .bind(id)
            .execute(&mut *holding)
            .await
            .expect("hold");
        let end = Finish { lease, end: AttemptEnd::Done(json!(1)) };
        let (store, failed) = (db.store.clone(), jobs["a"].id);
        let retry = async move { store.retry_job(&ANYONE, failed, None).await };
        let retrying = if settle_first {
            db.store.finish_if_leased(end).await.expect("finish");
            db.until_sessions_wait(1).await;
            tokio::spawn(retry)
        } else {
            let retrying = tokio::spawn(retry);
            db.until_sessions_wait(1).await;
            db.store.finish_if_leased(end).await.expect("finish");
            retrying
        };
        db.until_sessions_wait(2).await;
        holding.rollback().await.expect("let go");
        deadline("the retry", retrying).await.expect("task").expect("retry");
        db.settled().await;
        until_workflow(&db, id, WorkflowStatus::Running).await;
        finish_with(&db, jobs["a"].id, json!(1)).await;
        until_workflow(&db, id, WorkflowStatus::Done).await;
    }
}

/// c with the results of a and b.
fn joining(payload: Value) -> Vec<WorkflowJob> {
    let mut joined = job("c", &["a", "b"], kind("echo", payload));
    joined.results_as = Some("of".to_owned());
    vec![job("a", &[], echo()), job("b", &[], echo()), joined]
}

#[tokio::test]
async fn results_of_parents_are_in_the_payload_under_their_keys() {
    let db = TestDb::new().await;
    let id = submitted(&db, of(joining(json!({"x": 1})))).await;
    let jobs = jobs_of(&db, id).await;
    finish_with(&db, jobs["a"].id, json!({"n": [1, 2]})).await;
    finish_with(&db, jobs["b"].id, json!(null)).await;
    let ready = eventually("it is ready", SOON, async || {
        Some(db.job(jobs["c"].id).await).filter(|job| job.status == JobStatus::Pending)
    })
    .await;
    assert_eq!(ready.payload, json!({"x": 1, "of": {"a": {"n": [1, 2]}, "b": null}}));
    assert!(ready.seq > jobs["c"].seq);
    // Once is enough: a retry finds them there.
    db.store.cancel_job(&ANYONE, ready.id).await.expect("cancel");
    let again = db.store.retry_job(&ANYONE, ready.id, None).await.expect("retry");
    assert_eq!((again.status, &again.payload), (JobStatus::Pending, &ready.payload));
}

#[tokio::test]
async fn results_that_come_while_a_job_is_cancelled_are_handed_down_when_it_is_retried() {
    let db = TestDb::new().await;
    let id = submitted(&db, of(joining(json!({})))).await;
    let jobs = jobs_of(&db, id).await;
    db.store.cancel_job(&ANYONE, jobs["c"].id).await.expect("cancel");
    for key in ["a", "b"] {
        finish_with(&db, jobs[key].id, json!(key)).await;
    }
    until_workflow(&db, id, WorkflowStatus::Cancelled).await;
    db.store.retry_job(&ANYONE, jobs["c"].id, None).await.expect("retry");
    finish_with(&db, jobs["c"].id, json!(1)).await;
    assert_eq!(db.job(jobs["c"].id).await.payload["of"], json!({"a": "a", "b": "b"}));
    until_workflow(&db, id, WorkflowStatus::Done).await;
}

#[tokio::test]
async fn results_that_are_too_large_or_gone_end_the_job_in_error() {
    let db = TestDb::new().await;
    let large = |db: &TestDb| {
        of(joining(json!({}))).check(&ANYONE, &db.config.kinds, 1_000).expect("a fair workflow")
    };
    for bytes in [2_000, 100_000] {
        let id = db.store.submit_workflow(large(&db)).await.expect("submit").id;
        let jobs = jobs_of(&db, id).await;
        finish_with(&db, jobs["a"].id, json!(1)).await;
        finish_with(&db, jobs["b"].id, json!("x".repeat(bytes))).await;
        until_workflow(&db, id, WorkflowStatus::Error).await;
        let refused = db.job(jobs["c"].id).await;
        assert_eq!((refused.status, refused.attempt), (JobStatus::Error, 0));
        assert_eq!(refused.error.expect("why")["code"], "PAYLOAD_TOO_LARGE");
        assert_eq!(refused.payload, json!({}));
    }
    let id = submitted(&db, of(joining(json!({})))).await;
    let jobs = jobs_of(&db, id).await;
    db.store.cancel_job(&ANYONE, jobs["c"].id).await.expect("cancel");
    for key in ["a", "b"] {
        finish_with(&db, jobs[key].id, json!(key)).await;
    }
    db.settled().await;
    db.store.delete_job(&ANYONE, jobs["a"].id).await.expect("delete");
    db.store.retry_job(&ANYONE, jobs["c"].id, None).await.expect("retry");
    until_workflow(&db, id, WorkflowStatus::Error).await;
    assert_eq!(db.job(jobs["c"].id).await.error.expect("why")["code"], "RESULTS_GONE");
}

#[tokio::test]
async fn a_client_sees_its_own_workflows_only() {
    let db = TestDb::new().await;
    let of_a = WorkflowSubmission { client_id: Some("a".to_owned()), ..of(diamond()) };
    let id = submitted(&db, of_a).await;
    let client = |name: &str| Viewer::Client(name.to_owned());
    assert!(db.store.workflow(&client("a"), id).await.expect("read").is_some());
    assert!(db.store.workflow(&client("b"), id).await.expect("read").is_none());
    let refused = WorkflowSubmission { client_id: Some("a".to_owned()), ..of(diamond()) };
    let refused = refused.check(&client("b"), &db.config.kinds, 1 << 20).expect_err("refused");
    assert!(matches!(refused, Error::Forbidden { .. }), "{refused:?}");
}

#[tokio::test]
async fn a_workflow_is_pruned_once_its_jobs_are_gone() {
    let db = TestDb::new().await;
    let retention = Retention { done_days: Some(7), error_days: Some(7), cancelled_days: Some(7) };
    let id = submitted(&db, of(vec![job("a", &[], echo())])).await;
    let jobs = jobs_of(&db, id).await;
    finish_with(&db, jobs["a"].id, json!(1)).await;
    until_workflow(&db, id, WorkflowStatus::Done).await;
    let old = Uuid::parse_str("01900000-0000-7000-8000-000000000001").expect("an id");
    sqlx::query("UPDATE job SET workflow_id = $1").bind(old).execute(db.pool()).await.expect("age");
    sqlx::query("UPDATE workflow SET id = $1").bind(old).execute(db.pool()).await.expect("age");
    db.store.prune(retention).await.expect("prune");
    assert!(db.store.workflow(&ANYONE, old).await.expect("read").is_some(), "its job is there");
    db.store.delete_job(&ANYONE, jobs["a"].id).await.expect("delete");
    db.store.prune(retention).await.expect("prune");
    assert!(db.store.workflow(&ANYONE, old).await.expect("read").is_none());
}

#[tokio::test]
async fn the_end_of_a_workflow_is_told_once_and_anew_after_a_retry() {
    let db = TestDb::new().await;
    let url = Some("http://127.0.0.1:9/".to_owned());
    let id = submitted(&db, WorkflowSubmission { callback_url: url, ..of(diamond()) }).await;
    let jobs = jobs_of(&db, id).await;
    fail(&db, jobs["a"].id).await;
    until_workflow(&db, id, WorkflowStatus::Error).await;
    let due = db.store.take_due_workflow_callbacks(10).await.expect("take");
    assert_eq!((due.len(), due[0].workflow.id, due[0].event, due[0].attempt), (1, id, 1, 1));
    assert_eq!(due[0].counts.of(JobStatus::Blocked), 3);
    assert!(db.store.take_due_workflow_callbacks(10).await.expect("take").is_empty(), "it is taken");
    // A retry leaves the end: what was on its way is not recorded, and not told any more.
    db.store.retry_job(&ANYONE, jobs["a"].id, None).await.expect("retry");
    let delivered = jobql::store::callback::DeliveryOutcome::Delivered;
    db.store.record_workflow_delivery(id, (1, 1), delivered.clone()).await.expect("record");
    let status = async || db.store.workflow_delivery(&ANYONE, id).await.expect("read").status;
    assert_eq!(status().await, jobql::store::callback::DeliveryStatus::Waiting);
    for key in ["a", "b", "c", "d"] {
        finish_with(&db, jobs[key].id, json!(1)).await;
    }
    until_workflow(&db, id, WorkflowStatus::Done).await;
    let due = db.store.take_due_workflow_callbacks(10).await.expect("take");
    assert_eq!((due.len(), due[0].event, due[0].attempt), (1, 2, 1));
    db.store.record_workflow_delivery(id, (2, 1), delivered).await.expect("record");
    assert_eq!(status().await, jobql::store::callback::DeliveryStatus::Delivered);
}

const SUBMIT: &str = "mutation ($input: SubmitWorkflowInput!) { submitWorkflow(input: $input) {
    id status counts { blocked pending } createdAt finishedAt } }";

fn input_of(jobs: Vec<Value>) -> Value {
    json!({"input": {"jobs": jobs}})
}

#[tokio::test]
async fn what_is_wrong_with_a_workflow_is_named_and_nothing_is_written() {
    let db = TestDb::new().await;
    let server = Process::serve(&db.url(), &["--slots", "0"]).await;
    let echo = |key: &str, on: &[&str]| json!({"key": key, "kind": "echo", "dependsOn": on});
    let too_many = (0..10_001).map(|n| echo(&n.to_string(), &[])).collect();
    for (jobs, code, field) in [
        (vec![], "BAD_USER_INPUT", "input.jobs"),
        (too_many, "BAD_USER_INPUT", "input.jobs"),
        (vec![echo("a", &["b"]), echo("b", &["a"])], "BAD_USER_INPUT", "input.jobs"),
        (vec![echo("a", &["x"])], "BAD_USER_INPUT", "input.jobs[0].dependsOn[0]"),
        (vec![echo("a", &[]), echo("a", &[])], "BAD_USER_INPUT", "input.jobs[1].key"),
        (
            vec![echo("a", &[]), json!({"key": "b", "kind": "echo", "priority": -1})],
            "BAD_USER_INPUT",
            "input.jobs[1].priority",
        ),
    ] {
        let answer = server.ask(SUBMIT, input_of(jobs)).await;
        let extensions = &answer["errors"][0]["extensions"];
        assert_eq!(
            (&extensions["code"], &extensions["field"]),
            (&json!(code), &json!(field)),
            "{}",
            answer["errors"]
        );
    }
    let answer = server.ask(SUBMIT, input_of(vec![json!({"key": "a", "kind": "nothing"})])).await;
    assert_eq!(answer["errors"][0]["extensions"]["code"], "UNKNOWN_KIND");
    let written: i64 =
        sqlx::query_scalar("SELECT (SELECT count(*) FROM job) + (SELECT count(*) FROM workflow)")
            .fetch_one(db.pool())
            .await
            .expect("count");
    assert_eq!(written, 0);
}

#[tokio::test]
async fn ten_thousand_jobs_fan_out_and_in_without_a_slow_step() {
    let db = TestDb::new().await;
    let server = Process::serve(&db.url(), &["--slots", "64"]).await;
    let mut jobs = vec![json!({"key": "first", "kind": "echo"})];
    let middle: Vec<String> = (0..9_998).map(|n| format!("middle-{n}")).collect();
    jobs.extend(middle.iter().map(|key| json!({"key": key, "kind": "echo", "dependsOn": ["first"]})));
    jobs.push(json!({"key": "last", "kind": "echo", "dependsOn": middle}));
    let began_at = Instant::now();
    // Longer than others wait for an answer: a debug build on a busy machine.
    let request = reqwest::Client::new().post(&server.url).timeout(Duration::from_secs(120));
    let request = request.json(&json!({"query": SUBMIT, "variables": input_of(jobs)}));
    let answer: Value = request.send().await.expect("an answer").json().await.expect("JSON");
    let answer = &answer["data"];
    println!("10,000 jobs with 19,996 dependencies were submitted within {:?}", began_at.elapsed());
    let id = answer["submitWorkflow"]["id"].as_str().expect("an id").to_owned();
    let look = "query ($id: ID!) { workflow(id: $id) { status finishedAt counts { done blocked } } }";
    let done = eventually("the workflow is done", Duration::from_secs(240), async || {
        let workflow = server.data(look, json!({"id": id})).await["workflow"].take();
        (workflow["status"] == "DONE").then_some(workflow)
    })
    .await;
    println!("they were done within {:?}", began_at.elapsed());
    assert_eq!(done["counts"], json!({"done": 10_000, "blocked": 0}));
    let out_of_order: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM dependency JOIN job AS child ON child.id = child JOIN job AS parent ON parent.id = parent
         WHERE NOT met OR child.started_at < parent.finished_at",
    )
    .fetch_one(db.pool())
    .await
    .expect("count");
    assert_eq!(out_of_order, 0);
}

#[tokio::test]
async fn a_dashboard_follows_a_workflow_and_finds_its_way_between_it_and_its_jobs() {
    let db = TestDb::new().await;
    let server = Process::serve(&db.url(), &["--slots", "0"]).await;
    let jobs = |prefix: &str| {
        let [a, b] = ["a", "b"].map(|key| format!("{prefix}{key}"));
        vec![
            json!({"key": a, "kind": "echo"}),
            json!({"key": b, "kind": "echo", "dependsOn": [a], "resultsAs": "of"}),
        ]
    };
    let id = server.data(SUBMIT, input_of(jobs("x"))).await["submitWorkflow"]["id"].take();
    let other = server.data(SUBMIT, input_of(jobs("y"))).await["submitWorkflow"]["id"].take();
    let mut socket = server
        .subscribe(
            "subscription ($id: ID!) { jobUpdated(workflowId: $id) { workflowKey status workflow { id } } }",
            json!({"id": id}),
        )
        .await;
    // The subscription is open once an event of it comes; the other workflow's come before, and must not.
    let cancel = "mutation ($id: ID!) { cancelWorkflow(id: $id) { status } }";
    server.data(cancel, json!({"id": other})).await;
    let update = "mutation ($id: ID!, $priority: Int!) { updateJob(id: $id, priority: $priority) { id } }";
    let look = "query ($id: ID!) { node(id: $id) { ... on Workflow { status jobs { totalCount nodes {
        id workflowKey dependsOn { nodes { workflowKey } } } } } } }";
    let workflow = server.data(look, json!({"id": id})).await["node"].take();
    assert_eq!(workflow["jobs"]["totalCount"], 2);
    assert_eq!(workflow["jobs"]["nodes"][0]["dependsOn"]["nodes"], json!([{"workflowKey": "xa"}]));
    let first = workflow["jobs"]["nodes"][1]["id"].clone();
    let mut priority = 1;
    let event = loop {
        server.data(update, json!({"id": first, "priority": priority})).await;
        priority += 1;
        if let Ok(message) = tokio::time::timeout(Duration::from_millis(300), socket.next_data(SOON)).await {
            break message.expect("an event");
        }
    };
    assert_eq!(
        event["jobUpdated"],
        json!({"workflowKey": "xa", "status": "PENDING", "workflow": {"id": id}})
    );
    let cancelled = server.data(cancel, json!({"id": id})).await;
    assert!(
        ["RUNNING", "CANCELLED"].contains(&cancelled["cancelWorkflow"]["status"].as_str().expect("a status"))
    );
    let mut keys = HashSet::new();
    while keys.len() < 2 {
        let event = socket.next_data(SOON).await.expect("an event");
        let job = &event["jobUpdated"];
        if job["status"] == "CANCELLED" {
            keys.insert(job["workflowKey"].as_str().expect("a key").to_owned());
        }
    }
    assert_eq!(keys, HashSet::from(["xa".to_owned(), "xb".to_owned()]));
    let retry = "mutation ($id: ID!) { retryWorkflow(id: $id) { status counts { pending blocked } } }";
    let again = server.data(retry, json!({"id": id})).await;
    assert_eq!(again["retryWorkflow"], json!({"status": "RUNNING", "counts": {"pending": 1, "blocked": 1}}));
    let missing = server.ask(cancel, json!({"id": Uuid::now_v7()})).await;
    assert_eq!(missing["errors"][0]["extensions"]["code"], "NOT_FOUND");
}

#[tokio::test]
async fn a_payload_with_results_that_does_not_fit_its_kind_ends_in_error() {
    let db = TestDb::new().await;
    let folder = tempfile_folder();
    let file = folder.join("jobql.toml");
    std::fs::write(
        &file,
        "[kinds.strict]\nrunner = \"builtin\"\nbuiltin = \"echo\"\n\
         input_schema = { type = \"object\", required = [\"of\"], properties = { of = { type = \"object\", properties = { a = { type = \"integer\" } } } } }\n",
    )
    .expect("a file");
    let server = Process::serve(&db.url(), &["--slots", "2", "--config", &file.display().to_string()]).await;
    let unfit = server.ask(SUBMIT, input_of(vec![json!({"key": "a", "kind": "strict"})])).await;
    let refused = json!({"code": "INVALID_PAYLOAD", "field": "input.jobs[0].payload", "pointers": [""]});
    assert_eq!(unfit["errors"][0]["extensions"], refused, "without results it is refused at once");
    for (payload, code) in [(json!({"n": "no"}), json!("INVALID_PAYLOAD")), (json!(7), json!(null))] {
        let jobs = vec![
            json!({"key": "a", "kind": "echo", "payload": payload}),
            json!({"key": "b", "kind": "strict", "dependsOn": ["a"], "resultsAs": "of"}),
        ];
        let id = server.data(SUBMIT, input_of(jobs)).await["submitWorkflow"]["id"].take();
        let look = "query ($id: ID!) { workflow(id: $id) { status jobs { nodes { workflowKey error { code details } } } } }";
        let ended = eventually("it ends", SOON, async || {
            let workflow = server.data(look, json!({"id": id})).await["workflow"].take();
            (workflow["status"] != "RUNNING").then_some(workflow)
        })
        .await;
        let error = &ended["jobs"]["nodes"][0]["error"];
        assert_eq!(error["code"], code, "{ended}");
        if !code.is_null() {
            assert_eq!(error["details"]["pointers"], json!(["/of/a"]));
        }
    }
    std::fs::remove_dir_all(folder).expect("clean up");
}

fn tempfile_folder() -> std::path::PathBuf {
    let folder =
        std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("workflows-{}", Uuid::now_v7()));
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

#[tokio::test]
async fn neither_the_end_of_a_workflow_nor_results_are_looked_for_by_a_scan() {
    let db = TestDb::new().await;
    sqlx::raw_sql(
        "INSERT INTO workflow (id, client_id, request_id, on_failure, max_payload_bytes)
         SELECT md5('w' || n)::uuid, 'c', n::text, 'BLOCK', 1000 FROM generate_series(1, 200) AS n;
         INSERT INTO job (id, client_id, request_id, kind, queue, display_name, status, priority, level, payload,
                          max_attempts, timeout_seconds, workflow_id, workflow_key, waits_for, finished_at, results_as)
         SELECT md5('j' || n)::uuid, 'c', n::text, 'echo', 'default', 'echo',
                CASE n % 3 WHEN 0 THEN 'DONE' WHEN 1 THEN 'PENDING' ELSE 'BLOCKED' END, 5, 5, '{}', 5, 300,
                md5('w' || n % 200 + 1)::uuid, n::text, CASE n % 3 WHEN 2 THEN n % 1000 END,
                CASE n % 3 WHEN 0 THEN now() END, 'x'
         FROM generate_series(1, 100000) AS n;
         INSERT INTO dependency (child, parent)
         SELECT md5('j' || n)::uuid, md5('j' || n - d)::uuid
         FROM generate_series(10, 100000) AS n, generate_series(1, 2) AS d;
         INSERT INTO job_end (job_id, workflow_id, released)
         SELECT md5('j' || n)::uuid, md5('w' || n % 200 + 1)::uuid, n % 2 = 0 FROM generate_series(1, 1000) AS n;
         ANALYZE",
    )
    .execute(db.pool())
    .await
    .expect("rows");
    let some: Vec<Uuid> =
        sqlx::query_scalar("SELECT id FROM workflow LIMIT 20").fetch_all(db.pool()).await.expect("ids");
    let settle: Vec<String> =
        sqlx::query_scalar(sqlx::AssertSqlSafe(format!("EXPLAIN (COSTS OFF) {SETTLE_SQL}")))
            .bind(some)
            .fetch_all(db.pool())
            .await
            .expect("plan");
    let hand_down: Vec<String> =
        sqlx::query_scalar(sqlx::AssertSqlSafe(format!("EXPLAIN (COSTS OFF) {HAND_DOWN_SQL}")))
            .bind(20_i64)
            .bind(json!({}))
            .bind(json!({}))
            .fetch_all(db.pool())
            .await
            .expect("plan");
    for plan in [settle.join("\n"), hand_down.join("\n")] {
        for table in ["job", "dependency"] {
            let lines = plan.lines().map(|line| format!("{line} "));
            for line in lines {
                assert!(!line.contains(&format!("Seq Scan on {table} ")), "{plan}");
            }
        }
        assert!(plan.contains("job_active_of_workflow") || plan.contains("job_results_due"), "{plan}");
    }
}
