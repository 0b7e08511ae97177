//! The CPU and the memory that a load took: of the generator itself and, where its process is known, of the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

use super::Options;
use super::figures::Figures;

/// How often the server's memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Clock ticks a second in `/proc`; the kernel's interface fixes it.
const TICKS: f64 = 100.0;

/// A measurement that has begun.
pub(super) struct Usage {
    began_at: Instant,
    own_ticks: Option<u64>,
    server: Option<Server>,
}

struct Server {
    pid: u32,
    ticks: Option<u64>,
    peak_kib: Arc<AtomicU64>,
    looking: AbortHandle,
}

impl Usage {
    /// Begins.
    pub(super) fn begin(options: &Options) -> Usage {
        let server = options.server_pid.map(|pid| {
            let peak_kib = Arc::new(AtomicU64::new(0));
            let peak = peak_kib.clone();
            let looking = tokio::spawn(async move {
                loop {
                    peak.fetch_max(resident_kib(pid).unwrap_or_default(), Ordering::Relaxed);
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            });
            Server { pid, ticks: ticks(&pid.to_string()), peak_kib, looking: looking.abort_handle() }
        });
        Usage { began_at: Instant::now(), own_ticks: ticks("self"), server }
    }

    /// Ends, and notes cores and megabytes.
    pub(super) fn end(self, figures: &mut Figures) {
        let seconds = self.began_at.elapsed().as_secs_f64();
        let cores = |before: Option<u64>, now: Option<u64>| {
            Some(now?.saturating_sub(before?) as f64 / TICKS / seconds)
        };
        if let Some(cores) = cores(self.own_ticks, ticks("self")) {
            figures.note("generator_cores", cores);
        }
        let Some(server) = self.server else { return };
        server.looking.abort();
        if let Some(cores) = cores(server.ticks, ticks(&server.pid.to_string())) {
            figures.note("server_cores", cores);
        }
        figures.note("server_peak_mb", server.peak_kib.load(Ordering::Relaxed) as f64 / 1_024.0);
    }
}

/// What the process holds in memory.
pub(super) fn resident_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// CPU time of a process.
fn ticks(process: &str) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in brackets, may hold anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}
