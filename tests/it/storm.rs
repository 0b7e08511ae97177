//! A hostile load, and what a normal client notices of it.
//!
//! Strangers open connections and dawdle on them, come and go by the thousand, and send documents that are as bad as documents
//! can be, while a job of theirs prints a gigabyte. Meanwhile a normal client goes on at its pace: none of its requests may
//! fail, and it says how long they took, beside how long they take when it is quiet. Afterwards the server must hold what it
//! held before: connections, file descriptors, database sessions, tasks and, within a tolerance, memory. Two waves of the same
//! load tell what is kept for good from what the first of its kind costs. The strangers of the first leave by themselves;
//! those of the second stay until the server has had enough of them: a head may take 15 s, a body 30, and a socket 3 to
//! introduce itself. Those that have introduced themselves may stay, as long as nothing that is sent to them gets stuck.
//!
//! It stays on this machine, and is bounded in time and in number. It runs alone, as it looks at memory and at times: `make
//! storm`, and with another program than the debug build `make storm STORM_BINARY=target/release/jobql`. How much slower the
//! normal client is, it prints, and judges where a program is named: the debug build shares this machine with other tests.

mod normal;
mod strangers;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::process::{Process, ask_as, new_token};
use crate::support::{SOON, TestDb, eventually};
use normal::{NormalClient, Times};
use strangers::{BadDocuments, Strangers};

/// How long the normal client is alone, before and after.
const QUIET: Duration = Duration::from_secs(4);
/// How long a wave lasts.
const WAVE: Duration = Duration::from_secs(8);
/// By when who dawdles must be sent away: the longest that the server waits is 30 s, for a body.
const CUT_OFF: Duration = Duration::from_secs(45);
/// The longest that a request of the normal client may take, storm or not; it is no measure, and ten times what is seen on a
/// busy machine.
const PATIENCE: Duration = Duration::from_secs(5);
/// The p99 of the normal client in the storm, as a multiple of its quiet one.
const MOST_TIMES: f64 = 3.0;
/// What may remain of the first wave, in KiB: buffers and arenas that are used again.
const FIRST_WAVE_KIB: u64 = 96 << 10;
/// What may be there after the second one beside that. Over five waves it went up and down by 28 MiB and did not rise.
const SECOND_WAVE_KIB: u64 = 48 << 10;
/// File descriptors that may be more than before: the pools may have grown back.
const SPARE_DESCRIPTORS: usize = 4;

/// A server with tokens, and a kind whose program prints without end.
struct Ground {
    db: TestDb,
    process: Process,
    folder: PathBuf,
    operator: String,
}

/// What a server holds.
#[derive(Debug)]
struct Held {
    resident_kib: u64,
    descriptors: usize,
    sessions: i64,
    connections: u64,
    tasks: u64,
    watchers: u64,
}

