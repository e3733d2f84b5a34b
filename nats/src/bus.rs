//! The contract of the control bus: publish, subscribe, request, and how the link fares.
//!
//! Delivery is at most once and may lose, repeat and delay; whoever needs a message heals its loss.
//! Nothing here blocks: a full queue refuses at once.

use std::{collections::BTreeMap, future::Future, pin::Pin, time::Duration};

use bytes::Bytes;
use tokio::sync::watch;

use crate::{headers, subject};

/// A boxed future, so that the trait can be an object.
pub type BusFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Headers of a message: one value a name is all that Thalamus uses.
pub type Headers = BTreeMap<String, String>;

/// A message to be published.
#[derive(Clone, Debug, Default)]
pub struct Publication {
    /// Where to.
    pub subject: String,
    /// Where answers go.
    pub reply: Option<String>,
    /// Headers, may be empty.
    pub headers: Headers,
    /// Body.
    pub payload: Bytes,
}

impl Publication {
    /// Why it cannot be sent to a server that takes payloads of at most `max` bytes.
    ///
    /// # Errors
    /// [`PublishError::Subject`], [`PublishError::Headers`] or [`PublishError::TooLarge`].
    pub fn check(&self, max: usize) -> Result<(), PublishError> {
        let subjects = [Some(&self.subject), self.reply.as_ref()];
        if !subjects
            .into_iter()
            .flatten()
            .all(|subject| subject::is_publishable(subject))
        {
            return Err(PublishError::Subject);
        }
        if !headers::are_valid(&self.headers) {
            return Err(PublishError::Headers);
        }
        let bytes = headers::wire_bytes(&self.headers) + self.payload.len();
        if bytes > max {
            return Err(PublishError::TooLarge { bytes, max });
        }
        Ok(())
    }
}

/// The status that tells that nobody listens.
pub const NO_RESPONDERS: u16 = 503;

/// A message that arrived.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Where it was sent.
    pub subject: String,
    /// Where an answer goes.
    pub reply: Option<String>,
    /// Headers, may be empty.
    pub headers: Headers,
    /// Body.
    pub payload: Bytes,
    /// The server's status line: 503 means that nobody listens on the subject of our message that had this reply.
    pub status: Option<u16>,
}

impl Delivery {
    /// The answer itself, or the failure that a status instead of an answer means.
    pub(crate) fn into_answer(self) -> Result<Self, RequestError> {
        match self.status {
            Some(NO_RESPONDERS) => Err(RequestError::NoResponders),
            _ => Ok(self),
        }
    }
}

/// Whether the bus can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Yes.
    Up,
    /// Not now; it keeps trying.
    Down,
    /// Closed for good.
    Closed,
}

/// Why a publication was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The outgoing queue is full.
    #[error("the bus's outgoing queue is full")]
    Full,
    /// Larger than the server takes.
    #[error("message of {bytes} bytes exceeds the server's limit of {max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Not a subject: empty, has spaces, wildcards or empty tokens.
    #[error("not a subject to publish on")]
    Subject,
    /// A header's name is not one word, or its value not one line.
    #[error("a header needs a name of one word and a value of one line")]
    Headers,
    /// The bus was closed.
    #[error("the bus is closed")]
    Closed,
}

/// Why a subscription failed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// Not a subject or queue name.
    #[error("not a subject to subscribe to: {0:?}")]
    Subject(String),
    /// The bus was closed.
    #[error("the bus is closed")]
    Closed,
}

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Nobody listens there.
    #[error("no responders")]
    NoResponders,
    /// Nobody answered in time.
    #[error("no answer in time")]
    Timeout,
    /// It could not be sent.
    #[error("{0}")]
    Publish(#[from] PublishError),
}

/// Messages of one subscription, through a bounded queue: when it is full, new ones are dropped and counted.
pub trait Subscription: Send {
    /// The next message; none after the end of a drain or when the bus closes.
    fn next(&mut self) -> BusFuture<'_, Option<Delivery>>;
    /// Messages dropped because the queue was full.
    fn dropped(&self) -> u64;
    /// No new messages; those already queued still come out, then `next` gives none.
    fn drain(&mut self);
}

/// The control bus.
pub trait Bus: Send + Sync {
    /// Queues a message for sending.
    ///
    /// # Errors
    /// [`PublishError`]; never waits.
    fn publish(&self, publication: Publication) -> Result<(), PublishError>;
    /// Subscribes; `queue` is the group of which one member gets each message; `capacity` bounds the queue.
    fn subscribe<'a>(
        &'a self,
        subject: &'a str,
        queue: Option<&'a str>,
        capacity: usize,
    ) -> BusFuture<'a, Result<Box<dyn Subscription>, SubscribeError>>;
    /// Sends and waits for one answer.
    fn request(
        &self,
        publication: Publication,
        timeout: Duration,
    ) -> BusFuture<'_, Result<Delivery, RequestError>>;
    /// A subject below this connection's inbox prefix, unique.
    fn inbox(&self) -> String;
    /// The link's state, as it changes.
    fn link(&self) -> watch::Receiver<Link>;
    /// Largest payload the server takes.
    fn max_payload(&self) -> usize;
    /// True when the server has taken all that was published and subscribed before this call;
    /// false when the timeout passed first.
    fn flush(&self, timeout: Duration) -> BusFuture<'_, bool>;
    /// Drains all subscriptions, flushes, closes.
    fn close(&self) -> BusFuture<'_, ()>;
}
