//! JSON that passes the scan is JSON to others, can be kept, and passes again as it is written; what the scan calls malformed
//! is no JSON to others either.
#![no_main]

use jobql::job::json_scan::{MAX_DEPTH, ScanError, check_value, scan};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    match scan(data, MAX_DEPTH) {
        Ok(()) => {
            let value: Value = serde_json::from_slice(data).expect("what passed is JSON");
            check_value(&value).expect("what passed can be kept");
            let written = value.to_string();
            scan(written.as_bytes(), MAX_DEPTH).expect("it passes again");
            assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), value);
        }
        Err(ScanError::Malformed { .. }) => assert!(serde_json::from_slice::<Value>(data).is_err()),
        Err(ScanError::Refused { pointer, .. }) => assert!(pointer.is_empty() || pointer.starts_with('/')),
    }
});
