//! apalis-postgres: its storage with batches of 500 for a backlog, and with its listener for latency.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use apalis::prelude::*;
use apalis_postgres::{Config, PostgresStorage};
use jobql_bench_peers::{BATCH, Options, REST, cpu, figures, report, times};
use tokio::sync::mpsc;

const QUEUE: &str = "noop";

#[derive(Clone)]
struct Executed(Arc<AtomicUsize>, mpsc::UnboundedSender<Instant>, bool);

async fn noop(_: usize, executed: Data<Executed>) -> Result<(), BoxDynError> {
    executed.0.0.fetch_add(1, Ordering::Relaxed);
    if executed.0.2 {
        let _ = executed.0.1.send(Instant::now());
    }
    Ok(())
}

fn batch(size: usize) -> Vec<apalis_postgres::PgTask> {
    (0..size).map(|n| TaskBuilder::new(serde_json::to_vec(&n).unwrap()).build()).collect()
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::read().await?;
    PostgresStorage::setup(&options.pool).await?;
    let (sender, mut started) = mpsc::unbounded_channel();
    let executed = Executed(Arc::default(), sender, options.scenario == "idle");
    let config = Config::default().queue(QUEUE).batch_size(500);
    let backend = PostgresStorage::<usize>::new(&options.pool).with_config(config);
    let pool = options.pool.clone();
    let push = move |size: usize| {
        let pool = pool.clone();
        async move {
            let mut connection = pool.acquire().await.unwrap();
            apalis_postgres::queries::push_tasks(&mut *connection, QUEUE, batch(size)).await.unwrap();
        }
    };
    let found = match options.scenario.as_str() {
        "submit" => options.repeat(options.concurrency, 1, move || push(1)).await,
        "bulk" => options.repeat(2, BATCH, move || push(BATCH)).await,
        "drain" => {
            let mut added = 0;
            while added < options.count {
                let size = BATCH.min(options.count - added);
                push(size).await;
                added += size;
            }
            let (began_at, cpu_before) = (Instant::now(), cpu());
            let worker = WorkerBuilder::new("bench").backend(backend).data(executed.clone()).concurrency(100).build(noop);
            tokio::spawn(worker.run());
            while executed.0.load(Ordering::Relaxed) < options.count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            while sqlx::query("SELECT FROM apalis.jobs WHERE status <> 'Done' LIMIT 1")
                .fetch_optional(&options.pool)
                .await?
                .is_some()
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            figures(options.count, began_at, cpu_before)
        }
        "idle" => {
            let worker = WorkerBuilder::new("bench").backend(backend.with_pubsub()).data(executed.clone()).build(noop);
            tokio::spawn(worker.run());
            tokio::time::sleep(Duration::from_millis(500)).await;
            let mut took = Vec::new();
            for _ in 0..options.count {
                tokio::time::sleep(REST).await;
                let sent_at = Instant::now();
                push(1).await;
                took.push(started.recv().await.unwrap().duration_since(sent_at));
            }
            times(took)
        }
        other => anyhow::bail!("no scenario {other}"),
    };
    report("apalis-postgres", "1.0.0", "batches of 500, concurrency 100", &options.scenario, found);
    std::process::exit(0);
}
