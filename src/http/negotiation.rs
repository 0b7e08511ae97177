//! Which of our media types a client gets, by its Accept header, and whether what it sends is JSON.
//!
//! Answers and streams are negotiated apart, because which of them an operation gets depends on the operation: urql
//! lists the types of streams for plain queries too, and Apollo lists those of answers for subscriptions.

use axum::http::{HeaderMap, header};

use super::{essence, text_header};

/// What a client accepts: the best type of answer and the best type of stream. At least one of them is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// For queries and mutations, and for errors of a request.
    pub json: Option<MediaType>,
    /// For subscriptions; for anything when no answer is accepted.
    pub stream: Option<StreamType>,
}

/// The types of streams. A client must name one; wildcards mean an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamType {
    /// `text/event-stream`.
    EventStream,
    /// `multipart/mixed;subscriptionSpec=1.0`; other protocols use `multipart/mixed` too, so the parameter must be
    /// there.
    Multipart,
}

/// The media types of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaType {
    /// `application/graphql-response+json`.
    GraphqlResponse,
    /// `application/json`, for clients that do not know the other.
    Json,
}

impl MediaType {
    const ALL: [MediaType; 2] = [MediaType::Json, MediaType::GraphqlResponse];

    /// The value of Content-Type.
    pub fn content_type(self) -> &'static str {
        match self {
            MediaType::GraphqlResponse => "application/graphql-response+json; charset=utf-8",
            MediaType::Json => "application/json; charset=utf-8",
        }
    }

    fn essence(self) -> &'static str {
        match self {
            MediaType::GraphqlResponse => "application/graphql-response+json",
            MediaType::Json => "application/json",
        }
    }
}

/// A media range of an Accept header.
struct Range {
    essence: String,
    quality: f32,
    is_utf8: bool,
    /// Has `subscriptionSpec=1.0`.
    is_apollo: bool,
}

/// The acceptable types of the highest quality, the ones named first among equals; none when all are ruled out. Without
/// an Accept header, or with wildcards only, it is plain JSON, as older clients expect.
pub fn accepted(headers: &HeaderMap) -> Option<Accepted> {
    let values = headers.get_all(header::ACCEPT).iter();
    let ranges: Vec<Range> = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter(|range| !range.trim().is_empty())
        .map(range)
        .collect();
    if ranges.is_empty() {
        return Some(Accepted { json: Some(MediaType::Json), stream: None });
    }
    let answers =
        MediaType::ALL.into_iter().filter_map(|media_type| Some((media_type, rank(media_type, &ranges)?)));
    let streams = ranges.iter().enumerate().filter_map(|(place, range)| {
        let stream_type = match range.essence.as_str() {
            "text/event-stream" => StreamType::EventStream,
            "multipart/mixed" if range.is_apollo => StreamType::Multipart,
            _ => return None,
        };
        Some((stream_type, (range.quality, place)))
    });
    let accepted = Accepted { json: best(answers), stream: best(streams) };
    (accepted.json.is_some() || accepted.stream.is_some()).then_some(accepted)
}

/// The one of the highest quality above 0, and the first place among equals.
fn best<T>(ranked: impl Iterator<Item = (T, (f32, usize))>) -> Option<T> {
    let best = ranked.filter(|(_, (quality, _))| *quality > 0.0).reduce(|best, other| {
        let (quality, place) = best.1;
        let is_better = other.1.0 > quality || (other.1.0 == quality && other.1.1 < place);
        if is_better { other } else { best }
    });
    best.map(|(found, _)| found)
}

/// The quality that the most specific range gives the type, and that range's place.
fn rank(media_type: MediaType, ranges: &[Range]) -> Option<(f32, usize)> {
    let wanted = [media_type.essence(), "application/*", "*/*"];
    wanted.into_iter().find_map(|wanted| {
        let place = ranges.iter().position(|range| range.essence == wanted && range.is_utf8)?;
        ranges.get(place).map(|range| (range.quality, place))
    })
}

