//! Workers over the API: what their leases allow, and what becomes of jobs whose worker says nothing, too much, or the
//! same thing twice.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::api_worker::{ApiWorker, Call, serve};
use crate::support::process::Process;
use crate::support::{SOON, TestDb, eventually};

pub async fn sweep_as_if_expired(db: &TestDb, worker: &str) {
    sqlx::query("UPDATE worker SET expires_at = now() - interval '1 second' WHERE name = $1")
        .bind(worker)
        .execute(db.pool())
        .await
        .expect("expire");
    db.store.sweep().await.expect("sweep");
}

async fn submit(server: &Process, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for number in 0..count {
        ids.push(server.submit("parcel", json!({"number": number})).await);
    }
    ids
}

#[tokio::test]
async fn a_job_goes_from_its_claim_to_its_result() {
    let db = TestDb::new().await;
    let server = serve(&db.url()).await;
    let ids = submit(&server, 3).await;
    let worker = ApiWorker::new(&server, "w1");
    let answer = worker.ask_to_claim(json!({"max": 2})).await;
    let claimed = answer["data"]["claimJobs"].as_array().expect("jobs");
    let numbers: Vec<&Value> = claimed.iter().map(|claimed| &claimed["job"]["payload"]["number"]).collect();
    assert_eq!(numbers, [0, 1], "in the order of the queue: {answer}");
    assert!(claimed.iter().all(|claimed| claimed["job"]["status"] == "RUNNING"));
    let lease = json!({"jobId": claimed[0]["job"]["id"], "token": claimed[0]["leaseToken"]});
    assert_eq!(worker.heartbeat(std::slice::from_ref(&lease)).await, (vec!["HELD".to_owned()], false));
    let job = worker.complete(&lease, json!({"sent": true})).await.expect("complete");
    assert_eq!((&job["status"], &job["result"]), (&json!("DONE"), &json!({"sent": true})));
    assert_eq!(server.job(&ids[0], "attempts { outcome }").await["attempts"], json!([{"outcome": "DONE"}]));
    let workers = server.data("{ workers { name queues kinds slots running state } }", json!({})).await;
    let shown = json!([{"name": "w1", "queues": ["parcel"], "kinds": ["parcel"], "slots": 2, "running": 1, "state": "LIVE"}]);
    assert_eq!(workers["workers"], shown);
}

#[tokio::test]
async fn a_repeated_end_answers_the_job_and_another_end_is_refused() {
    let db = TestDb::new().await;
    let server = serve(&db.url()).await;
    submit(&server, 3).await;
    let worker = ApiWorker::new(&server, "w1");
    let leases = worker.claim(json!({"max": 3})).await;
    let error = || json!({"code": "NO", "message": "no"});
    let ends = [Call::Complete(json!({})), Call::Fail(error()), Call::Release];
    for (index, end) in ends.iter().enumerate() {
        let first = worker.call(&leases[index], end.clone()).await.expect("the first");
        let again = worker.call(&leases[index], end.clone()).await.expect("the second");
        assert_eq!(first, again, "{end:?}");
        for (other_index, other) in ends.iter().enumerate() {
            if other_index != index {
                let refused = worker.call(&leases[index], other.clone()).await;
                assert_eq!(refused, Err("LEASE_LOST".to_owned()), "{end:?}, then {other:?}");
            }
        }
        for late in
            [Call::Progress(json!({"fraction": 0.5})), Call::Logs(json!([{"stream": "STDOUT", "text": "x"}]))]
        {
            assert_eq!(
                worker.call(&leases[index], late.clone()).await,
                Err("LEASE_LOST".to_owned()),
                "{late:?}"
            );
        }
    }
    // The released job runs again by now; its first lease still tells of its own end.
    let present = worker.claim(json!({})).await;
    assert_eq!(present[0]["jobId"], leases[2]["jobId"]);
    let again = worker.release(&leases[2]).await.expect("the end of that lease");
    assert_eq!((&again["status"], &again["attempt"]), (&json!("RUNNING"), &json!(1)));
    worker.complete(&present[0], json!({})).await.expect("the present lease is untouched");
}

