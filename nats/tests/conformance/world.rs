//! The two worlds in which each scenario runs, and how long it waits for things to happen.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use nats::{
    Bus, Delivery, MemServer, NatsBus, Publication, RequestError, Subscription,
    server::{NatsServer, ServerSettings, find},
};

/// Longer than anything takes on a loaded machine; only a failure waits for all of it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Room enough for every scenario that is not about a full queue.
pub(crate) const ROOMY: usize = 4096;
/// The payload limit of both worlds.
pub(crate) const MAX_PAYLOAD: usize = 64 * 1024;

/// A server to connect to.
pub(crate) enum World {
    Memory(MemServer),
    Real(Box<NatsServer>),
}

impl World {
    pub(crate) fn memory() -> Self {
        Self::Memory(MemServer::with_max_payload(MAX_PAYLOAD))
    }

    /// None, said aloud, where there is no nats-server.
    pub(crate) async fn real() -> Option<Self> {
        crate::ledger::need("nats", find())?;
        let settings = ServerSettings {
            max_payload: Some(MAX_PAYLOAD),
            ..Default::default()
        };
        let server = NatsServer::start(settings)
            .await
            .expect("the server starts");
        Some(Self::Real(Box::new(server)))
    }

    pub(crate) async fn connect(&self) -> Arc<dyn Bus> {
        match self {
            Self::Memory(server) => server.connect(),
            Self::Real(server) => NatsBus::connect(&server.config())
                .await
                .expect("the server lets us in"),
        }
    }
}

/// Subscribes, and waits until the server knows.
pub(crate) async fn listen(
    bus: &Arc<dyn Bus>,
    subject: &str,
    queue: Option<&str>,
) -> Box<dyn Subscription> {
    let subscription = bus
        .subscribe(subject, queue, ROOMY)
        .await
        .expect("a valid subject");
    settle(bus).await;
    subscription
}

/// Waits until the server has taken all that this connection sent.
pub(crate) async fn settle(bus: &Arc<dyn Bus>) {
    assert!(bus.flush(PATIENCE).await, "the server took everything");
}

/// The next message, which must come.
pub(crate) async fn next(subscription: &mut Box<dyn Subscription>) -> Delivery {
    let next = tokio::time::timeout(PATIENCE, subscription.next()).await;
    next.expect("a message comes")
        .expect("the subscription goes on")
}

/// The end of the subscription, which must come with no message before it.
pub(crate) async fn end(subscription: &mut Box<dyn Subscription>) {
    let next = tokio::time::timeout(PATIENCE, subscription.next()).await;
    assert!(
        next.expect("an end comes").is_none(),
        "nothing before the end"
    );
}

/// Everything up to the end, which must come.
pub(crate) async fn rest(subscription: &mut Box<dyn Subscription>) -> Vec<String> {
    let mut texts = Vec::new();
    let all = async {
        while let Some(delivery) = subscription.next().await {
            texts.push(text(&delivery));
        }
    };
    tokio::time::timeout(PATIENCE, all)
        .await
        .expect("an end comes");
    texts
}

/// Waits until `holds`.
pub(crate) async fn eventually(mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .expect("it holds in time");
}

pub(crate) fn message(subject: &str, text: &str) -> Publication {
    let payload = Bytes::copy_from_slice(text.as_bytes());
    Publication {
        subject: subject.to_owned(),
        payload,
        ..Publication::default()
    }
}

pub(crate) fn send(bus: &Arc<dyn Bus>, subject: &str, text: &str) {
    bus.publish(message(subject, text))
        .expect("a valid message");
}

pub(crate) fn text(delivery: &Delivery) -> String {
    String::from_utf8_lossy(&delivery.payload).into_owned()
}

/// True if the server says at once that nobody listens on `subject`.
pub(crate) async fn no_one_listens(bus: &Arc<dyn Bus>, subject: &str) -> bool {
    let answer = bus
        .request(message(subject, ""), Duration::from_millis(50))
        .await;
    matches!(answer, Err(RequestError::NoResponders))
}
