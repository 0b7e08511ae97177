//! The web pages: the dashboard below `/ui/` and GraphiQL. They are files that were built from `web/`, compressed, and
//! embedded, so that the binary alone has them; a test run builds them anew and compares.
//!
//! Files in `assets/` have names that hold a hash of their content and never change; browsers keep them for a year. The
//! two HTML files are asked for each time and answered with 304 while they are the same. The dashboard's addresses all
//! lead to its one HTML file, which shows what they name; so they survive a reload.
//!
//! No page runs a script that is not a file of ours, and none loads anything from elsewhere. The pages hold no data: what
//! they show they ask the API for, on behalf of whoever looks at them.

use std::io::Read;

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use flate2::read::GzDecoder;

use super::text_header;

/// A file as it is embedded.
struct File {
    /// Below `web/dist`.
    path: &'static str,
    content_type: &'static str,
    /// Of the content.
    hash: &'static str,
    gzip: &'static [u8],
}

/// All of them.
static FILES: &[File] = &include!("../../web/dist/files.rs");

/// Where people begin.
const START: &str = "/ui/jobs";

/// For the dashboard, and for the files, as a worker is held by what came with its own script.
const STRICT: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// For GraphiQL: its editor runs workers, and writes its styles into the page.
const GRAPHIQL: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; font-src 'self'; connect-src 'self'; worker-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'";

/// How long a browser may keep what it got.
#[derive(Clone, Copy)]
enum Keep {
    /// For a year: another content would have another name.
    Always,
    /// Until it asks, each time.
    WhileUnchanged,
}

/// The paths of the pages.
pub fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", get(|| async { Redirect::temporary(START) }))
        .route("/ui", get(|| async { Redirect::temporary(START) }))
        .route("/ui/", get(|| async { Redirect::temporary(START) }))
        .route("/ui/assets/{name}", get(asset))
        .route("/ui/{*page}", get(dashboard))
        .route("/graphiql", get(graphiql))
}

async fn dashboard(headers: HeaderMap) -> Response {
    respond("index.html", &headers, Keep::WhileUnchanged, STRICT)
}

async fn graphiql(headers: HeaderMap) -> Response {
    respond("graphiql.html", &headers, Keep::WhileUnchanged, GRAPHIQL)
}

async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    respond(&format!("assets/{name}"), &headers, Keep::Always, STRICT)
}

fn respond(path: &str, headers: &HeaderMap, keep: Keep, policy: &'static str) -> Response {
    let Some(file) = FILES.iter().find(|file| file.path == path) else {
        return (StatusCode::NOT_FOUND, "there is no such file\n").into_response();
    };
    let etag = format!("\"{}\"", file.hash);
    let known = text_header(headers, header::IF_NONE_MATCH)
        .is_some_and(|known| known.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag));
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else if takes_gzip(headers) {
        let mut response = Body::from(file.gzip).into_response();
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        response
    } else {
        match unpacked(file) {
            Ok(content) => Body::from(content).into_response(),
            Err(error) => {
                tracing::error!(file.path = path, error.cause = %error, "an embedded file cannot be unpacked");
                return StatusCode::INTERNAL_SERVER_ERROR.into_response();
            }
        }
    };
    let cache_control = match keep {
        Keep::Always => "public, max-age=31536000, immutable",
        Keep::WhileUnchanged => "no-cache",
    };
    for (name, value) in [
        (header::CACHE_CONTROL, cache_control),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::CONTENT_TYPE, file.content_type),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::VARY, "accept-encoding"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    // It is as strong as the hash is long, but stands for both encodings.
    if let Ok(etag) = HeaderValue::from_str(&format!("W/{etag}")) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response
}

/// Browsers do; curl does when told to.
fn takes_gzip(headers: &HeaderMap) -> bool {
    text_header(headers, header::ACCEPT_ENCODING).is_some_and(|accepted| {
        accepted.split(',').any(|coding| {
            let (name, parameter) = coding.split_once(';').unwrap_or((coding, ""));
            let refused =
                parameter.trim().strip_prefix("q=").is_some_and(|q| q.parse::<f32>().is_ok_and(|q| q == 0.0));
            matches!(name.trim(), "gzip" | "*") && !refused
        })
    })
}

fn unpacked(file: &File) -> std::io::Result<Vec<u8>> {
    let mut content = Vec::new();
    GzDecoder::new(file.gzip).read_to_end(&mut content)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    fn index(pairs: &[(header::HeaderName, &str)]) -> Response {
        respond("index.html", &headers(pairs), Keep::WhileUnchanged, STRICT)
    }

    fn has(response: &Response, name: header::HeaderName) -> Option<&str> {
        response.headers().get(name).map(|value| value.to_str().unwrap())
    }

    async fn body(response: Response) -> Vec<u8> {
        axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec()
    }

    #[test]
    fn whoever_refuses_gzip_gets_none() {
        for accepted in ["gzip", "gzip, deflate, br", "br, gzip;q=0.5", "*", "br;q=1.0, * ; q=0.1"] {
            assert!(takes_gzip(&headers(&[(header::ACCEPT_ENCODING, accepted)])), "{accepted}");
        }
        for accepted in ["", "identity", "br", "gzip;q=0", "gzip; q=0.0, br", "x-gzip-not"] {
            assert!(!takes_gzip(&headers(&[(header::ACCEPT_ENCODING, accepted)])), "{accepted}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }

    #[tokio::test]
    async fn both_encodings_hold_the_same_and_say_what_they_are() {
        let packed = index(&[(header::ACCEPT_ENCODING, "gzip")]);
        assert_eq!(has(&packed, header::CONTENT_ENCODING), Some("gzip"));
        assert_eq!(has(&packed, header::VARY), Some("accept-encoding"));
        let plain = index(&[]);
        assert_eq!(has(&plain, header::CONTENT_ENCODING), None);
        let plain = body(plain).await;
        assert!(plain.starts_with(b"<!doctype html>"));
        let mut unpacked = Vec::new();
        GzDecoder::new(body(packed).await.as_slice()).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked, plain);
    }

    #[tokio::test]
    async fn a_page_that_is_the_same_is_not_sent_again() {
        let etag = has(&index(&[]), header::ETAG).unwrap().to_owned();
        let again = index(&[(header::IF_NONE_MATCH, &format!("\"other\", {etag}"))]);
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(has(&again, header::ETAG), Some(etag.as_str()));
        assert!(body(again).await.is_empty());
        assert_eq!(index(&[(header::IF_NONE_MATCH, "\"other\"")]).status(), StatusCode::OK);
    }

    #[test]
    fn every_page_names_only_files_that_are_there() {
        for name in ["index.html", "graphiql.html"] {
            let page = FILES.iter().find(|file| file.path == name).unwrap();
            let text = String::from_utf8(unpacked(page).unwrap()).unwrap();
            let mut named = 0;
            for (_, rest) in text.match_indices("\"/ui/").map(|(at, quote)| text.split_at(at + quote.len())) {
                let path = rest.split('"').next().unwrap();
                assert!(FILES.iter().any(|file| file.path == path), "{name} names {path}");
                named += 1;
            }
            assert!(named > 1, "{name} names {named} files");
            assert!(!text.contains("://"), "{name} names another host");
            assert!(!text.contains("<style") && !text.contains("style="), "{name} has inline styles");
            assert!(!text.replace("></script>", "").contains("</script>"), "{name} has an inline script");
        }
    }
}
