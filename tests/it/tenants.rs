//! Tenants: what the store gives, and lets change, on behalf of a client and of a worker.

use std::sync::Arc;

use entity::JobStatus;
use jobql::error::Error;
use jobql::job::submission::Submission;
use jobql::job::viewer::{Viewer, WorkerScope};
use jobql::store::bulk::BulkAction;
use jobql::store::list::{JobFilter, Page, PageEnd};
use jobql::store::update::JobChange;
use serde_json::json;
use uuid::Uuid;

use crate::support::{ANYONE, TestDb, kind};

fn client(id: &str) -> Viewer {
    Viewer::Client(id.to_owned())
}

fn worker_of(kinds: &[&str]) -> Viewer {
    let kinds = kinds.iter().map(|&kind| kind.to_owned()).collect();
    Viewer::Worker(Arc::new(WorkerScope { token: "t".to_owned(), name: String::new(), kinds }))
}

async fn submitted(db: &TestDb, client_id: &str, of_kind: &str) -> Uuid {
    let submission = Submission {
        client_id: Some(client_id.to_owned()),
        request_id: Some("same".to_owned()),
        ..kind(of_kind, json!({"start": 1, "end": 2}))
    };
    db.submit(submission).await.id
}

/// All that the viewer is given, in lists, counts, positions and one at a time.
async fn seen(db: &TestDb, viewer: &Viewer, ids: &[Uuid]) -> Vec<Uuid> {
    let page = Page { after: None, before: None, limit: 50, from: PageEnd::Oldest, columns: None };
    let listed = db.store.list_jobs(viewer, &JobFilter::default(), &page).await.expect("list").jobs;
    let mut listed: Vec<Uuid> = listed.iter().map(|job| job.id).collect();
    listed.sort_unstable();
    let count = db.store.count_jobs(viewer, &JobFilter::default()).await.expect("count");
    assert_eq!(count, listed.len() as u64);
    let mut positions: Vec<Uuid> =
        db.store.positions(viewer, ids).await.expect("positions").into_keys().collect();
    positions.sort_unstable();
    assert_eq!(positions, listed);
    for id in ids {
        let job = db.store.job(viewer, *id).await.expect("read");
        assert_eq!(job.is_some(), listed.contains(id));
    }
    listed
}

#[tokio::test]
async fn a_client_sees_its_own_jobs_and_a_worker_those_of_its_kinds() {
    let db = TestDb::new().await;
    let a = submitted(&db, "a", "sum").await;
    let b = submitted(&db, "b", "sum").await;
    let c = submitted(&db, "b-too", "echo").await;
    let all = [a, b, c];
    assert_eq!(seen(&db, &ANYONE, &all).await, all);
    assert_eq!(seen(&db, &client("a"), &all).await, [a]);
    assert_eq!(seen(&db, &client("b"), &all).await, [b]);
    assert!(seen(&db, &client("c"), &all).await.is_empty());
    assert_eq!(seen(&db, &worker_of(&["sum", "sleep"]), &all).await, [a, b]);
    assert_eq!(seen(&db, &worker_of(&["echo"]), &all).await, [c]);
    assert!(seen(&db, &worker_of(&[]), &all).await.is_empty());
    for (viewer, found) in [
        (client("a"), None),
        (client("b"), Some(b)),
        (worker_of(&["sum"]), Some(b)),
        (worker_of(&["echo"]), None),
    ] {
        let job = db.store.job_by_request(&viewer, "b", "same").await.expect("read");
        assert_eq!(job.map(|job| job.id), found, "{viewer:?}");
    }
}

