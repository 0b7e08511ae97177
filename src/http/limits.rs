//! What one client may take: connections, requests a second, sockets, operations at once; per client and per address.
//!
//! Each has an [`Account`]: a token bucket and three counts. They stand in a table of this process, so with several processes
//! behind a balancer a client has as much of each. An address is exempt on this machine itself. An account in which nothing
//! is open and whose bucket has filled up again says nothing that a new one would not, and makes room when the table is full;
//! a table that is full of busy ones, [`MAX_ACCOUNTS`] of them, has one account for all who come then.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_graphql::ServerError;

use crate::config::Limits;
use crate::graphql::error::{Code, retry_after};
use crate::job::viewer::Viewer;

/// Accounts at once, some 100 bytes each.
const MAX_ACCOUNTS: usize = 100_000;
/// A full table is searched for what is idle so often at most.
const SEARCH_EVERY: Duration = Duration::from_secs(1);

/// Whose account.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Holder {
    /// An address; an IPv6 one stands for its /64.
    Address(IpAddr),
    /// A client, with all its tokens.
    Client(String),
    /// The token of workers.
    Worker(String),
    /// All who come while the table is full.
    Others,
}

impl Holder {
    /// The holder at an address; none for this machine.
    pub fn of_address(address: IpAddr) -> Option<Holder> {
        let address = match address.to_canonical() {
            address if address.is_loopback() => return None,
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
            address => address,
        };
        Some(Holder::Address(address))
    }

    /// The holder that a viewer is; none for an operator.
    pub fn of_viewer(viewer: &Viewer) -> Option<Holder> {
        match viewer {
            Viewer::Operator => None,
            Viewer::Client(client_id) => Some(Holder::Client(client_id.clone())),
            Viewer::Worker(scope) => Some(Holder::Worker(scope.token.clone())),
        }
    }
}

/// The accounts. Cheap to clone; clones share them.
#[derive(Clone)]
pub struct Limiter {
    limits: Arc<Limits>,
    table: Arc<Mutex<Table>>,
    refused: Arc<Refused>,
}

#[derive(Default)]
struct Table {
    accounts: HashMap<Holder, Account>,
    searched_at: Option<Instant>,
}

/// What one holder has taken.
struct Account {
    /// Requests that may come at once.
    tokens: f64,
    counted_at: Instant,
    connections: u32,
    sockets: u32,
    operations: u32,
}

/// How often each limit was met.
#[derive(Debug, Default)]
pub struct Refused {
    /// Requests beyond the rate.
    pub requests: AtomicU64,
    /// Sockets and streams.
    pub sockets: AtomicU64,
    /// Operations at once, of a socket or of a client.
    pub operations: AtomicU64,
    /// Connections, of an address or in all.
    pub connections: AtomicU64,
}

/// An address has as many connections as it may.
#[derive(Debug)]
pub struct TooMany;

/// What is taken until it is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    Connection,
    Socket,
    Operation,
}

/// Something taken by some holders; given back when dropped.
#[must_use]
pub struct Share {
    table: Arc<Mutex<Table>>,
    holders: Vec<Holder>,
    taken: Taken,
}

impl Limiter {
    /// Accounts with these limits.
    pub fn new(limits: Limits) -> Limiter {
        Limiter { limits: Arc::new(limits), table: Arc::default(), refused: Arc::default() }
    }

    /// How often each limit was met.
    pub fn refused(&self) -> &Refused {
        &self.refused
    }

    /// Accounts in the table.
    pub fn accounts(&self) -> usize {
        lock(&self.table).accounts.len()
    }

    /// One request of this holder.
    ///
    /// # Errors
    /// RATE_LIMITED, with the time after which one more may come.
    pub fn request(&self, holder: &Holder) -> Result<(), ServerError> {
        let (rate, now) = (f64::from(self.limits.requests_per_second), Instant::now());
        if rate == 0.0 {
            return Ok(());
        }
        let mut table = lock(&self.table);
        let (account, _) = table.account(holder, &self.limits, now);
        account.refill(&self.limits, now);
        if account.tokens >= 1.0 {
            account.tokens -= 1.0;
            return Ok(());
        }
        let wait = Duration::from_secs_f64((1.0 - account.tokens) / rate);
        drop(table);
        self.refused.requests.fetch_add(1, Ordering::Relaxed);
        let message = format!("more than {rate} requests a second");
        Err(retry_after(Code::RateLimited.error(message), wait))
    }