fn range(text: &str) -> Range {
    let mut range = Range { essence: essence(text), quality: 1.0, is_utf8: true, is_apollo: false };
    for (name, value) in parameters(text) {
        match name.as_str() {
            "q" => range.quality = value.parse().ok().filter(|q| (0.0..=1.0).contains(q)).unwrap_or(0.0),
            "subscriptionspec" => range.is_apollo = value == "1.0",
            "charset" => range.is_utf8 = is_utf8(value),
            _ => {}
        }
    }
    range
}

/// True when the body is said to be JSON in UTF-8.
pub fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = text_header(headers, header::CONTENT_TYPE) else { return false };
    essence(value) == "application/json"
        && parameters(value).all(|(name, value)| name != "charset" || is_utf8(value))
}

fn is_utf8(charset: &str) -> bool {
    charset.eq_ignore_ascii_case("utf-8") || charset.eq_ignore_ascii_case("utf8")
}

fn parameters(value: &str) -> impl Iterator<Item = (String, &str)> {
    value.split(';').skip(1).filter_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        Some((name.trim().to_ascii_lowercase(), value.trim().trim_matches('"')))
    })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn both(accept: &str) -> Option<Accepted> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_str(accept).unwrap());
        accepted(&headers)
    }

    fn of(accept: &str) -> Option<MediaType> {
        both(accept).and_then(|accepted| accepted.json)
    }

    #[test]
    fn a_stream_is_for_who_names_one() {
        use StreamType::{EventStream, Multipart};
        for (accept, expected) in [
            ("*/*", None),
            ("text/*", None),
            ("multipart/mixed", None),
            ("text/event-stream", Some(EventStream)),
            ("text/event-stream, multipart/mixed", Some(EventStream)),
            ("multipart/mixed;boundary=graphql;subscriptionSpec=1.0,application/json;q=0.9", Some(Multipart)),
            ("text/event-stream;q=0.5, Multipart/Mixed; subscriptionspec=\"1.0\"", Some(Multipart)),
            ("multipart/mixed;subscriptionSpec=1.0;q=0.5, text/event-stream", Some(EventStream)),
            ("text/event-stream;q=0, application/json", None),
        ] {
            assert_eq!(both(accept).and_then(|accepted| accepted.stream), expected, "{accept}");
        }
        assert_eq!(both("text/event-stream;q=0"), None);
    }

    #[test]
    fn the_best_acceptable_type_is_chosen() {
        use MediaType::{GraphqlResponse, Json};
        assert_eq!(accepted(&HeaderMap::new()).unwrap().json, Some(Json));
        for (accept, expected) in [
            ("*/*", Some(Json)),
            ("application/*", Some(Json)),
            ("", Some(Json)),
            ("application/json", Some(Json)),
            ("application/graphql-response+json", Some(GraphqlResponse)),
            ("application/graphql-response+json, application/json;q=0.9", Some(GraphqlResponse)),
            ("application/json, application/graphql-response+json", Some(Json)),
            ("application/graphql-response+json, application/json, text/event-stream", Some(GraphqlResponse)),
            ("Application/GraphQL-Response+JSON; Charset=UTF-8", Some(GraphqlResponse)),
            ("text/event-stream, */*;q=0.1", Some(Json)),
            ("application/json;q=0, */*", Some(GraphqlResponse)),
            ("application/json;q=0.2, application/graphql-response+json;q=0.3", Some(GraphqlResponse)),
            ("text/html", None),
            ("text/event-stream", None),
            ("application/json;q=0", None),
            ("application/json; charset=utf-16", None),
        ] {
            assert_eq!(of(accept), expected, "{accept}");
        }
    }

    #[test]
    fn a_body_must_be_json_in_utf_8() {
        let sent = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(value).unwrap());
            is_json(&headers)
        };
        assert!(sent("application/json") && sent("Application/JSON ; charset=\"UTF-8\""));
        assert!(
            !sent("application/jsonp") && !sent("text/plain") && !sent("application/json; charset=latin1")
        );
        assert!(!sent("multipart/form-data; boundary=x") && !is_json(&HeaderMap::new()));
    }
}
