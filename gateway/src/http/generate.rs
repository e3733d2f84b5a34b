//! `/v1/chat/completions` and `/v1/completions`: as one body, or as a stream.
//!
//! A client that goes away drops what runs here, and with it the request.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Extension, State},
    http::{HeaderMap, HeaderValue},
    response::Response,
};

use super::{Shop, guard::Tenant, reply, sse};
use crate::{
    answer::Answer,
    assemble::Event,
    doors::{Caller, DEADLINE_DEFAULT, Kind},
    error::ApiError,
    render::Whole,
    said,
};

/// Chat completions.
pub(super) async fn chat(
    State(shop): State<Arc<Shop>>,
    Extension(tenant): Extension<Tenant>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    generate(&shop, Kind::Chat, tenant, &headers, body).await
}

/// Completions.
pub(super) async fn completions(
    State(shop): State<Arc<Shop>>,
    Extension(tenant): Extension<Tenant>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    generate(&shop, Kind::Completion, tenant, &headers, body).await
}

async fn generate(
    shop: &Shop,
    kind: Kind,
    tenant: Tenant,
    headers: &HeaderMap,
    body: Body,
) -> Response {
    let answered = async {
        let caller = caller(tenant, headers)?;
        let body = shop.bodies.read(headers, body).await?;
        let answer = shop.doors.generate(kind, body, caller).await?;
        let ignored = ignored(answer.ignored());
        let trace = HeaderValue::try_from(answer.trace().to_string()).ok();
        let mut response = if answer.is_stream() {
            stream(shop, answer).await?
        } else {
            whole(answer).await?
        };
        if let Some(ignored) = ignored {
            response.headers_mut().insert("x-ignored-params", ignored);
        }
        if let Some(trace) = trace {
            response.headers_mut().insert("traceparent", trace);
        }
        Ok(response)
    };
    answered
        .await
        .unwrap_or_else(|error: ApiError| reply::error(&error))
}

/// What the headers say of the request.
fn caller(Tenant(tenant): Tenant, headers: &HeaderMap) -> Result<Caller, ApiError> {
    let text = |name: &str| {
        headers
            .get(name)
            .map(|value| value.to_str().unwrap_or_default())
    };
    let deadline = match text("x-request-timeout-ms") {
        Some(value) => said::deadline("x-request-timeout-ms", value)?,
        None => DEADLINE_DEFAULT,
    };
    // the SDK's own patience, in seconds: no use to run longer
    let patience = text("x-stainless-read-timeout").and_then(|value| value.parse::<f64>().ok());
    let patience = patience.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let patience = patience.filter(|time| !time.is_zero());
    let priority = match text("x-thalamus-priority") {
        Some(value) => said::priority("x-thalamus-priority", value)?,
        None => 0,
    };
    Ok(Caller {
        tenant,
        deadline: patience.map_or(deadline, |patience| patience.min(deadline)),
        priority,
        trace: said::trace(text("traceparent")),
        model_token: None,
    })
}

fn ignored(names: &[String]) -> Option<HeaderValue> {
    let value = HeaderValue::try_from(names.join(", ")).ok()?;
    (!names.is_empty()).then_some(value)
}

async fn whole(mut answer: Answer) -> Result<Response, ApiError> {
    let mut whole = Whole::new(answer.style());
    let mut events = Vec::new();
    loop {
        answer.next(&mut events).await;
        for event in events.drain(..) {
            if let Some(body) = whole.push(event) {
                return body.map(reply::json);
            }
        }
    }
}

/// Waits a moment, so that what fails at once still has a status of its own.
async fn stream(shop: &Shop, mut answer: Answer) -> Result<Response, ApiError> {
    let mut events = Vec::new();
    let first = answer.next(&mut events);
    if tokio::time::timeout(shop.config.pre_commit, first)
        .await
        .is_ok()
        && let Some(Event::Failed(error)) = events.last()
    {
        return Err(error.clone());
    }
    Ok(sse::response(
        answer,
        events,
        shop.doors.options().keep_alive,
    ))
}
