//! What jobql knows of a kind holds for workers over the API as well: its schema, once results are in a payload; how long
//! its attempts take, and when the next one will start.

use chrono::Utc;
use serde_json::{Value, json};

use crate::support::api_worker::{ApiWorker, config, serve};
use crate::support::process::Process;
use crate::support::{QUEUE, SOON, TestDb, echo, eventually};

/// The same schema for a kind of workers over the API and for one that the server runs.
const STRICT: &str = "
[kinds.strict]
runner = \"external\"
input_schema = { properties = { of = { type = \"object\", properties = { a = { type = \"integer\" } } } } }

[kinds.strict_here]
runner = \"builtin\"
builtin = \"echo\"
input_schema = { properties = { of = { type = \"object\", properties = { a = { type = \"integer\" } } } } }
";

const SUBMIT: &str = "mutation ($input: SubmitWorkflowInput!) { submitWorkflow(input: $input) { id } }";
const JOBS: &str = "query ($id: ID!) { workflow(id: $id) { status jobs { nodes { id workflowKey status version attempt payload
    error { code message retryable details } attempts { outcome error { code } } } } } }";

/// A job of this kind that gets `payload` as the result of another one.
async fn handed_down(server: &Process, kind: &str, payload: Value) -> String {
    let jobs = json!([
        {"key": "a", "kind": "echo", "payload": payload},
        {"key": "b", "kind": kind, "dependsOn": ["a"], "resultsAs": "of"},
    ]);
    let submitted = server.data(SUBMIT, json!({"input": {"jobs": jobs}})).await;
    submitted["submitWorkflow"]["id"].as_str().expect("an id").to_owned()
}

/// The workflow, and the job that got the result, once that has this status.
async fn until(server: &Process, workflow: &str, status: &str) -> (Value, Value) {
    eventually(status, SOON, async || {
        let workflow = server.data(JOBS, json!({"id": workflow})).await["workflow"].take();
        let job = workflow["jobs"]["nodes"][0].clone();
        assert_eq!(job["workflowKey"], "b");
        (job["status"] == status).then_some((workflow["status"].clone(), job))
    })
    .await
}

#[tokio::test]
async fn a_payload_that_its_results_made_unfit_ends_as_it_does_in_the_server_and_is_not_handed_out() {
    let db = TestDb::new().await;
    let server = Process::serve(&db.url(), &["--slots", "2", "--config", &config(STRICT)]).await;
    let here = handed_down(&server, "strict_here", json!({"n": "no"})).await;
    let (_, expected) = until(&server, &here, "ERROR").await;
    assert_eq!(expected["error"]["code"], "INVALID_PAYLOAD");
    assert_eq!(expected["error"]["details"]["pointers"], json!(["/of/a"]));

    // First in the queue are two that do not fit, then one that does.
    let mut unfit = Vec::new();
    for _ in 0..2 {
        let workflow = handed_down(&server, "strict", json!({"n": "no"})).await;
        until(&server, &workflow, "PENDING").await;
        unfit.push(workflow);
    }
    let fit = handed_down(&server, "strict", json!(7)).await;
    until(&server, &fit, "PENDING").await;
    let worker = ApiWorker::new(&server, "w1");
    let claim = json!({"queues": ["strict"], "claimId": "c"});
    let answer = worker.ask_to_claim(claim.clone()).await["data"]["claimJobs"].take();
    let (_, held) = until(&server, &fit, "RUNNING").await;
    assert_eq!(
        (&answer[0]["job"]["id"], &answer[0]["job"]["payload"]),
        (&held["id"], &json!({"of": {"a": 7}}))
    );
    assert_eq!(answer.as_array().expect("jobs").len(), 1);
    let lease = json!({"jobId": held["id"], "token": answer[0]["leaseToken"]});
    assert_eq!(
        worker.claim(claim).await,
        std::slice::from_ref(&lease),
        "the claim's id stands for what was handed out"
    );
    for workflow in &unfit {
        let (workflow, job) = until(&server, workflow, "ERROR").await;
        for field in ["error", "attempt", "attempts", "version", "payload"] {
            assert_eq!(job[field], expected[field], "{field}");
        }
        assert_eq!(workflow, "ERROR");
    }
    worker.complete(&lease, json!({})).await.expect("complete");

    // The same for a claim that waits.
    let waiting = tokio::spawn({
        let worker = worker.clone();
        async move { worker.claim(json!({"queues": ["strict"], "waitSeconds": 20})).await }
    });
    let unfit = handed_down(&server, "strict", json!([])).await;
    until(&server, &unfit, "ERROR").await;
    let fit = handed_down(&server, "strict", json!(8)).await;
    assert_eq!(waiting.await.expect("a claim")[0]["jobId"], until(&server, &fit, "RUNNING").await.1["id"]);
}

async fn ended_by_api_workers(db: &TestDb) -> (i64, f64) {
    sqlx::query_as(
        "SELECT COALESCE(sum(jobs), 0)::bigint, COALESCE(sum(seconds), 0) FROM kind_duration WHERE kind = 'parcel'",
    )
    .fetch_one(db.pool())
    .await
    .expect("sums")
}

/// The seconds until this job will probably start.
async fn foretold(server: &Process, id: &str) -> Option<f64> {
    let asked_at = Utc::now();
    let position = server.job(id, "queuePosition { estimatedStartAt }").await["queuePosition"].take();
    let at = position["estimatedStartAt"].as_str()?.parse::<chrono::DateTime<Utc>>().expect("an instant");
    Some((at - asked_at).as_seconds_f64())
}

#[tokio::test]
async fn a_start_is_estimated_from_what_api_workers_take_and_hold() {
    let db = TestDb::new().await;
    let server = serve(&db.url()).await;
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.push(server.submit("parcel", json!({})).await);
    }
    assert_eq!(foretold(&server, &ids[5]).await, None, "no worker");
    let first = ApiWorker { lease_seconds: 600, ..ApiWorker::new(&server, "w1") };
    let leases = first.claim(json!({"max": 3})).await;
    assert_eq!(foretold(&server, &ids[5]).await, None, "no history");
    sqlx::query("UPDATE job SET started_at = now() - interval '100 seconds' WHERE status = 'RUNNING'")
        .execute(db.pool())
        .await
        .expect("a while ago");
    first.complete(&leases[0], json!({})).await.expect("complete");
    let failure = json!({"code": "NO", "message": "no", "retryable": false});
    first.fail(&leases[1], failure).await.expect("fail");
    first.release(&leases[2]).await.expect("release");
    let (attempts, seconds) = eventually("it is added up", SOON, async || {
        let sums = ended_by_api_workers(&db).await;
        (sums.0 >= 2).then_some(sums)
    })
    .await;
    // One that was given back is no attempt.
    assert!(attempts == 2 && (200.0..230.0).contains(&seconds), "{attempts} attempts took {seconds} s");
    let minute = json!({"from": Utc::now() - chrono::TimeDelta::minutes(5), "to": Utc::now() + chrono::TimeDelta::minutes(1)});
    let query =
        "query ($from: DateTime!, $to: DateTime!) { jobThroughput(from: $from, to: $to) { kind attempts } }";
    let shown = server.data(query, minute).await;
    assert_eq!(shown["jobThroughput"], json!([{"kind": "parcel", "attempts": 2}]));

    // Four wait, for three slots: the fourth starts when the first ends.
    let near = |expected: f64| move |told: f64| (told - expected).abs() < 20.0;
    eventually("three slots", SOON, async || {
        foretold(&server, &ids[5]).await.filter(|told| near(100.0)(*told))
    })
    .await;
    // Another one takes one after the other, so its slots are those that it holds.
    let second = ApiWorker { lease_seconds: 600, ..ApiWorker::new(&server, "w2") };
    for _ in 0..2 {
        assert_eq!(second.claim(json!({})).await.len(), 1);
    }
    let mut last = String::new();
    for _ in 0..6 {
        last = server.submit("parcel", json!({})).await;
    }
    // Eight wait: three start at once, five when those and the two that run have ended.
    eventually("five slots", SOON, async || foretold(&server, &last).await.filter(|told| near(100.0)(*told)))
        .await;
    let workers = server.data("{ workers { id } }", json!({})).await["workers"].take();
    for worker in workers.as_array().expect("workers") {
        server.data("mutation ($id: ID!) { drainWorker(id: $id) { id } }", json!({"id": worker["id"]})).await;
    }
    eventually("nobody will take it", SOON, async || foretold(&server, &last).await.is_none().then_some(()))
        .await;
}

#[tokio::test]
async fn a_job_that_its_receiver_holds_takes_no_slot() {
    let db = TestDb::new().await;
    let worker = db.worker(600).await;
    db.store.add_durations(vec![("echo".to_owned(), 10, 100.0)]).await.expect("report");
    for _ in 0..8 {
        db.submit(echo()).await;
    }
    let claimed = db.claim(worker, 8).await;
    db.submit(echo()).await;
    let forecast = async || {
        let made = db.store.forecast(QUEUE).await.expect("forecast");
        made.forecast.seconds_until(1)
    };
    let start = eventually("a forecast", SOON, &forecast).await;
    assert!(start > 5.0, "all slots are taken: {start}");
    for job in &claimed {
        db.store.hand_over_if_leased(job.lease, "echo", 600).await.expect("hand over");
    }
    eventually("all slots are free", SOON, async || (forecast().await? < 1.0).then_some(())).await;
    // Below a limit it takes room.
    let limit = jobql::store::queue::QueueChange { max_running: Some(Some(8)), ..Default::default() };
    db.store.change_queue(QUEUE, limit).await.expect("a limit");
    eventually("there is no room", SOON, async || forecast().await.is_none().then_some(())).await;
    // What is ended by its receiver is timed as that of nobody's slot.
    db.store.note_external_end(claimed[0].lease);
    let end = jobql::store::finish::AttemptEnd::Done(json!(1));
    let finish = jobql::store::finish::Finish { lease: claimed[0].lease, end };
    db.store.finish_if_leased(finish).await.expect("finish");
    assert_eq!(db.store.add_external_durations().await.expect("add"), 0);
}
