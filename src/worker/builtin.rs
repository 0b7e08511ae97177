//! The kinds that are compiled in: `sum`, `echo`, `sleep` and `fail`.
//!
//! A payload whose fields are missing or wrong fails for good with INVALID_PAYLOAD, naming the field. Fields that a
//! kind does not know are ignored: a payload may carry more than its handler reads, such as what it is called.
//! Each stops at once when it is asked to.

use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::runner::{Context, stopped};
use crate::config::Builtin;
use crate::job::failure::Failure;

/// The longest wait that a payload may ask for; no attempt may run longer.
const MAX_SECONDS: f64 = 86_400.0;

type Outcome = Result<Value, Failure>;

/// Runs one of them.
///
/// # Errors
/// INVALID_PAYLOAD; FAILED from `fail`.
pub async fn run(which: Builtin, context: Context) -> Outcome {
    match which {
        Builtin::Sum => Box::pin(sum(&context)).await,
        Builtin::Echo => Ok(context.payload),
        Builtin::Sleep => Box::pin(sleep(&context)).await,
        Builtin::Fail => Err(fail(&context.payload)?),
    }
}

/// `{start, end, pauseSeconds = 0}` gives `{sum}` of the integers from `start` to `end`, both included; 0 when `end`
/// is below `start`. With a pause it goes step by step and tells its progress; without one it is computed at once.
async fn sum(context: &Context) -> Outcome {
    let fields = Fields::of(&context.payload)?;
    let (start, end) = (fields.integer("start")?, fields.integer("end")?);
    let pause = fields.seconds("pauseSeconds")?.unwrap_or_default();
    let sum = sum_between(start, end).ok_or_else(|| invalid("end", "the sum does not fit into 64 bits"))?;
    if !pause.is_zero() && start <= end {
        count_slowly(start, end, pause, context).await?;
    }
    Ok(json!({ "sum": sum }))
}

/// Gauss's formula; none when the sum is beyond 64 bits, which JSON numbers are not kept exactly beyond.
fn sum_between(start: i64, end: i64) -> Option<i64> {
    if end < start {
        return Some(0);
    }
    let (start, end) = (i128::from(start), i128::from(end));
    let (count, ends) = (end - start + 1, start + end);
    // One of the two is even, so that nothing is lost by halving it first.
    let sum = if count % 2 == 0 { (count / 2).checked_mul(ends) } else { count.checked_mul(ends / 2) };
    i64::try_from(sum?).ok()
}

/// Walks from `start` to `end`. Waits for the instant at which the pauses so far add up, so that coarse timers do not
/// make a thousand short pauses longer than they are together.
async fn count_slowly(start: i64, end: i64, pause: Duration, context: &Context) -> Result<(), Failure> {
    let count = i128::from(end) - i128::from(start) + 1;
    let started = Instant::now();
    for done in 1..=count {
        let due = started + pause.mul_f64(done as f64);
        if due > Instant::now() {
            unless_stopped(&context.stop, tokio::time::sleep_until(due)).await?;
        } else {
            // Late: the timer is coarser than the pause. Others get their turn, and a stop is heard.
            unless_stopped(&context.stop, tokio::task::yield_now()).await?;
        }
        let message = format!("{done} of {count}");
        context.progress.report(Some(done as f64 / count as f64), Some(message));
    }
    Ok(())
}

/// `{seconds}` gives `{slept}`.
async fn sleep(context: &Context) -> Outcome {
    let fields = Fields::of(&context.payload)?;
    let pause = fields.seconds("seconds")?.ok_or_else(|| invalid("seconds", "missing"))?;
    unless_stopped(&context.stop, tokio::time::sleep(pause)).await?;
    Ok(json!({ "slept": fields.get("seconds") }))
}

/// `{message = "failed", retryable = true}` gives that failure.
fn fail(payload: &Value) -> Result<Failure, Failure> {
    let fields = Fields::of(payload)?;
    let message = match fields.get("message") {
        None => "failed",
        Some(Value::String(message)) => message,
        Some(_) => return Err(invalid("message", "not a text")),
    };
    match fields.get("retryable") {
        None | Some(Value::Bool(true)) => Ok(Failure::retryable("FAILED", message)),
        Some(Value::Bool(false)) => Ok(Failure::fatal("FAILED", message)),
        Some(_) => Err(invalid("retryable", "neither true nor false")),
    }
}

async fn unless_stopped(stop: &CancellationToken, wait: impl Future<Output = ()>) -> Result<(), Failure> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(stopped()),
        () = wait => Ok(()),
    }
}

fn invalid(field: &str, problem: &str) -> Failure {
    Failure::fatal("INVALID_PAYLOAD", format!("{field}: {problem}"))
}

/// The members of a payload; none of them when it is null.
struct Fields<'a>(Option<&'a Map<String, Value>>);

impl<'a> Fields<'a> {
    fn of(payload: &'a Value) -> Result<Fields<'a>, Failure> {
        match payload {
            Value::Object(members) => Ok(Fields(Some(members))),
            Value::Null => Ok(Fields(None)),
            _ => Err(invalid("payload", "not an object")),
        }
    }

    /// The member; one that is null counts as left out.
    fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.and_then(|members| members.get(name)).filter(|value| !value.is_null())
    }

