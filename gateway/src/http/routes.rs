//! Which path is what.
//!
//! Routes that need more than a line live in `generate`, those of probes in `vitals`; unknown ones are JSON errors too.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderMap, Method, Uri},
    middleware,
    response::Response,
    routing::{get, post},
};
use serde::Deserialize;

use super::{Shop, generate, guard::guard, reply, vitals};
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
        .with_state(shop.clone())
        .merge(vitals::routes(shop.doors.clone()))
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .layer(middleware::from_fn_with_state(shop, guard))
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
    reply::either(match shop.bodies.read(&headers, body).await {
        Ok(body) => shop.doors.tokenize(body, None).await,
        Err(error) => Err(error),
    })
}

async fn detokenize(State(shop): State<Arc<Shop>>, headers: HeaderMap, body: Body) -> Response {
    reply::either(match shop.bodies.read(&headers, body).await {
        Ok(body) => shop.doors.detokenize(body, None).await,
        Err(error) => Err(error),
    })
}

async fn tokenizer_info(State(shop): State<Arc<Shop>>, Query(asked): Query<Asked>) -> Response {
    reply::either(shop.doors.tokenizer_info(asked.model.as_deref()))
}

pub(super) async fn unknown_path(uri: Uri) -> Response {
    let message = format!("there is no route {}", quote(uri.path()));
    reply::error(&ApiError::new(Class::NotFound, "unknown_route", message))
}

pub(super) async fn unknown_method(method: Method, uri: Uri) -> Response {
    let message = format!(
        "{} does not take {}",
        quote(uri.path()),
        quote(method.as_str())
    );
    reply::error(&ApiError::new(Class::Method, "method_not_allowed", message))
}
