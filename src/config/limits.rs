//! What one client, or one address, may take of the server.

use super::{ConfigError, File, Network, Overrides, filled};

/// See the module. Each holds for a client, which is a client id or a token of workers, and by itself for an address; an
/// IPv6 address counts with its whole /64, which is
/// what one customer is given. Connections from this machine meet no limit by address. All but `max_queued_jobs_per_client`
/// are counted by each process for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests a second in the long run, operations of sockets among them, 0 to 1,000,000; 1,000 by default, 0 for no
    /// limit. More is RATE_LIMITED. Very low, and a dashboard that opens meets it.
    pub requests_per_second: u32,
    /// Requests that may come at once after a pause, 1 to 1,000,000; 5,000 by default. Below the subscriptions of a
    /// client, its reconnect is spread over seconds.
    pub request_burst: u32,
    /// TCP connections of an address, 1 to 1,000,000; 512 by default. One more gets 503. Proxies in `trusted_proxies` are
    /// exempt, as theirs are everyone's.
    pub max_connections_per_address: u32,
    /// WebSockets and streams of events, 1 to 1,000,000; 512 by default.
    pub max_sockets_per_client: u32,
    /// Operations that one socket has at once, 1 to 100,000; 2,000 by default.
    pub max_operations_per_socket: usize,
    /// Operations at once over all sockets and requests, subscriptions among them, 1 to 1,000,000; 10,000 by default.
    pub max_operations_per_client: u32,
    /// Jobs of a client id that wait at once (PENDING, SCHEDULED, BLOCKED), 1 to 1,000,000,000; 100,000 by default. More is
    /// QUEUE_FULL. Operators are exempt. Each process counts anew after a tenth of it and adds what it wrote itself, so it
    /// may be passed by a tenth per process.
    pub max_queued_jobs_per_client: u32,
    /// Proxies whose word on a client's address is taken: X-Forwarded-For or Forwarded, read from the right up to the
    /// first address that is not one of these. In the file a list, as a flag separated by commas; none by default, and
    /// then these headers are ignored. Naming a network that clients are in lets them choose their address.
    pub trusted_proxies: Vec<Network>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            requests_per_second: 1_000,
            request_burst: 5_000,
            max_connections_per_address: 512,
            max_sockets_per_client: 512,
            max_operations_per_socket: 2_000,
            max_operations_per_client: 10_000,
            max_queued_jobs_per_client: 100_000,
            trusted_proxies: Vec::new(),
        }
    }
}

impl Limits {
    pub(super) fn load(file: &File, o: &Overrides) -> Result<Limits, ConfigError> {
        const MILLION: i64 = 1_000_000;
        let d = Limits::default();
        let rate = file.setting("requests_per_second", &o.requests_per_second, |t| &t.requests_per_second);
        let burst = file.setting("request_burst", &o.request_burst, |t| &t.request_burst);
        let connections = file.setting("max_connections_per_address", &o.max_connections_per_address, |t| {
            &t.max_connections_per_address
        });
        let sockets =
            file.setting("max_sockets_per_client", &o.max_sockets_per_client, |t| &t.max_sockets_per_client);
        let on_socket = file.setting("max_operations_per_socket", &o.max_operations_per_socket, |t| {
            &t.max_operations_per_socket
        });
        let operations = file.setting("max_operations_per_client", &o.max_operations_per_client, |t| {
            &t.max_operations_per_client
        });
        let queued = file.setting("max_queued_jobs_per_client", &o.max_queued_jobs_per_client, |t| {
            &t.max_queued_jobs_per_client
        });
        Ok(Limits {
            requests_per_second: rate.number(d.requests_per_second, 0..=MILLION)?,
            request_burst: burst.number(d.request_burst, 1..=MILLION)?,
            max_connections_per_address: connections.number(d.max_connections_per_address, 1..=MILLION)?,
            max_sockets_per_client: sockets.number(d.max_sockets_per_client, 1..=MILLION)?,
            max_operations_per_socket: on_socket.number(d.max_operations_per_socket, 1..=100_000)?,
            max_operations_per_client: operations.number(d.max_operations_per_client, 1..=MILLION)?,
            max_queued_jobs_per_client: queued.number(d.max_queued_jobs_per_client, 1..=1_000 * MILLION)?,
            trusted_proxies: trusted_proxies(file, o)?,
        })
    }
}

fn trusted_proxies(file: &File, overrides: &Overrides) -> Result<Vec<Network>, ConfigError> {
    let parsed = |text: &str, refused: &dyn Fn(String) -> ConfigError| {
        text.parse().map_err(|problem| refused(format!("{text:?} is {problem}")))
    };
    if let Some(text) = filled(&overrides.trusted_proxies) {
        let refused = |problem| ConfigError::new("--trusted-proxies (JOBQL_TRUSTED_PROXIES)", problem);
        return text.split(',').map(|one| parsed(one.trim(), &refused)).collect();
    }
    let refused = |problem| file.error("trusted_proxies", problem);
    file.table.trusted_proxies.iter().flatten().map(|one| parsed(one, &refused)).collect()
}
