//! Workflows of any shape, run by a real server: exactly those jobs run that should, each after its parents.

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use uuid::Uuid;

use super::SUBMIT;
use crate::support::process::Process;
use crate::support::{SOON, TestDb, eventually};

/// A random graph: for each job those before it that it depends on, and whether it fails.
#[derive(Clone, Debug)]
struct RandomGraph {
    jobs: Vec<(Vec<usize>, bool)>,
    cancel: bool,
}

fn graphs() -> impl Strategy<Value = RandomGraph> {
    let job = (proptest::collection::vec(any::<prop::sample::Index>(), 0..4), prop::bool::weighted(0.12));
    (proptest::collection::vec(job, 1..25), any::<bool>()).prop_map(|(jobs, cancel)| {
        let jobs = jobs.into_iter().enumerate().map(|(index, (parents, fails))| {
            let mut parents: Vec<usize> =
                parents.into_iter().filter(|_| index > 0).map(|parent| parent.index(index)).collect();
            parents.sort_unstable();
            parents.dedup();
            (parents, fails)
        });
        RandomGraph { jobs: jobs.collect(), cancel }
    })
}

/// What must become of each job.
fn expected(graph: &RandomGraph) -> Vec<&'static str> {
    let mut ends: Vec<&'static str> = Vec::new();
    for (parents, fails) in &graph.jobs {
        let may_run = parents.iter().all(|&parent| ends[parent] == "DONE");
        ends.push(match (may_run, fails, graph.cancel) {
            (true, false, _) => "DONE",
            (true, true, _) => "ERROR",
            (false, _, true) => "CANCELLED",
            (false, _, false) => "BLOCKED",
        });
    }
    ends
}

#[test]
fn of_any_graph_exactly_those_jobs_run_that_should_and_each_after_its_parents() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (db, server) = runtime.block_on(async {
        let db = TestDb::new().await;
        let server = Process::serve(&db.url(), &["--slots", "8"]).await;
        (db, server)
    });
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 40, max_shrink_iters: 40, ..ProptestConfig::default() });
    let outcome = runner.run(&graphs(), |graph| {
        let shown = runtime.block_on(run_graph(&db, &server, &graph));
        let ends = expected(&graph);
        prop_assert_eq!(&shown.statuses, &ends);
        prop_assert_eq!(shown.out_of_order, 0, "a job ran before its parents were done");
        prop_assert_eq!(shown.ran_too_often, 0, "a job ran that should not have, or twice");
        let whole = if ends.iter().all(|end| *end == "DONE") { "DONE" } else { "ERROR" };
        prop_assert_eq!(shown.workflow, whole);
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    drop((server, db));
    runtime.shutdown_timeout(Duration::from_secs(5));
}

struct Shown {
    statuses: Vec<String>,
    out_of_order: i64,
    ran_too_often: i64,
    workflow: String,
}

async fn run_graph(db: &TestDb, server: &Process, graph: &RandomGraph) -> Shown {
    let jobs = graph.jobs.iter().enumerate().map(|(index, (parents, fails))| {
        let (kind, payload) =
            if *fails { ("fail", json!({"retryable": false})) } else { ("echo", json!({"n": index})) };
        let parents: Vec<String> = parents.iter().map(|parent| format!("j{parent}")).collect();
        json!({"key": format!("j{index}"), "kind": kind, "payload": payload, "dependsOn": parents})
    });
    // In any order: the last ones first.
    let mut jobs: Vec<Value> = jobs.collect();
    jobs.reverse();
    let policy = if graph.cancel { "CANCEL" } else { "BLOCK" };
    let variables = json!({"input": {"jobs": jobs, "onFailure": policy}});
    let id = server.data(SUBMIT, variables).await["submitWorkflow"]["id"].take();
    let look = "query ($id: ID!) { workflow(id: $id) { status } }";
    let workflow = eventually("the workflow ends", SOON, async || {
        let status = server.data(look, json!({"id": id})).await["workflow"]["status"].take();
        (status != "RUNNING").then_some(status)
    })
    .await;
    let id = Uuid::parse_str(id.as_str().expect("an id")).expect("an id");
    let rows: Vec<(String, String)> =
        sqlx::query_as("SELECT workflow_key, status FROM job WHERE workflow_id = $1")
            .bind(id)
            .fetch_all(db.pool())
            .await
            .expect("jobs");
    let by_key: HashMap<String, String> = rows.into_iter().collect();
    let count = async |sql: &'static str| -> i64 {
        sqlx::query_scalar(sql).bind(id).fetch_one(db.pool()).await.expect("count")
    };
    Shown {
        statuses: (0..graph.jobs.len()).map(|index| by_key[&format!("j{index}")].clone()).collect(),
        out_of_order: count(
            "SELECT count(*) FROM dependency JOIN job AS c ON c.id = child JOIN job AS p ON p.id = parent
             WHERE c.workflow_id = $1 AND c.started_at IS NOT NULL
                 AND (p.status <> 'DONE' OR c.started_at < p.finished_at)",
        )
        .await,
        ran_too_often: count(
            "SELECT count(*) FROM job WHERE workflow_id = $1
                 AND lease_epoch <> CASE WHEN status IN ('DONE', 'ERROR') THEN 1 ELSE 0 END",
        )
        .await,
        workflow: workflow.as_str().expect("a status").to_owned(),
    }
}
