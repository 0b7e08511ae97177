//! WebSockets that speak `graphql-transport-ws`.
//!
//! ```text
//!            connection_init            subscribe, complete, ping, pong
//!  open ────────────────────────► acknowledged ─┐
//!   │  no init within 3 s: 4408        │        └─ error, next, complete
//!   │  subscribe: 4401                 │  init: 4429 · id in use: 4409
//!   └──────────────┬───────────────────┘
//!                  ▼  no valid token, or not any more: 4403
//!                     not a message: 4400 · no known subprotocol: 4406 · shutdown: 1012 · not reading: 1013
//!                     not UTF-8: 1007 · too large: 1009
//!               closed
//! ```
//!
//! One task serves a socket. It reads messages, and writes what its operations yield as they yield it, in turn, so a
//! busy subscription does not starve the others. Nothing is queued: while a peer does not read, no operation is asked
//! for more, and streams of jobs conflate; a write that takes too long ends the socket. An error of a request, such as
//! a syntax error, is an `error` message of its id and leaves the socket open.

pub mod close;
pub mod message;
mod operations;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{FromRequestParts, Request};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::{FutureExt, SinkExt};
use serde_json::{Map, Value};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};
use tokio_util::task::task_tracker::TaskTrackerToken;

use self::close::Close;
use self::message::ClientMessage;
use self::operations::Operations;
use super::answer::{Answer, unauthenticated};
use super::execution::Yielded;
use super::limits::{Holder, Share};
use super::negotiation::MediaType;
use super::traffic::{Lasting, Opened};
use super::{HttpState, origin, text_header};
use crate::access::{Caller, Refused};
use crate::error::cause_of;
use crate::graphql;
use crate::graphql::error::Code;
use crate::graphql::request_check::{CheckedRequest, RawRequest};

/// The subprotocol that is spoken.
const SUBPROTOCOL: &str = "graphql-transport-ws";
/// How long a client may take to introduce itself.
const INIT_TIMEOUT: Duration = Duration::from_secs(3);
/// How often the server pings.
const PING_EVERY: Duration = Duration::from_secs(12);
/// Pings without any sign of life after which a peer is gone.
const MAX_PINGS_UNANSWERED: u32 = 2;
/// How long one message may take to be written.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a closed socket waits for the peer's goodbye.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// A small buffer: with the usual 128 KiB a thousand idle sockets hold 141 MB, with this 18.
const READ_BUFFER: usize = 4 << 10;

/// Bytes of messages that one write may gather. Room for them is made when they come, not before.
const WRITE_BUFFER: usize = 4 << 10;

/// True when the request asks for a WebSocket.
pub fn is_upgrade(request: &Request) -> bool {
    text_header(request.headers(), header::UPGRADE).is_some_and(|protocols| {
        protocols.split(',').any(|name| name.trim().eq_ignore_ascii_case("websocket"))
    })
}

/// Lets the client in, unless its Origin is not allowed.
pub async fn upgrade(state: HttpState, request: Request, mut holders: Vec<Holder>) -> Response {
    let (mut parts, _body) = request.into_parts();
    if !origin::is_allowed(&state.config.access, &parts.headers) {
        let error = Code::Forbidden.error("this Origin may not open a WebSocket");
        return Answer::Refused(StatusCode::FORBIDDEN, error).into_response(MediaType::Json);
    }
    // A browser cannot send a token here; who sends none may do so with `connection_init`.
    let caller = match state.caller(&parts.headers).await {
        Ok(caller) => Some(caller),
        Err(_) if !parts.headers.contains_key(header::AUTHORIZATION) => None,
        Err(refused) => return refused.into_response(MediaType::Json),
    };
    let upgrade = match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade,
        Err(rejection) => return rejection.into_response(),
    };
    holders.extend(caller.as_ref().and_then(|caller| Holder::of_viewer(&caller.viewer)));
    let share = match state.limiter.socket(&holders) {
        Ok(share) => share,
        Err(error) => return Answer::over_a_limit(error).into_response(MediaType::Json),
    };
    let limit = state.config.max_websocket_message_bytes;
    let upgrade = upgrade
        .protocols([SUBPROTOCOL])
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_message_size(limit)
        .max_frame_size(limit);
    let speaks = upgrade.selected_protocol().is_some();
    let owned = (state.tasks.token(), share, state.traffic.open(Lasting::WebSocket));
    let mut response =
        upgrade.on_upgrade(move |socket| Session::new(socket, state, caller, owned, holders).run(speaks));
    // Among them is how the client spells its headers, and ours are spelt the same.
    response.extensions_mut().extend(parts.extensions);
    response
}

