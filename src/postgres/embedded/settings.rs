//! The server's settings, written at each start.
//!
//! The file is ours: what a person sets goes by `ALTER SYSTEM`, which PostgreSQL reads after it. The check of
//! the durable settings at start refuses what would break the promise, wherever it was set.

use std::io::Write;
use std::path::Path;

use super::SOCKET_PORT;
use super::cluster_folder::{ClusterFolder, create_anew, failed};
use crate::postgres::PostgresError;

/// Who may connect: whoever can reach the socket, which stands in a folder of mode 0700. No host line, so
/// nobody could even if a port were opened by hand.
const PG_HBA: &str = "# Written by jobql at each start.\nlocal all all trust\n";

/// Writes `postgresql.conf` and `pg_hba.conf`.
pub fn write(
    folder: &ClusterFolder,
    socket_folder: &Path,
    max_connections: u32,
) -> Result<(), PostgresError> {
    let text = postgresql_conf(socket_folder, max_connections, shared_buffers_mib());
    for (name, text) in [("postgresql.conf", text.as_str()), ("pg_hba.conf", PG_HBA)] {
        // By rename, or a full disk would leave half a file and a server that does not start.
        let path = folder.cluster().join(name);
        let new = folder.home().join(format!("{name}.new"));
        create_anew(&new)?.write_all(text.as_bytes()).map_err(failed("write", &new))?;
        folder.account().own(&new)?;
        std::fs::rename(&new, &path).map_err(failed("write", &path))?;
    }
    Ok(())
}

fn postgresql_conf(socket_folder: &Path, max_connections: u32, shared_buffers_mib: u64) -> String {
    let socket_folder = socket_folder.to_string_lossy().replace('\'', "''");
    // A comma separates folders unless the name stands in double quotes.
    let socket_folder = format!("\"{}\"", socket_folder.replace('"', "\"\""));
    format!(
        "# Written by jobql at each start. Your own settings: ALTER SYSTEM SET ...

# A Unix socket and no port. The number only names the socket file.
listen_addresses = ''
port = {SOCKET_PORT}
unix_socket_directories = '{socket_folder}'
unix_socket_permissions = 0700

# What was acknowledged stays.
fsync = on
full_page_writes = on
synchronous_commit = on

max_connections = {max_connections}
# An eighth of the memory: the machine is shared with the job server and its jobs.
shared_buffers = {shared_buffers_mib}MB
max_wal_size = 2GB
# Costs of a disk without moving parts. The statements are short, so neither of the next two would pay; parallel
# plans also need more of /dev/shm than a container gives.
random_page_cost = 1.1
jit = off
max_parallel_workers_per_gather = 0
timezone = 'UTC'

# A file a day, each overwritten a week later. Neither statements nor row contents: they hold payloads.
logging_collector = on
log_directory = 'log'
log_filename = 'postgresql-%a.log'
log_truncate_on_rotation = on
log_rotation_age = 1d
log_rotation_size = 0
log_timezone = 'UTC'
log_min_error_statement = panic
log_error_verbosity = terse
"
    )
}

/// An eighth of the memory, from 32 MiB to 1 GiB; 128 MiB where it cannot be told.
fn shared_buffers_mib() -> u64 {
    let told = std::fs::read_to_string("/proc/meminfo").ok();
    let kib = told.as_deref().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    });
    kib.map_or(128, |kib| (kib / 1024 / 8).clamp(32, 1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_folder_with_quotes_and_commas_stays_one_folder() {
        let text = postgresql_conf(Path::new("/a'b,c"), 100, 128);
        assert!(text.contains("unix_socket_directories = '\"/a''b,c\"'"), "{text}");
        assert!(text.contains("listen_addresses = ''"), "{text}");
    }
}
