//! An answer that is a stream of events: what an operation yields, as it yields it.
//!
//! Each event is one chunk of the body and is written at once; nothing is compressed or gathered. Nothing is queued
//! either: the operation is asked for more when the peer has taken what there was, so one that does not read costs
//! constant memory until [`patient_stream`](super::patient_stream) drops it. A shutdown ends the stream, and so does the end of its
//! caller's token.

use std::convert::Infallible;
use std::time::Duration;

use async_graphql::ServerError;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use serde::Serialize;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use super::HttpState;
use super::answer::unauthenticated;
use super::execution::Yielded;
use super::negotiation::StreamType;
use super::traffic::{Lasting, Opened};
use super::{event_stream, multipart};
use crate::access::Caller;

/// How often a stream says something.
const BEAT_EVERY: Duration = Duration::from_secs(12);

/// The response; its body is the stream.
pub fn response(
    state: &HttpState,
    caller: Caller,
    of_type: StreamType,
    yielded: BoxStream<'static, Yielded>,
) -> Response {
    let mut beats = interval_at(Instant::now() + BEAT_EVERY, BEAT_EVERY);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let opened = state.traffic.open(match of_type {
        StreamType::EventStream => Lasting::EventStream,
        StreamType::Multipart => Lasting::Multipart,
    });
    let closing = state.closing.clone();
    let live = Live { of_type, stage: Stage::Opening, yielded, beats, caller, closing, _opened: opened };
    let chunks = stream::unfold(live, |mut live| async move {
        let chunk = live.next_chunk().await?;
        Some((Ok::<_, Infallible>(chunk), live))
    });
    let mut response = Body::from_stream(chunks).into_response();
    let content_type = match of_type {
        StreamType::EventStream => event_stream::CONTENT_TYPE,
        StreamType::Multipart => multipart::CONTENT_TYPE,
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
    // nginx would gather events otherwise.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

enum Stage {
    Opening,
    Running,
    Ended,
}

struct Live {
    of_type: StreamType,
    stage: Stage,
    yielded: BoxStream<'static, Yielded>,
    beats: Interval,
    caller: Caller,
    closing: CancellationToken,
    _opened: Opened,
}

/// Errors of a request where a result would stand; there is no `data`, as nothing was executed.
#[derive(Serialize)]
struct RequestErrors {
    errors: Vec<ServerError>,
}

impl Live {
    async fn next_chunk(&mut self) -> Option<String> {
        match self.stage {
            Stage::Opening => {
                self.stage = Stage::Running;
                return Some(self.opening().to_owned());
            }
            Stage::Ended => return None,
            Stage::Running => {}
        }
        tokio::select! {
            () = self.closing.cancelled() => {
                self.stage = Stage::Ended;
                self.going_away()
            }
            () = self.caller.ended() => {
                self.stage = Stage::Ended;
                self.shown_out()
            }
            yielded = self.yielded.next() => Some(match yielded {
                Some(Yielded::Response(response)) => self.event(&response),
                Some(Yielded::RequestErrors(errors)) => {
                    let event = self.event(&RequestErrors { errors });
                    event + self.end()
                }
                Some(Yielded::Complete) | None => self.end().to_owned(),
            }),
            _ = self.beats.tick() => Some(self.beat()),
        }
    }

    fn opening(&self) -> &'static str {
        match self.of_type {
            StreamType::EventStream => event_stream::COMMENT,
            StreamType::Multipart => multipart::OPENING,
        }
    }

    fn event(&self, result: &impl Serialize) -> String {
        match self.of_type {
            StreamType::EventStream => event_stream::next(result),
            StreamType::Multipart => multipart::next(result),
        }
    }

    fn beat(&self) -> String {
        match self.of_type {
            StreamType::EventStream => event_stream::COMMENT.to_owned(),
            StreamType::Multipart => multipart::heartbeat(),
        }
    }

    fn end(&mut self) -> &'static str {
        self.stage = Stage::Ended;
        match self.of_type {
            StreamType::EventStream => event_stream::COMPLETE,
            StreamType::Multipart => multipart::CLOSING,
        }
    }

    /// Whoever opens it again is told 401.
    fn shown_out(&self) -> Option<String> {
        match self.of_type {
            StreamType::EventStream => None,
            StreamType::Multipart => Some(multipart::broken_off(unauthenticated())),
        }
    }

    /// An event stream says nothing at a shutdown: one that ends without `complete` is one to open again.
    fn going_away(&self) -> Option<String> {
        match self.of_type {
            StreamType::EventStream => None,
            StreamType::Multipart => Some(multipart::going_away()),
        }
    }
}
