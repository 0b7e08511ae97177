//! Runs a program as the handler of a job.
//!
//! - The argv is the configuration's, never a client's, and no shell sees it.
//! - The environment holds only PATH, HOME, TMPDIR, LANG=C.UTF-8, JOBQL_JOB_ID, JOBQL_ATTEMPT and JOBQL_KIND. HOME,
//!   TMPDIR and the working folder are one private folder, which is removed afterwards.
//! - Standard input holds the payload as one line of JSON. Standard output is the result as JSON, null when there is
//!   none. Standard error is the log; a line `::progress 0.4 message` is progress.
//!   Both are kept line by line, as [`super::job_log`] bounds them.
//! - Status 0 is success. 65 (EX_DATAERR) says that the input can never succeed: INVALID_INPUT, not retryable. Any
//!   other is FAILED, retryable. The message is the last line of the log, `details` hold `exitStatus` and the last
//!   4 KiB of the log.
//! - A program that is killed by a signal, its own fault or the system's, is WORKER_LOST, retryable: what did the work
//!   died, as when a whole process does.
//! - More output than a result may have is OUTPUT_LIMIT, output that is no JSON is INVALID_RESULT.
//!
//! It runs [behind](niceness) jobql itself, which has to answer others. When it is over, for whatever reason, all that the
//! program started is killed, wherever it went: [`supervisor`]. A program that is to stop gets SIGTERM and two seconds first;
//! one whose attempt was lost to another worker does not.

mod niceness;
mod pipes;
mod process_group;
mod spawner;
pub mod supervisor;
mod temp_folder;

use std::ffi::OsString;
use std::io;
use std::os::fd::RawFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::pipes::Log;
use self::process_group::{Pipes, ProcessGroup};
pub use self::spawner::Spawner;
use self::temp_folder::TempFolder;
use super::runner::{Context, stopped};
use crate::config::COMMAND_PATH;
use crate::job::failure::Failure;
use crate::job::json_scan;

/// Between SIGTERM and SIGKILL; below `runner::STOP_GRACE`.
const TERM_GRACE: Duration = Duration::from_secs(2);
/// How long the pipes of a killed group may stay open: a process that left the group may still hold them.
const PIPE_GRACE: Duration = Duration::from_secs(1);
/// The exit status for input that can never succeed: EX_DATAERR of sysexits.h.
const EXIT_INVALID_INPUT: i32 = 65;

/// Runs the program to its end.
///
/// # Errors
/// SPAWN_FAILED, FAILED, INVALID_INPUT, WORKER_LOST, OUTPUT_LIMIT, INVALID_RESULT; see the module.
pub async fn run(kind: &str, argv: &[OsString], context: Context) -> Result<Value, Failure> {
    let cannot_start = |error: io::Error| {
        Failure::retryable("SPAWN_FAILED", format!("the program could not be started: {error}"))
    };
    let folder = TempFolder::make().map_err(cannot_start)?;
    // Declared after the folder, so that a drop kills the program before it takes its folder away.
    let program = Program::new(kind, argv, folder.path(), &context);
    let group = context.spawner.start(program).await.map_err(cannot_start)?;
    let outcome = attend(group, context).await;
    folder.remove().await;
    outcome
}

/// What is started, where and with which environment.
struct Program {
    argv: Vec<OsString>,
    folder: PathBuf,
    environment: Vec<(&'static str, OsString)>,
}

impl Program {
    fn new(kind: &str, argv: &[OsString], folder: &Path, context: &Context) -> Program {
        let environment = vec![
            ("PATH", COMMAND_PATH.into()),
            ("HOME", folder.into()),
            ("TMPDIR", folder.into()),
            ("LANG", "C.UTF-8".into()),
            ("JOBQL_JOB_ID", context.job_id.to_string().into()),
            ("JOBQL_ATTEMPT", context.attempt.to_string().into()),
            ("JOBQL_KIND", kind.into()),
        ];
        Program { argv: argv.to_vec(), folder: folder.to_owned(), environment }
    }

    /// The program itself. One without a name cannot be started, which the start then says.
    fn command(&self) -> Command {
        let mut command = Command::new(self.argv.first().cloned().unwrap_or_default());
        command.args(self.argv.iter().skip(1));
        self.furnish(command)
    }

    /// This very binary, even if it was replaced since it was started, as the program's supervisor.
    fn supervised(&self, report: RawFd) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command.arg0("jobql").arg(supervisor::ASKED).arg(report.to_string()).args(&self.argv);
        self.furnish(command)
    }