#[tokio::test]
async fn a_stale_lease_is_lost_and_changes_nothing() {
    let db = TestDb::new().await;
    let server = serve(&db.url()).await;
    let ids = submit(&server, 1).await;
    let (zombie, other) = (ApiWorker::new(&server, "zombie"), ApiWorker::new(&server, "other"));
    let stale = zombie.claim(json!({})).await.remove(0);
    sweep_as_if_expired(&db, "zombie").await;
    let present = other.claim(json!({})).await.remove(0);
    let before = server.job(&ids[0], "version status progress { message }").await;
    let lines = json!([{"stream": "STDOUT", "text": "late"}]);
    let late = [
        Call::Complete(json!({})),
        Call::Fail(json!({"code": "A", "message": "b"})),
        Call::Release,
        Call::Progress(json!({"message": "late"})),
        Call::Logs(lines),
    ];
    for call in late {
        assert_eq!(zombie.call(&stale, call.clone()).await, Err("LEASE_LOST".to_owned()), "{call:?}");
    }
    assert_eq!(zombie.heartbeat(std::slice::from_ref(&stale)).await.0, ["LOST"]);
    assert_eq!(server.job(&ids[0], "version status progress { message }").await, before);
    assert_eq!(server.job(&ids[0], "logs { nodes { text } }").await["logs"]["nodes"], json!([]));
    other.complete(&present, json!({})).await.expect("the present holder may");
}

#[tokio::test]
async fn a_token_is_good_for_its_job_and_its_worker_only() {
    let db = TestDb::new().await;
    let server = serve(&db.url()).await;
    submit(&server, 2).await;
    let (one, two) = (ApiWorker::new(&server, "one"), ApiWorker::new(&server, "two"));
    let (of_one, of_two) = (one.claim(json!({})).await.remove(0), two.claim(json!({})).await.remove(0));
    let swapped = json!({"jobId": of_one["jobId"], "token": of_two["token"]});
    assert_eq!(two.complete(&swapped, json!({})).await, Err("LEASE_LOST".to_owned()));
    let garbage = json!({"jobId": of_one["jobId"], "token": "secret"});
    assert_eq!(two.complete(&garbage, json!({})).await, Err("BAD_USER_INPUT".to_owned()));
    // A heartbeat moves the leases of its own worker only.
    assert_eq!(two.heartbeat(&[of_one.clone(), of_two.clone(), swapped]).await.0, ["LOST", "HELD", "LOST"]);
    assert_eq!(one.heartbeat(std::slice::from_ref(&of_one)).await.0, ["HELD"]);
}

#[tokio::test]
async fn a_repeated_claim_brings_the_same_leases_from_any_process() {
    let db = TestDb::new().await;
    let (server, second) = (serve(&db.url()).await, serve(&db.url()).await);
    submit(&server, 5).await;
    let worker = ApiWorker::new(&server, "w1");
    let claim = json!({"max": 2, "claimId": "c1"});
    let first = worker.claim(claim.clone()).await;
    assert_eq!(first.len(), 2);
    assert_eq!(worker.claim(claim.clone()).await, first);
    assert_eq!(worker.at(&second).claim(claim.clone()).await, first);
    worker.complete(&first[0], json!({})).await.expect("complete");
    assert_eq!(worker.claim(claim).await, first[1..], "those that are still held");
    // Another worker's claim of the same name is another claim.
    let other = ApiWorker::new(&server, "w2").claim(json!({"claimId": "c1"})).await;
    assert!(other.len() == 1 && !first.contains(&other[0]));
    // At the same time, from two processes.
    let (elsewhere, claim) = (worker.at(&second), json!({"max": 2, "claimId": "c2"}));
    let (one, two) = tokio::join!(worker.claim(claim.clone()), elsewhere.claim(claim));
    assert_eq!((one.len(), one), (2, two));
}

