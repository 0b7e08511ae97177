//! Counts primes: a worker in Rust for the kind `primes` of jobql.toml. It takes the flags of `jobql work`.

use std::time::Duration;

use jobql::native::{Job, JobError, RunError, Worker};
use serde_json::{Value, json};

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Range {
    below: u64,
    #[serde(default)]
    pause_seconds: f64,
}

async fn count(job: Job, range: Range) -> Result<Value, JobError> {
    let (mut count, pause) = (0, Duration::try_from_secs_f64(range.pause_seconds)?);
    for tenth in 0..10 {
        let waited = job.stopped().run_until_cancelled(tokio::time::sleep(pause)).await;
        waited.ok_or_else(|| JobError::retryable("STOPPED", "asked to stop"))?;
        let numbers = range.below * tenth / 10..range.below * (tenth + 1) / 10;
        count += numbers.filter(|n| *n > 1 && (2..).take_while(|d| d * d <= *n).all(|d| n % d != 0)).count();
        job.progress((tenth + 1) as f64 / 10.0, format!("{count} so far"));
    }
    Ok(json!({ "count": count, "by": "rust" }))
}

#[tokio::main]
async fn main() -> Result<(), RunError> {
    Worker::new().handle("primes", count).run().await
}