/// One socket.
struct Session {
    socket: WebSocket,
    state: HttpState,
    /// None until a token has come.
    caller: Option<Caller>,
    operations: Operations,
    acknowledged: bool,
    pings_unanswered: u32,
    /// Whose limits it counts against.
    holders: Vec<Holder>,
    /// Its place among the sockets of who introduced themselves.
    _share_of_caller: Option<Share>,
    _owned: Owned,
}

/// Lets a shutdown wait for a socket's task; its place among the sockets of its client; its place in the figures.
type Owned = (TaskTrackerToken, Share, Opened);

/// Returns when the caller may not stay.
async fn ended(caller: Option<Caller>) {
    match caller {
        Some(caller) => caller.ended().await,
        None => std::future::pending().await,
    }
}

/// Why a session ends.
enum End {
    /// We close it.
    Close(Close),
    /// The peer closes it, and waits for our answer.
    Closed,
    /// The peer has gone, or does not read.
    Gone,
}

impl Session {
    fn new(
        socket: WebSocket,
        state: HttpState,
        caller: Option<Caller>,
        owned: Owned,
        holders: Vec<Holder>,
    ) -> Session {
        Session {
            socket,
            state,
            caller,
            operations: Operations::default(),
            acknowledged: false,
            pings_unanswered: 0,
            holders,
            _share_of_caller: None,
            _owned: owned,
        }
    }

    async fn run(mut self, speaks: bool) {
        let end = if speaks { self.serve().await } else { End::Close(Close::UnknownSubprotocol) };
        // What still runs is dropped before the goodbye, which may take a while.
        self.operations = Operations::default();
        match end {
            End::Close(close) => self.say_goodbye(Some(close)).await,
            End::Closed => self.say_goodbye(None).await,
            End::Gone => {}
        }
    }

