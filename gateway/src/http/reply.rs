//! Whole answers: JSON bodies and errors, with the headers that SDKs look at.
//!
//! Never streams.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::Value;

use crate::error::{ApiError, Class};

/// A JSON body.
pub(super) fn json(body: impl Into<Body>) -> Response {
    let kind = (
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    ([kind], body.into()).into_response()
}

/// A JSON value.
pub(super) fn value(value: &Value) -> Response {
    json(value.to_string())
}

/// An error, with its status and what to do about it.
pub(super) fn error(error: &ApiError) -> Response {
    let status =
        StatusCode::from_u16(error.class.status()).expect("every class has a valid status");
    let mut response = json(error.to_json());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let retry = if error.class.retryable() {
        "true"
    } else {
        "false"
    };
    headers.insert("x-should-retry", HeaderValue::from_static(retry));
    if let (Some(seconds), Some(millis)) = (error.retry_after_s(), error.retry_after_ms) {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        headers.insert("retry-after-ms", HeaderValue::from(millis));
    }
    if error.class == Class::Unauthenticated {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// Either.
pub(super) fn either(result: Result<Value, ApiError>) -> Response {
    match result {
        Ok(body) => value(&body),
        Err(problem) => error(&problem),
    }
}
