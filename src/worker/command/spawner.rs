//! Starts programs, all from one thread that lives as long as any of them.
//!
//! On Linux a program asks to be killed when its parent dies (`PR_SET_PDEATHSIG`), so that none outlives a jobql that
//! was killed with -9. The system takes "parent" to mean the thread that started it. Threads of the runtime may
//! come and go, so this one thread starts them all; it ends when the last clone of the [`Spawner`] is dropped, and
//! each attempt holds one. Starting a program also blocks for as long as a `fork` takes, which is better done here.
//!
//! Only the program itself is killed that way, not what it started: the request is not inherited. Elsewhere than on
//! Linux there is no such request, and programs outlive a kill -9 of jobql until they find their pipes closed.

use std::io;
use std::sync::{Arc, OnceLock};

use tokio::process::Command;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::process_group::ProcessGroup;

/// Starts that wait for their turn; whoever comes then waits before.
const WAITING: usize = 64;

/// The way to the thread, which is started with the first program. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Spawner {
    thread: Arc<OnceLock<mpsc::Sender<Start>>>,
}

struct Start {
    command: Command,
    runtime: Handle,
    answer: oneshot::Sender<io::Result<ProcessGroup>>,
}

impl Spawner {
    /// Starts a program as the leader of its own process group.
    pub(super) async fn start(&self, mut command: Command) -> io::Result<ProcessGroup> {
        command.process_group(0).kill_on_drop(true);
        die_with_parent(&mut command);
        let (answer, started) = oneshot::channel();
        let gone = || io::Error::other("the thread that starts programs is gone");
        let start = Start { command, runtime: Handle::current(), answer };
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
            let started = start.command.spawn().and_then(ProcessGroup::of);
            // Dropped, and thereby killed, when nobody waits for it any more.
            let _ = start.answer.send(started);
        }
    });
    if let Err(error) = thread {
        // The receiver is gone with the closure, so every start fails and says so.
        tracing::error!(%error, "the thread that starts programs could not be started");
    }
    sender
}

#[cfg(target_os = "linux")]
fn die_with_parent(command: &mut Command) {
    let parent = nix::unistd::getpid();
    // SAFETY: the closure runs between fork and exec and only makes the system calls prctl and getppid, which are
    // async-signal-safe; it allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
            // The parent may have died before the request was made.
            if nix::unistd::getppid() == parent { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
        });
    }
}

#[cfg(not(target_os = "linux"))]
fn die_with_parent(_command: &mut Command) {}
