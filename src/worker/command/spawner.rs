//! Starts programs, all from one thread that lives as long as any of them.
//!
//! On Linux a program, or its [`supervisor`](super::supervisor), asks for a signal when its parent dies
//! (`PR_SET_PDEATHSIG`), so that none outlives a jobql that was killed with -9. The system takes "parent" to mean the thread
//! that started it. Threads of the runtime may come and go, so this one thread starts them all; it ends when the last clone
//! of the [`Spawner`] is dropped, and each attempt holds one. Starting a program also blocks for as long as a `fork` takes,
//! which is better done here.
//!
//! Elsewhere than on Linux there is no such request, and programs outlive a kill -9 of jobql until they find their pipes
//! closed.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::sync::{Arc, OnceLock};

use nix::fcntl::{FcntlArg, FdFlag, OFlag};
use nix::sys::signal::Signal;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::Program;
use super::niceness::run_behind;
use super::process_group::ProcessGroup;
use super::supervisor::watched_signals;

/// Starts that wait for their turn; whoever comes then waits before.
const WAITING: usize = 64;

/// The way to the thread, which is started with the first program. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Spawner {
    thread: Arc<OnceLock<mpsc::Sender<Start>>>,
    supervised: bool,
}

struct Start {
    command: Command,
    take_charge: TakeCharge,
    runtime: Handle,
    answer: oneshot::Sender<io::Result<ProcessGroup>>,
}

/// What makes a child the leader of a group that is killed when it is dropped.
type TakeCharge = fn(Child) -> io::Result<ProcessGroup>;

impl Spawner {
    /// One whose programs run under a supervisor. Only for a process whose `main` begins with
    /// [`run_if_asked`](super::supervisor::run_if_asked), on Linux.
    pub fn supervised() -> Spawner {
        Spawner { supervised: cfg!(target_os = "linux"), ..Spawner::default() }
    }

    /// Starts a program in a process group of its own, and under a supervisor if there are any.
    pub(super) async fn start(&self, program: Program) -> io::Result<ProcessGroup> {
        if !self.supervised {
            let mut command = program.command();
            command.process_group(0);
            die_with_parent(command.as_std_mut(), Signal::SIGKILL);
            run_behind(command.as_std_mut());
            return self.spawn(command, ProcessGroup::of).await;
        }
        let (said, says) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        nix::fcntl::fcntl(&said, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let mut command = program.supervised(says.as_raw_fd());
        be_a_supervisor(command.as_std_mut(), says.as_raw_fd());
        let group = self.spawn(command, ProcessGroup::supervised).await?;
        // Ours must be closed for theirs to be the last.
        drop(says);
        let mut number = Vec::new();
        pipe::Receiver::from_owned_fd(said)?.read_to_end(&mut number).await?;
        match <[u8; 4]>::try_from(number.as_slice()) {
            Ok(number) => Err(io::Error::from_raw_os_error(i32::from_ne_bytes(number))),
            Err(_) => Ok(group),
        }
    }

    async fn spawn(&self, command: Command, take_charge: TakeCharge) -> io::Result<ProcessGroup> {
        let (answer, started) = oneshot::channel();
        let gone = || io::Error::other("the thread that starts programs is gone");
        let start = Start { command, take_charge, runtime: Handle::current(), answer };
        self.thread.get_or_init(run_thread).send(start).await.map_err(|_| gone())?;
        started.await.unwrap_or_else(|_| Err(gone()))
    }
}

fn run_thread() -> mpsc::Sender<Start> {
    let (sender, mut receiver) = mpsc::channel::<Start>(WAITING);
    let thread = std::thread::Builder::new().name("jobql-spawner".to_owned()).spawn(move || {
        while let Some(mut start) = receiver.blocking_recv() {
            // tokio watches the child from the runtime of whoever asked.
            let _entered = start.runtime.enter();
            let started = start.command.spawn().and_then(start.take_charge);
            // Dropped, and thereby killed with all that it has started, when nobody waits for it any more.
            let _ = start.answer.send(started);
        }
    });
    if let Err(error) = thread {
        // The receiver is gone with the closure, so every start fails and says so.
        tracing::error!(%error, "the thread that starts programs could not be started");
    }
    sender
}

/// Has the program sent this signal when we die.
#[cfg(target_os = "linux")]
pub(super) fn die_with_parent(command: &mut std::process::Command, with: Signal) {
    let parent = nix::unistd::getpid();
    // SAFETY: the closure runs between fork and exec and only makes the system calls prctl and getppid, which are
    // async-signal-safe; it allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(with)?;
            // The parent may have died before the request was made.
            if nix::unistd::getppid() == parent { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
        });
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn die_with_parent(_command: &mut std::process::Command, _with: Signal) {}

/// Gives a supervisor its session, the signals that it waits for, and its end of the pipe.
fn be_a_supervisor(command: &mut std::process::Command, report: RawFd) {
    let signals = watched_signals();
    // SAFETY: the closure runs between fork and exec and only makes the system calls setsid, sigprocmask and fcntl, which
    // are async-signal-safe; it allocates nothing and takes no lock. The pipe is open, as the caller waits for the start.
    unsafe {
        command.pre_exec(move || {
            nix::unistd::setsid()?;
            // Before the signal of our death can come.
            signals.thread_block()?;
            let report = BorrowedFd::borrow_raw(report);
            nix::fcntl::fcntl(report, FcntlArg::F_SETFD(FdFlag::empty()))?;
            Ok(())
        });
    }
    die_with_parent(command, Signal::SIGHUP);
}
