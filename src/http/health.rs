//! Whether the process lives, and whether it can serve.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};
use sqlx::Connection;

use super::HttpState;
use crate::store::Store;

/// How long the database may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// 200; who can answer lives.
pub async fn alive() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// 200 when the database answers and no shutdown has begun, else 503 with the reason.
pub async fn ready(State(state): State<HttpState>) -> (StatusCode, Json<Value>) {
    let reason = if state.closing.is_cancelled() {
        Some("shutting down")
    } else if !database_answers(&state.store).await {
        Some("the database does not answer")
    } else {
        None
    };
    match reason {
        Some(reason) => {
            (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "unavailable", "reason": reason })))
        }
        None => (StatusCode::OK, Json(json!({ "status": "ready" }))),
    }
}

/// True when a connection is to be had and answers, both within [`PATIENCE`].
pub(super) async fn database_answers(store: &Store) -> bool {
    let ask = async {
        let mut connection = store.pool().acquire().await?;
        connection.ping().await
    };
    match tokio::time::timeout(PATIENCE, ask).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::warn!(error.cause = %error, "the database does not answer");
            false
        }
        Err(_) => {
            tracing::warn!(http.patience_seconds = PATIENCE.as_secs(), "the database does not answer");
            false
        }
    }
}