    /// A connection from this peer; none is counted where the peer is exempt.
    ///
    /// # Errors
    /// When its address has too many.
    pub fn connection(&self, peer: IpAddr) -> Result<Option<Share>, TooMany> {
        let is_proxy = self.limits.trusted_proxies.iter().any(|network| network.holds(peer));
        let Some(holder) = Holder::of_address(peer).filter(|_| !is_proxy) else { return Ok(None) };
        self.take(&[holder], Taken::Connection).map(Some).ok_or(TooMany)
    }

    /// One that is refused, for whichever reason.
    pub fn refused_connection(&self) {
        self.refused.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// A socket or a stream of all these holders.
    ///
    /// # Errors
    /// RATE_LIMITED when one of them has too many.
    pub fn socket(&self, holders: &[Holder]) -> Result<Share, ServerError> {
        self.take(holders, Taken::Socket).ok_or_else(|| {
            self.refused.sockets.fetch_add(1, Ordering::Relaxed);
            let most = self.limits.max_sockets_per_client;
            too_many(format!("a client has at most {most} sockets and streams at once"))
        })
    }

    /// An operation of all these holders.
    ///
    /// # Errors
    /// RATE_LIMITED when one of them has too many.
    pub fn operation(&self, holders: &[Holder]) -> Result<Share, ServerError> {
        self.take(holders, Taken::Operation).ok_or_else(|| {
            self.refused.operations.fetch_add(1, Ordering::Relaxed);
            let most = self.limits.max_operations_per_client;
            too_many(format!("a client has at most {most} operations at once"))
        })
    }

    /// One more operation on a socket that has so many.
    ///
    /// # Errors
    /// RATE_LIMITED when it has as many as it may.
    pub fn on_socket(&self, operations: usize) -> Result<(), ServerError> {
        let most = self.limits.max_operations_per_socket;
        if operations < most {
            return Ok(());
        }
        self.refused.operations.fetch_add(1, Ordering::Relaxed);
        Err(too_many(format!("a socket has at most {most} operations at once")))
    }

    fn take(&self, holders: &[Holder], taken: Taken) -> Option<Share> {
        let now = Instant::now();
        let mut table = lock(&self.table);
        let mut share = Share { table: self.table.clone(), holders: Vec::new(), taken };
        for holder in holders {
            let (account, known_as) = table.account(holder, &self.limits, now);
            let most = match taken {
                Taken::Connection => self.limits.max_connections_per_address,
                Taken::Socket => self.limits.max_sockets_per_client,
                Taken::Operation => self.limits.max_operations_per_client,
            };
            let count = account.count(taken);
            if *count >= most {
                // What the holders before this one have taken goes back, and that locks the table.
                drop(table);
                return None;
            }
            *count += 1;
            share.holders.push(known_as);
        }
        Some(share)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.holders.is_empty() {
            return;
        }
        let mut table = lock(&self.table);
        for holder in &self.holders {
            // It is there, as nothing that is in use is removed.
            if let Some(account) = table.accounts.get_mut(holder) {
                let count = account.count(self.taken);
                *count = count.saturating_sub(1);
            }
        }
    }
}

impl Table {
    /// The account of this holder and under whom it stands, made where there is none.
    fn account(&mut self, holder: &Holder, limits: &Limits, now: Instant) -> (&mut Account, Holder) {
        let known = if self.accounts.contains_key(holder) || self.has_room(limits, now) {
            holder.clone()
        } else {
            Holder::Others
        };
        let account = self.accounts.entry(known.clone()).or_insert_with(|| Account {
            tokens: f64::from(limits.request_burst),
            counted_at: now,
            connections: 0,
            sockets: 0,
            operations: 0,
        });
        (account, known)
    }

    fn has_room(&mut self, limits: &Limits, now: Instant) -> bool {
        if self.accounts.len() < MAX_ACCOUNTS {
            return true;
        }
        if self.searched_at.is_none_or(|at| now.duration_since(at) >= SEARCH_EVERY) {
            self.searched_at = Some(now);
            self.accounts.retain(|_, account| !account.is_idle(limits, now));
        }
        self.accounts.len() < MAX_ACCOUNTS
    }
}

impl Account {
    fn count(&mut self, taken: Taken) -> &mut u32 {
        match taken {
            Taken::Connection => &mut self.connections,
            Taken::Socket => &mut self.sockets,
            Taken::Operation => &mut self.operations,
        }
    }

