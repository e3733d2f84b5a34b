//! Reads requests' bodies: each up to a size and at a pace, all together up to a number of bytes.
//!
//! Bytes count from their arrival until the last user of the body lets go. Never looks into one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    body::Body,
    http::{HeaderMap, header},
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::time::{Instant, timeout_at};

use crate::error::{ApiError, Class};

/// Largest body unless set otherwise.
pub const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Bodies held at once, together, unless set otherwise: eight of the largest, or thousands of those that agents send.
pub const BODIES_BYTES_MAX: usize = 8 * BODY_BYTES_MAX;
/// How long a client may send nothing, and its lead over the slowest pace.
pub const BODY_GRACE: Duration = Duration::from_secs(10);
/// Slowest pace of a body after its lead, in bytes a second: a bad mobile line is faster.
const PACE_MIN: u64 = 16 * 1024;

/// All bodies of a door.
#[derive(Debug)]
pub(super) struct Bodies {
    /// Largest body.
    pub(super) bytes_max: usize,
    /// All of them together.
    pub(super) held_max: usize,
    /// How long a client may send nothing.
    pub(super) grace: Duration,
    /// Bytes that are here now.
    pub(super) held: Arc<AtomicUsize>,
}

/// A body, or what has come of it, counted as long as it lives.
struct Held {
    bytes: BytesMut,
    all: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

impl Bodies {
    /// The whole body.
    ///
    /// # Errors
    /// It is too large, too slow, one too many, or broken off.
    pub(super) async fn read(&self, headers: &HeaderMap, body: Body) -> Result<Bytes, ApiError> {
        let announced = headers.get(header::CONTENT_LENGTH);
        let announced = announced.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|bytes| bytes > self.bytes_max as u64) {
            return Err(self.too_large());
        }
        let began = Instant::now();
        let mut frames = body.into_data_stream();
        let mut whole = Held {
            bytes: BytesMut::new(),
            all: self.held.clone(),
        };
        while let Some(frame) = timeout_at(self.due(began, whole.bytes.len()), frames.next())
            .await
            .map_err(|_| too_slow())?
        {
            let frame = frame.map_err(|_| ApiError::body("the body broke off; send it again"))?;
            self.add(&mut whole, &frame)?;
        }
        Ok(Bytes::from_owner(whole))
    }

    /// When the next bytes must be there.
    fn due(&self, began: Instant, bytes: usize) -> Instant {
        let pace = Duration::from_millis(bytes as u64 * 1000 / PACE_MIN);
        (began + self.grace + pace).min(Instant::now() + self.grace)
    }

    fn add(&self, whole: &mut Held, frame: &[u8]) -> Result<(), ApiError> {
        if whole.bytes.len() + frame.len() > self.bytes_max {
            return Err(self.too_large());
        }
        let held = self.held.fetch_add(frame.len(), Ordering::Relaxed) + frame.len();
        if held > self.held_max {
            self.held.fetch_sub(frame.len(), Ordering::Relaxed);
            return Err(ApiError::overloaded(None));
        }
        whole.bytes.extend_from_slice(frame);
        Ok(())
    }

    fn too_large(&self) -> ApiError {
        let message = format!("the body is larger than {} bytes", self.bytes_max);
        ApiError::new(Class::TooLarge, "request_too_large", message)
    }
}

fn too_slow() -> ApiError {
    let message = "the body did not arrive in time; send it again";
    ApiError::new(Class::Slow, "body_timeout", message)
}
