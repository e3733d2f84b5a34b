//! The bus over a NATS server.
//!
//! Publications pass one bounded queue and one task, so that publishing never waits and keeps its
//! order; each subscription has a bounded queue of its own. Reconnects for ever, and tells by
//! [`Link`] how it fares. Never retries a message: whoever needs it heals its loss.

mod config;
mod error;
mod pump;
mod requests;
mod wire;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::{Client, Event, connection::State};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

pub use self::{
    config::{NatsConfig, TlsFiles},
    error::ConnectError,
};
use self::{
    pump::{Echo, Stops},
    requests::Requests,
};
use crate::{
    bus::{
        Bus, BusFuture, Delivery, Link, Publication, PublishError, RequestError, SubscribeError,
        Subscription,
    },
    feed::{Feed, feed},
    name::{Inboxes, random_below},
    subject::{is_queue, is_subscribable},
};

/// First delay between two tries to reconnect; doubles each time.
const RECONNECT_DELAY_MIN_MS: u64 = 50;
/// Last delay: a returning server must not wait long, nor be stormed.
const RECONNECT_DELAY_MAX_MS: u64 = 2000;
/// How often the link we tell is compared with the library's own; see [`Health::watch`].
const LINK_CHECK: Duration = Duration::from_secs(1);
/// An echo lost with its link is asked for again after this.
const ECHO_RETRY: Duration = Duration::from_millis(250);
/// Closing gives the last messages this long, and as much again to the subscriptions.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection to a NATS server, or to a cluster of them.
pub struct NatsBus {
    client: Client,
    queue: mpsc::Sender<Publication>,
    requests: Arc<Requests>,
    inboxes: Inboxes,
    health: Arc<Health>,
    closing: AtomicBool,
    ending: watch::Sender<bool>,
}

/// What the client library tells about the link.
struct Health {
    link: watch::Sender<Link>,
    slow: AtomicU64,
}

impl NatsBus {
    /// Connects, or says within the configured time why not. Later losses of the link heal.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(config: &NatsConfig) -> Result<Arc<Self>, ConnectError> {
        // fails only if a provider is already installed, which then serves as well
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
        let health = Arc::new(Health {
            link: watch::Sender::new(Link::Up),
            slow: AtomicU64::new(0),
        });
        let listener = health.clone();
        let options = config
            .options()?
            .reconnect_delay_callback(reconnect_delay)
            .event_callback(move |event| {
                listener.note(event);
                std::future::ready(())
            });
        let connecting = timeout(config.connect_timeout, options.connect(config.addresses()?));
        let client = match connecting.await {
            Ok(connected) => {
                connected.map_err(|error| ConnectError::from_library(config, &error))?
            }
            Err(_) => {
                let (urls, after) = (config.shown_urls(), config.connect_timeout);
                return Err(ConnectError::Silent { urls, after });
            }
        };
        Self::start(config, client, health).await
    }

    /// Messages lost because this process was too busy to empty its socket, over all subscriptions;
    /// each subscription counts what its own queue dropped.
    pub fn slow_consumer_drops(&self) -> u64 {
        self.health.slow.load(Ordering::Relaxed)
    }

    async fn start(
        config: &NatsConfig,
        client: Client,
        health: Arc<Health>,
    ) -> Result<Arc<Self>, ConnectError> {
        let inboxes = Inboxes::below(&config.inbox_prefix);
        let requests = Arc::new(Requests::below(inboxes.prefix()));
        let answers = client
            .subscribe(requests.pattern())
            .await
            .map_err(|error| ConnectError::Other {
                urls: config.shown_urls(),
                reason: error.to_string(),
            })?;
        let ending = watch::Sender::new(false);
        tokio::spawn(pump::answer(answers, requests.clone(), ending.subscribe()));
        tokio::spawn(health.clone().watch(client.clone(), ending.subscribe()));
        let (queue, publications) = mpsc::channel(config.queue_capacity);
        tokio::spawn(wire::write(client.clone(), publications));
        let closing = AtomicBool::new(false);
        Ok(Arc::new(Self {
            client,
            queue,
            requests,
            inboxes,
            health,
            closing,
            ending,
        }))
    }

    async fn listen(
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
        if self.closing.load(Ordering::Acquire) {
            return Err(SubscribeError::Closed);
        }
        let subject = subject.to_owned();
        let subscriber = match queue {
            Some(queue) => self.client.queue_subscribe(subject, queue.to_owned()).await,
            None => self.client.subscribe(subject).await,
        };
        let subscriber = subscriber.map_err(|_| SubscribeError::Closed)?;
        let (stop, drain) = oneshot::channel();
        // the pump may have ended with its bus: then there is nothing left to stop
        let (inlet, feed) = feed(capacity, move || {
            stop.send(()).ok();
        });
        let stops = Stops {
            drain,
            ending: self.ending.subscribe(),
        };
        let echo = Echo {
            client: self.client.clone(),
            requests: self.requests.clone(),
        };
        tokio::spawn(pump::feed(subscriber, inlet, stops, echo));
        Ok(feed)
    }

    /// Sends a message to ourselves, behind all that waits, until the server has returned one.
    async fn echo(&self) {
        loop {
            let mut awaited = self.requests.expect();
            let subject = awaited.subject().to_owned();
            let publication = Publication {
                subject,
                ..Publication::default()
            };
            if self.queue.send(publication).await.is_err() {
                return;
            }
            if timeout(ECHO_RETRY, awaited.answer()).await.is_ok() {
                return;
            }
        }
    }

    async fn end(&self) {
        if self.closing.swap(true, Ordering::AcqRel) {
            return;
        }
        if timeout(CLOSE_TIMEOUT, self.echo()).await.is_err() {
            tracing::warn!("closing the bus without the server's word that it has everything");
        }
        self.ending.send_replace(true);
        let last = async {
            self.ending.closed().await;
            self.client.drain().await
        };
        if timeout(CLOSE_TIMEOUT, last).await.is_err() {
            tracing::debug!("the link is down: the connection ends when it is back");
        }
        self.health.link.send_replace(Link::Closed);
    }
}

