//! Programs run behind jobql: where there is not enough of the processors for both, jobql goes first, so that a busy job
//! does not keep it from its leases and its clients. Where there is enough, a program does not notice.
//!
//! A program gets [`NICENESS`] more than jobql has, and about a ninth of what an ordinary process gets beside it. Linux,
//! where it gathers the processes of a session (`sched_autogroup`), compares the sessions only; a supervisor begins one, and
//! says the same for all of it.

/// As with `nice`, and its default.
const NICENESS: i32 = 10;

/// The program that this command starts.
pub(super) fn run_behind(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    // SAFETY: the closure runs between fork and exec and only makes the system calls getpriority and setpriority; it
    // allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(|| {
            // To step back is always allowed, and a program that could not runs all the same.
            nix::libc::nice(NICENESS);
            Ok(())
        });
    }
}

/// The session that this process has begun.
pub(super) fn let_session_run_behind() {
    // Elsewhere there is no such file; and whoever is not the system's administrator may do so ten times a second only.
    let _ = std::fs::write("/proc/self/autogroup", NICENESS.to_string());
}
