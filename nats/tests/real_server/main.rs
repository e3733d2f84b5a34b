//! What only a real nats-server can show: losing it, refusing us, TLS, freezing.
//!
//! Every test says loudly when it skips for want of the program.

mod identity;
mod loss;
mod tls;

#[path = "../../../tests/src/ledger.rs"]
pub mod ledger;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use nats::{
    Bus, ConnectError, Link, NatsBus, NatsConfig, Publication,
    server::{NatsServer, ServerSettings, find},
};

/// Longer than anything takes on a loaded machine; only a failure waits for all of it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server, or none, said aloud, where the program is missing.
async fn server(settings: ServerSettings) -> Option<NatsServer> {
    ledger::need("nats", find())?;
    Some(
        NatsServer::start(settings)
            .await
            .expect("the server starts"),
    )
}

async fn connect(config: &NatsConfig) -> Arc<NatsBus> {
    NatsBus::connect(config)
        .await
        .expect("the server lets us in")
}

/// The error of a connection that must not come about.
async fn refused(config: &NatsConfig) -> ConnectError {
    NatsBus::connect(config)
        .await
        .map(drop)
        .expect_err("the connection is refused")
}

async fn link_becomes(bus: &NatsBus, wanted: Link) {
    let mut link = bus.link();
    let becomes = tokio::time::timeout(PATIENCE, link.wait_for(|link| *link == wanted)).await;
    becomes
        .expect("the link changes in time")
        .expect("the bus lives");
}

fn message(subject: &str, text: &str) -> Publication {
    let payload = Bytes::copy_from_slice(text.as_bytes());
    Publication {
        subject: subject.to_owned(),
        payload,
        ..Publication::default()
    }
}

/// Publishes to itself through the server.
async fn round_trip(bus: &NatsBus) {
    let mut subscription = bus
        .subscribe("trip", None, 16)
        .await
        .expect("a valid subject");
    bus.publish(message("trip", "hello"))
        .expect("a valid message");
    let delivery = tokio::time::timeout(PATIENCE, subscription.next()).await;
    let delivery = delivery
        .expect("it comes back in time")
        .expect("the subscription goes on");
    assert_eq!(delivery.payload, "hello");
}
