//! Callbacks by the rules of Standard Webhooks 1.0: where they may go, how they are signed, when they are tried again.
//!
//! A URL is checked when it is submitted; the address that its name leads to is checked each time it is dialled, by
//! [`is_public`]. A name that resolves to something else at the second look gains nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use rand::Rng;
use reqwest::Url;
use sha2::Sha256;

use crate::config::{CallbackSecret, Callbacks};
use crate::error::{Error, Result};

/// Longest URL, in bytes.
const MAX_URL_BYTES: usize = 2_048;
/// Waits after the first failed attempt, the second and so on; after the last one it is given up.
const SCHEDULE: [Duration; 9] = [
    Duration::from_secs(5),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 3_600),
    Duration::from_secs(5 * 3_600),
    Duration::from_secs(10 * 3_600),
    Duration::from_secs(14 * 3_600),
    Duration::from_secs(20 * 3_600),
    Duration::from_secs(24 * 3_600),
];
/// A receiver may ask to be left alone for so long.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 3_600);

/// The URL, if callbacks may go there.
///
/// # Errors
/// `CallbackRefused` saying why.
pub fn checked_url(given: &str, callbacks: &Callbacks) -> Result<Url> {
    let refused = |problem: &str| Error::CallbackRefused { problem: problem.to_owned() };
    if callbacks.secret.is_none() {
        return Err(refused("no callback_secret is configured"));
    }
    if given.len() > MAX_URL_BYTES {
        return Err(refused("is longer than 2,048 bytes"));
    }
    let url = Url::parse(given).map_err(|_| refused("is not a URL"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused("holds credentials"));
    }
    let host = url.host_str().ok_or_else(|| refused("has no host"))?;
    let is_listed = is_listed(host, callbacks);
    match url.scheme() {
        "https" => {}
        "http" if is_listed => {}
        _ => return Err(refused("is not https")),
    }
    if !is_listed && literal(host).is_some_and(|address| !is_public(address)) {
        return Err(refused("leads to an address that is not public"));
    }
    Ok(url)
}

/// The address that the host of a URL is, where it is one. However it was spelt, the parser has made it plain.
pub fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// True for a host that may have any address.
pub fn is_listed(host: &str, callbacks: &Callbacks) -> bool {
    callbacks.hosts.iter().any(|listed| listed.eq_ignore_ascii_case(host))
}

/// True for an address that anyone on the Internet could reach.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(a == 0
        || address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_documentation()
        || address.is_multicast()
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a, b, c) == (192, 0, 0)
        || (a, b, c) == (192, 88, 99)
        || (a == 198 && (18..20).contains(&b)))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match (a, b, c, d, e, f) {
        // Mapped, compatible (with :: and ::1), translated and 6to4 addresses are as public as what is inside.
        (0, 0, 0, 0, 0, 0xffff) => v4(g, h),
        (0x64, 0xff9b, 0, 0, 0, 0) => v4(g, h),
        (0x2002, ..) => v4(b, c),
        // Teredo, documentation, and the rest of the protocols' own block.
        (0x2001, 0..0x200, ..) | (0x2001, 0xdb8, ..) => false,
        // What is given out to the Internet.
        _ => a & 0xe000 == 0x2000,
    }
}

/// The headers `webhook-id`, `webhook-timestamp` and `webhook-signature` of a message, with one signature a secret.
pub fn signed_headers<'a>(
    secrets: impl Iterator<Item = &'a CallbackSecret>,
    id: &str,
    unix_seconds: i64,
    body: &str,
) -> [(&'static str, String); 3] {
    let signatures = secrets.filter_map(|secret| {
        // An HMAC takes a key of any length.
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.key()).ok()?;
        mac.update(format!("{id}.{unix_seconds}.{body}").as_bytes());
        Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
    });
    let signatures = signatures.collect::<Vec<_>>().join(" ");
    [
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", unix_seconds.to_string()),
        ("webhook-signature", signatures),
    ]
}

