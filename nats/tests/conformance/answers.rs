//! Requests, replies, and what happens where nobody listens.
//!
//! Each waits for its own answer and for no other.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use nats::{Bus, Publication, RequestError, Subscription};

use crate::world::{
    PATIENCE, ROOMY, World, end, eventually, listen, message, next, no_one_listens, send, settle,
    text,
};

pub(crate) async fn a_request_gets_its_own_answer(world: World) {
    let (client, server) = (world.connect().await, world.connect().await);
    answering(&server, listen(&server, "ask", None).await);
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..100 {
        let client = client.clone();
        asking.spawn(async move {
            let question = number.to_string();
            let answer = client.request(message("ask", &question), PATIENCE).await;
            assert_eq!(text(&answer.expect("an answer")), question);
        });
    }
    while let Some(asked) = asking.join_next().await {
        asked.expect("each got its own answer");
    }
}

/// Answers every message with its own text.
fn answering(bus: &Arc<dyn Bus>, mut questions: Box<dyn Subscription>) {
    let bus = bus.clone();
    tokio::spawn(async move {
        while let Some(question) = questions.next().await {
            let reply = question
                .reply
                .clone()
                .expect("a request says where the answer goes");
            send(&bus, &reply, &text(&question));
        }
    });
}

pub(crate) async fn a_request_times_out_and_is_forgotten(world: World) {
    let (client, server) = (world.connect().await, world.connect().await);
    let mut questions = listen(&server, "ask", None).await;
    let answer = client
        .request(message("ask", "late"), Duration::from_millis(20))
        .await;
    assert_eq!(
        answer.map(|answer| text(&answer)),
        Err(RequestError::Timeout)
    );
    let late = next(&mut questions)
        .await
        .reply
        .expect("a place for the answer");
    send(&server, &late, "too late");
    settle(&server).await;
    answering(&server, questions);
    let answer = client.request(message("ask", "again"), PATIENCE).await;
    assert_eq!(answer.map(|answer| text(&answer)), Ok("again".to_owned()));
}

pub(crate) async fn a_request_without_listeners_fails_at_once(world: World) {
    let bus = world.connect().await;
    let answer = bus.request(message("nobody", ""), PATIENCE).await;
    assert_eq!(
        answer.map(|answer| text(&answer)),
        Err(RequestError::NoResponders)
    );
}

pub(crate) async fn a_reply_without_listeners_is_told_to_the_publisher_alone(world: World) {
    let (bus, other) = (world.connect().await, world.connect().await);
    let inbox = bus.inbox();
    let mut others = listen(&other, &inbox, None).await;
    let mut replies = listen(&bus, &inbox, None).await;
    let heard = listen(&other, "somebody", None).await;
    for subject in ["somebody", "nobody"] {
        let publication = Publication {
            reply: Some(inbox.clone()),
            ..message(subject, "text")
        };
        bus.publish(publication).expect("a valid message");
    }
    let report = next(&mut replies).await;
    assert_eq!(
        (report.status, report.subject.as_str()),
        (Some(503), inbox.as_str())
    );
    assert!(report.payload.is_empty() && report.reply.is_none());
    // servers since 2.10 name the subject in a header
    assert!(
        report.headers.values().all(|value| value == "nobody"),
        "{:?}",
        report.headers
    );
    bus.close().await;
    other.close().await;
    end(&mut replies).await;
    end(&mut others).await;
    drop(heard);
}

pub(crate) async fn a_dropped_subscription_leaves_no_interest(world: World) {
    let (bus, other) = (world.connect().await, world.connect().await);
    let subscription = listen(&other, "here", None).await;
    assert!(!no_one_listens(&bus, "here").await);
    drop(subscription);
    eventually(async || no_one_listens(&bus, "here").await).await;
}

pub(crate) async fn inboxes_are_unique_and_usable(world: World) {
    let (one, two) = (world.connect().await, world.connect().await);
    let mut seen = BTreeSet::new();
    for bus in [&one, &two] {
        seen.extend((0..500).map(|_| bus.inbox()));
    }
    assert_eq!(seen.len(), 1000);
    let inbox = one.inbox();
    assert!(inbox.starts_with("_INBOX."), "{inbox}");
    let mut subscription = listen(&one, &inbox, None).await;
    send(&two, &inbox, "for one");
    assert_eq!(text(&next(&mut subscription).await), "for one");
}

pub(crate) async fn flushing_makes_a_subscription_effective(world: World) {
    let (asker, listener) = (world.connect().await, world.connect().await);
    for round in 0..50 {
        let subject = format!("fresh.{round}");
        let questions = listener
            .subscribe(&subject, None, ROOMY)
            .await
            .expect("a valid subject");
        settle(&listener).await;
        answering(&listener, questions);
        let answer = asker.request(message(&subject, "hello"), PATIENCE).await;
        assert_eq!(answer.map(|answer| text(&answer)), Ok("hello".to_owned()));
    }
}
