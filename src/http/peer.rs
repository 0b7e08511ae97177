//! From which address a request comes.
//!
//! It is the peer's of the connection. Only when that is a proxy of `trusted_proxies` is its word taken: the list of
//! addresses in X-Forwarded-For, or else in Forwarded, is read from the right, as each proxy adds on that side what it saw
//! itself, and the first one that is no trusted proxy is the client. What stands further left is the client's own claim. An
//! entry that is no address ends the reading at the proxy that named it.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;

use crate::config::Network;

/// The peer of a connection, given to each of its requests.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// The client's address.
pub fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.holds(*address));
    let mut address = peer.to_canonical();
    if !is_trusted(&address) {
        return address;
    }
    for entry in entries(headers).iter().rev() {
        let Some(said) = address_in(entry) else { break };
        address = said;
        if !is_trusted(&address) {
            break;
        }
    }
    address
}

/// What the proxies said, the last one last.
fn entries(headers: &HeaderMap) -> Vec<String> {
    let values = |name: &str| {
        let texts = headers.get_all(name).iter().map(|value| value.to_str().unwrap_or_default());
        texts.flat_map(|text| text.split(',')).map(|entry| entry.trim().to_owned()).collect::<Vec<_>>()
    };
    if headers.contains_key("x-forwarded-for") {
        return values("x-forwarded-for");
    }
    let said = |element: String| {
        let parameter = element.split(';').find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            name.trim().eq_ignore_ascii_case("for").then(|| value.trim().trim_matches('"').to_owned())
        });
        parameter.unwrap_or_default()
    };
    values("forwarded").into_iter().map(said).collect()
}

/// An address, with or without a port; an IPv6 one also in brackets.
fn address_in(entry: &str) -> Option<IpAddr> {
    let address = entry.parse().ok().or_else(|| Some(entry.parse::<SocketAddr>().ok()?.ip()));
    let bare = || entry.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    address.or_else(bare).map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn seen(peer: &str, headers: &[(&'static str, &str)]) -> String {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        client_address(peer.parse().unwrap(), &map, &trusted).to_string()
    }

    #[test]
    fn a_stranger_is_not_believed() {
        assert_eq!(seen("203.0.113.1", &[("x-forwarded-for", "198.51.100.9")]), "203.0.113.1");
        assert_eq!(seen("203.0.113.1", &[("forwarded", "for=198.51.100.9")]), "203.0.113.1");
    }

    #[test]
    fn a_proxy_is_believed_about_what_it_saw_itself() {
        let by = |list: &str| seen("10.0.0.1", &[("x-forwarded-for", list)]);
        assert_eq!(by("198.51.100.9"), "198.51.100.9");
        assert_eq!(by("127.0.0.1, 198.51.100.9"), "198.51.100.9", "the left one is the client's claim");
        assert_eq!(by("1.1.1.1, 198.51.100.9, 10.9.9.9"), "198.51.100.9", "a chain of proxies");
        assert_eq!(by("198.51.100.9:4711"), "198.51.100.9");
        assert_eq!(by("[2001:db8::1]:4711"), "2001:db8::1");
        assert_eq!(by("::ffff:198.51.100.9"), "198.51.100.9");
        assert_eq!(by("198.51.100.9, unknown"), "10.0.0.1");
        assert_eq!(by(""), "10.0.0.1");
        assert_eq!(seen("::ffff:10.0.0.1", &[("x-forwarded-for", "198.51.100.9")]), "198.51.100.9");
        assert_eq!(
            seen("10.0.0.1", &[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "198.51.100.9")]),
            "198.51.100.9",
            "several headers are one list"
        );
    }

    #[test]
    fn forwarded_is_read_where_the_other_is_missing() {
        let by = |list: &str| seen("10.0.0.1", &[("forwarded", list)]);
        assert_eq!(by("for=198.51.100.9;proto=https;by=10.0.0.1"), "198.51.100.9");
        assert_eq!(by("for=1.1.1.1, For=\"[2001:db8::1]:99\""), "2001:db8::1");
        assert_eq!(by("for=_hidden"), "10.0.0.1");
        assert_eq!(by("proto=https"), "10.0.0.1");
        let both = [("forwarded", "for=1.1.1.1"), ("x-forwarded-for", "198.51.100.9")];
        assert_eq!(seen("10.0.0.1", &both), "198.51.100.9");
    }
}