    fn furnish(&self, mut command: Command) -> Command {
        command
            .current_dir(&self.folder)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

/// How a program ended and what it printed.
struct Ended {
    status: io::Result<ExitStatus>,
    result: Vec<u8>,
    is_over_limit: bool,
    log: Log,
}

/// Lets the program run to its end, then judges how it ended.
async fn attend(group: ProcessGroup, context: Context) -> Result<Value, Failure> {
    let broken = |error: io::Error| Failure::retryable("FAILED", format!("lost the program: {error}"));
    let (stop, limit) = (context.stop.clone(), context.max_result_bytes);
    let ended = run_to_end(group, context).await.map_err(broken)?;
    if ended.is_over_limit {
        let message = format!("printed more than the {limit} bytes that a result may have");
        let details = json!({ "stderr": ended.log.tail() });
        return Err(Failure::retryable("OUTPUT_LIMIT", message).with_details(details));
    }
    let status = ended.status.map_err(broken)?;
    if status.success() {
        return parse_result(&ended.result);
    }
    Err(if stop.is_cancelled() { stopped() } else { failure_of(status, &ended.log) })
}

/// Serves the pipes until the program has ended or must end. Nothing of the group is left then.
async fn run_to_end(mut group: ProcessGroup, context: Context) -> io::Result<Ended> {
    let Pipes { stdin, stdout, stderr } = group.take_pipes()?;
    let mut payload = context.payload.to_string().into_bytes();
    payload.push(b'\n');
    let (mut result, mut log) = (Vec::new(), Log::new(context.progress, context.log.clone()));
    let over_limit = CancellationToken::new();
    let status = {
        let mut serving = std::pin::pin!(async {
            let printing = async {
                if !pipes::read_result(stdout, context.max_result_bytes, &mut result, &context.log).await {
                    over_limit.cancel();
                }
            };
            tokio::join!(pipes::feed(stdin, payload), printing, pipes::read_log(stderr, &mut log));
        });
        let mut ending = std::pin::pin!(async {
            let ended = wait_for_end(&group, &context.stop, &over_limit).await;
            let status = group.kill_and_reap().await;
            ended.and(status)
        });
        tokio::select! {
            status = &mut ending => {
                let _ = timeout(PIPE_GRACE, &mut serving).await;
                status
            }
            () = &mut serving => ending.await,
        }
    };
    log.end();
    Ok(Ended { status, result, is_over_limit: over_limit.is_cancelled(), log })
}

/// Returns when nothing is left to wait for: the program ended, or is to be killed.
async fn wait_for_end(
    group: &ProcessGroup,
    stop: &CancellationToken,
    over_limit: &CancellationToken,
) -> io::Result<()> {
    tokio::select! {
        ended = group.leader_ends() => ended,
        () = over_limit.cancelled() => Ok(()),
        () = stop.cancelled() => {
            group.ask_to_end();
            tokio::select! {
                ended = timeout(TERM_GRACE, group.leader_ends()) => ended.unwrap_or(Ok(())),
                () = over_limit.cancelled() => Ok(()),
            }
        }
    }
}

fn failure_of(status: ExitStatus, log: &Log) -> Failure {
    let stderr = log.tail();
    let said = |otherwise: String| log.last_line().unwrap_or(otherwise);
    match (status.code(), status.signal()) {
        (Some(EXIT_INVALID_INPUT), _) => {
            let message = said("the program refused its input".to_owned());
            Failure::fatal("INVALID_INPUT", message)
                .with_details(json!({ "exitStatus": EXIT_INVALID_INPUT, "stderr": stderr }))
        }
        (Some(code), _) => {
            let message = said(format!("the program ended with status {code}"));
            Failure::retryable("FAILED", message)
                .with_details(json!({ "exitStatus": code, "stderr": stderr }))
        }
        (None, signal) => {
            let name =
                signal.and_then(|number| Signal::try_from(number).ok()).map_or("a signal", Signal::as_str);
            let details = json!({ "signal": name, "stderr": stderr });
            Failure::retryable("WORKER_LOST", format!("the program was killed by {name}"))
                .with_details(details)
        }
    }
}

/// The result of a program from what it printed; nothing is null.
fn parse_result(bytes: &[u8]) -> Result<Value, Failure> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Null);
    }
    let refused = |problem: String| {
        Failure::fatal(
            "INVALID_RESULT",
            format!("what the program printed cannot be kept as JSON: {problem}"),
        )
    };
    json_scan::scan(bytes, json_scan::MAX_DEPTH).map_err(|error| refused(error.to_string()))?;
    serde_json::from_slice(bytes).map_err(|error| refused(error.to_string()))
}

#[cfg(test)]
mod tests;
