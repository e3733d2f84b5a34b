//! What is refused, what is dropped, and how things end.
//!
//! A bound is met at once and aloud; an end comes after what was already sent.

use bytes::Bytes;
use nats::{Headers, Link, Publication, PublishError, RequestError, SubscribeError};

use crate::{
    delivery,
    world::{
        MAX_PAYLOAD, PATIENCE, ROOMY, World, eventually, listen, message, next, no_one_listens,
        rest, send, settle, text,
    },
};

pub(crate) async fn a_slow_consumer_drops_counts_and_recovers(world: World) {
    const CAPACITY: usize = 4;
    let (publisher, reader) = (world.connect().await, world.connect().await);
    let mut slow = reader
        .subscribe("flood", None, CAPACITY)
        .await
        .expect("a valid subject");
    settle(&reader).await;
    for number in 0..10 {
        send(&publisher, "flood", &number.to_string());
    }
    eventually(async || slow.dropped() == 6).await;
    for number in 0..CAPACITY {
        assert_eq!(text(&next(&mut slow).await), number.to_string());
    }
    send(&publisher, "flood", "after");
    assert_eq!(text(&next(&mut slow).await), "after");
    assert_eq!(slow.dropped(), 6);
}

pub(crate) async fn too_large_a_message_is_refused_here(world: World) {
    let bus = world.connect().await;
    assert_eq!(bus.max_payload(), MAX_PAYLOAD);
    let mut subscription = listen(&bus, "big", None).await;
    let headers = Headers::from([("A".to_owned(), "b".to_owned())]);
    let frame = "NATS/1.0\r\nA: b\r\n\r\n".len();
    let sized = |bytes: usize, headers: &Headers| Publication {
        payload: Bytes::from(vec![7; bytes]),
        headers: headers.clone(),
        ..message("big", "")
    };
    let too_large = Err(PublishError::TooLarge {
        bytes: MAX_PAYLOAD + 1,
        max: MAX_PAYLOAD,
    });
    assert_eq!(
        bus.publish(sized(MAX_PAYLOAD + 1, &Headers::new())),
        too_large
    );
    assert_eq!(
        bus.publish(sized(MAX_PAYLOAD + 1 - frame, &headers)),
        too_large
    );
    assert_eq!(bus.publish(sized(MAX_PAYLOAD, &Headers::new())), Ok(()));
    assert_eq!(bus.publish(sized(MAX_PAYLOAD - frame, &headers)), Ok(()));
    assert_eq!(next(&mut subscription).await.payload.len(), MAX_PAYLOAD);
    assert_eq!(
        next(&mut subscription).await.payload.len(),
        MAX_PAYLOAD - frame
    );
}

pub(crate) async fn subjects_are_checked_before_sending(world: World) {
    let bus = world.connect().await;
    let long = "x".repeat(5000);
    for bad in [
        "",
        "a b",
        "a..b",
        ".a",
        "a.",
        "a.*",
        ">",
        "a\r\nPING",
        &long,
    ] {
        assert_eq!(
            bus.publish(message(bad, "")),
            Err(PublishError::Subject),
            "{bad:?}"
        );
        let reply = Publication {
            reply: Some(bad.to_owned()),
            ..message("good", "")
        };
        assert_eq!(
            bus.publish(reply),
            Err(PublishError::Subject),
            "reply {bad:?}"
        );
    }
    for bad in ["", "a b", "a..b", "a.>.b", &long] {
        let refused = bus.subscribe(bad, None, ROOMY).await.map(drop);
        assert_eq!(refused, Err(SubscribeError::Subject(bad.to_owned())));
    }
    let refused = bus.subscribe("good", Some("a b"), ROOMY).await.map(drop);
    assert_eq!(refused, Err(SubscribeError::Subject("a b".to_owned())));
    delivery::own_publications_come_back(world).await;
}

pub(crate) async fn headers_are_checked_before_sending(world: World) {
    let bus = world.connect().await;
    for (name, value) in [
        ("", "x"),
        ("a b", "x"),
        ("a:b", "x"),
        ("a", "x\r\nb: y"),
        ("a", "x\n"),
    ] {
        let headers = Headers::from([(name.to_owned(), value.to_owned())]);
        let publication = Publication {
            headers,
            ..message("good", "")
        };
        assert_eq!(
            bus.publish(publication),
            Err(PublishError::Headers),
            "{name:?} {value:?}"
        );
    }
}

pub(crate) async fn draining_delivers_what_was_sent_then_ends(world: World) {
    let (publisher, reader) = (world.connect().await, world.connect().await);
    let mut drained = listen(&reader, "work", Some("crew")).await;
    // large, so that much of it is still on its way when the drain begins
    let texts: Vec<String> = (0..ROOMY).map(|number| format!("{number:02000}")).collect();
    for text in &texts {
        send(&publisher, "work", text);
    }
    settle(&publisher).await;
    drained.drain();
    drained.drain();
    assert!(rest(&mut drained).await == texts, "all of it, in order");
    assert_eq!(drained.dropped(), 0);
    eventually(async || no_one_listens(&publisher, "work").await).await;
}

pub(crate) async fn closing_ends_everything(world: World) {
    let (bus, other) = (world.connect().await, world.connect().await);
    let link = bus.link();
    assert_eq!(*link.borrow(), Link::Up);
    let mut subscription = listen(&bus, "news", None).await;
    let mut heard = listen(&other, "last", None).await;
    send(&other, "news", "sent before");
    settle(&other).await;
    send(&bus, "last", "words");
    bus.close().await;
    bus.close().await;
    assert_eq!(rest(&mut subscription).await, ["sent before"]);
    assert_eq!(text(&next(&mut heard).await), "words");
    assert_eq!(*link.borrow(), Link::Closed);
    assert_eq!(bus.publish(message("last", "")), Err(PublishError::Closed));
    let refused = bus.subscribe("news", None, ROOMY).await.map(drop);
    assert_eq!(refused, Err(SubscribeError::Closed));
    let answer = bus
        .request(message("last", ""), PATIENCE)
        .await
        .map(|answer| text(&answer));
    assert_eq!(answer, Err(RequestError::Publish(PublishError::Closed)));
    assert!(!bus.flush(PATIENCE).await);
}
