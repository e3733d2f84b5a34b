//! Calls from browsers: which origins may, and what a preflight is told.
//!
//! Off unless origins are configured; never lets credentials along, since keys travel in a header.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};

/// How long a browser may remember a preflight.
const MAX_AGE_S: &str = "600";

/// The origin that an answer names, if the caller's may call.
pub(super) fn allowed(origins: &[String], headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(header::ORIGIN)?;
    if origins.iter().any(|allowed| allowed == "*") {
        return Some(HeaderValue::from_static("*"));
    }
    origins
        .iter()
        .any(|allowed| allowed.as_bytes() == origin.as_bytes())
        .then(|| origin.clone())
}

/// The answer to a preflight, if it is one.
pub(super) fn preflight(
    origins: &[String],
    method: &Method,
    headers: &HeaderMap,
) -> Option<Response> {
    let asks = headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    if origins.is_empty() || method != Method::OPTIONS || !asks {
        return None;
    }
    let mut response = (StatusCode::NO_CONTENT, Body::empty()).into_response();
    let told = response.headers_mut();
    let methods = HeaderValue::from_static("GET, POST, OPTIONS");
    told.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    told.insert(
        header::ACCESS_CONTROL_MAX_AGE,
        HeaderValue::from_static(MAX_AGE_S),
    );
    if let Some(wanted) = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        told.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    Some(response)
}

/// Marks an answer as one that the caller's origin may read.
pub(super) fn mark(origin: Option<HeaderValue>, response: &mut Response) {
    let Some(origin) = origin else { return };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    let exposed = "x-request-id, x-ignored-params, x-should-retry, retry-after, retry-after-ms";
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static(exposed),
    );
    headers.append(header::VARY, HeaderValue::from_static("origin"));
}
