//! A client as it should be: a submit, a look at the job, a page of the list, and again, on one connection, at its pace.
//!
//! It has a thread of its own, so that what the strangers of the same test do is not mistaken for the server's doing. A request
//! counts from when it was due: one that has to wait for a slow one before it is late as well.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// Between two requests.
const PACE: Duration = Duration::from_millis(12);

/// See the module.
pub struct NormalClient {
    url: String,
    token: String,
    patience: Duration,
}

/// How long its requests took, and what went wrong.
#[derive(Debug, Default)]
pub struct Times {
    took: Vec<Duration>,
    failures: Vec<String>,
}

impl NormalClient {
    pub fn new(url: &str, token: &str, patience: Duration) -> NormalClient {
        NormalClient { url: url.to_owned(), token: token.to_owned(), patience }
    }

    /// Begins at once, and gives its times in the end.
    pub fn goes_on_for(&self, time: Duration) -> oneshot::Receiver<Times> {
        let (sender, times) = oneshot::channel();
        let (url, token, patience) = (self.url.clone(), self.token.clone(), self.patience);
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let _ = sender.send(runtime.block_on(go_on(&url, &token, patience, time)));
        });
        times
    }
}

async fn go_on(url: &str, token: &str, patience: Duration, time: Duration) -> Times {
    let client = reqwest::Client::new();
    let ask = async |body: Value| -> Result<Value, String> {
        let request = client.post(url).bearer_auth(token).json(&body);
        let answer = timeout(patience, async {
            let response = request.send().await.map_err(|error| error.to_string())?;
            let status = response.status();
            let answer: Value = response.json().await.map_err(|error| error.to_string())?;
            if status == 200 && answer.get("errors").is_none() {
                Ok(answer)
            } else {
                Err(format!("{status}: {answer}"))
            }
        });
        answer.await.unwrap_or_else(|_| Err(format!("no answer within {patience:?}")))
    };
    let mut times = Times::default();
    let mut latest = Value::Null;
    let mut ticks = interval(PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let ends_at = Instant::now() + time;
    for number in 0_u64.. {
        let due_at = ticks.tick().await;
        if due_at >= ends_at {
            break;
        }
        let body = match number % 3 {
            0 => json!({"query": "mutation ($i: SubmitJobInput!) { submitJob(input: $i) { job { id } } }",
                        "variables": {"i": {"kind": "echo", "payload": {"number": number}}}}),
            1 => {
                json!({"query": "query ($id: ID!) { job(id: $id) { id status result queuePosition { position } } }",
                        "variables": {"id": latest}})
            }
            _ => {
                json!({"query": "{ jobs(first: 20) { nodes { id status kind createdAt } pageInfo { endCursor } } }"})
            }
        };
        match ask(body).await {
            Ok(answer) => {
                if let Some(id) = answer["data"]["submitJob"]["job"].get("id") {
                    latest = id.clone();
                }
            }
            Err(failure) => times.failures.push(failure),
        }
        times.took.push(due_at.elapsed());
    }
    times
}

impl Times {
    pub fn extend(&mut self, other: Times) {
        self.took.extend(other.took);
        self.failures.extend(other.failures);
    }

    pub fn count(&self) -> usize {
        self.took.len()
    }

    pub fn failures(&self) -> &[String] {
        &self.failures
    }

    /// In milliseconds.
    pub fn p99(&self) -> f64 {
        self.at(0.99)
    }

    fn at(&self, share: f64) -> f64 {
        let mut took = self.took.clone();
        took.sort_unstable();
        let index = (took.len().saturating_sub(1) as f64 * share).round() as usize;
        took.get(index).map_or(f64::NAN, |time| time.as_secs_f64() * 1_000.0)
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (p50, p99, max) = (self.at(0.5), self.at(0.99), self.at(1.0));
        write!(f, "{} requests, p50 {p50:.1} ms, p99 {p99:.1} ms, longest {max:.1} ms", self.took.len())
    }
}