    async fn serve(&mut self) -> End {
        let closing = self.state.closing.clone();
        let init_deadline = Instant::now() + INIT_TIMEOUT;
        let mut pings = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let step = tokio::select! {
                () = closing.cancelled() => Err(End::Close(Close::ShuttingDown)),
                () = ended(self.caller.clone()) => Err(End::Close(Close::Forbidden)),
                () = sleep_until(init_deadline), if !self.acknowledged => Err(End::Close(Close::InitTimeout)),
                _ = pings.tick() => self.ping().await,
                received = self.socket.recv() => self.receive(received).await,
                Some((id, yielded)) = self.operations.next(), if !self.operations.is_empty() => {
                    self.send_yielded(id, yielded).await
                }
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    async fn receive(&mut self, received: Option<Result<Message, axum::Error>>) -> Result<(), End> {
        self.pings_unanswered = 0;
        match received {
            Some(Ok(Message::Text(text))) => self.handle(text.as_str()).await,
            Some(Ok(Message::Binary(_))) => Err(End::Close(Close::invalid("binary messages are not spoken"))),
            // Pings are answered by the library.
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(()),
            Some(Ok(Message::Close(_))) => Err(End::Closed),
            None => Err(End::Gone),
            Some(Err(error)) if error.to_string().contains("too long") => Err(End::Close(Close::TooLarge)),
            Some(Err(error)) if error.to_string().contains("UTF-8") => Err(End::Close(Close::NotText)),
            Some(Err(_)) => Err(End::Gone),
        }
    }

    async fn handle(&mut self, text: &str) -> Result<(), End> {
        let message = message::parse(text).map_err(|problem| End::Close(Close::Invalid(problem)))?;
        match message {
            ClientMessage::ConnectionInit(_) if self.acknowledged => Err(End::Close(Close::SecondInit)),
            ClientMessage::ConnectionInit(payload) => {
                self.introduce(payload).await?;
                self.acknowledged = true;
                self.send(message::connection_ack()).await
            }
            ClientMessage::Ping(payload) => self.send(message::pong(payload)).await,
            ClientMessage::Pong => Ok(()),
            ClientMessage::Subscribe { .. } if !self.acknowledged => Err(End::Close(Close::NotAcknowledged)),
            ClientMessage::Subscribe { id, .. } if self.operations.has(&id) => {
                Err(End::Close(Close::IdInUse(id)))
            }
            ClientMessage::Subscribe { id, request } => self.subscribe(id, request).await,
            ClientMessage::Complete { id } => {
                self.operations.stop(&id);
                Ok(())
            }
        }
    }

    /// Finds out who is there: by the token of the payload, or else by that of the upgrade.
    async fn introduce(&mut self, payload: Option<Map<String, Value>>) -> Result<(), End> {
        let given = payload.as_ref().and_then(|payload| {
            payload
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case("authorization"))
                .map(|(_, given)| given)
        });
        // What is no text is no token.
        let authorization = given.map(|given| given.as_str().unwrap_or_default());
        if authorization.is_none() && self.caller.is_some() {
            return Ok(());
        }
        match self.state.access.admit(authorization).await {
            Ok(caller) => {
                if let Some(holder) = Holder::of_viewer(&caller.viewer) {
                    let share = self.state.limiter.socket(std::slice::from_ref(&holder));
                    self._share_of_caller = Some(share.map_err(|_| End::Close(Close::TryAgainLater))?);
                    self.holders.push(holder);
                }
                self.caller = Some(caller);
                Ok(())
            }
            Err(Refused::Unauthenticated) => Err(End::Close(Close::Forbidden)),
            Err(Refused::Unavailable(error)) => {
                tracing::warn!(error = %error, error.cause = %cause_of(&error), "a token could not be looked up");
                Err(End::Close(Close::TryAgainLater))
            }
        }
    }

    async fn subscribe(
        &mut self,
        id: String,
        request: Result<RawRequest, async_graphql::ServerError>,
    ) -> Result<(), End> {
        match request.and_then(|raw| self.admitted(raw)) {
            Ok((checked, share)) => {
                self.operations.start(id, &self.state, checked, share);
                Ok(())
            }
            Err(error) => self.send(message::error(&id, &[error])).await,
        }
    }

    /// The request, checked and within all limits, with its share of them.
    fn admitted(&self, raw: RawRequest) -> Result<(CheckedRequest, Share), async_graphql::ServerError> {
        let limiter = &self.state.limiter;
        self.holders.iter().try_for_each(|holder| limiter.request(holder))?;
        limiter.on_socket(self.operations.len())?;
        let caller = self.caller.as_ref().ok_or_else(unauthenticated)?;
        let checked = graphql::prepare(&self.state.schema, raw, caller.viewer.clone())?;
        if !checked.state.without_database {
            self.state.availability.check()?;
        }
        Ok((checked, limiter.operation(&self.holders)?))
    }

    /// Sends it, and what else has been yielded meanwhile, in as few writes as hold it: a hundred sockets on one client's
    /// thousand changes a second are a hundred thousand messages, and a write each would be all that a machine does.
    async fn send_yielded(&mut self, id: Arc<str>, yielded: Yielded) -> Result<(), End> {
        let mut next = Some((id, yielded));
        let mut bytes = 0;
        while let Some((id, yielded)) = next {
            let text = match yielded {
                Yielded::Response(response) => message::next(&id, &response),
                Yielded::RequestErrors(errors) => message::error(&id, &errors),
                Yielded::Complete => message::complete(&id),
            };
            bytes += text.len();
            self.bounded(|socket| socket.feed(Message::Text(text.into()))).await?;
            next = if bytes < WRITE_BUFFER { self.operations.next().now_or_never().flatten() } else { None };
        }
        self.bounded(|socket| socket.flush()).await
    }

    async fn ping(&mut self) -> Result<(), End> {
        if self.pings_unanswered >= MAX_PINGS_UNANSWERED {
            return Err(End::Gone);
        }
        self.pings_unanswered += 1;
        self.write(Message::Ping(axum::body::Bytes::new())).await
    }

    async fn send(&mut self, text: String) -> Result<(), End> {
        self.write(Message::Text(text.into())).await
    }

    async fn write(&mut self, message: Message) -> Result<(), End> {
        self.bounded(|socket| socket.send(message)).await
    }

    async fn bounded<'a, W>(&'a mut self, write: impl FnOnce(&'a mut WebSocket) -> W) -> Result<(), End>
    where
        W: Future<Output = Result<(), axum::Error>>,
    {
        match timeout(WRITE_TIMEOUT, write(&mut self.socket)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Gone),
            // The reason waits behind what the peer has not read, and reaches one that reads again in time.
            Err(_) => {
                tracing::info!(
                    websocket.write_seconds = WRITE_TIMEOUT.as_secs(),
                    "dropped a socket that does not read"
                );
                Err(End::Close(Close::NotReading))
            }
        }
    }

    /// Sends our reason, if it is ours to send, and reads to the end; the library answers a peer's close frame while it
    /// is read from, and a peer that got no answer would take the connection for broken.
    async fn say_goodbye(&mut self, close: Option<Close>) {
        let goodbye = async {
            if let Some(close) = close {
                let frame = CloseFrame { code: close.code(), reason: close.reason().into() };
                if self.socket.send(Message::Close(Some(frame))).await.is_err() {
                    return;
                }
            }
            while let Some(Ok(_)) = self.socket.recv().await {}
        };
        let _ = timeout(CLOSE_TIMEOUT, goodbye).await;
    }
}
