//! What listens: GraphQL over HTTP and WebSockets, health, and how all of it starts and stops.
//!
//! | path | what |
//! |---|---|
//! | `/graphql` | POST and GET, and WebSockets that speak `graphql-transport-ws` |
//! | `/healthz` | 200 while the process lives |
//! | `/readyz` | 200 while requests can be served, else 503 with a reason |
//! | `/` | a line that names the above |
//!
//! A shutdown shows at once in `/readyz`; sockets are closed with 1012, requests in flight finish, bounded by
//! [`DRAIN`]. Mutations run to their end even when their client has gone.

pub mod graphql_post;

pub mod graphql_get;

pub mod websocket;

pub mod health;

pub mod answer;
pub mod execution;
pub mod negotiation;
pub mod operation_request;
pub mod origin;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::Response;
use axum::routing::{any, get};
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::answer::Answer;
use self::negotiation::{MediaType, accepted};
use crate::config::Config;
use crate::events::Events;
use crate::graphql::error::Code;
use crate::graphql::{self, Parts, Schema};
use crate::job::viewer::Viewer;
use crate::store::Store;

/// How long requests in flight may take at a shutdown.
pub const DRAIN: Duration = Duration::from_secs(10);
/// How long sockets may take to say goodbye, after that.
const GOODBYE: Duration = Duration::from_secs(3);

/// What every handler works with. Cheap to clone.
#[derive(Clone)]
pub struct HttpState {
    schema: Schema,
    store: Store,
    config: Arc<Config>,
    /// Cancelled when the shutdown begins.
    closing: CancellationToken,
    /// Sockets, and mutations that outlive their clients.
    tasks: TaskTracker,
}

impl HttpState {
    /// The state of a server on these.
    pub fn new(store: Store, events: Events, config: Arc<Config>) -> HttpState {
        let parts = Parts { store: store.clone(), events, config: config.clone() };
        HttpState {
            schema: graphql::schema(parts),
            store,
            config,
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    /// On whose behalf a request is. No tokens are in use, so everyone is an operator.
    fn viewer(&self, _headers: &HeaderMap) -> Viewer {
        Viewer::Operator
    }
}

/// All paths.
pub fn router(state: HttpState) -> Router {
    let api = Router::new()
        .route("/", get(root))
        .route("/graphql", any(graphql_endpoint))
        .with_state(state.clone());
    api.merge(health_router(state))
}

/// Health only, for a process that works and serves no API.
pub fn health_router(state: HttpState) -> Router {
    Router::new().route("/healthz", get(health::alive)).route("/readyz", get(health::ready)).with_state(state)
}

/// Serves `router`, which works with `state`, until `shutdown`, and then until all is finished or [`DRAIN`] is over.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    state: HttpState,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let HttpState { closing, tasks, .. } = state;
    // Small answers must not wait for more to send.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(error.cause = %error, "a connection keeps its send delay");
        }
    });
    let stop = {
        let (shutdown, closing) = (shutdown.clone(), closing.clone());
        async move {
            shutdown.cancelled().await;
            closing.cancel();
        }
    };
    let server = axum::serve(listener, router).with_graceful_shutdown(stop);
    let overdue = async {
        closing.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    let outcome = tokio::select! {
        outcome = std::future::IntoFuture::into_future(server) => outcome,
        () = overdue => {
            tracing::warn!(http.drain_seconds = DRAIN.as_secs(), "requests in flight were given up at shutdown");
            Ok(())
        }
    };
    // Also when the listener failed: nothing may be left behind.
    closing.cancel();
    tasks.close();
    if tokio::time::timeout(GOODBYE, tasks.wait()).await.is_err() {
        tracing::warn!(http.tasks = tasks.len(), "sockets or mutations were given up at shutdown");
    }
    outcome
}

async fn root() -> &'static str {
    "jobql\n\nGraphQL: /graphql (POST, GET, and WebSocket with graphql-transport-ws)\nHealth: /healthz, /readyz\n"
}

async fn graphql_endpoint(State(state): State<HttpState>, request: Request) -> Response {
    if websocket::is_upgrade(&request) {
        return websocket::upgrade(state, request).await;
    }
    let Some(media_type) = accepted(request.headers()) else {
        let problem =
            "only application/graphql-response+json and application/json are offered, which Accept rules out";
        let refused = Answer::Refused(StatusCode::NOT_ACCEPTABLE, Code::BadRequest.error(problem));
        return refused.into_response(MediaType::Json);
    };
    let answer = match *request.method() {
        Method::POST => graphql_post::answer(&state, request).await,
        Method::GET => graphql_get::answer(&state, request).await,
        _ => Answer::method_not_allowed("the API takes POST, and GET for queries", "GET, POST"),
    };
    answer.into_response(media_type)
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
