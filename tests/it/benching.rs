//! `jobql bench` against a real server: every scenario ends and says what the published figures are read from.

use serde_json::Value;

use crate::support::TestDb;
use crate::support::process::Process;

/// What a kind signs its posts with; server and generator read one configuration.
const HANDLER_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// What a scenario found.
async fn found(server: &Process, scenario: &[&str]) -> Value {
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_jobql"))
        .args(["bench", "--json", "--url", &server.url, "--seconds", "1", "--connections", "2"])
        .args(scenario)
        .env("JOBQL_TEST_HANDLER_SECRET", HANDLER_SECRET)
        .output()
        .await
        .expect("jobql bench runs");
    assert!(output.status.success(), "{scenario:?}: {}", String::from_utf8_lossy(&output.stderr));
    let mut told: Value = serde_json::from_slice(&output.stdout).expect("a line of JSON");
    told["figures"].take()
}

#[tokio::test]
async fn every_scenario_measures_a_server_that_runs() {
    let db = TestDb::new().await;
    let server = Process::serve(&db.url(), &[]).await;
    let scenarios: &[(&[&str], &[&str])] = &[
        (&["noop"], &["requests_per_second", "answer_ms_p99"]),
        (&["submit"], &["jobs_per_second", "job_by_id_ms_p99"]),
        (&["bulk", "--batch", "10"], &["jobs_per_second"]),
        (&["drain", "--count", "30"], &["jobs_per_second", "seconds"]),
        (&["idle", "--count", "3"], &["seen_running_ms_p50"]),
        (&["fanout", "--sockets", "3", "--changes", "4"], &["told_ms_p99", "all_told_ms"]),
        (&["stream", "--sockets", "2", "--rate", "20"], &["told_ms_p99", "events_per_second"]),
        (&["position", "--load", "5"], &["answer_ms_p99"]),
        (&["page"], &["requests_per_second", "alone_answer_ms_p99"]),
    ];
    for (scenario, figures) in scenarios {
        let told = found(&server, scenario).await;
        for figure in *figures {
            assert!(told[figure].as_f64().is_some_and(|value| value > 0.0), "{scenario:?} {figure}: {told}");
        }
    }
}

#[tokio::test]
async fn the_start_of_a_handler_in_the_generator_is_told() {
    let db = TestDb::new().await;
    // Of an address of its own, so that no connection of another test takes the port meanwhile.
    let address =
        std::net::TcpListener::bind("127.0.0.77:0").and_then(|free| free.local_addr()).expect("a port");
    let path = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("benching-{}.toml", std::process::id()));
    let kinds = format!(
        "database_url = \"{}\"\n[kinds.native]\nrunner = \"native\"\nqueue = \"native\"\n[kinds.posted]\nrunner = \"http\"\n\
         url = \"http://{address}/\"\nsecret_env = \"JOBQL_TEST_HANDLER_SECRET\"\nallow_private = true\n",
        db.url()
    );
    std::fs::write(&path, kinds).expect("a configuration");
    let config = path.display().to_string();
    let secret = [("JOBQL_TEST_HANDLER_SECRET", HANDLER_SECRET)];
    let server = Process::serve_with(&db.url(), &["--config", &config], &secret).await;
    for (kind, handled) in
        [("native", ["--native-worker", &config]), ("posted", ["--handle-at", &address.to_string()])]
    {
        let told = found(&server, &[&["idle", "--count", "3", "--kind", kind][..], &handled].concat()).await;
        let (started, done) =
            (told["started_ms_p50"].as_f64(), told["seen_done_less_its_run_ms_p50"].as_f64());
        assert!(started.is_some_and(|started| started > 0.0) && started < done, "{kind}: {told}");
    }
}

#[tokio::test]
async fn the_whole_path_brings_every_result() {
    let db = TestDb::new().await;
    let server = Process::serve(&db.url(), &[]).await;
    let told = found(&server, &["whole", "--rate", "50", "--sockets", "3"]).await;
    assert_eq!(told["missing"], 0.0, "{told}");
    assert!(told["submit_to_result_ms_p50"].as_f64().is_some_and(|median| median > 0.0), "{told}");
}

#[tokio::test]
async fn a_server_that_refuses_is_an_error_and_no_figure() {
    let db = TestDb::new().await;
    let server = Process::serve(&db.url(), &[]).await;
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_jobql"))
        .args(["bench", "--url", &server.url, "--kind", "no-such-kind", "--connections", "1", "submit"])
        .output()
        .await
        .expect("jobql bench runs");
    assert!(!output.status.success() && output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("UNKNOWN_KIND"), "{output:?}");
}
