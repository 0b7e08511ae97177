//! Lists: newest first, each job once on a walk, filters that mean what they say.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use entity::{JobStatus, job};
use jobql::job::submission::Submission;
use jobql::job::viewer::Viewer;
use jobql::store::list::{JobFilter, JobPage, Page, PageEnd};
use serde_json::json;
use uuid::Uuid;

use crate::support::process::Process;
use crate::support::{ANYONE, SOON, TestDb, echo, eventually, kind};

fn newest(limit: u64, after: Option<Uuid>) -> Page {
    Page { after, before: None, limit, from: PageEnd::Newest, columns: None }
}

fn oldest(limit: u64, before: Option<Uuid>) -> Page {
    Page { after: None, before, limit, from: PageEnd::Oldest, columns: None }
}

/// A page, and whether jobs lie beyond its ends.
struct Listed {
    jobs: Vec<job::Model>,
    has_next: bool,
    has_previous: bool,
}

async fn list(db: &TestDb, filter: &JobFilter, page: Page) -> Listed {
    list_as(&ANYONE, db, filter, page).await
}

async fn list_as(viewer: &Viewer, db: &TestDb, filter: &JobFilter, page: Page) -> Listed {
    let JobPage { jobs, next, previous } = db.store.list_jobs(viewer, filter, &page).await.expect("list");
    let lies = async |beyond| db.store.lies_beyond(viewer, filter, beyond).await.expect("a look");
    Listed { jobs, has_next: lies(next).await, has_previous: lies(previous).await }
}

fn ids(page: &Listed) -> Vec<Uuid> {
    page.jobs.iter().map(|job| job.id).collect()
}

#[tokio::test]
async fn pages_from_either_end_are_newest_first_and_know_what_lies_beyond() {
    let db = TestDb::new().await;
    let mut all: Vec<Uuid> = Vec::new();
    for _ in 0..7 {
        all.insert(0, db.submit(echo()).await.id);
    }
    let none = JobFilter::default();
    let first = list(&db, &none, newest(3, None)).await;
    assert_eq!((ids(&first), first.has_next, first.has_previous), (all[..3].to_vec(), true, false));
    let second = list(&db, &none, newest(3, Some(all[2]))).await;
    assert_eq!((ids(&second), second.has_next, second.has_previous), (all[3..6].to_vec(), true, true));
    let third = list(&db, &none, newest(3, Some(all[5]))).await;
    assert_eq!((ids(&third), third.has_next, third.has_previous), (all[6..].to_vec(), false, true));
    let last = list(&db, &none, oldest(3, None)).await;
    assert_eq!((ids(&last), last.has_next, last.has_previous), (all[4..].to_vec(), false, true));
    let before = list(&db, &none, oldest(3, Some(all[2]))).await;
    assert_eq!((ids(&before), before.has_next, before.has_previous), (all[..2].to_vec(), true, false));
    let exact = list(&db, &none, newest(7, None)).await;
    assert_eq!((exact.jobs.len(), exact.has_next), (7, false));
}

