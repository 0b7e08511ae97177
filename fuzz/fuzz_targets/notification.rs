//! Of a notification only ids and versions that stand in it are taken.
#![no_main]

use jobql::events::hint::{Hint, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(payload) = std::str::from_utf8(data) else { return };
    let found: Vec<Hint> = parse(payload).collect();
    assert!(found.len() <= payload.split(',').count());
    for hint in found {
        // A deleted job is told to everyone, as the newest version that there can be.
        let status = match hint.status {
            Some(status) => status.as_str(),
            None => "GONE",
        };
        let again: Vec<Hint> = parse(&format!("{}:{status}:{}", hint.id, hint.version)).collect();
        let version = if status == "GONE" { i32::MAX } else { hint.version };
        assert_eq!(again, [Hint { version, ..hint }]);
    }
});
