//! A program and everything that it starts: signalled together, killed together, reaped.
//!
//! The group is named by the process id of its leader. That number is the group's only for as long as the leader has
//! not been reaped: afterwards the system may give it to somebody else. So the end of the leader is observed without
//! reaping it, the group is killed while the dead leader still keeps the number, and only then is the leader reaped.
//! Dropping the group kills it; tokio reaps the leader then.
//!
//! Where there is a [`supervisor`](super::supervisor), it is the leader, and what is said here to the group is said to it: it
//! asks the program to end, or kills it with all that descends from it. Without one, a process that leaves the group
//! (`setsid`) escapes.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use tokio::signal::unix::{SignalKind, signal};

/// How long a supervisor may take to kill everything; above what it waits for itself.
const KILL_WITHIN: Duration = Duration::from_secs(7);

/// A running program that leads its own process group.
#[derive(Debug)]
pub(super) struct ProcessGroup {
    child: Child,
    leader: Pid,
    is_supervised: bool,
    reaped: bool,
}

/// The three pipes of a program.
pub(super) struct Pipes {
    pub(super) stdin: ChildStdin,
    pub(super) stdout: ChildStdout,
    pub(super) stderr: ChildStderr,
}

impl ProcessGroup {
    /// Takes charge of a child that was started as the leader of its own group.
    pub(super) fn of(child: Child) -> io::Result<ProcessGroup> {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        // 0 and 1 would name our own group and init.
        let id = id.filter(|id| *id > 1).ok_or_else(|| io::Error::other("the program has no process id"))?;
        Ok(ProcessGroup { child, leader: Pid::from_raw(id), is_supervised: false, reaped: false })
    }

    /// Takes charge of a supervisor.
    pub(super) fn supervised(child: Child) -> io::Result<ProcessGroup> {
        let mut group = ProcessGroup::of(child)?;
        group.is_supervised = true;
        Ok(group)
    }

    /// Its pipes, once.
    pub(super) fn take_pipes(&mut self) -> io::Result<Pipes> {
        match (self.child.stdin.take(), self.child.stdout.take(), self.child.stderr.take()) {
            (Some(stdin), Some(stdout), Some(stderr)) => Ok(Pipes { stdin, stdout, stderr }),
            _ => Err(io::Error::other("the program was started without pipes")),
        }
    }

    /// Waits for the end of the leader, and leaves it unreaped.
    pub(super) async fn leader_ends(&self) -> io::Result<()> {
        // Registered before the first look, so that an end in between is not missed.
        let mut children = signal(SignalKind::child())?;
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        loop {
            match waitid(Id::Pid(self.leader), flags) {
                Ok(WaitStatus::StillAlive) => {
                    children.recv().await;
                }
                Err(Errno::EINTR) => {}
                Ok(_) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Asks the program, and what is still in its group, to end.
    pub(super) fn ask_to_end(&self) {
        self.signal(Signal::SIGTERM, Signal::SIGTERM);
    }

    fn kill(&self) {
        self.signal(Signal::SIGKILL, Signal::SIGHUP);
    }

    /// One signal to the group, or the other to the supervisor.
    fn signal(&self, to_group: Signal, to_supervisor: Signal) {
        if self.reaped {
            return;
        }
        // ESRCH: all of them are gone. EPERM: what is left runs as somebody else. Neither can be helped.
        let _ =
            if self.is_supervised { kill(self.leader, to_supervisor) } else { killpg(self.leader, to_group) };
    }

    /// Kills whatever is left and reaps the leader.
    pub(super) async fn kill_and_reap(mut self) -> io::Result<ExitStatus> {
        self.kill();
        let mut waited = tokio::time::timeout(KILL_WITHIN, self.child.wait()).await;
        if waited.is_err() {
            // A supervisor that does not do its work was stopped by its own program, which dies with it.
            self.child.start_kill()?;
            waited = Ok(self.child.wait().await);
        }
        let status = waited.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        self.reaped = status.is_ok();
        status
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.kill();
    }
}