#[tokio::test]
async fn filters_combine_with_and_and_an_empty_list_matches_nothing() {
    let db = TestDb::new().await;
    let cancelled = db.submit(echo()).await;
    db.store.cancel_job(&ANYONE, cancelled.id).await.expect("cancel");
    let of_b = db.submit(Submission { client_id: Some("b".to_owned()), ..kind("fail", json!({})) }).await;
    let plain = db.submit(echo()).await;
    let in_workflow = db.submit(echo()).await;
    let workflow = Uuid::now_v7();
    sqlx::query("UPDATE job SET workflow_id = $1 WHERE id = $2")
        .bind(workflow)
        .bind(in_workflow.id)
        .execute(db.pool())
        .await
        .expect("workflow");
    let some = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    let none = JobFilter::default;
    let cases = [
        (none(), vec![in_workflow.id, plain.id, of_b.id, cancelled.id]),
        (JobFilter { status: Some(vec![]), ..none() }, vec![]),
        (JobFilter { kind: Some(vec![]), ..none() }, vec![]),
        (JobFilter { queue: Some(vec![]), ..none() }, vec![]),
        (
            JobFilter { status: Some(vec![JobStatus::Cancelled, JobStatus::Done]), ..none() },
            vec![cancelled.id],
        ),
        (JobFilter { client_id: Some("b".to_owned()), ..none() }, vec![of_b.id]),
        (JobFilter { client_id: Some("b".to_owned()), kind: some(&["echo"]), ..none() }, vec![]),
        (JobFilter { kind: some(&["fail", "sum"]), ..none() }, vec![of_b.id]),
        (JobFilter { queue: some(&["elsewhere"]), ..none() }, vec![]),
        (JobFilter { workflow_id: Some(workflow), ..none() }, vec![in_workflow.id]),
        (JobFilter { created_after: Some(of_b.created_at), ..none() }, vec![in_workflow.id, plain.id]),
        (JobFilter { created_before: Some(of_b.created_at), ..none() }, vec![cancelled.id]),
    ];
    for (filter, expected) in cases {
        let page = list(&db, &filter, newest(50, None)).await;
        assert_eq!(ids(&page), expected, "{filter:?}");
        let count = db.store.count_jobs(&ANYONE, &filter).await.expect("count");
        assert_eq!(count, expected.len() as u64, "{filter:?}");
    }
    let own = Viewer::Client("b".to_owned());
    let seen = list_as(&own, &db, &none(), newest(50, None)).await;
    assert_eq!(ids(&seen), [of_b.id]);
    assert_eq!(db.store.count_jobs(&own, &none()).await.expect("count"), 1);
    assert!(db.store.positions(&own, &[plain.id]).await.expect("positions").is_empty());
    assert!(db.store.job(&own, plain.id).await.expect("read").is_none());
}

#[tokio::test]
async fn a_walk_sees_each_job_that_was_there_throughout_exactly_once() {
    let db = Arc::new(TestDb::new().await);
    let there = db.store.submit_all((0..200).map(|_| db.new_job(echo())).collect()).await.expect("submit");
    let stop = Arc::new(AtomicBool::new(false));
    let disturbing = {
        let (db, stop) = (db.clone(), stop.clone());
        let ids: Vec<Uuid> = there.iter().map(|submitted| submitted.job.id).collect();
        tokio::spawn(async move {
            let mut round = 0;
            while !stop.load(Ordering::Relaxed) {
                db.submit(echo()).await;
                db.store.cancel_job(&ANYONE, ids[round * 7 % ids.len()]).await.expect("cancel");
                round += 1;
            }
        })
    };
    for from in [PageEnd::Newest, PageEnd::Oldest] {
        let mut seen: HashMap<Uuid, u32> = HashMap::new();
        let mut cursor = None;
        loop {
            let page = match from {
                PageEnd::Newest => newest(7, cursor),
                PageEnd::Oldest => oldest(7, cursor),
            };
            let page = list(&db, &JobFilter::default(), page).await;
            for job in &page.jobs {
                *seen.entry(job.id).or_default() += 1;
            }
            let (edge, more) = match from {
                PageEnd::Newest => (page.jobs.last(), page.has_next),
                // Towards the newest there is always one more; the walk ends behind those that were there.
                PageEnd::Oldest => {
                    let first = page.jobs.first();
                    (first, page.has_previous && first.is_some_and(|job| job.id <= there[199].job.id))
                }
            };
            cursor = edge.map(|job| job.id);
            if !more {
                break;
            }
        }
        assert!(seen.values().all(|times| *times == 1), "{from:?}: some were seen twice");
        assert!(
            there.iter().all(|submitted| seen.contains_key(&submitted.job.id)),
            "{from:?}: some were missed"
        );
    }
    stop.store(true, Ordering::Relaxed);
    disturbing.await.expect("disturbing");
}