impl Bus for NatsBus {
    fn publish(&self, publication: Publication) -> Result<(), PublishError> {
        if self.closing.load(Ordering::Acquire) {
            return Err(PublishError::Closed);
        }
        publication.check(self.max_payload())?;
        self.queue
            .try_send(publication)
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => PublishError::Full,
                mpsc::error::TrySendError::Closed(_) => PublishError::Closed,
            })
    }

    fn subscribe<'a>(
        &'a self,
        subject: &'a str,
        queue: Option<&'a str>,
        capacity: usize,
    ) -> BusFuture<'a, Result<Box<dyn Subscription>, SubscribeError>> {
        Box::pin(async move {
            let feed = self.listen(subject, queue, capacity).await?;
            Ok(Box::new(feed) as Box<dyn Subscription>)
        })
    }

    fn request(
        &self,
        mut publication: Publication,
        patience: Duration,
    ) -> BusFuture<'_, Result<Delivery, RequestError>> {
        Box::pin(async move {
            let mut awaited = self.requests.expect();
            publication.reply = Some(awaited.subject().to_owned());
            self.publish(publication)?;
            match timeout(patience, awaited.answer()).await {
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
        self.health.link.subscribe()
    }

    fn max_payload(&self) -> usize {
        self.client.max_payload()
    }

    fn flush(&self, patience: Duration) -> BusFuture<'_, bool> {
        Box::pin(async move {
            let open = !self.closing.load(Ordering::Acquire);
            open && timeout(patience, self.echo()).await.is_ok()
        })
    }

    fn close(&self) -> BusFuture<'_, ()> {
        Box::pin(self.end())
    }
}

impl Drop for NatsBus {
    fn drop(&mut self) {
        self.ending.send_replace(true);
        self.health.link.send_replace(Link::Closed);
    }
}

impl Health {
    /// Until the bus ends, corrects the link after an event that was lost: the library drops events
    /// when too many come at once. What it says twice in a row is no change under way.
    async fn watch(self: Arc<Self>, client: Client, mut ending: watch::Receiver<bool>) {
        let mut last = client.connection_state();
        while timeout(LINK_CHECK, pump::ended(&mut ending)).await.is_err() {
            let now = client.connection_state();
            match (&last, &now) {
                (State::Connected, State::Connected) => self.set(Link::Up),
                (State::Disconnected, State::Disconnected) => self.set(Link::Down),
                _ => {}
            }
            last = now;
        }
    }

    fn note(&self, event: Event) {
        match event {
            Event::Connected => self.set(Link::Up),
            Event::Disconnected => self.set(Link::Down),
            Event::Closed => self.set(Link::Closed),
            Event::SlowConsumer(_) => {
                self.slow.fetch_add(1, Ordering::Relaxed);
            }
            Event::ServerError(error) => tracing::warn!(%error, "the nats-server complains"),
            Event::ClientError(error) => tracing::debug!(%error, "reconnecting"),
            Event::LameDuckMode => tracing::info!("the nats-server is about to leave"),
            Event::Draining => {}
        }
    }

    fn set(&self, link: Link) {
        self.link.send_if_modified(|current| {
            let changes = *current != Link::Closed && *current != link;
            if changes {
                *current = link;
            }
            changes
        });
    }
}

/// None before the first try, then doubling, each time somewhere in the upper half.
fn reconnect_delay(tries: usize) -> Duration {
    let Some(doublings) = tries.checked_sub(2) else {
        return Duration::ZERO;
    };
    // five doublings pass the upper bound
    let delay_ms = (RECONNECT_DELAY_MIN_MS << doublings.min(6)).min(RECONNECT_DELAY_MAX_MS);
    Duration::from_millis(delay_ms / 2 + random_below(delay_ms / 2 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reconnects_at_once_then_ever_later_up_to_a_bound() {
        assert_eq!(reconnect_delay(1), Duration::ZERO);
        for tries in 2..100 {
            let delay = reconnect_delay(tries).as_millis() as u64;
            assert!((RECONNECT_DELAY_MIN_MS / 2..=RECONNECT_DELAY_MAX_MS).contains(&delay));
        }
        assert!(reconnect_delay(50).as_millis() as u64 >= RECONNECT_DELAY_MAX_MS / 2);
    }
}