/// The wait after this attempt, from 1, has failed, with jitter of a tenth; none when it was the last. A receiver that
/// asks to wait longer is heeded, up to a day.
pub fn retry_after(attempt: i32, asked: Option<Duration>) -> Option<Duration> {
    let index = usize::try_from(attempt.checked_sub(1)?).ok()?;
    let wait = SCHEDULE.get(index)?.mul_f64(rand::rng().random_range(0.9..=1.1));
    Some(wait.max(asked.unwrap_or_default().min(MAX_RETRY_AFTER)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn callbacks() -> Callbacks {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap();
        Callbacks { secret: Some(secret), previous_secret: None, hosts: vec!["hooks.test".to_owned()] }
    }

    #[test]
    fn the_signature_is_that_of_the_specification() {
        // The example of the Standard Webhooks specification.
        let body = r#"{"test": 2432232314}"#;
        let [id, timestamp, signature] =
            signed_headers(callbacks().secrets(), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(id.1, "msg_p5jXN8AQM9LWM0D4loKWxJek");
        assert_eq!(timestamp.1, "1614265330");
        assert_eq!(signature.1, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let both = Callbacks { previous_secret: callbacks().secret, ..callbacks() };
        let [.., signature] = signed_headers(both.secrets(), "a", 1, body);
        assert_eq!(signature.1.split(' ').count(), 2, "two while secrets are exchanged");
    }

    #[test]
    fn only_https_to_public_hosts_is_let_through_unless_listed() {
        let callbacks = callbacks();
        for url in
            ["https://example.com/a?b=c", "https://8.8.8.8/", "https://hooks.test/", "http://hooks.test:81/"]
        {
            assert!(checked_url(url, &callbacks).is_ok(), "{url}");
        }
        for url in [
            "",
            "/a",
            "example.com",
            "ftp://example.com/",
            "file:///etc/passwd",
            "http://example.com/",
            "https://user@example.com/",
            "https://:pw@example.com/",
            "https://127.0.0.1/",
            "https://127.1/",
            "https://2130706433/",
            "https://0x7f.0.0.1/",
            "https://0177.0.0.1/",
            "https://[::1]/",
            "https://[::]/",
            "https://10.0.0.1/",
            "https://192.168.1.1/",
            "https://172.16.0.1/",
            "https://169.254.169.254/latest",
            "https://[::ffff:127.0.0.1]/",
            "https://[fd00::1]/",
            "https://[fe80::1]/",
            "https://100.64.0.1/",
            "https://0.0.0.0/",
            "https://255.255.255.255/",
            "https://[64:ff9b::7f00:1]/",
            "https://[2002:7f00:1::]/",
            "https://①②⑦.0.0.1/",
        ] {
            let refused = checked_url(url, &callbacks);
            assert!(matches!(refused, Err(Error::CallbackRefused { .. })), "{url}: {refused:?}");
        }
        let long = format!("https://example.com/{}", "a".repeat(MAX_URL_BYTES));
        assert!(checked_url(&long, &callbacks).is_err());
        assert!(checked_url("https://example.com/", &Callbacks::default()).is_err(), "unsigned");
    }

    #[test]
    fn addresses_are_public_or_not() {
        for public in ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:8.8.8.8"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for not in [
            "198.18.0.1",
            "192.0.2.1",
            "224.0.0.1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "::7f00:1",
            "fc00::1",
        ] {
            assert!(!is_public(not.parse().unwrap()), "{not}");
        }
    }

    #[test]
    fn the_schedule_ends_and_heeds_the_receiver() {
        for attempt in 1..=9 {
            let wait = retry_after(attempt, None).unwrap().as_secs_f64();
            let planned = SCHEDULE[attempt as usize - 1].as_secs_f64();
            assert!((planned * 0.9..=planned * 1.1).contains(&wait), "{attempt}: {wait}");
        }
        assert_eq!(retry_after(10, None), None);
        assert_eq!(retry_after(1, Some(Duration::from_secs(3_600))), Some(Duration::from_secs(3_600)));
        assert_eq!(retry_after(1, Some(Duration::from_secs(1 << 40))), Some(MAX_RETRY_AFTER));
        assert!(retry_after(9, Some(Duration::ZERO)).unwrap() > Duration::from_secs(20 * 3_600));
    }
}
