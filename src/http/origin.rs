//! Which web pages may open a WebSocket, and by which names this server may be called. Browsers send cookies and reach
//! loopback addresses for any page, and hold WebSockets to no same-origin rule, so the server must.

use std::net::IpAddr;

use axum::http::{HeaderMap, header};

use super::text_header;
use crate::config::Access;

/// True for a client that is no browser (it sends no Origin), for a page of this host, for one of this machine, and for a
/// listed one.
pub fn is_allowed(access: &Access, headers: &HeaderMap) -> bool {
    if !headers.contains_key(header::ORIGIN) {
        return true;
    }
    let Some(origin) = text_header(headers, header::ORIGIN) else { return false };
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    if !matches!(scheme, "http" | "https") || authority.is_empty() {
        return false;
    }
    let same_host =
        text_header(headers, header::HOST).is_some_and(|host| host.eq_ignore_ascii_case(authority));
    same_host || is_loopback(host_of(authority)) || is_listed(access, origin)
}

/// True when `origins` has it.
pub fn is_listed(access: &Access, origin: &str) -> bool {
    access.origins.iter().any(|listed| listed.as_str().eq_ignore_ascii_case(origin))
}

/// True when the request calls this server by a name that it goes by, or by none as only old programs do.
///
/// While there are no tokens, being on this machine is all that lets one in, and a page from elsewhere whose name was made
/// to lead here (DNS rebinding) would be of one origin with us; its requests carry its own name. Where tokens are in use
/// such a page has none, so any name is good unless `hosts` lists some.
pub fn is_called_by_its_name(access: &Access, needs_token: bool, headers: &HeaderMap) -> bool {
    if !headers.contains_key(header::HOST) || (access.hosts.is_empty() && (needs_token || access.insecure)) {
        return true;
    }
    let Some(host) = text_header(headers, header::HOST).map(host_of) else { return false };
    is_loopback(host) || access.hosts.iter().any(|name| name.eq_ignore_ascii_case(host))
}

/// Without the port, and an IPv6 address without its brackets.
fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(address) => address.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn allowed(origin: &str, host: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
        headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
        is_allowed(&Access::default(), &headers)
    }

    fn served(access: &Access, needs_token: bool, host: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
        is_called_by_its_name(access, needs_token, &headers)
    }

    #[test]
    fn a_listed_name_and_a_listed_page_are_let_in() {
        let listed = Access {
            hosts: vec!["jobs.example".to_owned()],
            origins: vec!["https://App.example:8443".parse().unwrap()],
            ..Access::default()
        };
        for needs_token in [false, true] {
            assert!(
                served(&listed, needs_token, "Jobs.Example:8080")
                    && served(&listed, needs_token, "localhost")
            );
            assert!(!served(&listed, needs_token, "evil.example") && !served(&listed, needs_token, ""));
        }
        assert!(served(&Access::default(), true, "any.example"), "a token is what lets in");
        let insecure = Access { insecure: true, ..Access::default() };
        assert!(served(&insecure, false, "192.168.0.7:8080"));
        let page = |origin: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
            headers.insert(header::HOST, HeaderValue::from_static("jobs.example"));
            is_allowed(&listed, &headers)
        };
        assert!(
            page("https://app.example:8443")
                && !page("https://app.example")
                && !page("http://app.example:8443")
        );
    }

    #[test]
    fn a_name_that_was_made_to_lead_here_is_not_this_machine() {
        let names = |host: &str| served(&Access::default(), false, host);
        for host in ["localhost", "LocalHost:8080", "127.0.0.1:8080", "127.8.9.1", "[::1]:8080"] {
            assert!(names(host), "{host}");
        }
        for host in ["evil.example:8080", "localhost.evil.example", "192.168.0.7:8080", ""] {
            assert!(!names(host), "{host}");
        }
        assert!(is_called_by_its_name(&Access::default(), false, &HeaderMap::new()));
    }

    #[test]
    fn pages_of_other_hosts_are_kept_out() {
        assert!(is_allowed(&Access::default(), &HeaderMap::new()));
        for origin in
            ["https://jobs.example.org", "http://localhost:3000", "http://127.0.0.1", "http://[::1]:5173"]
        {
            assert!(allowed(origin, "jobs.example.org"), "{origin}");
        }
        assert!(allowed("http://Example.org:8080", "example.org:8080"));
        for origin in [
            "https://evil.example",
            "https://jobs.example.org.evil.example",
            "https://jobs.example.org:444",
            "https://localhost.evil.example",
            "http://127.0.0.1.evil.example",
            "null",
            "file://",
            "",
            "chrome-extension://localhost",
        ] {
            assert!(!allowed(origin, "jobs.example.org"), "{origin}");
        }
    }
}
