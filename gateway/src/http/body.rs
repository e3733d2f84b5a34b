//! Reads a request's body, up to a size and within a time.
//!
//! Never looks into it.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderMap, header},
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;

use crate::error::{ApiError, Class};

/// A body of the largest size over a slow line takes this long; a client that dawdles holds no longer.
const ARRIVAL_MAX: Duration = Duration::from_secs(60);

/// The whole body.
///
/// # Errors
/// It is too large, too slow, or broken off.
pub(super) async fn read(headers: &HeaderMap, body: Body, max: usize) -> Result<Bytes, ApiError> {
    let announced = headers.get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > max as u64) {
        return Err(too_large(max));
    }
    let read = tokio::time::timeout(ARRIVAL_MAX, collect(body, max));
    read.await.unwrap_or_else(|_| {
        let message = "the body did not arrive in time; send it again";
        Err(ApiError::new(Class::Slow, "body_timeout", message))
    })
}

async fn collect(body: Body, max: usize) -> Result<Bytes, ApiError> {
    let mut frames = body.into_data_stream();
    let mut whole = BytesMut::new();
    while let Some(frame) = frames.next().await {
        let frame = frame.map_err(|_| ApiError::body("the body broke off; send it again"))?;
        if whole.len() + frame.len() > max {
            return Err(too_large(max));
        }
        whole.extend_from_slice(&frame);
    }
    Ok(whole.freeze())
}

fn too_large(max: usize) -> ApiError {
    let message = format!("the body is larger than {max} bytes");
    ApiError::new(Class::TooLarge, "request_too_large", message)
}
