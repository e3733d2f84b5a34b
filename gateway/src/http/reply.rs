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

/// The same as it goes over the wire, for a client whose request was not read; the connection ends with it.
pub(super) fn raw(problem: &ApiError) -> Vec<u8> {
    let (response, body) = (error(problem), problem.to_json());
    let mut bytes = format!("HTTP/1.1 {}\r\n", response.status()).into_bytes();
    for (name, value) in response.headers() {
        bytes.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    bytes.extend(
        format!(
            "connection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        )
        .bytes(),
    );
    bytes.extend(body);
    bytes
}

/// Either.
pub(super) fn either(result: Result<Value, ApiError>) -> Response {
    match result {
        Ok(body) => value(&body),
        Err(problem) => error(&problem),
    }
}