#[tokio::test]
async fn a_job_that_no_heartbeat_names_goes_back_after_a_lease() {
    let db = TestDb::new().await;
    let server = serve(&db.url()).await;
    let ids = submit(&server, 2).await;
    let worker = ApiWorker::new(&server, "w1");
    let leases = worker.claim(json!({"max": 2})).await;
    assert_eq!(worker.heartbeat(&leases[..1]).await.0, ["HELD"]);
    assert_eq!(server.job(&ids[1], "status").await["status"], "RUNNING", "its lease is not over");
    sqlx::query("UPDATE job SET started_at = now() - interval '31 seconds' WHERE status = 'RUNNING'")
        .execute(db.pool())
        .await
        .expect("a lease ago");
    assert_eq!(worker.heartbeat(&leases[..1]).await.0, ["HELD"]);
    assert_eq!(server.job(&ids[1], "status attempt").await, json!({"status": "PENDING", "attempt": 1}));
    assert_eq!(worker.heartbeat(&leases).await.0, ["HELD", "LOST"]);
}

#[tokio::test]
async fn cancel_and_drain_reach_the_worker_by_its_heartbeat() {
    let db = TestDb::new().await;
    let server = serve(&db.url()).await;
    let ids = submit(&server, 4).await;
    let worker = ApiWorker::new(&server, "w1");
    let leases = worker.claim(json!({"max": 3})).await;
    for id in &ids[..2] {
        server.data("mutation ($id: ID!) { cancelJob(id: $id) { status } }", json!({"id": id})).await;
    }
    let (states, drain) = worker.heartbeat(&leases).await;
    assert_eq!(
        (states, drain),
        (["CANCEL_REQUESTED", "CANCEL_REQUESTED", "HELD"].map(str::to_owned).to_vec(), false)
    );
    let job = worker.release(&leases[0]).await.expect("release");
    assert_eq!(job["status"], "CANCELLED");
    let job = worker.fail(&leases[1], json!({"code": "STOPPED", "message": "stopped"})).await.expect("fail");
    assert_eq!(job["status"], "CANCELLED");

    let workers = server.data("{ workers { id } }", json!({})).await;
    let drained = "mutation ($id: ID!) { drainWorker(id: $id) { name state } }";
    let answer = server.data(drained, json!({"id": workers["workers"][0]["id"]})).await;
    assert_eq!(answer["drainWorker"], json!({"name": "w1", "state": "DRAINING"}));
    assert_eq!(worker.heartbeat(&leases[2..]).await, (vec!["HELD".to_owned()], true));
    assert!(worker.claim(json!({})).await.is_empty(), "a worker that drains gets nothing");
    worker.complete(&leases[2], json!({})).await.expect("it finishes what it has");
    let unknown = server.ask(drained, json!({"id": ids[0]})).await;
    assert_eq!(unknown["errors"][0]["extensions"]["code"], "NOT_FOUND");
}

#[tokio::test]
async fn the_jobs_of_a_worker_that_falls_silent_go_to_others() {
    let db = TestDb::new().await;
    let server = serve(&db.url()).await;
    let ids = submit(&server, 1).await;
    let silent = ApiWorker { lease_seconds: 5, ..ApiWorker::new(&server, "silent") };
    let lost = silent.claim(json!({})).await.remove(0);
    // It says nothing; the other one waits for the job, and must have it within lease + sweep + 1 s.
    let other = ApiWorker::new(&server, "other");
    let started = std::time::Instant::now();
    let taken = other.claim(json!({"waitSeconds": 25})).await;
    assert_eq!(taken[0]["jobId"], ids[0]);
    assert!(started.elapsed() <= Duration::from_secs(5 + 5 + 1), "{:?}", started.elapsed());
    assert!(started.elapsed() >= Duration::from_secs(4), "not before its lease was over");
    assert_eq!(silent.complete(&lost, json!({})).await, Err("LEASE_LOST".to_owned()));
    let attempts = server.job(&ids[0], "attempts { outcome number }").await;
    assert_eq!(attempts["attempts"], json!([{"outcome": "WORKER_LOST", "number": 1}]));
    // Its next claim registers it anew; a worker that held nothing leaves no trace.
    assert!(silent.claim(json!({})).await.is_empty());
    let states = server.data("{ workers { name state } }", json!({})).await;
    let of_silent = states["workers"].as_array().expect("workers").iter().filter(|w| w["name"] == "silent");
    assert_eq!(of_silent.map(|w| w["state"].as_str().expect("state")).collect::<Vec<_>>(), ["LOST", "LIVE"]);
    sweep_as_if_expired(&db, "silent").await;
    let states = server.data("{ workers { name state } }", json!({})).await;
    assert_eq!(states["workers"].as_array().expect("workers").len(), 2, "{states}");
}