#[tokio::test]
async fn a_list_of_a_client_holds_what_its_viewer_may_see_however_it_is_found() {
    let db = TestDb::new().await;
    let mut all = Vec::new();
    for (client_id, kind_name) in
        [("a", "sum"), ("b", "sum"), ("b", "echo"), ("b", "echo"), ("b", "sum"), ("c", "echo")]
    {
        let submission = Submission {
            client_id: Some(client_id.to_owned()),
            ..kind(kind_name, json!({"start": 1, "end": 2}))
        };
        all.push(db.submit(submission).await);
    }
    all.reverse();
    let ids: Vec<Uuid> = all.iter().map(|job| job.id).collect();
    let named = |client_id: Option<&str>| JobFilter {
        client_id: client_id.map(str::to_owned),
        ..JobFilter::default()
    };
    for viewer in [ANYONE, client("a"), client("b"), worker_of(&["sum"]), worker_of(&["echo"])] {
        for client_id in [None, Some("a"), Some("b"), Some("nobody")] {
            for filter in [
                named(client_id),
                JobFilter { ids: Some(ids.clone()), ..named(client_id) },
                JobFilter { kind: Some(vec!["sum".to_owned()]), ..named(client_id) },
            ] {
                let kinds = filter.kind.as_ref();
                let seen: Vec<Uuid> = all
                    .iter()
                    .filter(|job| viewer.may_see(&job.client_id, &job.kind))
                    .filter(|job| client_id.is_none_or(|client_id| client_id == job.client_id))
                    .filter(|job| kinds.is_none_or(|kinds| kinds.contains(&job.kind)))
                    .map(|job| job.id)
                    .collect();
                let what = format!("{viewer:?}, {filter:?}");
                assert_eq!(walked(&db, &viewer, &filter, PageEnd::Newest).await, seen, "{what}");
                assert_eq!(walked(&db, &viewer, &filter, PageEnd::Oldest).await, seen, "{what}");
                let count = db.store.count_jobs(&viewer, &filter).await.expect("count");
                assert_eq!(count, seen.len() as u64, "{what}");
                if !matches!(viewer, Viewer::Worker(_)) {
                    let changeable = db.store.count_changeable(&viewer, &filter, BulkAction::Cancel).await;
                    assert_eq!(changeable.expect("count").matched, seen.len() as i64, "{what}");
                }
            }
        }
    }
    // The same way they are found to be changed; nothing else is.
    let changed = db.store.change_jobs(&client("b"), named(Some("a")), BulkAction::Cancel).await;
    assert_eq!(changed.expect("change").matched, 0);
    let changed = db.store.change_jobs(&client("b"), named(None), BulkAction::Cancel).await;
    assert_eq!(changed.expect("change").changed, 4);
    let pending = JobFilter { status: Some(vec![JobStatus::Pending]), ..JobFilter::default() };
    assert_eq!(walked(&db, &ANYONE, &pending, PageEnd::Newest).await, [ids[0], ids[5]]);
    // A list that passed by the triggers and names others' jobs does not give them away.
    sqlx::query("UPDATE client_job SET client_id = 'a'").execute(db.pool()).await.expect("by hand");
    for (viewer, filter) in [
        (client("a"), named(None)),
        (ANYONE, named(Some("a"))),
        (client("a"), pending.clone()),
        (ANYONE, JobFilter { kind: Some(vec!["sum".to_owned(), "echo".to_owned()]), ..named(Some("a")) }),
    ] {
        let page = Page { after: None, before: None, limit: 50, from: PageEnd::Newest, columns: None };
        let jobs = db.store.list_jobs(&viewer, &filter, &page).await.expect("page").jobs;
        assert_eq!(jobs.iter().map(|job| job.id).collect::<Vec<_>>(), [ids[5]], "{viewer:?}, {filter:?}");
        let changed = db.store.count_changeable(&viewer, &filter, BulkAction::Cancel).await;
        assert_eq!(changed.expect("count").matched, 1, "{viewer:?}, {filter:?}");
    }
}

/// All that match, newest first, in pages of one from either end.
async fn walked(db: &TestDb, viewer: &Viewer, filter: &JobFilter, from: PageEnd) -> Vec<Uuid> {
    let mut walked: Vec<Uuid> = Vec::new();
    loop {
        let last = walked.last().copied();
        let (after, before) = if from == PageEnd::Newest { (last, None) } else { (None, last) };
        let page = Page { after, before, limit: 1, from, columns: None };
        let page = db.store.list_jobs(viewer, filter, &page).await.expect("page");
        let (onward, back) =
            if from == PageEnd::Newest { (page.next, page.previous) } else { (page.previous, page.next) };
        let lies_beyond = async |beyond| db.store.lies_beyond(viewer, filter, beyond).await.expect("a look");
        // Behind a cursor of its own walk lies what it came from.
        assert_eq!(lies_beyond(back).await, !walked.is_empty());
        walked.extend(page.jobs.iter().map(|job| job.id));
        if !lies_beyond(onward).await {
            break;
        }
    }
    if from == PageEnd::Oldest {
        walked.reverse();
    }
    walked
}