    fn integer(&self, name: &str) -> Result<i64, Failure> {
        let value = self.get(name).ok_or_else(|| invalid(name, "missing"))?;
        value.as_i64().ok_or_else(|| invalid(name, "not a whole number within 64 bits"))
    }

    /// A number of seconds, fractions allowed.
    fn seconds(&self, name: &str) -> Result<Option<Duration>, Failure> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match value.as_f64() {
            Some(seconds) if (0.0..=MAX_SECONDS).contains(&seconds) => {
                Ok(Some(Duration::from_secs_f64(seconds)))
            }
            _ => Err(invalid(name, &format!("not a number of seconds from 0 to {MAX_SECONDS}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(payload: Value) -> Context {
        Context {
            job_id: uuid::Uuid::nil(),
            attempt: 1,
            payload,
            stop: CancellationToken::new(),
            progress: Default::default(),
            log: Default::default(),
            max_result_bytes: 1 << 20,
            timeout_seconds: 300,
            epoch: 1,
            lease_token: None,
            spawner: Default::default(),
        }
    }

    async fn outcome(which: Builtin, payload: Value) -> Outcome {
        run(which, context(payload)).await
    }

    #[tokio::test]
    async fn a_sum_is_exact_at_any_size_and_for_any_pause() {
        for (start, end, sum) in [
            (1, 10, 55),
            (1, 100_000, 5_000_050_000_i64),
            (1, 1_000_000_000, 500_000_000_500_000_000),
            (-3, 3, 0),
            (7, 7, 7),
            (5, 4, 0),
            (i64::MAX, i64::MIN, 0),
            (i64::MIN, i64::MAX, i64::MIN),
        ] {
            let result = outcome(Builtin::Sum, json!({ "start": start, "end": end })).await;
            // From MIN to MAX the pairs cancel and MIN is left over.
            assert_eq!(result, Ok(json!({ "sum": sum })), "{start} to {end}");
        }
        let slow = json!({ "start": 1, "end": 100, "pauseSeconds": 0.000_01 });
        assert_eq!(outcome(Builtin::Sum, slow).await, Ok(json!({ "sum": 5050 })));
    }

    #[tokio::test]
    async fn a_wrong_field_fails_for_good_and_is_named() {
        for (which, payload, field) in [
            (Builtin::Sum, json!({ "start": 1 }), "end: "),
            (Builtin::Sum, json!({ "start": "1", "end": 2 }), "start: "),
            (Builtin::Sum, json!({ "start": 1.5, "end": 2 }), "start: "),
            (Builtin::Sum, json!({ "start": 0, "end": i64::MAX }), "end: "),
            (Builtin::Sum, json!({ "start": i64::MIN, "end": i64::MIN + 1 }), "end: "),
            (Builtin::Sum, json!({ "start": 1, "end": 2, "pauseSeconds": -1 }), "pauseSeconds: "),
            (Builtin::Sum, json!([1, 2]), "payload: "),
            (Builtin::Sleep, json!({}), "seconds: "),
            (Builtin::Sleep, json!({ "seconds": "1" }), "seconds: "),
            (Builtin::Sleep, json!({ "seconds": 1e300 }), "seconds: "),
            (Builtin::Fail, json!({ "message": 1 }), "message: "),
            (Builtin::Fail, json!({ "retryable": "no" }), "retryable: "),
        ] {
            let failure = outcome(which, payload.clone()).await.unwrap_err();
            assert_eq!(failure.code, "INVALID_PAYLOAD", "{payload}");
            assert!(!failure.retryable);
            assert!(failure.message.starts_with(field), "{payload}: {}", failure.message);
        }
    }

    #[tokio::test]
    async fn echo_gives_back_and_fail_fails_as_told() {
        let payload = json!({ "a": [1, null, "ä"] });
        assert_eq!(outcome(Builtin::Echo, payload.clone()).await, Ok(payload));
        let failed = outcome(Builtin::Fail, Value::Null).await;
        assert_eq!(failed, Err(Failure::retryable("FAILED", "failed")));
        let failed = outcome(Builtin::Fail, json!({ "message": "no", "retryable": false, "note": 1 })).await;
        assert_eq!(failed, Err(Failure::fatal("FAILED", "no")));
        assert_eq!(outcome(Builtin::Sleep, json!({ "seconds": 0.001 })).await, Ok(json!({ "slept": 0.001 })));
    }

    #[tokio::test]
    async fn a_stop_is_heard_at_once() {
        for (which, payload) in [
            (Builtin::Sleep, json!({ "seconds": 3_600 })),
            (Builtin::Sum, json!({ "start": 1, "end": 1_000_000_000, "pauseSeconds": 0.000_000_001 })),
            (Builtin::Sum, json!({ "start": 1, "end": 3, "pauseSeconds": 3_600 })),
        ] {
            let context = context(payload);
            let stop = context.stop.clone();
            let stopping = async {
                tokio::task::yield_now().await;
                stop.cancel();
            };
            let both = async { tokio::join!(run(which, context), stopping).0 };
            let outcome = tokio::time::timeout(Duration::from_secs(5), both).await.unwrap();
            assert_eq!(outcome, Err(stopped()));
        }
    }
}