    fn refill(&mut self, limits: &Limits, now: Instant) {
        let gained =
            now.duration_since(self.counted_at).as_secs_f64() * f64::from(limits.requests_per_second);
        self.tokens = (self.tokens + gained).min(f64::from(limits.request_burst));
        self.counted_at = now;
    }

    fn is_idle(&mut self, limits: &Limits, now: Instant) -> bool {
        self.refill(limits, now);
        let is_full = limits.requests_per_second == 0 || self.tokens >= f64::from(limits.request_burst);
        self.connections == 0 && self.sockets == 0 && self.operations == 0 && is_full
    }
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Nobody can tell when one of them ends; a second is soon enough.
fn too_many(message: String) -> ServerError {
    retry_after(Code::RateLimited.error(message), Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graphql::error::{code_of, retry_after_of};

    fn limiter() -> Limiter {
        Limiter::new(Limits {
            requests_per_second: 10,
            request_burst: 3,
            max_sockets_per_client: 2,
            max_operations_per_client: 2,
            max_operations_per_socket: 2,
            ..Limits::default()
        })
    }

    fn client(name: &str) -> Holder {
        Holder::Client(name.to_owned())
    }

    #[test]
    fn the_rate_is_each_holders_own_and_says_when_to_come_again() {
        let limiter = limiter();
        for _ in 0..3 {
            assert!(limiter.request(&client("a")).is_ok());
        }
        let refused = limiter.request(&client("a")).unwrap_err();
        assert_eq!((code_of(&refused), retry_after_of(&refused)), (Some("RATE_LIMITED"), Some(1)));
        assert!(limiter.request(&client("b")).is_ok());
        // A tenth of a second later there is one more.
        let mut table = lock(&limiter.table);
        table.accounts.get_mut(&client("a")).unwrap().counted_at -= Duration::from_millis(100);
        drop(table);
        assert!(limiter.request(&client("a")).is_ok());
        assert!(limiter.request(&client("a")).is_err());
        assert_eq!(limiter.refused().requests.load(Ordering::Relaxed), 2);
        let unlimited = Limiter::new(Limits { requests_per_second: 0, ..Limits::default() });
        assert!((0..100_000).all(|_| unlimited.request(&client("a")).is_ok()));
    }

    #[test]
    fn what_is_taken_is_given_back_also_when_a_later_holder_refuses() {
        let limiter = limiter();
        let both = [client("a"), Holder::of_address("203.0.113.1".parse().unwrap()).unwrap()];
        let first = limiter.socket(&both).unwrap();
        let second = limiter.socket(&both[1..]).unwrap();
        assert!(limiter.socket(&both).is_err(), "the address has two");
        assert!(limiter.operation(&both).is_ok(), "operations are counted apart");
        drop(second);
        let third = limiter.socket(&both).unwrap();
        drop((first, third));
        let _all = (limiter.socket(&both).unwrap(), limiter.socket(&both).unwrap());
        assert!(limiter.on_socket(1).is_ok() && limiter.on_socket(2).is_err());
    }

    #[test]
    fn this_machine_is_exempt_and_a_network_of_ipv6_is_one_holder() {
        let of = |address: &str| Holder::of_address(address.parse().unwrap());
        for own in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(of(own), None);
        }
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:203.0.113.1"), of("203.0.113.1"));
    }

    #[test]
    fn the_table_is_bounded_and_forgets_who_is_idle() {
        let limiter = limiter();
        let shares: Vec<Share> =
            (0..MAX_ACCOUNTS).map(|n| limiter.socket(&[client(&n.to_string())]).unwrap()).collect();
        assert_eq!(limiter.accounts(), MAX_ACCOUNTS);
        let _one = limiter.socket(&[client("new")]).unwrap();
        let _two = limiter.socket(&[client("newer")]).unwrap();
        assert!(limiter.socket(&[client("newest")]).is_err(), "all who come now share one account");
        assert_eq!(limiter.accounts(), MAX_ACCOUNTS + 1);
        drop(shares);
        lock(&limiter.table).searched_at = None;
        assert!(limiter.socket(&[client("newest")]).is_ok());
        assert!(limiter.accounts() <= 3, "{}", limiter.accounts());
    }
}