impl Ground {
    async fn new() -> Ground {
        let db = TestDb::new().await;
        let folder = std::env::temp_dir().join(format!("jobql-storm-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder).expect("a folder");
        // A gigabyte to the log: a long line without end, and then many.
        let script = "head -c 939524096 /dev/zero >&2; yes $(head -c 1000 /dev/zero | tr '\\0' x) | head -c 134217728 >&2; echo 1";
        let argv = serde_json::to_string(&["/bin/sh", "-c", script]).expect("JSON");
        let table = format!("[kinds.flood]\nrunner = \"command\"\ncommand = {argv}\nmax_attempts = 1\n");
        std::fs::write(folder.join("jobql.toml"), table).expect("a file");
        let config = folder.join("jobql.toml").display().to_string();
        let process = Process::serve_with(
            &db.url(),
            &["--config", &config, "--slots", "2", "--database-connections", "10"],
            &[("RUST_LOG", "info")],
        )
        .await;
        let operator = new_token(&db.url(), &["--scope", "operator"]).await;
        eventually("tokens are in use", SOON, async || {
            (reqwest::get(&process.url).await.expect("an answer").status() == 401).then_some(())
        })
        .await;
        Ground { db, process, folder, operator }
    }

    async fn client(&self, name: &str) -> String {
        new_token(&self.db.url(), &["--scope", "client", "--client-id", name]).await
    }

    /// Requests of all sorts at once, so that pools and caches are as full as they get.
    async fn warm_up(&self, token: &str) {
        for _ in 0..4 {
            let asking = (0..64).map(|_| {
                let query = "mutation { submitJob(input: {kind: \"echo\"}) { job { id } } }";
                ask_as(&self.process.url, token, query, json!({}))
            });
            let reading = (0..64).map(|_| {
                ask_as(
                    &self.process.url,
                    token,
                    "{ jobs(first: 20) { totalCount nodes { id status } } }",
                    json!({}),
                )
            });
            let (asked, read) = futures_util::join!(
                futures_util::future::join_all(asking),
                futures_util::future::join_all(reading)
            );
            assert!(asked.iter().chain(&read).all(|(status, _)| *status == 200));
        }
    }

    /// The value of a metric.
    async fn metric(&self, name: &str) -> u64 {
        let request = reqwest::Client::new().get(self.process.url.replace("/graphql", "/metrics"));
        let page =
            request.bearer_auth(&self.operator).send().await.expect("metrics").text().await.expect("text");
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name} in {page}")).parse().expect("a number")
    }

    async fn held(&self) -> Held {
        let proc = PathBuf::from(format!("/proc/{}", self.process.pid()));
        let status = std::fs::read_to_string(proc.join("status")).expect("it runs");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
        Held {
            resident_kib: resident.trim().trim_end_matches("kB").trim().parse().expect("a number"),
            descriptors: std::fs::read_dir(proc.join("fd")).expect("it runs").count(),
            sessions: sqlx::query_scalar(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()",
            )
            .fetch_one(self.db.pool())
            .await
            .expect("sessions"),
            connections: self.metric("jobql_http_open{what=\"connection\"}").await,
            tasks: self.metric("jobql_http_tasks").await + self.metric("jobql_store_tasks").await,
            watchers: self.metric("jobql_hub_watchers").await + self.metric("jobql_hub_feeds").await,
        }
    }

    /// What it holds once it has let go of what it need not hold.
    async fn settled(&self, before: &Held) -> Held {
        eventually("connections, descriptors, sessions and tasks are as they were", SOON, async || {
            let held = self.held().await;
            let back = held.connections <= before.connections
                && held.descriptors <= before.descriptors + SPARE_DESCRIPTORS
                && held.sessions <= before.sessions
                && held.tasks <= before.tasks
                && held.watchers <= before.watchers;
            back.then_some(held)
        })
        .await
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Two waves of strangers, and the normal client's times meanwhile.
async fn waves(ground: &Ground, normal: &NormalClient, before: &Held) -> (Times, [Held; 2]) {
    let hostile = ground.client("hostile").await;
    let mut times = Times::default();
    let documents = BadDocuments::write();
    let mut after = Vec::new();
    for wave in 1..=2 {
        let began_at = Instant::now();
        let meanwhile = normal.goes_on_for(WAVE);
        let flood = ask_as(
            &ground.process.url,
            &hostile,
            "mutation { submitJob(input: {kind: \"flood\"}) { job { id } } }",
            json!({}),
        );
        let id = flood.await.1["data"]["submitJob"]["job"]["id"].as_str().expect("an id").to_owned();
        let strangers = Strangers::storm(&ground.process.url, &hostile, &documents, WAVE).await;
        times.extend(meanwhile.await.expect("the normal client's thread"));
        let query = format!("{{ job(id: \"{id}\") {{ status }} }}");
        eventually("the gigabyte is printed", 3 * SOON, async || {
            let job = ask_as(&ground.process.url, &ground.operator, &query, json!({})).await.1;
            (job["data"]["job"]["status"] == "DONE").then_some(())
        })
        .await;
        eprintln!("storm: wave {wave} took {:.1} s: {strangers}", began_at.elapsed().as_secs_f64());
        assert!(strangers.came(), "the storm was none: {strangers}");
        if wave == 2 {
            let left = before.connections + strangers.sockets();
            eventually("who dawdles is sent away", CUT_OFF, async || {
                (ground.metric("jobql_http_open{what=\"connection\"}").await <= left).then_some(())
            })
            .await;
            eprintln!("storm: sent away after {:.1} s", began_at.elapsed().as_secs_f64());
        }
        strangers.leave();
        after.push(ground.settled(before).await);
    }
    (times, after.try_into().expect("two waves"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs alone: make storm"]
async fn a_normal_client_gets_through_a_storm_and_nothing_of_it_stays() {
    let ground = Ground::new().await;
    let token = ground.client("normal").await;
    ground.warm_up(&token).await;
    let normal = NormalClient::new(&ground.process.url, &token, PATIENCE);
    let mut quiet = normal.goes_on_for(QUIET).await.expect("the normal client's thread");
    let before = ground.held().await;
    let (stormy, [first, second]) = waves(&ground, &normal, &before).await;
    let calm = normal.goes_on_for(QUIET).await.expect("the normal client's thread");
    eprintln!("storm: the normal client, before: {quiet}");
    eprintln!("storm: the normal client, in it:  {stormy}");
    eprintln!("storm: the normal client, after:  {calm}");
    quiet.extend(calm);
    let slower = stormy.p99() / quiet.p99();
    eprintln!("storm: p99 in it is {slower:.2} times that of quiet");
    for (when, held) in [("before", &before), ("after one wave", &first), ("after two", &second)] {
        eprintln!("storm: held {when}: {held:?}");
    }
    for times in [&quiet, &stormy] {
        assert_eq!(times.failures(), [""; 0], "of the normal client's requests");
        assert!(times.count() > 300, "so few requests prove nothing: {times}");
    }
    let is_judged = std::env::var_os("STORM_BINARY").is_some();
    assert!(!is_judged || slower <= MOST_TIMES, "p99 is {slower:.2} times that of quiet");
    let (grown, grown_again) = (
        first.resident_kib.saturating_sub(before.resident_kib),
        second.resident_kib.saturating_sub(first.resident_kib),
    );
    assert!(grown < FIRST_WAVE_KIB, "{grown} KiB more after the first wave");
    assert!(grown_again < SECOND_WAVE_KIB, "{grown_again} KiB more after the second wave");
    assert!(!ground.process.logged().contains("panicked"), "{}", ground.process.logged());
}
