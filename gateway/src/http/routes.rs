//! Which path is what.
//!
//! Routes that need more than a line live in `generate`; unknown ones are JSON errors too.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderMap, Method, StatusCode, Uri, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::json;

use super::{Shop, body, generate, guard::guard, reply};
use crate::{
    error::{ApiError, Class, quote},
    models,
};

/// The routes of a shop.
pub(super) fn router(shop: Arc<Shop>) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(generate::chat))
        .route("/v1/completions", post(generate::completions))
        .route("/v1/models", get(list))
        .route("/v1/models/{*id}", get(model))
        .route("/tokenize", post(tokenize))
        .route("/v1/tokenize", post(tokenize))
        .route("/detokenize", post(detokenize))
        .route("/v1/detokenize", post(detokenize))
        .route("/tokenizer_info", get(tokenizer_info))
        .route("/health", get(alive))
        .route("/live", get(alive))
        .route("/ready", get(ready))
        .route("/version", get(version))
        .route("/metrics", get(metrics))
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .layer(middleware::from_fn_with_state(shop.clone(), guard))
        .with_state(shop)
}

#[derive(Deserialize)]
struct Asked {
    model: Option<String>,
}

async fn list(State(shop): State<Arc<Shop>>) -> Response {
    reply::value(&models::list(&shop.doors.models()))
}

async fn model(State(shop): State<Arc<Shop>>, Path(id): Path<String>) -> Response {
    match models::choose(shop.doors.models(), Some(&id), None) {
        Ok(entry) => reply::value(&models::entry(&entry)),
        Err(error) => reply::error(&error),
    }
}

async fn tokenize(State(shop): State<Arc<Shop>>, headers: HeaderMap, body: Body) -> Response {
    reply::either(
        match body::read(&headers, body, shop.config.body_bytes_max).await {
            Ok(body) => shop.doors.tokenize(body, None).await,
            Err(error) => Err(error),
        },
    )
}

async fn detokenize(State(shop): State<Arc<Shop>>, headers: HeaderMap, body: Body) -> Response {
    reply::either(
        match body::read(&headers, body, shop.config.body_bytes_max).await {
            Ok(body) => shop.doors.detokenize(body, None).await,
            Err(error) => Err(error),
        },
    )
}

async fn tokenizer_info(State(shop): State<Arc<Shop>>, Query(asked): Query<Asked>) -> Response {
    reply::either(shop.doors.tokenizer_info(asked.model.as_deref()))
}

/// The process is fine: it answers.
async fn alive() -> Response {
    reply::value(&json!({ "status": "ok" }))
}

/// At least one model can serve.
async fn ready(State(shop): State<Arc<Shop>>) -> Response {
    let models = shop.doors.models();
    let accepting = shop.doors.accepting();
    let any = models.iter().any(|model| model.ready);
    let reason = match (accepting, models.is_empty(), any) {
        (false, _, _) => "draining: no new requests are taken",
        (true, true, _) => "no model is known yet",
        (true, false, false) => "no worker of any model lives",
        (true, false, true) => "",
    };
    let told = json!({
        "ready": reason.is_empty(),
        "reason": reason,
        "open": shop.doors.open(),
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

async fn metrics(State(shop): State<Arc<Shop>>) -> Response {
    let kind = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    (kind, shop.doors.metrics().render()).into_response()
}

async fn unknown_path(uri: Uri) -> Response {
    let message = format!("there is no route {}", quote(uri.path()));
    reply::error(&ApiError::new(Class::NotFound, "unknown_route", message))
}

async fn unknown_method(method: Method, uri: Uri) -> Response {
    let message = format!(
        "{} does not take {}",
        quote(uri.path()),
        quote(method.as_str())
    );
    reply::error(&ApiError::new(Class::Method, "method_not_allowed", message))
}