#[tokio::test]
async fn an_attempt_that_runs_longer_than_it_may_is_ended_although_its_worker_lives() {
    let db = TestDb::new().await;
    let server = serve(&db.url()).await;
    let ids = submit(&server, 1).await;
    let worker = ApiWorker::new(&server, "w1");
    let lease = worker.claim(json!({})).await.remove(0);
    sqlx::query("UPDATE job SET started_at = now() - interval '601 seconds'")
        .execute(db.pool())
        .await
        .expect("late");
    eventually("the attempt is ended", SOON, async || {
        let job = server.job(&ids[0], "status attempts { outcome error { code } }").await;
        let ended = json!([{"outcome": "TIMEOUT", "error": {"code": "TIMEOUT"}}]);
        (job["status"] == "SCHEDULED" && job["attempts"] == ended).then_some(())
    })
    .await;
    assert_eq!(worker.heartbeat(std::slice::from_ref(&lease)).await.0, ["LOST"]);
}

#[tokio::test]
async fn a_failure_is_tried_again_when_the_worker_says_and_a_misfit_is_final() {
    let db = TestDb::new().await;
    let server = serve(&db.url()).await;
    submit(&server, 4).await;
    let worker = ApiWorker::new(&server, "w1");
    let leases = worker.claim(json!({"max": 4})).await;
    let retry_at = chrono::Utc::now() + chrono::TimeDelta::hours(2);
    let error = json!({"code": "BUSY", "message": "later", "retryAt": retry_at.to_rfc3339()});
    let job = worker.fail(&leases[0], error).await.expect("fail");
    let run_at =
        chrono::DateTime::parse_from_rfc3339(job["runAt"].as_str().expect("runAt")).expect("an instant");
    assert!((run_at.to_utc() - retry_at).abs() < chrono::TimeDelta::seconds(10), "{job}");
    let job = worker.fail(&leases[1], json!({"code": "BUSY", "message": "later"})).await.expect("fail");
    let run_at =
        chrono::DateTime::parse_from_rfc3339(job["runAt"].as_str().expect("runAt")).expect("an instant");
    let wait = (run_at.to_utc() - chrono::Utc::now()).num_seconds();
    assert!((20..=60).contains(&wait), "the kind's back-off: {wait}");
    let fatal = json!({"code": "BAD", "message": "never", "retryable": false, "details": {"line": 7}});
    let job = worker.fail(&leases[2], fatal).await.expect("fail");
    assert_eq!((&job["status"], &job["error"]["code"]), (&json!("ERROR"), &json!("BAD")));
    let job = worker.complete(&leases[3], json!("not an object")).await.expect("ended");
    assert_eq!((&job["status"], &job["error"]["code"]), (&json!("ERROR"), &json!("INVALID_RESULT")));
    assert_eq!(worker.complete(&leases[3], json!("not an object")).await.expect("repeated"), job);
}

