//! What browsers are told of pages of other origins (CORS). Closed: only pages of `origins` may use the API, and none is
//! told of any other. Credentials of the browser play no part, as a token is sent by the page itself.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::origin;
use crate::config::Access;

/// How long a browser may go by a preflight's answer.
const MAX_AGE_SECONDS: &str = "600";
/// What a page may read beside the body and the few headers that it always may.
const EXPOSED: &str = "Retry-After, WWW-Authenticate";
/// Without a preflight no page can send these, and all of them are ours to look at.
const ALLOWED_HEADERS: &str = "Authorization, Content-Type, Accept, Apollo-Require-Preflight, \
     X-Apollo-Operation-Name, X-Apollo-Operation-Id, X-Apollo-Cache-Key, X-Requested-With";

/// True for a preflight: a browser asks whether a page may send what it wants to.
pub fn is_preflight(request: &Request) -> bool {
    request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
        && request.headers().contains_key(header::ORIGIN)
}

/// The origin of the page that a request comes from, if it is a listed one.
pub fn listed_page(access: &Access, headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(header::ORIGIN)?;
    origin::is_listed(access, origin.to_str().ok()?).then(|| origin.clone())
}

/// The answer to a preflight of a listed page.
pub fn preflight() -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let mut set = |name: HeaderName, value: &'static str| {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    };
    set(header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST");
    set(header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS);
    set(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE_SECONDS);
    response
}

/// Lets the page read the response. Where any page is listed, all responses say that they depend on the Origin.
pub fn tell(access: &Access, page: Option<HeaderValue>, response: &mut Response) {
    if access.origins.is_empty() {
        return;
    }
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if let Some(page) = page {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, page);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    }
}
