//! The process between jobql and a program: it sees to it that nothing of the program outlives its attempt.
//!
//! A process group can be left, with `setsid` or a double fork, and what has left it can be told from nothing that the system
//! offers to an ordinary user. So the program runs under a small process of the same binary, which is the *subreaper* of all
//! that descends from it: whoever loses its parent becomes the supervisor's child. When the program has ended, it kills
//! whatever is left, round by round, until it has no child any more, and only then ends itself, as the program did.
//!
//! ```text
//!  jobql ── supervisor (own session, subreaper) ── program (own group) ── whatever it starts
//! ```
//!
//! | signal to the supervisor | it |
//! |---|---|
//! | SIGTERM | passes it on to the program's group |
//! | SIGHUP, also sent by the system when jobql dies (`PR_SET_PDEATHSIG`) | kills everything below it |
//!
//! It also holds when jobql is killed with -9. A program that kills its own supervisor dies with it, but what it had started
//! before and moved away would live on; programs are the configuration's and are trusted that far. Whatever runs as another
//! user cannot be killed and is given up after [`GIVE_UP_AFTER`].
//!
//! Only Linux has what this needs, and only a program that calls [`run_if_asked`] first in its `main` can be its own
//! supervisor; elsewhere the process group is all there is.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{FromRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{SigHandler, SigSet, Signal, kill, killpg, raise, signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid};

use super::niceness;

/// The first argument of a supervisor; the second is the number of the pipe on which it reports, then comes the program.
pub(super) const ASKED: &str = "__supervise";
/// How long what cannot be killed is waited for.
const GIVE_UP_AFTER: Duration = Duration::from_secs(5);
/// Between two rounds of killing.
const ROUND: Duration = Duration::from_millis(2);

/// Supervises a program where the command line says so, and returns how it ended; else none. For the first line of `main`:
/// no other thread may run yet.
pub fn run_if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != *ASKED {
        return None;
    }
    let report = arguments.next()?.to_str()?.parse().ok()?;
    let argv: Vec<OsString> = arguments.collect();
    Some(match supervise(&argv, report) {
        Ok(status) => end_like(status),
        Err(_) => ExitCode::FAILURE,
    })
}

fn supervise(argv: &[OsString], report: RawFd) -> io::Result<ExitStatus> {
    let signals = watched_signals();
    signals.thread_block()?;
    niceness::let_session_run_behind();
    let program = start(argv, report)?;
    let mut ended = None;
    while ended.is_none() {
        match signals.wait()? {
            Signal::SIGHUP => break,
            // The group is there for as long as the program is not reaped, which happens below.
            Signal::SIGTERM => {
                let _ = killpg(program, Signal::SIGTERM);
            }
            _ => while reap(program, &mut ended).is_ok_and(|reaped| reaped) {},
        }
    }
    let give_up_at = Instant::now() + GIVE_UP_AFTER;
    // What is killed may have started something just before, which comes to us with its parent's death.
    loop {
        for process in descendants() {
            let _ = kill(process, Signal::SIGKILL);
        }
        loop {
            match reap(program, &mut ended) {
                Ok(true) => {}
                Ok(false) => break,
                Err(_) => return ended.ok_or_else(|| io::Error::other("the program was lost")),
            }
        }
        if Instant::now() >= give_up_at {
            return ended.ok_or_else(|| io::Error::other("the program cannot be killed"));
        }
        std::thread::sleep(ROUND);
    }
}

/// What a supervisor waits for. They are blocked from before it starts, so none is missed.
pub(super) fn watched_signals() -> SigSet {
    [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect()
}

/// Starts the program and reports: nothing when that went well, else the error's number.
fn start(argv: &[OsString], report: RawFd) -> io::Result<Pid> {
    // SAFETY: the number was given to us by the one who opened the pipe for this, and nothing else in this process uses it.
    let mut report = unsafe { File::from_raw_fd(report) };
    let started = spawn(argv, &report);
    if let Err(error) = &started {
        let number = error.raw_os_error().unwrap_or(Errno::EINVAL as i32);
        report.write_all(&number.to_ne_bytes())?;
    }
    started
}

fn spawn(argv: &[OsString], report: &File) -> io::Result<Pid> {
    // The program is not to hold it open.
    nix::fcntl::fcntl(report, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
    become_subreaper()?;
    let (program, arguments) = argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    command.args(arguments).process_group(0);
    super::spawner::die_with_parent(&mut command, Signal::SIGKILL);
    niceness::run_behind(&mut command);
    let child = command.spawn()?;
    // Not ours to hold: a reader of what the program prints waits until nobody has the pipe.
    for number in 0..=2 {
        let _ = nix::unistd::close(number);
    }
    Ok(Pid::from_raw(child.id().cast_signed()))
}

#[cfg(target_os = "linux")]
fn become_subreaper() -> io::Result<()> {
    Ok(nix::sys::prctl::set_child_subreaper(true)?)
}

#[cfg(not(target_os = "linux"))]
fn become_subreaper() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Reaps one that has ended: true when there was one, an error when there is no child at all.
fn reap(program: Pid, ended: &mut Option<ExitStatus>) -> nix::Result<bool> {
    let status = match waitpid(None, Some(WaitPidFlag::WNOHANG))? {
        WaitStatus::Exited(process, code) if process == program => ExitStatus::from_raw(code << 8),
        WaitStatus::Signaled(process, signal, _) if process == program => ExitStatus::from_raw(signal as i32),
        WaitStatus::StillAlive => return Ok(false),
        _ => return Ok(true),
    };
    *ended = Some(status);
    Ok(true)
}

/// All that descends from this process, as far as one look at a changing tree can tell.
fn descendants() -> impl Iterator<Item = Pid> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut parents: Vec<(i32, i32)> = processes.filter_map(|entry| parent_of(&entry.file_name())).collect();
    let mut found = vec![getpid().as_raw()];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        next += 1;
        parents.retain(|(process, of)| {
            let is_child = *of == parent;
            if is_child {
                found.push(*process);
            }
            !is_child
        });
    }
    found.into_iter().skip(1).map(Pid::from_raw)
}

/// A process and its parent.
fn parent_of(name: &OsStr) -> Option<(i32, i32)> {
    let process: i32 = std::str::from_utf8(name.as_bytes()).ok()?.parse().ok()?;
    let stat = std::fs::read(format!("/proc/{process}/stat")).ok()?;
    // The name in brackets may hold anything; the state and the parent follow its last bracket.
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    Some((process, rest.split_ascii_whitespace().nth(1)?.parse().ok()?))
}

/// Ends as the program did, so that whoever waits for us sees its end.
fn end_like(status: ExitStatus) -> ExitCode {
    if let Some(by) = status.signal().and_then(|number| Signal::try_from(number).ok()) {
        // Its core is not ours to write.
        let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0);
        // SAFETY: the default action is no handler, so no code of ours runs in it.
        let _ = unsafe { signal(by, SigHandler::SigDfl) };
        let mut only = SigSet::empty();
        only.add(by);
        let _ = only.thread_unblock();
        let _ = raise(by);
    }
    status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}
