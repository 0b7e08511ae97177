//! Which web pages may open a WebSocket. Browsers send cookies and reach loopback addresses for any page, and hold
//! WebSockets to no same-origin rule, so the server must.

use std::net::IpAddr;

use axum::http::{HeaderMap, header};

use super::text_header;

/// True for a client that is no browser (it sends no Origin), for a page of this host, and for one of this machine.
pub fn is_allowed(headers: &HeaderMap) -> bool {
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
    same_host || is_loopback(host_of(authority))
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
        is_allowed(&headers)
    }

    #[test]
    fn pages_of_other_hosts_are_kept_out() {
        assert!(is_allowed(&HeaderMap::new()));
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