#[tokio::test]
async fn progress_and_logs_are_kept_within_bounds() {
    let db = TestDb::new().await;
    let server = serve(&db.url()).await;
    let ids = submit(&server, 1).await;
    // However long the reports take: it is not their lease that this is about.
    let worker = ApiWorker { lease_seconds: 600, ..ApiWorker::new(&server, "w1") };
    let lease = worker.claim(json!({})).await.remove(0);
    let versions = server.job(&ids[0], "version").await["version"].as_i64().expect("a version");
    let started = std::time::Instant::now();
    let reports = (0..=50).map(|step| {
        let progress = json!({"fraction": f64::from(step) / 50.0, "message": format!("step {step}")});
        worker.call(&lease, Call::Progress(progress))
    });
    for report in futures_util::future::join_all(reports).await {
        report.expect("every report is answered");
    }
    let job = server.job(&ids[0], "version").await;
    let written = job["version"].as_i64().expect("a version") - versions;
    let most = 2 + i64::try_from(started.elapsed().as_millis() / 250).expect("short");
    assert!((1..=most).contains(&written), "{written} writes in {:?}", started.elapsed());
    let last = worker.call(&lease, Call::Progress(json!({"message": "nearly"}))).await.expect("progress");
    assert_eq!(last["progress"]["message"], "nearly");

    let lines =
        json!([{"stream": "STDOUT", "text": "one\ntwo"}, {"stream": "STDERR", "text": "x".repeat(5_000)}]);
    assert_eq!(worker.call(&lease, Call::Logs(lines)).await, Ok(json!(true)));
    let logs = server.job(&ids[0], "logs { nodes { text stream } }").await["logs"]["nodes"].clone();
    let texts: Vec<usize> = logs
        .as_array()
        .expect("lines")
        .iter()
        .map(|line| line["text"].as_str().expect("text").len())
        .collect();
    assert_eq!(texts, [3, 3, 4_096]);
    let full: Vec<Value> = (0..300).map(|_| json!({"stream": "STDOUT", "text": "y".repeat(4_096)})).collect();
    assert_eq!(worker.call(&lease, Call::Logs(json!(full))).await, Ok(json!(false)));
    assert_eq!(worker.call(&lease, Call::Logs(json!(full[..1]))).await, Ok(json!(false)));
    let kept: i64 = sqlx::query_scalar("SELECT sum(octet_length(text)) FROM job_log")
        .fetch_one(db.pool())
        .await
        .expect("sum");
    assert!(kept <= (1 << 20) + 64, "{kept}");
}

#[tokio::test]
async fn what_is_out_of_range_is_named_and_changes_nothing() {
    let db = TestDb::new().await;
    let server = serve(&db.url()).await;
    submit(&server, 1).await;
    let worker = ApiWorker::new(&server, "w1");
    for (more, field) in [
        (json!({"max": 0}), "input.max"),
        (json!({"max": 501}), "input.max"),
        (json!({"leaseSeconds": 4}), "input.leaseSeconds"),
        (json!({"leaseSeconds": 3601}), "input.leaseSeconds"),
        (json!({"waitSeconds": 26}), "input.waitSeconds"),
        (json!({"workerId": ""}), "input.workerId"),
        (json!({"claimId": "x".repeat(129)}), "input.claimId"),
        (json!({"queues": []}), "input.queues"),
        (json!({"queues": ["nowhere"]}), "input.queues[0]"),
        (json!({"queues": ["parcel", "default"]}), "input.queues[1]"),
    ] {
        let answer = worker.ask_to_claim(more.clone()).await;
        let extensions = &answer["errors"][0]["extensions"];
        assert_eq!(
            (&extensions["code"], &extensions["field"]),
            (&json!("BAD_USER_INPUT"), &json!(field)),
            "{more}"
        );
    }
    assert_eq!(server.data("{ workers { id } }", json!({})).await["workers"], json!([]));
    let lease = worker.claim(json!({})).await.remove(0);
    for (call, code) in [
        (Call::Fail(json!({"code": "", "message": ""})), "BAD_USER_INPUT"),
        (
            Call::Fail(json!({"code": "A", "message": "", "retryAt": "2126-01-01T00:00:00Z"})),
            "BAD_USER_INPUT",
        ),
        (Call::Progress(json!({"fraction": 1.5})), "BAD_USER_INPUT"),
        (Call::Logs(json!(vec![json!({"stream": "STDOUT", "text": ""}); 501])), "BAD_USER_INPUT"),
        (Call::Complete(json!({"a": "\u{0}"})), "INVALID_PAYLOAD"),
        (Call::Complete(json!({"a": "x".repeat(1 << 20)})), "PAYLOAD_TOO_LARGE"),
    ] {
        assert_eq!(worker.call(&lease, call.clone()).await, Err(code.to_owned()), "{call:?}");
    }
    // In a literal, which no scan of the body's text has seen.
    let id = lease["jobId"].as_str().expect("id");
    let token = lease["token"].as_str().expect("token");
    let literal = format!(
        r#"mutation {{ appendLogs(lease: {{jobId: "{id}", token: "{token}"}}, lines: [{{stream: STDOUT, text: "\u0000"}}]) }}"#
    );
    let answer = server.ask(&literal, json!({})).await;
    assert_eq!(answer["errors"][0]["extensions"]["code"], "INVALID_PAYLOAD", "{answer}");
    worker.complete(&lease, json!({})).await.expect("the lease is as it was");
}

