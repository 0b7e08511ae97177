//! What listens: GraphQL over HTTP, WebSockets and streams, health, and how all of it starts and stops.
//!
//! | path | what |
//! |---|---|
//! | `/graphql` | POST and GET, answered at once or as a stream of events; WebSockets that speak `graphql-transport-ws` |
//! | `/healthz` | 200 while the process lives |
//! | `/readyz` | 200 while requests can be served, else 503 with a reason |
//! | `/metrics` | figures for Prometheus; for operators |
//! | `/ui/…`, `/graphiql` | the dashboard and GraphiQL; `/` leads to the dashboard |
//!
//! `/graphql` and `/metrics` need a token where tokens are in use; the others tell nothing of anyone's jobs.
//!
//! A shutdown shows at once in `/readyz`; sockets are closed with 1012, requests in flight finish, bounded by
//! [`DRAIN`]. Mutations run to their end even when their client has gone.

pub mod graphql_post;

pub mod graphql_get;

pub mod websocket;

pub mod streaming;

pub mod event_stream;
pub mod multipart;

pub mod health;
pub mod pages;

pub mod answer;
pub mod cors;
pub mod execution;
pub mod negotiation;
pub mod operation_request;
pub mod origin;

pub mod availability;
pub mod limits;
pub mod peer;
pub mod traffic;

mod connections;
mod metrics;
mod patient_stream;
mod protective_headers;
mod tls;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::Response;
use axum::routing::{any, get};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::answer::Answer;
use self::availability::Availability;
use self::connections::Serving;
use self::execution::Reply;
use self::limits::{Holder, Limiter};
use self::negotiation::{MediaType, accepted};
use self::peer::{Peer, client_address};
use self::tls::Certificates;
use self::traffic::Traffic;
use crate::access::{Access, Caller, Refused};
use crate::config::Config;
use crate::error::cause_of;
use crate::events::Events;
use crate::graphql::error::{Code, retry_after};
use crate::graphql::{self, Parts, Schema};
use crate::store::Store;

/// How long requests in flight may take at a shutdown.
pub const DRAIN: Duration = Duration::from_secs(10);
/// How long sockets may take to say goodbye, after that.
const GOODBYE: Duration = Duration::from_secs(3);

/// What every handler works with. Cheap to clone.
#[derive(Clone)]
pub struct HttpState(Arc<Shared>);

/// What the clones share.
pub struct Shared {
    schema: Schema,
    store: Store,
    events: Events,
    config: Arc<Config>,
    limiter: Limiter,
    traffic: Traffic,
    availability: Availability,
    access: Access,
    /// Cancelled when the shutdown begins.
    closing: CancellationToken,
    /// Sockets, and mutations that outlive their clients.
    tasks: TaskTracker,
}

impl Deref for HttpState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl HttpState {
    /// The state of a server on these.
    pub fn new(store: Store, events: Events, config: Arc<Config>, access: Access) -> HttpState {
        let parts = Parts { store: store.clone(), events: events.clone(), config: config.clone() };
        HttpState(Arc::new(Shared {
            schema: graphql::schema(parts),
            store,
            events,
            traffic: Traffic::default(),
            limiter: Limiter::new(config.limits.clone()),
            availability: Availability::default(),
            config,
            access,
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }))
    }

    /// Whose limits a request counts against.
    fn holders(&self, request: &Request) -> Vec<Holder> {
        let Some(Peer(peer)) = request.extensions().get::<Peer>() else { return Vec::new() };
        let trusted = &self.config.limits.trusted_proxies;
        Holder::of_address(client_address(peer.ip(), request.headers(), trusted)).into_iter().collect()
    }

    /// True where connections are encrypted here, and not by a proxy.
    pub fn is_encrypted(&self) -> bool {
        self.config.tls.is_some()
    }

    /// Who sends a request, if they may.
    async fn caller(&self, headers: &HeaderMap) -> Result<Caller, Answer> {
        let mut given = headers.get_all(header::AUTHORIZATION).iter();
        let authorization = match (given.next(), given.next()) {
            (None, _) => None,
            (Some(one), None) => Some(one.to_str().unwrap_or_default()),
            (Some(_), Some(_)) => Some(""),
        };
        self.access.admit(authorization).await.map_err(|refused| match refused {
            Refused::Unauthenticated => Answer::unauthenticated(),
            Refused::Unavailable(error) => {
                tracing::warn!(error = %error, error.cause = %cause_of(&error), "a token could not be looked up");
                let error = Code::Unavailable.error("the database is not available to verify the token");
                Answer::unavailable(retry_after(error, Duration::from_secs(1)))
            }
        })
    }
}

