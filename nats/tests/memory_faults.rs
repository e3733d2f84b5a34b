//! What only the bus in memory can do: cut a connection, mend it, lose and repeat deliveries.
//!
//! These are the faults that shells and simulations are tested with, so they must be exact.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use nats::{
    Bus, Link, Loss, MemBus, MemServer, Publication, PublishError, RequestError, Subscription,
};

const SHORT: Duration = Duration::from_millis(10);
/// The outgoing queue of a connection that is cut.
const OUTBOX: usize = 8192;

fn publish(bus: &Arc<MemBus>, subject: &str, text: &str) -> Result<(), PublishError> {
    let payload = Bytes::copy_from_slice(text.as_bytes());
    bus.publish(Publication {
        subject: subject.to_owned(),
        payload,
        ..Publication::default()
    })
}

async fn listen(bus: &Arc<MemBus>, subject: &str) -> Box<dyn Subscription> {
    bus.subscribe(subject, Some("group"), 4 * OUTBOX)
        .await
        .expect("a valid subject")
}

/// All that a subscription still has, once its connection is closed.
async fn rest(subscription: &mut Box<dyn Subscription>) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some(delivery) = subscription.next().await {
        texts.push(String::from_utf8_lossy(&delivery.payload).into_owned());
    }
    texts
}

#[tokio::test]
async fn a_cut_reader_misses_messages_and_is_not_interested() {
    let server = MemServer::new();
    let (publisher, reader) = (server.connect(), server.connect());
    let mut link = reader.link();
    let mut subscription = listen(&reader, "news").await;
    server.partition(&reader);
    assert_eq!(*link.borrow_and_update(), Link::Down);
    assert_eq!(publish(&publisher, "news", "missed"), Ok(()));
    let question = Publication {
        subject: "news".to_owned(),
        ..Publication::default()
    };
    let answer = publisher.request(question, SHORT).await.map(drop);
    assert_eq!(answer, Err(RequestError::NoResponders));
    server.heal(&reader);
    assert_eq!(*link.borrow_and_update(), Link::Up);
    assert_eq!(publish(&publisher, "news", "heard"), Ok(()));
    reader.close().await;
    assert_eq!(rest(&mut subscription).await, ["heard"]);
}

#[tokio::test]
async fn a_cut_publisher_queues_up_to_its_bound_and_sends_when_mended() {
    let server = MemServer::new();
    let (publisher, reader) = (server.connect(), server.connect());
    let mut subscription = listen(&reader, "news").await;
    server.partition(&publisher);
    for number in 0..OUTBOX {
        assert_eq!(publish(&publisher, "news", &number.to_string()), Ok(()));
    }
    assert_eq!(
        publish(&publisher, "news", "too many"),
        Err(PublishError::Full)
    );
    assert!(!publisher.flush(SHORT).await);
    server.heal(&publisher);
    assert!(publisher.flush(SHORT).await);
    reader.close().await;
    let expected: Vec<String> = (0..OUTBOX).map(|number| number.to_string()).collect();
    assert_eq!(rest(&mut subscription).await, expected);
}

#[tokio::test]
async fn a_subscription_made_while_cut_works_when_mended() {
    let server = MemServer::new();
    let bus = server.connect();
    server.partition(&bus);
    let mut subscription = listen(&bus, "news").await;
    server.heal(&bus);
    server.heal(&bus);
    assert_eq!(publish(&bus, "news", "once"), Ok(()));
    bus.close().await;
    assert_eq!(rest(&mut subscription).await, ["once"]);
}

/// What arrives of a thousand messages under `loss`.
async fn arrivals(loss: Loss) -> Vec<String> {
    let server = MemServer::new();
    let bus = server.connect();
    let mut subscription = listen(&bus, "news").await;
    server.set_loss(loss);
    for number in 0..1000 {
        assert_eq!(publish(&bus, "news", &number.to_string()), Ok(()));
    }
    bus.close().await;
    rest(&mut subscription).await
}

#[tokio::test]
async fn faults_are_those_asked_for_and_repeat_with_their_seed() {
    let lossy = Loss {
        lost_per_mille: 100,
        repeated_per_mille: 0,
        seed: 7,
    };
    let first = arrivals(lossy).await;
    assert!((800..980).contains(&first.len()), "{}", first.len());
    assert_eq!(arrivals(lossy).await, first);
    assert_ne!(arrivals(Loss { seed: 8, ..lossy }).await, first);
    let repeating = arrivals(Loss {
        lost_per_mille: 0,
        repeated_per_mille: 100,
        seed: 7,
    })
    .await;
    assert!(
        (1020..1200).contains(&repeating.len()),
        "{}",
        repeating.len()
    );
    assert!(repeating.windows(2).any(|pair| pair[0] == pair[1]));
    assert_eq!(arrivals(Loss::default()).await.len(), 1000);
}

#[tokio::test]
async fn dropping_a_connection_ends_its_subscriptions() {
    let server = MemServer::new();
    let bus = server.connect();
    let mut subscription = listen(&bus, "news").await;
    let link = bus.link();
    drop(bus);
    assert!(subscription.next().await.is_none());
    assert_eq!(*link.borrow(), Link::Closed);
}