#[tokio::test]
async fn limits_and_pauses_hold_for_api_workers() {
    let db = TestDb::new().await;
    let server = serve(&db.url()).await;
    submit(&server, 6).await;
    let configure =
        "mutation ($max: Int) { configureQueue(name: \"parcel\", maxRunning: $max) { maxRunning } }";
    server.data(configure, json!({"max": 2})).await;
    let workers: Vec<ApiWorker> = (0..4).map(|n| ApiWorker::new(&server, &format!("w{n}"))).collect();
    let claims = workers.iter().map(|worker| worker.claim(json!({"max": 3})));
    let claimed: Vec<Value> = futures_util::future::join_all(claims).await.concat();
    assert_eq!(claimed.len(), 2);
    server.data(configure, json!({"max": null})).await;
    server.data("mutation { pauseQueue(name: \"parcel\") { paused } }", json!({})).await;
    assert!(workers[0].claim(json!({"max": 3})).await.is_empty());
    server.data("mutation { resumeQueue(name: \"parcel\") { paused } }", json!({})).await;
    assert_eq!(workers[0].claim(json!({"max": 10})).await.len(), 4);
}

#[tokio::test]
async fn a_job_that_lost_a_worker_is_held_one_at_a_time() {
    let db = TestDb::new().await;
    let server = serve(&db.url()).await;
    submit(&server, 3).await;
    let (first, second) = (ApiWorker::new(&server, "w1"), ApiWorker::new(&server, "w2"));
    assert_eq!(first.claim(json!({"max": 2})).await.len(), 2);
    sweep_as_if_expired(&db, "w1").await;
    let held = second.claim(json!({"max": 3})).await;
    assert_eq!(held.len(), 2, "one suspect, and the job that is none");
    assert!(second.claim(json!({"max": 3})).await.is_empty());
    for lease in &held {
        second.complete(lease, json!({})).await.expect("complete");
    }
    assert_eq!(second.claim(json!({"max": 3})).await.len(), 1);
}

#[tokio::test]
async fn a_server_that_stops_answers_claims_that_wait_and_the_next_one_goes_on() {
    let db = TestDb::new().await;
    let mut server = serve(&db.url()).await;
    let worker = ApiWorker::new(&server, "w1");
    let waiting = tokio::spawn({
        let worker = worker.clone();
        async move { worker.claim(json!({"waitSeconds": 25})).await }
    });
    eventually("the claim waits", SOON, async || {
        let workers = server.data("{ workers { name } }", json!({})).await;
        (workers["workers"][0]["name"] == "w1").then_some(())
    })
    .await;
    server.signal(Signal::SIGTERM);
    let answer =
        tokio::time::timeout(Duration::from_secs(3), waiting).await.expect("at once").expect("a claim");
    assert!(answer.is_empty());
    assert!(server.ended(SOON).await.success());
    let next = serve(&db.url()).await;
    submit(&next, 1).await;
    assert_eq!(worker.at(&next).claim(json!({})).await.len(), 1);
}
