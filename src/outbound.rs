//! HTTP to elsewhere, for the jobs of http kinds; callbacks have a client of their own with the same rules.
//!
//! The connection is made anew for each message, to an address that was checked just then: what the name resolves to
//! is looked at by the one who dials. Redirects are not followed, and no proxy is asked.

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
        .dns_resolver(Arc::new(CheckedResolver(any_address)))
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

/// Gives those addresses of a name that may be dialled.
struct CheckedResolver(AnyAddress);

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let any_address = self.0.clone();
        Box::pin(async move {
            let host = name.as_str();
            let any = any_address(host);
            let found = tokio::net::lookup_host((host, 0)).await?;
            let allowed: Vec<SocketAddr> = found.filter(|address| any || is_public(address.ip())).collect();
            if allowed.is_empty() {
                return Err("the name leads to no public address".into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}