/// All paths.
pub fn router(state: HttpState) -> Router {
    let api = Router::new()
        .route("/graphql", any(graphql_endpoint))
        .route("/metrics", get(metrics::metrics))
        .with_state(state.clone());
    api.merge(pages::router()).merge(health_router(state))
}

/// Health only, for a process that works and serves no API.
pub fn health_router(state: HttpState) -> Router {
    Router::new().route("/healthz", get(health::alive)).route("/readyz", get(health::ready)).with_state(state)
}

/// Serves `router`, which works with `state`, until `shutdown`, and then until all is finished or [`DRAIN`] is over.
pub async fn serve(listener: TcpListener, router: Router, state: HttpState, shutdown: CancellationToken) {
    let Shared { closing, tasks, config, limiter, traffic, availability, store, .. } = &*state;
    tasks.spawn(availability.clone().watch(store.clone(), closing.clone()));
    let tls = config.tls.clone().map(|tls| {
        let (certificates, receiver) = Certificates::new(tls);
        tasks.spawn(certificates.keep(closing.clone()));
        receiver
    });
    let serving =
        Serving { router, limiter: limiter.clone(), traffic: traffic.clone(), tls, closing: closing.clone() };
    let connections = TaskTracker::new();
    let stop = async {
        shutdown.cancelled().await;
        closing.cancel();
    };
    tokio::join!(stop, connections::accept(listener, serving, config.max_connections, &connections));
    connections.close();
    if tokio::time::timeout(DRAIN, connections.wait()).await.is_err() {
        tracing::warn!(http.drain_seconds = DRAIN.as_secs(), "requests in flight were given up at shutdown");
    }
    tasks.close();
    if tokio::time::timeout(GOODBYE, tasks.wait()).await.is_err() {
        tracing::warn!(http.tasks = tasks.len(), "sockets or mutations were given up at shutdown");
    }
}

async fn graphql_endpoint(State(state): State<HttpState>, request: Request) -> Response {
    let config = state.config.clone();
    let page = cors::listed_page(&config.access, request.headers());
    let mut response = if page.is_some() && cors::is_preflight(&request) {
        cors::preflight()
    } else {
        answer(state, request).await
    };
    cors::tell(&config.access, page, &mut response);
    response
}

async fn answer(state: HttpState, request: Request) -> Response {
    let needs_token = state.access.needs_token();
    if !origin::is_called_by_its_name(&state.config.access, needs_token, request.headers()) {
        let problem = if needs_token {
            "the Host header is not a name of this server"
        } else {
            "the Host header names another machine; there are no tokens, so only this one is served"
        };
        let refused = Answer::Refused(StatusCode::FORBIDDEN, Code::Forbidden.error(problem));
        return refused.into_response(MediaType::Json);
    }
    let holders = state.holders(&request);
    if let Some(error) = holders.iter().find_map(|holder| state.limiter.request(holder).err()) {
        return Answer::over_a_limit(error).into_response(MediaType::Json);
    }
    if websocket::is_upgrade(&request) {
        return websocket::upgrade(state, request, holders).await;
    }
    let caller = match state.caller(request.headers()).await {
        Ok(caller) => caller,
        Err(refused) => {
            graphql_post::pass_over_body(request.into_body()).await;
            return refused.into_response(MediaType::Json);
        }
    };
    let Some(accepted) = accepted(request.headers()) else {
        let problem = "offered are application/graphql-response+json and application/json, and for streams \
                       text/event-stream and multipart/mixed;subscriptionSpec=1.0; Accept rules all of them out";
        let refused = Answer::Refused(StatusCode::NOT_ACCEPTABLE, Code::BadRequest.error(problem));
        return refused.into_response(MediaType::Json);
    };
    let reply = match *request.method() {
        Method::POST => graphql_post::reply(&state, accepted, &caller, request, holders).await,
        Method::GET => graphql_get::reply(&state, accepted, &caller, request, holders).await,
        _ => Answer::method_not_allowed("the API takes POST, and GET for queries", "GET, POST").into(),
    };
    match reply {
        // Who accepts streams only is told in JSON why there is none.
        Reply::Answer(answer) => answer.into_response(accepted.json.unwrap_or(MediaType::Json)),
        Reply::Stream(stream_type, yielded) => streaming::response(&state, caller, stream_type, yielded),
    }
}

/// The media type of a header's value, in lower case and without its parameters.
fn essence(value: &str) -> String {
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// A header as text; none when there is none or it is no text.
fn text_header(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests;
