//! The bus in one process: [`MemServer`] routes, each [`MemBus`] is one connection to it.
//!
//! Behaves as a NATS server and its client do, checked by the same conformance suite. Never does
//! IO, never needs a thread or a runtime to publish; for tests a connection can be cut and mended.

mod routing;
mod trie;

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::sync::watch;

pub use self::routing::Loss;
use self::routing::Routing;
use crate::{
    bus::{
        Bus, BusFuture, Delivery, Link, Publication, PublishError, RequestError, SubscribeError,
        Subscription,
    },
    feed::{Feed, feed},
    name::Inboxes,
    subject::{is_queue, is_subscribable},
};

/// A NATS server's default limit.
const MAX_PAYLOAD: usize = 1024 * 1024;

/// The in-memory server: cheap to clone, one table behind all clones.
#[derive(Clone)]
pub struct MemServer {
    routing: Arc<Mutex<Routing>>,
    max_payload: usize,
}

/// One connection to a [`MemServer`]; dropping it closes it.
pub struct MemBus {
    server: MemServer,
    connection: u64,
    link: watch::Sender<Link>,
    inboxes: Inboxes,
}

impl Default for MemServer {
    fn default() -> Self {
        Self::new()
    }
}

impl MemServer {
    /// A server with the default payload limit.
    pub fn new() -> Self {
        Self::with_max_payload(MAX_PAYLOAD)
    }

    /// A server that takes payloads of at most `max_payload` bytes.
    pub fn with_max_payload(max_payload: usize) -> Self {
        Self {
            routing: Arc::default(),
            max_payload,
        }
    }

    /// A new connection.
    pub fn connect(&self) -> Arc<MemBus> {
        let connection = self.routing().connect();
        let (link, inboxes) = (watch::Sender::new(Link::Up), Inboxes::below("_INBOX"));
        Arc::new(MemBus {
            server: self.clone(),
            connection,
            link,
            inboxes,
        })
    }

    /// Cuts a connection, as the network or a dying server would: nothing is delivered to it, its
    /// interest is gone, what it publishes waits in its bounded queue.
    pub fn partition(&self, bus: &MemBus) {
        self.routing().cut(bus.connection);
        bus.link
            .send_if_modified(|link| replace(link, Link::Up, Link::Down));
    }

    /// Mends a connection that was cut.
    pub fn heal(&self, bus: &MemBus) {
        self.routing().mend(bus.connection);
        bus.link
            .send_if_modified(|link| replace(link, Link::Down, Link::Up));
    }

    /// Loses and repeats deliveries from now on.
    pub fn set_loss(&self, loss: Loss) {
        self.routing().set_loss(loss);
    }

    fn routing(&self) -> MutexGuard<'_, Routing> {
        self.routing
            .lock()
            .expect("nothing panics while it holds the table")
    }
}

impl MemBus {
    fn listen(
        &self,
        subject: &str,
        queue: Option<&str>,
        capacity: usize,
    ) -> Result<Feed, SubscribeError> {
        if !is_subscribable(subject) {
            return Err(SubscribeError::Subject(subject.to_owned()));
        }
        if let Some(name) = queue.filter(|name| !is_queue(name)) {
            return Err(SubscribeError::Subject(name.to_owned()));
        }
        let (server, connection) = (self.server.clone(), self.connection);
        let id = self.server.routing().fresh_id();
        let (inlet, feed) = feed(capacity, move || server.routing().unlisten(connection, id));
        let listening = self
            .server
            .routing()
            .listen((connection, id), subject, queue, inlet);
        listening.then_some(feed).ok_or(SubscribeError::Closed)
    }

    fn end(&self) {
        self.server.routing().disconnect(self.connection);
        self.link.send_replace(Link::Closed);
    }
}

impl Bus for MemBus {
    fn publish(&self, publication: Publication) -> Result<(), PublishError> {
        publication.check(self.server.max_payload)?;
        self.server.routing().publish(self.connection, publication)
    }

    fn subscribe<'a>(
        &'a self,
        subject: &'a str,
        queue: Option<&'a str>,
        capacity: usize,
    ) -> BusFuture<'a, Result<Box<dyn Subscription>, SubscribeError>> {
        let feed = self.listen(subject, queue, capacity);
        Box::pin(async move { feed.map(|feed| Box::new(feed) as Box<dyn Subscription>) })
    }

    fn request(
        &self,
        mut publication: Publication,
        timeout: Duration,
    ) -> BusFuture<'_, Result<Delivery, RequestError>> {
        Box::pin(async move {
            let inbox = self.inbox();
            let answers = self.listen(&inbox, None, 1);
            let mut answers = answers.map_err(|_| RequestError::Publish(PublishError::Closed))?;
            publication.reply = Some(inbox);
            self.publish(publication)?;
            match tokio::time::timeout(timeout, answers.next()).await {
                Ok(Some(answer)) => answer.into_answer(),
                Ok(None) => Err(RequestError::Publish(PublishError::Closed)),
                Err(_) => Err(RequestError::Timeout),
            }
        })
    }

    fn inbox(&self) -> String {
        self.inboxes.next()
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    fn max_payload(&self) -> usize {
        self.server.max_payload
    }

    fn flush(&self, timeout: Duration) -> BusFuture<'_, bool> {
        let mut link = self.link();
        Box::pin(async move {
            let settled = link.wait_for(|link| *link != Link::Down);
            let state = tokio::time::timeout(timeout, settled).await;
            matches!(state, Ok(Ok(state)) if *state == Link::Up)
        })
    }

    fn close(&self) -> BusFuture<'_, ()> {
        self.end();
        Box::pin(async {})
    }
}

impl Drop for MemBus {
    fn drop(&mut self) {
        self.end();
    }
}

/// Changes `link` from one state into another; false if it was in neither's way.
fn replace(link: &mut Link, from: Link, to: Link) -> bool {
    let applies = *link == from;
    if applies {
        *link = to;
    }
    applies
}
