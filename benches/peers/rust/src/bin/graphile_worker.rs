//! graphile_worker, the Rust port, with the settings of the throughput page of its documentation (`drain`) and with those
//! of its own benchmark `perf_test` (`drain_own`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use graphile_worker::{
    IntoTaskHandlerResult, JobSpec, LocalQueueConfig, RawJobSpec, TaskHandler, WorkerContext, WorkerOptions,
};
use jobql_bench_peers::{BATCH, Options, REST, cpu, figures, report, times};
use tokio::sync::mpsc;

#[derive(serde::Serialize, serde::Deserialize)]
struct Noop {
    n: usize,
}

#[derive(Clone, Debug)]
struct Executed(Arc<AtomicUsize>, mpsc::UnboundedSender<Instant>, bool);

impl TaskHandler for Noop {
    const IDENTIFIER: &'static str = "noop";

    async fn run(self, ctx: WorkerContext) -> impl IntoTaskHandlerResult {
        if let Some(Executed(count, started, tell)) = ctx.get_ext::<Executed>() {
            count.fetch_add(1, Ordering::Relaxed);
            if *tell {
                let _ = started.send(Instant::now());
            }
        }
        Ok::<(), String>(())
    }
}

fn batch(size: usize) -> Vec<RawJobSpec> {
    let job = |n| RawJobSpec {
        identifier: "noop".to_owned(),
        payload: serde_json::json!({ "n": n }),
        spec: JobSpec::default(),
    };
    (0..size).map(job).collect()
}

fn as_documented(options: WorkerOptions) -> WorkerOptions {
    options
        .concurrency(16)
        .poll_interval(Duration::from_millis(500))
        .complete_job_batch_delay(Duration::from_millis(5))
        .fail_job_batch_delay(Duration::from_millis(5))
        .local_queue(LocalQueueConfig::default().with_size(100).with_ttl(Duration::from_secs(60)))
}

fn as_in_its_bench(options: WorkerOptions) -> WorkerOptions {
    options
        .concurrency(500)
        .poll_interval(Duration::from_millis(5))
        .complete_job_batch_delay(Duration::from_millis(5))
        .local_queue(LocalQueueConfig::default().with_size(5_000))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::read().await?;
    let (sender, mut started) = mpsc::unbounded_channel();
    let executed = Executed(Arc::default(), sender, options.scenario == "idle");
    let base = || {
        WorkerOptions::default()
            .schema("graphile_worker")
            .pg_pool(options.pool.clone())
            .add_extension(executed.clone())
            .define_job::<Noop>()
    };
    let settings = match options.scenario.as_str() {
        "drain_own" => "concurrency 500, local queue 5000, poll 5 ms, completion batches of 5 ms (its own bench)",
        "idle" => "defaults",
        _ => "concurrency 16, local queue 100, completion batches of 5 ms (its documentation)",
    };
    let worker = Arc::new(match options.scenario.as_str() {
        "drain_own" => as_in_its_bench(base()).init().await?,
        "idle" => base().init().await?,
        _ => as_documented(base()).init().await?,
    });
    let utils = worker.create_utils();
    let found = match options.scenario.as_str() {
        "submit" => {
            let utils = Arc::new(utils);
            let once = move || {
                let utils = utils.clone();
                async move {
                    utils.add_raw_job("noop", Noop { n: 1 }, JobSpec::default()).await.unwrap();
                }
            };
            options.repeat(options.concurrency, 1, once).await
        }
        "bulk" => {
            let (utils, jobs) = (Arc::new(utils), Arc::new(batch(BATCH)));
            let once = move || {
                let (utils, jobs) = (utils.clone(), jobs.clone());
                async move {
                    utils.add_raw_jobs(&jobs).await.unwrap();
                }
            };
            options.repeat(2, BATCH, once).await
        }
        "drain" | "drain_own" => {
            let mut added = 0;
            while added < options.count {
                let size = BATCH.min(options.count - added);
                utils.add_raw_jobs(&batch(size)).await?;
                added += size;
            }
            let (began_at, cpu_before) = (Instant::now(), cpu());
            let running = worker.clone();
            tokio::spawn(async move { running.run().await });
            while executed.0.load(Ordering::Relaxed) < options.count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            while sqlx::query("SELECT FROM graphile_worker._private_jobs LIMIT 1")
                .fetch_optional(&options.pool)
                .await?
                .is_some()
            {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            figures(options.count, began_at, cpu_before)
        }
        "idle" => {
            let running = worker.clone();
            tokio::spawn(async move { running.run().await });
            tokio::time::sleep(Duration::from_millis(500)).await;
            let mut took = Vec::new();
            for n in 0..options.count {
                tokio::time::sleep(REST).await;
                let sent_at = Instant::now();
                utils.add_raw_job("noop", Noop { n }, JobSpec::default()).await?;
                took.push(started.recv().await.unwrap().duration_since(sent_at));
            }
            times(took)
        }
        other => anyhow::bail!("no scenario {other}"),
    };
    report("graphile_worker (Rust)", "0.14.1", settings, &options.scenario, found);
    std::process::exit(0);
}
