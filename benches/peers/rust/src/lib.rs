//! What the adaptors of the Rust peers share: their arguments, their loops, and the line of JSON that they print.

use std::future::Future;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::PgPool;

/// Jobs of one bulk call.
pub const BATCH: usize = 1_000;
/// Between two jobs of `idle`.
pub const REST: Duration = Duration::from_millis(30);

/// `SCENARIO [--seconds S] [--count N] [--concurrency C]`, and DATABASE_URL.
pub struct Options {
    pub scenario: String,
    pub seconds: f64,
    pub count: usize,
    pub concurrency: usize,
    pub pool: PgPool,
}

impl Options {
    pub async fn read() -> anyhow::Result<Options> {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let number = |name: &str, default: f64| {
            let at = arguments.iter().position(|argument| argument == name);
            at.and_then(|at| arguments.get(at + 1)).map_or(Ok(default), |text| text.parse::<f64>())
        };
        let pool = sqlx::postgres::PgPoolOptions::new()
            .max_connections(64)
            .connect(&std::env::var("DATABASE_URL")?)
            .await?;
        Ok(Options {
            scenario: arguments.first().cloned().unwrap_or_default(),
            seconds: number("--seconds", 10.0)?,
            count: number("--count", 100_000.0)? as usize,
            concurrency: number("--concurrency", 64.0)? as usize,
            pool,
        })
    }

    /// Calls `once` from so many loops until the time is over; figures of jobs that each call makes.
    pub async fn repeat<F>(&self, loops: usize, jobs: usize, once: impl Fn() -> F + Clone + Send + 'static) -> Value
    where
        F: Future<Output = ()> + Send,
    {
        let (began_at, cpu_before) = (Instant::now(), cpu());
        let until = began_at + Duration::from_secs_f64(self.seconds);
        let tasks: Vec<_> = (0..loops)
            .map(|_| {
                let once = once.clone();
                tokio::spawn(async move {
                    let mut done = 0;
                    while Instant::now() < until {
                        once().await;
                        done += 1;
                    }
                    done
                })
            })
            .collect();
        let mut done = 0;
        for task in tasks {
            done += task.await.unwrap();
        }
        figures(done * jobs, began_at, cpu_before)
    }
}

/// Jobs a second since then, and the cores that this process took.
pub fn figures(jobs: usize, began_at: Instant, cpu_before: f64) -> Value {
    let took = began_at.elapsed().as_secs_f64();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    json!({
        "jobs_per_second": jobs as f64 / took, "peer_cores": (cpu() - cpu_before) / took,
        "rss_mb": rss.unwrap_or_default() / 1024.0
    })
}

/// CPU seconds of this process.
pub fn cpu() -> f64 {
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// Median and 99th in a hundred.
pub fn times(mut times: Vec<Duration>) -> Value {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize].as_secs_f64() * 1_000.0;
    json!({ "started_ms_p50": at(0.5), "started_ms_p99": at(0.99) })
}

pub fn report(peer: &str, version: &str, settings: &str, scenario: &str, figures: Value) {
    println!(
        "{}",
        json!({ "peer": peer, "version": version, "settings": settings, "scenario": scenario, "figures": figures })
    );
}
