//! Programs as handlers, under the real binary: nothing of one outlives its attempt, whatever it does and whatever becomes
//! of jobql.

use std::path::{Path, PathBuf};

use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::support::process::Process;
use crate::support::{SOON, TestDb, eventually};

/// A folder with a configuration that has one kind, `script`, and what it notes.
struct Bench {
    db: TestDb,
    folder: PathBuf,
}

impl Bench {
    /// The kind is this script of sh; `$NOTE` in it is a file that the test reads.
    async fn with(script: &str) -> Bench {
        let folder = std::env::temp_dir().join(format!("jobql-commands-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder).expect("a folder");
        let bench = Bench { db: TestDb::new().await, folder };
        let script = script.replace("$NOTE", &bench.note().display().to_string());
        let argv = serde_json::to_string(&["/bin/sh", "-c", &script]).expect("JSON");
        let table = format!("[kinds.script]\nrunner = \"command\"\ncommand = {argv}\nmax_attempts = 1\n");
        std::fs::write(bench.folder.join("jobql.toml"), table).expect("a file");
        bench
    }

    fn note(&self) -> PathBuf {
        self.folder.join("note")
    }

    async fn serve(&self, arguments: &[&str]) -> Process {
        let config = self.folder.join("jobql.toml").display().to_string();
        let mut all = vec!["--config", config.as_str()];
        all.extend(arguments);
        Process::serve(&self.db.url(), &all).await
    }

    /// The process ids that the script has noted, so many of them.
    async fn noted(&self, count: usize) -> Vec<Pid> {
        eventually("the script notes its processes", SOON, async || {
            let text = std::fs::read_to_string(self.note()).unwrap_or_default();
            let pids: Vec<Pid> =
                text.lines().filter_map(|line| Some(Pid::from_raw(line.trim().parse().ok()?))).collect();
            (pids.len() == count && text.ends_with('\n')).then_some(pids)
        })
        .await
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// True while it is there and not a zombie.
fn runs(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    kill(pid, None).is_ok() && !stat.contains(") Z ")
}

async fn all_die(pids: &[Pid]) {
    eventually("they all die", SOON, async || pids.iter().all(|pid| !runs(*pid)).then_some(())).await;
}

async fn ended(server: &Process, id: &str) -> Value {
    eventually("the job ends", SOON, async || {
        let job = server.job(id, "status result error { code message }").await;
        job["status"]
            .as_str()
            .is_some_and(|status| ["DONE", "ERROR", "CANCELLED"].contains(&status))
            .then_some(job)
    })
    .await
}

/// Notes four processes: one in the group, one in a session of its own, one forked twice, and one that refuses to be asked.
const SCATTER: &str = "
    sleep 600 & echo $! >> $NOTE
    setsid sh -c 'echo $$ >> $NOTE; exec sleep 600' &
    (setsid sh -c '(echo $(exec sh -c \"echo \\$PPID\") >> $NOTE; exec sleep 600) & exit' &)
    (trap '' TERM HUP INT; setsid sh -c 'trap \"\" TERM; echo $$ >> $NOTE; while :; do sleep 600; done' &)
    while [ \"$(grep -c . $NOTE)\" -lt 4 ]; do sleep 0.01; done";

#[tokio::test]
async fn whatever_a_program_leaves_behind_dies_with_its_attempt() {
    let bench = Bench::with(&format!("{SCATTER}\necho 1")).await;
    let server = bench.serve(&[]).await;
    let id = server.submit("script", json!({})).await;
    assert_eq!(ended(&server, &id).await, json!({"status": "DONE", "result": 1, "error": null}));
    let left = bench.noted(4).await;
    assert!(left.iter().all(|pid| !runs(*pid)), "the end came before they were dead");
}

#[tokio::test]
async fn a_cancelled_job_takes_all_its_processes_with_it() {
    let bench = Bench::with(&format!("{SCATTER}\necho $$ >> $NOTE; exec sleep 600")).await;
    let server = bench.serve(&[]).await;
    let id = server.submit("script", json!({})).await;
    let pids = bench.noted(5).await;
    assert!(pids.iter().all(|pid| runs(*pid)));
    server.data("mutation ($id: ID!) { cancelJob(id: $id) { id } }", json!({"id": id})).await;
    assert_eq!(ended(&server, &id).await["status"], "CANCELLED");
    all_die(&pids).await;
}

#[tokio::test]
async fn no_process_of_a_job_survives_a_jobql_that_is_killed() {
    let bench = Bench::with(&format!("{SCATTER}\necho $$ >> $NOTE; exec sleep 600")).await;
    let server = bench.serve(&[]).await;
    server.submit("script", json!({})).await;
    let pids = bench.noted(5).await;
    assert!(pids.iter().all(|pid| runs(*pid)));
    server.kill().await;
    all_die(&pids).await;
}

#[tokio::test]
async fn under_a_supervisor_a_program_ends_as_it_ends() {
    let bench = Bench::with(
        "read -r how; case $how in *signal*) kill -SEGV $$;; *data*) echo bad >&2; exit 65;; esac; exit 7",
    )
    .await;
    let server = bench.serve(&[]).await;
    for (payload, code) in
        [(json!("signal"), "WORKER_LOST"), (json!("data"), "INVALID_INPUT"), (json!(0), "FAILED")]
    {
        let id = server.submit("script", payload).await;
        let job = ended(&server, &id).await;
        assert_eq!((&job["status"], &job["error"]["code"]), (&json!("ERROR"), &json!(code)), "{job}");
    }
}

#[tokio::test]
async fn a_program_that_is_gone_is_told_of() {
    let bench = Bench::with("exit 0").await;
    let program = bench.folder.join("program");
    std::fs::write(&program, "#!/nowhere/at/all\n").expect("a file");
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
    let table =
        format!("[kinds.script]\nrunner = \"command\"\ncommand = [{:?}]\nmax_attempts = 1\n", program);
    std::fs::write(bench.folder.join("jobql.toml"), table).expect("a file");
    let server = bench.serve(&[]).await;
    let id = server.submit("script", json!({})).await;
    let job = ended(&server, &id).await;
    assert_eq!(job["error"]["code"], "SPAWN_FAILED");
    assert!(job["error"]["message"].as_str().expect("a message").contains("No such file"), "{job}");
}

#[tokio::test]
async fn nothing_that_a_client_sends_changes_what_runs() {
    // The payload comes on standard input only; neither argument nor environment holds any of it.
    let script = "tr '\\0' '\\n' < /proc/$$/cmdline > $NOTE; tr '\\0' '\\n' < /proc/$$/environ >> $NOTE; cat > /dev/null; echo null";
    let bench = Bench::with(script).await;
    let server = bench.serve(&[]).await;
    let hostile = "'; touch /tmp/canary; $(touch /tmp/canary) `id` && -c --config=/etc/passwd";
    let query = "mutation ($i: SubmitJobInput!) { submitJob(input: $i) { job { id } } }";
    let input = json!({
        "kind": "script", "payload": {"argv": ["/bin/false"], "PATH": hostile, "command": hostile, "x": "canary"},
        "displayName": "canary", "requestId": "canary", "clientId": "canary",
    });
    let data = server.data(query, json!({"i": input})).await;
    let id = data["submitJob"]["job"]["id"].as_str().expect("an id").to_owned();
    assert_eq!(ended(&server, &id).await["status"], "DONE");
    let seen = std::fs::read_to_string(bench.note()).expect("a note");
    assert!(!seen.contains("canary"), "{seen}");
    assert!(!seen.contains("JOBQL_DATABASE_URL"), "{seen}");
    let names: std::collections::BTreeSet<&str> =
        seen.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    let given = ["HOME", "JOBQL_ATTEMPT", "JOBQL_JOB_ID", "JOBQL_KIND", "LANG", "PATH", "TMPDIR"];
    assert!(given.iter().all(|name| names.contains(name)), "{names:?}");
    for kind in ["/bin/sh", "script; id", "../script"] {
        let answer = server.ask(query, json!({"i": {"kind": kind}})).await;
        assert_eq!(answer["errors"][0]["extensions"]["code"], "UNKNOWN_KIND", "{answer}");
    }
    assert!(!Path::new("/tmp/canary").exists());
}

/// Resident memory of the server, in kB.
fn resident(server: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches("kB").trim().parse().expect("a number")
}

#[tokio::test]
async fn output_without_end_is_capped_and_costs_no_memory() {
    // To the log all of it, 64 MiB as one line and 8 MiB as many; as a result until the limit.
    let bench = Bench::with("read -r where; case $where in *log*) head -c 67108864 /dev/zero | tr '\\0' 'x' >&2; echo 1;; *lines*) yes $(head -c 1000 /dev/zero | tr '\\0' 'x') | head -c 8388608 >&2; echo 2;; *) yes;; esac").await;
    let server = bench.serve(&[]).await;
    let id = server.submit("script", json!("result")).await;
    assert_eq!(ended(&server, &id).await["error"]["code"], "OUTPUT_LIMIT");
    let before = resident(&server);
    for (payload, result) in [("log", 1), ("lines", 2)] {
        let id = server.submit("script", json!(payload)).await;
        let job = eventually("the job ends", 8 * SOON, async || {
            let job = server.job(&id, "status result logs(first: 5) { nodes { text } }").await;
            (job["status"] == "DONE").then_some(job)
        })
        .await;
        assert_eq!(job["result"], result);
    }
    let grown = resident(&server).saturating_sub(before);
    assert!(grown < 32 << 10, "{grown} kB more than before");
    let lines: i64 =
        sqlx::query_scalar("SELECT count(*) FROM job_log").fetch_one(bench.db.pool()).await.expect("count");
    assert!(lines < 50_000, "{lines} lines are kept");
}

/// What a shell says of its own niceness, and of its session's.
const NICENESS: &str = "printf '{\"own\": %s, \"session\": \"%s\"}' $(nice) \
    \"$(sed 's/.* //' /proc/self/autogroup 2> /dev/null)\"";

#[tokio::test]
async fn a_program_runs_behind_jobql_itself() {
    let here = std::process::Command::new("nice").output().expect("nice runs").stdout;
    let here: i64 = String::from_utf8_lossy(&here).trim().parse().expect("a number");
    let session = if Path::new("/proc/self/autogroup").exists() { "10" } else { "" };
    let bench = Bench::with(NICENESS).await;
    let server = bench.serve(&[]).await;
    // The system takes few changes of sessions a second from whoever is not its administrator.
    eventually("a program says that it stands behind", SOON, async || {
        let id = server.submit("script", json!({})).await;
        let result = ended(&server, &id).await["result"].take();
        assert_eq!(result["own"], (here + 10).min(19), "{result}");
        (result["session"] == session).then_some(())
    })
    .await;
}
