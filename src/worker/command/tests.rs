//! The runner against real small programs.

use std::path::PathBuf;

use nix::sys::signal::kill;
use nix::unistd::Pid;
use tokio::time::Instant;
use uuid::Uuid;

use super::*;

const DEADLINE: Duration = Duration::from_secs(10);

fn context(payload: Value) -> Context {
    Context {
        job_id: Uuid::nil(),
        attempt: 3,
        payload,
        stop: CancellationToken::new(),
        progress: Default::default(),
        log: Default::default(),
        max_result_bytes: 1 << 20,
        timeout_seconds: 300,
        epoch: 1,
        lease_token: None,
        spawner: Spawner::default(),
    }
}

fn argv(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

async fn sh(script: &str, context: Context) -> Result<Value, Failure> {
    let argv = argv(&["/bin/sh", "-c", script]);
    timeout(DEADLINE, run("test", &argv, context)).await.expect("the program is over in time")
}

/// A folder of the test's own, to which programs can tell what they cannot print.
struct Notes(PathBuf);

impl Drop for Notes {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn notes() -> (Notes, PathBuf) {
    let folder = std::env::temp_dir().join(format!("jobql-test-{}", Uuid::new_v4()));
    std::fs::create_dir(&folder).unwrap();
    let note = folder.join("note");
    (Notes(folder), note)
}

async fn read_when_written(path: &Path) -> String {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match std::fs::read_to_string(path) {
            Ok(text) if text.ends_with('\n') => return text.trim().to_owned(),
            _ => assert!(Instant::now() < deadline, "nothing was written"),
        }
        tokio::task::yield_now().await;
    }
}

async fn dies(pid: &str) {
    let pid = Pid::from_raw(pid.parse().unwrap());
    let deadline = Instant::now() + DEADLINE;
    while runs(pid) {
        assert!(Instant::now() < deadline, "still alive");
        tokio::task::yield_now().await;
    }
}

/// True while it is there and not a zombie, which a container without an init may keep for ever.
fn runs(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    kill(pid, None).is_ok() && !stat.contains(") Z ")
}

#[tokio::test]
async fn the_payload_comes_in_and_the_result_goes_out_however_large() {
    let payload = json!({ "text": "x".repeat(900_000), "n": [1, 2.5, null] });
    let outcome =
        timeout(DEADLINE, run("test", &argv(&["/bin/cat"]), context(payload.clone()))).await.unwrap();
    assert_eq!(outcome, Ok(payload));
}

#[tokio::test]
async fn a_program_need_not_read_and_need_not_print() {
    let large = json!("x".repeat(900_000));
    assert_eq!(sh("exec 0<&-; exit 0", context(large)).await, Ok(Value::Null));
}

#[tokio::test]
async fn the_environment_is_clean_and_the_folder_private_and_removed() {
    let script = r#"
        stat=$(stat -c %a .)
        touch "$HOME/left behind"
        printf '{"env": "%s", "home": "%s", "pwd": "%s", "mode": "%s"}' \
            "$(env | sed 's/=.*//' | sort | tr '\n' ' ')" "$HOME" "$PWD" "$stat""#;
    let result = sh(script, context(Value::Null)).await.unwrap();
    // What the shell adds of its own does not count.
    let names: Vec<&str> = result["env"].as_str().unwrap().split_whitespace().collect();
    let own = |name: &&str| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name);
    let given: Vec<&str> = names.into_iter().filter(own).collect();
    assert_eq!(given, ["HOME", "JOBQL_ATTEMPT", "JOBQL_JOB_ID", "JOBQL_KIND", "LANG", "PATH", "TMPDIR"]);
    assert_eq!(result["mode"], "700");
    assert_eq!(result["home"], result["pwd"]);
    assert!(!Path::new(result["home"].as_str().unwrap()).exists());
    let told = sh(r#"echo "\"$JOBQL_ATTEMPT $JOBQL_KIND $JOBQL_JOB_ID\"""#, context(Value::Null)).await;
    assert_eq!(told, Ok(json!(format!("3 test {}", Uuid::nil()))));
}

#[tokio::test]
async fn the_exit_status_decides_and_the_log_says_why() {
    let script = "echo first >&2; echo why >&2; echo ::progress 0.5 >&2; exit 3";
    let failure = sh(script, context(Value::Null)).await.unwrap_err();
    assert_eq!((failure.code.as_str(), failure.message.as_str(), failure.retryable), ("FAILED", "why", true));
    assert_eq!(failure.details, Some(json!({ "exitStatus": 3, "stderr": "first\nwhy\n" })));

    let failure = sh("exit 65", context(Value::Null)).await.unwrap_err();
    assert_eq!((failure.code.as_str(), failure.retryable), ("INVALID_INPUT", false));

    let failure = sh("kill -SEGV $$", context(Value::Null)).await.unwrap_err();
    assert_eq!((failure.code.as_str(), failure.retryable), ("WORKER_LOST", true));
    assert!(failure.message.contains("SIGSEGV"));
}

#[tokio::test]
async fn a_missing_program_and_a_result_that_is_no_json_are_told() {
    let failure = run("test", &argv(&["/nowhere/program"]), context(Value::Null)).await.unwrap_err();
    assert_eq!((failure.code.as_str(), failure.retryable), ("SPAWN_FAILED", true));
    for printed in ["{", "1 2", r#""\\u0000""#] {
        let failure = sh(&format!("printf '{printed}'"), context(Value::Null)).await.unwrap_err();
        assert_eq!((failure.code.as_str(), failure.retryable), ("INVALID_RESULT", false), "{printed}");
    }
}

#[tokio::test]
async fn a_program_that_prints_without_end_is_killed() {
    let (_folder, note) = notes();
    let script = format!("echo $$ > {}; while :; do echo xxxxxxxxxxxxxxxx; done", note.display());
    let failure = sh(&script, context(Value::Null)).await.unwrap_err();
    assert_eq!((failure.code.as_str(), failure.retryable), ("OUTPUT_LIMIT", true));
    dies(&read_when_written(&note).await).await;
}

#[tokio::test]
async fn progress_is_reported_while_the_program_runs() {
    let context = context(Value::Null);
    let progress = context.progress.clone();
    let stop = context.stop.clone();
    let script = "echo '::progress 0.4 reading' >&2; sleep 60";
    let mut reports = progress.reports();
    let reported = async {
        let report = reports.next().await;
        assert_eq!((report.fraction, report.message.as_deref()), (Some(0.4), Some("reading")));
        stop.cancel();
    };
    assert_eq!(tokio::join!(sh(script, context), reported).0, Err(stopped()));
}

#[tokio::test]
async fn a_stop_asks_first_and_then_kills_the_whole_group() {
    // Ends by itself when asked.
    let (_folder, note) = notes();
    let polite = format!("trap 'exit 7' TERM; echo $$ > {}; while :; do sleep 0.01; done", note.display());
    let context_polite = context(Value::Null);
    let stop = context_polite.stop.clone();
    let started = Instant::now();
    let stopping = async {
        read_when_written(&note).await;
        stop.cancel();
    };
    assert_eq!(tokio::join!(sh(&polite, context_polite), stopping).0, Err(stopped()));
    assert!(started.elapsed() < TERM_GRACE);

    // Does not listen, nor does its child.
    let (_folder, note) = notes();
    let deaf = format!("trap '' TERM; sleep 600 & echo $! > {}; wait; wait", note.display());
    let context_deaf = context(Value::Null);
    let stop = context_deaf.stop.clone();
    let stopping = async {
        let grandchild = read_when_written(&note).await;
        stop.cancel();
        grandchild
    };
    let (outcome, grandchild) = tokio::join!(sh(&deaf, context_deaf), stopping);
    assert_eq!(outcome, Err(stopped()));
    dies(&grandchild).await;
}

#[tokio::test]
async fn what_a_program_leaves_behind_is_killed_with_it() {
    let (_folder, note) = notes();
    let script = format!("sleep 600 & echo $! > {}; echo 1", note.display());
    assert_eq!(sh(&script, context(Value::Null)).await, Ok(json!(1)));
    dies(&read_when_written(&note).await).await;
}

#[tokio::test]
async fn a_dropped_attempt_leaves_no_process_and_no_folder() {
    let (_folder, note) = notes();
    let script = format!("sleep 600 & echo \"$! $HOME\" > {}; wait", note.display());
    let attempt = tokio::spawn(async move { sh(&script, context(Value::Null)).await });
    let told = read_when_written(&note).await;
    let (grandchild, home) = told.split_once(' ').unwrap();
    attempt.abort();
    assert!(attempt.await.unwrap_err().is_cancelled());
    dies(grandchild).await;
    let deadline = Instant::now() + DEADLINE;
    while Path::new(home).exists() {
        assert!(Instant::now() < deadline, "the folder is still there");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_attempt_that_is_dropped_before_it_hears_of_its_program_leaves_no_process() {
    let (_folder, note) = notes();
    let script = format!("sleep 600 & echo $! > {}; wait", note.display());
    let (context, folder) = (context(Value::Null), std::env::temp_dir());
    let program = Program::new("test", &argv(&["/bin/sh", "-c", &script]), &folder, &context);
    let mut starting = Box::pin(context.spawner.start(program));
    assert!(futures_util::poll!(&mut starting).is_pending());
    // It runs by now, and nobody has taken the answer that says so.
    let grandchild = read_when_written(&note).await;
    drop(starting);
    dies(&grandchild).await;
}

#[tokio::test]
async fn a_process_that_left_the_group_does_not_hold_up_the_result() {
    let (_folder, note) = notes();
    let script = format!(
        "setsid sh -c 'echo $$ > {note}; exec sleep 600' & while [ ! -s {note} ]; do :; done; echo 1",
        note = note.display()
    );
    let outcome = sh(&script, context(Value::Null)).await;
    let escaped = read_when_written(&note).await;
    kill(Pid::from_raw(escaped.parse().unwrap()), Signal::SIGKILL).unwrap();
    assert_eq!(outcome, Ok(json!(1)));
}
