//! The headers by which every answer asks browsers for caution.
//!
//! A page brings its own Content-Security-Policy; what has none may load nothing and be framed by nobody.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

/// What is said where a handler said nothing of its own.
const ALWAYS: [(HeaderName, HeaderValue); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        ),
    ),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
];
/// A year, for this host alone. Without TLS it would mean nothing.
const ONLY_TLS: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// Adds them to an answer.
pub(super) fn add(headers: &mut HeaderMap, is_encrypted: bool) {
    for (name, value) in ALWAYS {
        headers.entry(name).or_insert(value);
    }
    if is_encrypted {
        headers.entry(header::STRICT_TRANSPORT_SECURITY).or_insert(ONLY_TLS);
    }
}
