//! A callback URL that is let through is https, holds no credentials, names no address that is not public, and is let
//! through again as it was written down.
#![no_main]

use std::net::IpAddr;

use jobql::config::Callbacks;
use jobql::job::callback::{checked_url, is_public};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(given) = std::str::from_utf8(data) else { return };
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap();
    let callbacks = Callbacks { secret: Some(secret), ..Callbacks::default() };
    for given in [given.to_owned(), format!("https://{given}")] {
        let Ok(url) = checked_url(&given, &callbacks) else { continue };
        assert_eq!(url.scheme(), "https");
        assert!(url.username().is_empty() && url.password().is_none());
        let host = url.host_str().unwrap();
        if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            assert!(is_public(address), "{given}");
        }
        // What is longer once it is escaped may be refused then.
        if url.as_str().len() <= 2_048 {
            assert_eq!(checked_url(url.as_str(), &callbacks).unwrap(), url);
        }
    }
});
