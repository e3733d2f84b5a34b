//! Messages to one caller: numbered, with the headers that the protocol names, and the empty one that ends a stream.
//!
//! Waits a bounded time for a bus that is full, then gives the caller up.

use std::{sync::Arc, time::Duration};

use bus_schemas::Trace;
use bytes::Bytes;
use nats::{Bus, Headers, Publication, PublishError};
use tokio::time::Instant;

use crate::error::ApiError;

const REQUEST_ID: &str = "Thalamus-Request-Id";
/// W3C trace context, in and out.
pub(super) const TRACEPARENT: &str = "traceparent";
/// Longest error in a header.
const ERROR_CHARS_MAX: usize = 200;
/// Between two tries at a full bus.
const RETRY: Duration = Duration::from_millis(20);
/// The caller cannot be reached; what runs for it is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// Nobody listens.
    Gone,
    /// The bus does not take what is for it.
    Stuck,
    /// One message is larger than the bus takes; the caller was told.
    TooLarge,
    /// It acknowledges nothing.
    Silent,
}

/// The way back to one caller.
#[derive(Clone)]
pub(super) struct Replies {
    bus: Arc<dyn Bus>,
    subject: String,
    slow_client: Duration,
}

impl Replies {
    pub(super) fn new(bus: Arc<dyn Bus>, subject: String, slow_client: Duration) -> Self {
        Self {
            bus,
            subject,
            slow_client,
        }
    }

    /// Where it leads.
    pub(super) fn subject(&self) -> &str {
        &self.subject
    }

    /// Leads to another caller from now on; gives the way to the old one, if that is another.
    pub(super) fn lead_to(&mut self, subject: String) -> Option<Self> {
        let old = self.clone();
        self.subject = subject;
        (old.subject != self.subject).then_some(old)
    }

    /// The only message.
    pub(super) async fn whole(&self, headers: Headers, body: Vec<u8>) -> Result<(), Lost> {
        self.send(headers, body.into(), None).await
    }

    /// An error; it ends a stream if the caller expects one.
    pub(super) async fn error(
        &self,
        mut headers: Headers,
        error: &ApiError,
        stream: bool,
    ) -> Result<(), Lost> {
        headers.extend(error_headers(error));
        self.send(headers, error.to_json().into(), None).await?;
        if stream { self.end().await } else { Ok(()) }
    }

    /// The empty message after the last one of a stream.
    pub(super) async fn end(&self) -> Result<(), Lost> {
        self.send(Headers::new(), Bytes::new(), None).await
    }

    pub(super) async fn send(
        &self,
        headers: Headers,
        payload: Bytes,
        reply: Option<String>,
    ) -> Result<(), Lost> {
        let give_up = Instant::now() + self.slow_client;
        let publication = Publication {
            subject: self.subject.clone(),
            reply,
            headers,
            payload,
        };
        loop {
            match self.bus.publish(publication.clone()) {
                Ok(()) => return Ok(()),
                Err(PublishError::Full) if Instant::now() < give_up => {
                    tokio::time::sleep(RETRY).await;
                }
                Err(PublishError::TooLarge { bytes, max }) => {
                    tracing::warn!(bytes, max, "an answer is larger than the bus takes");
                    return self.too_large(max);
                }
                Err(error) => {
                    tracing::warn!(%error, "an answer cannot be sent; its request is cancelled");
                    return Err(Lost::Stuck);
                }
            }
        }
    }

    /// Says so instead; the request itself is of no use any more.
    fn too_large(&self, max: usize) -> Result<(), Lost> {
        let message = format!(
            "the answer is larger than the {max} bytes that the NATS server takes; ask with stream: true"
        );
        let error = ApiError::new(crate::error::Class::TooLarge, "answer_too_large", message);
        let publication = Publication {
            subject: self.subject.clone(),
            reply: None,
            headers: error_headers(&error).into_iter().collect(),
            payload: error.to_json().into(),
        };
        if let Err(error) = self.bus.publish(publication) {
            tracing::warn!(%error, "a caller was not told that its answer is too large");
        }
        Err(Lost::TooLarge)
    }
}

/// The headers of a first or only message.
pub(super) fn named(id: &str) -> Headers {
    Headers::from([(REQUEST_ID.to_owned(), id.to_owned())])
}

/// The same for a request that runs.
pub(super) fn traced(id: &str, trace: Trace) -> Headers {
    let mut headers = named(id);
    headers.insert(TRACEPARENT.to_owned(), trace.to_string());
    headers
}

fn error_headers(error: &ApiError) -> Vec<(String, String)> {
    let line: String = error
        .message
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let line = line.chars().take(ERROR_CHARS_MAX).collect();
    let mut headers = vec![
        (
            "Nats-Service-Error-Code".to_owned(),
            error.class.status().to_string(),
        ),
        ("Nats-Service-Error".to_owned(), line),
        (
            "Thalamus-Retryable".to_owned(),
            error.class.retryable().to_string(),
        ),
    ];
    if let Some(millis) = error.retry_after_ms {
        headers.push(("Thalamus-Retry-After-Ms".to_owned(), millis.to_string()));
    }
    headers
}
