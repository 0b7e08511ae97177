//! HTTP to elsewhere: callbacks, the jobs of http kinds, the keys of a JWT issuer. All of it goes through one client with one
//! set of rules.
//!
//! The connection is made anew for each message, to an address that was checked just then: what the name resolves to
//! is looked at by the one who dials. Redirects are not followed, and no proxy is asked.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, redirect};

use crate::job::callback::is_public;

const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Says whether a host may have any address, and not only a public one.
pub type AnyAddress = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// A client that goes to public addresses, and to any address of the hosts that `any_address` lets through. A URL whose
/// host is an address itself is not resolved, and must have been checked.
///
/// # Errors
/// When TLS cannot be set up.
pub fn client(any_address: AnyAddress, answer_within: Duration) -> reqwest::Result<Client> {
    Client::builder()
        .redirect(redirect::Policy::none())
        .no_proxy()
        .pool_max_idle_per_host(0)
        .connect_timeout(CONNECT_WITHIN)
        .timeout(answer_within)
        .dns_resolver(Arc::new(CheckedResolver { any_address, lookup: SystemLookup }))
        .user_agent(concat!("jobql/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// What went wrong, without the URL, whose query may be secret.
pub fn in_words(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// How long the other side asks to be left alone; whole seconds only.
pub fn retry_after(answer: &reqwest::Response) -> Option<Duration> {
    let asked = answer.headers().get("retry-after")?.to_str().ok()?;
    asked.trim().parse().ok().map(Duration::from_secs)
}

/// Gives those addresses of a name that may be dialled. Who dials asks it each time, and dials what it gave: a name that
/// leads elsewhere at the second look is looked at a second time.
struct CheckedResolver<L> {
    any_address: AnyAddress,
    lookup: L,
}

/// Asks the system for the addresses of a name.
#[derive(Clone, Copy)]
struct SystemLookup;

/// What leads from a name to addresses.
trait Lookup: Clone + Send + Sync + 'static {
    fn addresses(&self, host: String) -> impl Future<Output = std::io::Result<Vec<SocketAddr>>> + Send;
}

impl Lookup for SystemLookup {
    async fn addresses(&self, host: String) -> std::io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, 0)).await?.collect())
    }
}

impl<L: Lookup> Resolve for CheckedResolver<L> {
    fn resolve(&self, name: Name) -> Resolving {
        let (any_address, lookup) = (self.any_address.clone(), self.lookup.clone());
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let any = any_address(&host);
            let found = lookup.addresses(host).await?;
            let allowed: Vec<SocketAddr> =
                found.into_iter().filter(|address| any || is_public(address.ip())).collect();
            if allowed.is_empty() {
                return Err("the name leads to no public address".into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A server of names that answers differently each time.
    #[derive(Clone)]
    struct Rebinding(Arc<Mutex<Vec<Vec<&'static str>>>>);

    impl Lookup for Rebinding {
        async fn addresses(&self, _host: String) -> std::io::Result<Vec<SocketAddr>> {
            let answer = self.0.lock().unwrap().remove(0);
            Ok(answer.into_iter().map(|address| SocketAddr::new(address.parse().unwrap(), 0)).collect())
        }
    }

    async fn resolved(hosts: &[&str], answers: &[&[&'static str]]) -> Vec<Option<Vec<String>>> {
        let listed: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
        let answers: Vec<Vec<&str>> = answers.iter().map(|answer| answer.to_vec()).collect();
        let count = answers.len();
        let lookup = Rebinding(Arc::new(Mutex::new(answers)));
        let resolver = CheckedResolver {
            any_address: Arc::new(move |host| listed.iter().any(|one| one == host)),
            lookup,
        };
        let mut given = Vec::new();
        for _ in 0..count {
            let addresses = resolver.resolve("hook.example".parse().unwrap()).await.ok();
            given.push(addresses.map(|found| found.map(|address| address.ip().to_string()).collect()));
        }
        given
    }

    #[tokio::test]
    async fn a_name_is_looked_at_each_time_and_gives_public_addresses_only() {
        let public = Some(vec!["93.184.215.14".to_owned()]);
        let answers: [&[&str]; 4] =
            [&["93.184.215.14"], &["127.0.0.1"], &["10.0.0.1", "93.184.215.14"], &["93.184.215.14"]];
        assert_eq!(resolved(&[], &answers).await, [public.clone(), None, public.clone(), public]);
    }

    #[tokio::test]
    async fn no_way_around_leads_inside() {
        for inside in [
            "0.0.0.0",
            "127.0.0.1",
            "127.255.255.254",
            "10.1.2.3",
            "172.31.255.255",
            "192.168.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "192.0.0.8",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::7f00:1",
            "64:ff9b::7f00:1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:a00:1::",
            "2001::1",
            "2001:db8::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "100::1",
        ] {
            assert_eq!(resolved(&[], &[&[inside]]).await, [None], "{inside}");
            let listed = resolved(&["hook.example"], &[&[inside]]).await;
            assert_eq!(listed.len(), 1);
            assert!(listed[0].is_some(), "{inside}: a host that is listed may be anywhere");
        }
    }
}
