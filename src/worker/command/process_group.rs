//! A program and everything that it starts: signalled together, killed together, reaped.
//!
//! The group is named by the process id of its leader. That number is the group's only for as long as the leader has
//! not been reaped: afterwards the system may give it to somebody else. So the end of the leader is observed without
//! reaping it, the group is killed while the dead leader still keeps the number, and only then is the leader reaped.
//! Dropping the group kills it; tokio reaps the leader then.
//!
//! A process that leaves the group (`setsid`) escapes the kill. It can be told from nothing that the system offers
//! to an ordinary user without namespaces.

use std::io;
use std::process::ExitStatus;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use tokio::signal::unix::{SignalKind, signal};

/// A running program that leads its own process group.
#[derive(Debug)]
pub(super) struct ProcessGroup {
    child: Child,
    leader: Pid,
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
        Ok(ProcessGroup { child, leader: Pid::from_raw(id), reaped: false })
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

    /// Sends a signal to all of the group.
    pub(super) fn signal(&self, signal: Signal) {
        if !self.reaped {
            // ESRCH: all of them are gone. EPERM: what is left runs as somebody else. Neither can be helped.
            let _ = killpg(self.leader, signal);
        }
    }

    /// Kills whatever is left of the group and reaps the leader.
    pub(super) async fn kill_and_reap(mut self) -> io::Result<ExitStatus> {
        self.signal(Signal::SIGKILL);
        let status = self.child.wait().await;
        self.reaped = status.is_ok();
        status
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}