#[tokio::test]
async fn a_list_that_reads_few_columns_shows_what_the_job_shows() {
    let db = TestDb::new().await;
    let server = Process::serve(&db.url(), &["--slots", "2"]).await;
    let submit = "mutation ($input: SubmitJobInput!) { submitJob(input: $input) { job { id } } }";
    let ahead = |days| (chrono::Utc::now() + chrono::TimeDelta::days(days)).to_rfc3339();
    let mut ids = Vec::new();
    for (input, end) in [
        (
            json!({"kind": "sleep", "payload": {"seconds": 0.6}, "requestId": "r", "displayName": "a name"}),
            "DONE",
        ),
        (json!({"kind": "fail", "payload": {"message": "no", "retryable": false}, "priority": 7}), "ERROR"),
        (json!({"kind": "echo", "runAt": ahead(1), "startBefore": ahead(2), "clientId": "c"}), "SCHEDULED"),
    ] {
        let data = server.data(submit, json!({"input": input})).await;
        let id = data["submitJob"]["job"]["id"].as_str().expect("an id").to_owned();
        eventually("it stands still", SOON, async || {
            (server.job(&id, "status").await["status"] == end).then_some(())
        })
        .await;
        ids.insert(0, id);
    }
    let fields = server
        .data(
            "{ __type(name: \"Job\") { fields { name type { kind ofType { kind ofType { kind ofType { kind } } } } } } }",
            json!({}),
        )
        .await["__type"]["fields"]
        .take();
    let fields = fields.as_array().expect("fields");
    assert!(fields.len() > 25, "{fields:?}");
    for field in fields {
        let name = field["name"].as_str().expect("a name");
        let selected = match name {
            "error" => "error { code message retryable }".to_owned(),
            "progress" => "progress { fraction message updatedAt }".to_owned(),
            _ if field["type"].to_string().contains("OBJECT") => format!("{name} {{ __typename }}"),
            _ => name.to_owned(),
        };
        let list = format!(
            "fragment F on Job {{ its: {selected} }}
             {{ jobs {{ nodes {{ ...F }} edges {{ node {{ ... on Node {{ id }} ...F }} }} }} }}"
        );
        let listed = server.data(&list, json!({})).await["jobs"].take();
        // Without fragments plain fields do not go the engine's way.
        let list =
            format!("{{ jobs {{ nodes {{ its: {selected} }} edges {{ node {{ id its: {selected} }} }} }} }}");
        assert_eq!(server.data(&list, json!({})).await["jobs"], listed, "{name}");
        for (index, id) in ids.iter().enumerate() {
            let its = server.job(id, &format!("its: {selected}")).await["its"].take();
            assert_eq!(listed["nodes"][index], json!({"its": its}), "{name}");
            assert_eq!(listed["edges"][index]["node"], json!({"id": id, "its": its}), "{name}");
        }
    }
}

#[tokio::test]
async fn what_is_resolved_at_once_is_what_the_engine_gives() {
    let db = TestDb::new().await;
    let server = Process::serve(&db.url(), &["--slots", "0"]).await;
    let inputs = json!([
        {"kind": "echo", "payload": {"n": [1, null]}, "requestId": "one", "priority": 3},
        {"kind": "sum", "payload": {"start": 1, "end": 2}, "requestId": "two", "clientId": "c"},
    ]);
    let all_at_once = "job { id version its: payload } created __typename";
    let by_the_engine =
        "... on SubmitJobPayload { job { id } } job { version its: payload } created __typename";
    let merged = "job { id } created job { version its: payload } __typename";
    let with_an_error = "job { id position: queuePosition { ahead } } created";
    let mut answers = Vec::new();
    for selected in [all_at_once, all_at_once, by_the_engine, merged, with_an_error] {
        let submit = format!(
            "mutation ($inputs: [SubmitJobInput!]!, $input: SubmitJobInput!) {{
                 submitJobs(inputs: $inputs) {{ {selected} }} submitJob(input: $input) {{ {selected} }} }}"
        );
        answers.push(server.data(&submit, json!({"inputs": inputs, "input": inputs[0]})).await);
    }
    assert_eq!(answers[0]["submitJobs"][0]["created"], true);
    assert_eq!(answers[0]["submitJob"]["created"], false);
    let second = &answers[1];
    assert_eq!(second["submitJobs"][0], second["submitJob"]);
    assert_eq!(second["submitJobs"][1]["job"]["its"], inputs[1]["payload"]);
    assert_eq!(second["submitJobs"][1]["__typename"], "SubmitJobPayload");
    assert_eq!((&answers[2], &answers[3]), (second, second));
    assert_eq!(answers[4]["submitJobs"][1]["job"]["position"], json!({"ahead": 1}));
    // Members stand in the order in which they were asked for.
    let asked = json!({"query": "{ jobs(first: 1) { edges { cursor node { version id } } } }"});
    let answer = reqwest::Client::new().post(&server.url).json(&asked).send().await.expect("an answer");
    let text = answer.text().await.expect("a text");
    let order = ["cursor", "node", "version", "id"].map(|name| text.find(&format!("\"{name}\"")));
    assert!(order.is_sorted() && order[0].is_some(), "{text}");
}