#[tokio::test]
async fn attempts_and_callbacks_of_others_are_not_given() {
    let db = TestDb::new().await;
    let id = submitted(&db, "b", "sum").await;
    let by_hand = [
        "INSERT INTO attempt VALUES ($1, 1, now(), now(), 'ERROR', NULL, $1)",
        "INSERT INTO job_log VALUES ($1, 1, 1, now(), 'STDOUT', 'x')",
        "INSERT INTO callback_delivery (job_id, event, attempts) VALUES ($1, 1, 7)",
    ];
    for sql in by_hand {
        sqlx::query(sql).bind(id).execute(db.pool()).await.expect("by hand");
    }
    for (viewer, visible) in [
        (ANYONE, true),
        (client("b"), true),
        (worker_of(&["sum"]), true),
        (client("a"), false),
        (worker_of(&["echo"]), false),
    ] {
        let attempts = db.store.attempts(&viewer, &[id]).await.expect("attempts").len();
        let lines = db.store.logs(&viewer, id, None, 10).await.expect("logs").len();
        let delivery = db.store.delivery(&viewer, id).await.expect("delivery").attempts;
        let expected = if visible { (1, 1, 7) } else { (0, 0, 0) };
        assert_eq!((attempts, lines, delivery), expected, "{viewer:?}");
    }
}

/// What became of each change of one job.
async fn changes(db: &TestDb, viewer: &Viewer, id: Uuid) -> Vec<Error> {
    let change = JobChange { priority: Some(1), run_at: None };
    let outcomes = [
        db.store.cancel_job(viewer, id).await.map(drop),
        db.store.retry_job(viewer, id, None).await.map(drop),
        db.store.update_job(viewer, id, change).await.map(drop),
        db.store.delete_job(viewer, id).await,
        db.store.redeliver_callback(viewer, id).await.map(drop),
    ];
    outcomes.into_iter().filter_map(Result::err).collect()
}

#[tokio::test]
async fn nobody_changes_the_jobs_of_others_and_a_worker_none_this_way() {
    let db = TestDb::new().await;
    let id = submitted(&db, "b", "sum").await;
    let refused = changes(&db, &client("a"), id).await;
    assert!(
        refused.len() == 5 && refused.iter().all(|error| matches!(error, Error::NotFound { .. })),
        "{refused:?}"
    );
    let worker = worker_of(&["sum"]);
    let refused = changes(&db, &worker, id).await;
    assert!(
        refused.len() == 5 && refused.iter().all(|error| matches!(error, Error::Forbidden { .. })),
        "{refused:?}"
    );
    for action in [BulkAction::Cancel, BulkAction::Retry { priority: None }, BulkAction::Delete] {
        let filter = JobFilter { ids: Some(vec![id]), ..JobFilter::default() };
        let counted = db.store.count_changeable(&client("a"), &filter, action).await.expect("count");
        let changed = db.store.change_jobs(&client("a"), filter.clone(), action).await.expect("change");
        assert_eq!((counted.matched, changed.matched, changed.changed), (0, 0, 0));
        assert!(matches!(
            db.store.count_changeable(&worker, &filter, action).await,
            Err(Error::Forbidden { .. })
        ));
        assert!(matches!(db.store.change_jobs(&worker, filter, action).await, Err(Error::Forbidden { .. })));
    }
    let job = db.job(id).await;
    assert_eq!((job.status, job.version), (JobStatus::Pending, 1));
    let mine = JobFilter { ids: Some(vec![id]), ..JobFilter::default() };
    assert_eq!(
        db.store.change_jobs(&client("b"), mine, BulkAction::Cancel).await.expect("change").changed,
        1
    );
}

#[tokio::test]
async fn a_client_submits_as_itself_and_a_worker_not_at_all() {
    let db = TestDb::new().await;
    let check = |viewer: &Viewer, client_id: Option<&str>| {
        let submission = Submission { client_id: client_id.map(str::to_owned), ..kind("echo", json!({})) };
        submission.check(viewer, &db.config.kinds, 1_024).map(|job| job.client_id)
    };
    assert_eq!(check(&client("a"), None).expect("its own"), "a");
    assert_eq!(check(&client("a"), Some("a")).expect("its own"), "a");
    assert!(matches!(check(&client("a"), Some("b")), Err(Error::Forbidden { .. })));
    assert_eq!(check(&ANYONE, Some("b")).expect("anyone's"), "b");
    assert!(matches!(check(&worker_of(&["echo"]), None), Err(Error::Forbidden { .. })));
}
