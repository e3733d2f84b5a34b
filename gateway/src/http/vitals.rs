//! How the process fares: whether it lives, whether it can serve, and its metrics.
//!
//! Never needs a key, and never waits for a core.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;

use super::reply;
use crate::doors::Doors;

/// The paths of these routes.
pub(super) const PATHS: [&str; 5] = ["/health", "/live", "/ready", "/version", "/metrics"];

/// The routes.
pub(super) fn routes(doors: Arc<Doors>) -> Router {
    let [health, live, ready_path, version_path, metrics_path] = PATHS;
    Router::new()
        .route(health, get(alive))
        .route(live, get(alive))
        .route(ready_path, get(ready))
        .route(version_path, get(version))
        .route(metrics_path, get(metrics))
        .with_state(doors)
}

/// The process is fine: it answers.
async fn alive() -> Response {
    reply::value(&json!({ "status": "ok" }))
}

/// At least one model can serve.
async fn ready(State(doors): State<Arc<Doors>>) -> Response {
    let models = doors.models();
    let any = models.iter().any(|model| model.ready);
    let reason = match (doors.accepting(), models.is_empty(), any) {
        (false, _, _) => "draining: no new requests are taken",
        (true, true, _) => "no model is known yet",
        (true, false, false) => "no worker of any model lives",
        (true, false, true) => "",
    };
    let told = json!({
        "ready": reason.is_empty(),
        "reason": reason,
        "open": doors.open(),
        "models": models.iter()
            .map(|model| json!({ "id": model.name, "ready": model.ready }))
            .collect::<Vec<_>>(),
    });
    let mut response = reply::value(&told);
    if !reason.is_empty() {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

async fn version() -> Response {
    reply::value(&json!({ "version": env!("CARGO_PKG_VERSION") }))
}

async fn metrics(State(doors): State<Arc<Doors>>) -> Response {
    let kind = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    (kind, doors.metrics().render()).into_response()
}
