//! A worker over the API, by hand: what it asks, and what it is answered.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use super::process::{Process, ask_with};

/// The kinds of these tests: `parcel` in a queue of its own name, `letter` in `mail`.
const KINDS: &str = "
[kinds.parcel]
runner = \"external\"
timeout_seconds = 600
backoff = { initial_seconds = 60 }
result_schema = { type = \"object\" }

[kinds.letter]
runner = \"external\"
queue = \"mail\"
";

/// A configuration file with these kinds, and whatever else is given.
pub fn config(more: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join(format!("api-workers-{}-{number}.toml", std::process::id()));
    std::fs::write(&path, format!("{more}\n{KINDS}")).expect("a configuration");
    path.display().to_string()
}

/// `jobql serve` with these kinds; it runs nothing by itself.
pub async fn serve(database_url: &str) -> Process {
    Process::serve(database_url, &["--slots", "0", "--config", &config("")]).await
}

/// A worker of `parcel`.
#[derive(Clone, Debug)]
pub struct ApiWorker {
    pub url: String,
    pub id: String,
    pub lease_seconds: u32,
    /// Shown with each call.
    pub token: Option<String>,
}

/// A job that is held: `{jobId, token}`.
pub type LeaseValue = Value;

impl ApiWorker {
    pub fn new(server: &Process, id: &str) -> ApiWorker {
        ApiWorker { url: server.url.clone(), id: id.to_owned(), lease_seconds: 30, token: None }
    }

    /// The same worker, speaking to another process.
    pub fn at(&self, server: &Process) -> ApiWorker {
        ApiWorker { url: server.url.clone(), ..self.clone() }
    }

    async fn ask(&self, query: &str, variables: Value) -> Value {
        ask_with(&self.url, self.token.as_deref(), query, variables).await
    }

    /// The answer to a claim; `more` goes into the input.
    pub async fn ask_to_claim(&self, more: Value) -> Value {
        let mut input =
            json!({"workerId": self.id, "queues": ["parcel"], "leaseSeconds": self.lease_seconds});
        input.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let query = "mutation ($input: ClaimJobsInput!) { claimJobs(input: $input) {
            job { id status attempt payload } leaseToken leaseExpiresAt } }";
        self.ask(query, json!({"input": input})).await
    }

    /// The leases that a claim brings.
    pub async fn claim(&self, more: Value) -> Vec<LeaseValue> {
        let answer = self.ask_to_claim(more).await;
        let claimed = answer["data"]["claimJobs"].as_array().unwrap_or_else(|| panic!("{answer}"));
        let lease = |claimed: &Value| json!({"jobId": claimed["job"]["id"], "token": claimed["leaseToken"]});
        claimed.iter().map(lease).collect()
    }

    /// The states of these leases, and whether to drain.
    pub async fn heartbeat(&self, leases: &[LeaseValue]) -> (Vec<String>, bool) {
        let query = "mutation ($id: String!, $leases: [LeaseInput!]!) {
            heartbeat(workerId: $id, leases: $leases) { results { jobId state leaseExpiresAt } drain } }";
        let answer = self.ask(query, json!({"id": self.id, "leases": leases})).await;
        let payload = &answer["data"]["heartbeat"];
        let results = payload["results"].as_array().unwrap_or_else(|| panic!("{answer}"));
        for (result, lease) in results.iter().zip(leases) {
            assert_eq!(result["jobId"], lease["jobId"]);
            assert_eq!(result["leaseExpiresAt"].is_null(), result["state"] == "LOST", "{result}");
        }
        let states = results.iter().map(|result| result["state"].as_str().expect("a state").to_owned());
        (states.collect(), payload["drain"] == true)
    }

    /// The answer to one of the calls about a lease: the job's fields, or the error's code.
    pub async fn call(&self, lease: &LeaseValue, call: Call) -> Result<Value, String> {
        let (field, mut variables) = call.parts();
        variables["lease"] = lease.clone();
        let answer = self.ask(field, variables).await;
        match answer["errors"][0]["extensions"]["code"].as_str() {
            Some(code) => Err(code.to_owned()),
            None => Ok(answer["data"]["job"].clone()),
        }
    }

    pub async fn complete(&self, lease: &LeaseValue, result: Value) -> Result<Value, String> {
        self.call(lease, Call::Complete(result)).await
    }

    pub async fn fail(&self, lease: &LeaseValue, error: Value) -> Result<Value, String> {
        self.call(lease, Call::Fail(error)).await
    }

    pub async fn release(&self, lease: &LeaseValue) -> Result<Value, String> {
        self.call(lease, Call::Release).await
    }
}

/// A call about a lease.
#[derive(Clone, Debug)]
pub enum Call {
    Complete(Value),
    Fail(Value),
    Release,
    Progress(Value),
    Logs(Value),
}

impl Call {
    fn parts(self) -> (&'static str, Value) {
        match self {
            Call::Complete(result) => (
                "mutation ($lease: LeaseInput!, $result: JSON) {
                    job: completeJob(lease: $lease, result: $result) { status version attempt result error { code } } }",
                json!({"result": result}),
            ),
            Call::Fail(error) => (
                "mutation ($lease: LeaseInput!, $error: JobErrorInput!) {
                    job: failJob(lease: $lease, error: $error) { status version attempt runAt error { code } } }",
                json!({"error": error}),
            ),
            Call::Release => (
                "mutation ($lease: LeaseInput!) { job: releaseJob(lease: $lease) { status version attempt } }",
                json!({}),
            ),
            Call::Progress(variables) => (
                "mutation ($lease: LeaseInput!, $fraction: Float, $message: String) {
                    job: reportProgress(lease: $lease, fraction: $fraction, message: $message) {
                        version progress { fraction message } cancelRequestedAt } }",
                variables,
            ),
            Call::Logs(lines) => (
                "mutation ($lease: LeaseInput!, $lines: [LogLineInput!]!) { job: appendLogs(lease: $lease, lines: $lines) }",
                json!({"lines": lines}),
            ),
        }
    }
}
