//! Who gets which message, in which order, with what.
//!
//! Never judges before the server has what was sent.

use std::{collections::BTreeSet, time::Duration};

use nats::{Headers, Publication, Subscription};

use crate::world::{
    ROOMY, World, end, eventually, listen, message, next, no_one_listens, rest, send, settle, text,
};

pub(crate) async fn one_publisher_keeps_its_order(world: World) {
    let (publisher, reader) = (world.connect().await, world.connect().await);
    let mut subscription = listen(&reader, "order.*", None).await;
    for number in 0..ROOMY {
        send(
            &publisher,
            if number % 2 == 0 {
                "order.even"
            } else {
                "order.odd"
            },
            &number.to_string(),
        );
    }
    for number in 0..ROOMY {
        assert_eq!(text(&next(&mut subscription).await), number.to_string());
    }
}

pub(crate) async fn wildcards_cover_their_tokens(world: World) {
    let bus = world.connect().await;
    let mut star = listen(&bus, "a.*.c", None).await;
    let mut rest_of_it = listen(&bus, "a.>", None).await;
    for subject in ["a", "a.b", "a.b.c", "a.x.c", "a.b.c.d", "b.b.c"] {
        send(&bus, subject, subject);
    }
    for expected in ["a.b.c", "a.x.c"] {
        assert_eq!(next(&mut star).await.subject, expected);
    }
    for expected in ["a.b", "a.b.c", "a.x.c", "a.b.c.d"] {
        assert_eq!(next(&mut rest_of_it).await.subject, expected);
    }
    bus.close().await;
    end(&mut star).await;
    end(&mut rest_of_it).await;
}

pub(crate) async fn own_publications_come_back(world: World) {
    let bus = world.connect().await;
    let mut subscription = listen(&bus, "echo", None).await;
    send(&bus, "echo", "me");
    assert_eq!(text(&next(&mut subscription).await), "me");
}

pub(crate) async fn a_group_gives_each_message_to_one_member(world: World) {
    const MESSAGES: usize = 200;
    let (publisher, one, two) = (
        world.connect().await,
        world.connect().await,
        world.connect().await,
    );
    let mut first = listen(&one, "work", Some("crew")).await;
    let mut second = listen(&two, "work", Some("crew")).await;
    let mut watcher = listen(&two, "work", None).await;
    for number in 0..MESSAGES {
        send(&publisher, "work", &number.to_string());
    }
    settle(&publisher).await;
    one.close().await;
    two.close().await;
    let (first, second) = (rest(&mut first).await, rest(&mut second).await);
    assert_eq!(rest(&mut watcher).await.len(), MESSAGES);
    assert!(
        !first.is_empty() && !second.is_empty(),
        "{} {}",
        first.len(),
        second.len()
    );
    assert_eq!(first.len() + second.len(), MESSAGES);
    assert_eq!(
        BTreeSet::from_iter(first.iter().chain(&second)).len(),
        MESSAGES
    );
}

pub(crate) async fn a_group_spans_patterns(world: World) {
    const MESSAGES: usize = 50;
    let bus = world.connect().await;
    let mut exact = listen(&bus, "work.now", Some("crew")).await;
    let mut wide = listen(&bus, "work.*", Some("crew")).await;
    for number in 0..MESSAGES {
        send(&bus, "work.now", &number.to_string());
    }
    bus.close().await;
    assert_eq!(
        rest(&mut exact).await.len() + rest(&mut wide).await.len(),
        MESSAGES
    );
}

pub(crate) async fn a_dropped_member_is_not_chosen(world: World) {
    let (publisher, reader) = (world.connect().await, world.connect().await);
    let mut stays = listen(&reader, "work", Some("crew")).await;
    let goes = listen(&reader, "work", Some("crew")).await;
    let watch = listen(&reader, "gone", None).await;
    drop(goes);
    drop(watch);
    // once the watch's interest is gone, so is the member's: it was dropped before
    eventually(async || no_one_listens(&publisher, "gone").await).await;
    settle(&reader).await;
    eventually(async || {
        send(&publisher, "work", "one");
        send(&publisher, "work", "two");
        settle(&publisher).await;
        settle(&reader).await;
        takes_both(&mut stays).await
    })
    .await;
}

/// True if the member got two messages in a row within a moment.
async fn takes_both(member: &mut Box<dyn Subscription>) -> bool {
    let moment = Duration::from_millis(200);
    for expected in ["one", "two"] {
        match tokio::time::timeout(moment, member.next()).await {
            Ok(Some(delivery)) if text(&delivery) == expected => {}
            _ => return false,
        }
    }
    true
}

pub(crate) async fn headers_make_the_round_trip(world: World) {
    let bus = world.connect().await;
    let mut subscription = listen(&bus, "head", None).await;
    let pairs = [
        ("Thalamus-Seq", "7"),
        ("thalamus-seq", "other case"),
        ("Empty", ""),
        ("U", "é: ü"),
    ];
    let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let headers: Headers = pairs.map(own).into();
    let reply = Some("back.here".to_owned());
    let publication = Publication {
        headers: headers.clone(),
        reply,
        ..message("head", "body")
    };
    bus.publish(publication).expect("valid headers");
    let padded = Headers::from([own(("Padded", "  in  side  "))]);
    bus.publish(Publication {
        headers: padded,
        ..message("head", "")
    })
    .expect("valid headers");
    let delivery = next(&mut subscription).await;
    assert_eq!(delivery.headers, headers);
    assert_eq!((text(&delivery).as_str(), delivery.status), ("body", None));
    assert_eq!(delivery.reply.as_deref(), Some("back.here"));
    let padded = next(&mut subscription).await.headers;
    assert_eq!(padded, Headers::from([own(("Padded", "in  side"))]));
}
