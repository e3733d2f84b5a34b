//! What every bus must do, each in one scenario.
//!
//! A scenario sees only the trait; where a server is elsewhere it settles before it judges.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use nats::{
    Bus, Headers, Link, Publication, PublishError, RequestError, SubscribeError, Subscription,
    service::{self, Endpoint, ServiceError, ServiceInfo},
};
use serde_json::{Value, json};

use crate::world::{
    MAX_PAYLOAD, PATIENCE, ROOMY, World, end, eventually, listen, message, next, rest, send,
    settle, text,
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

async fn no_one_listens(bus: &Arc<dyn Bus>, subject: &str) -> bool {
    let answer = bus
        .request(message(subject, ""), Duration::from_millis(50))
        .await;
    matches!(answer, Err(RequestError::NoResponders))
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
    let mut replies = listen(&bus, &inbox, None).await;
    let mut others = listen(&other, &inbox, None).await;
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
    assert!(report.payload.is_empty() && report.reply.is_none() && report.headers.is_empty());
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
    own_publications_come_back(world).await;
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

pub(crate) async fn draining_delivers_what_was_sent_then_ends(world: World) {
    let (publisher, reader) = (world.connect().await, world.connect().await);
    let mut drained = listen(&reader, "work", Some("crew")).await;
    for number in 0..100 {
        send(&publisher, "work", &number.to_string());
    }
    settle(&publisher).await;
    drained.drain();
    drained.drain();
    let expected: Vec<String> = (0..100).map(|number: u32| number.to_string()).collect();
    assert_eq!(rest(&mut drained).await, expected);
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

fn endpoint(name: &str) -> Endpoint {
    Endpoint {
        name: name.to_owned(),
        subject: format!("thalamus.v1.{name}"),
        queue_group: "thalamus-gw".to_owned(),
        metadata: BTreeMap::from([("stream".to_owned(), "true".to_owned())]),
    }
}

fn service_info(name: &str, version: &str) -> ServiceInfo {
    ServiceInfo {
        name: name.to_owned(),
        version: version.to_owned(),
        description: "serves models".to_owned(),
        metadata: BTreeMap::from([("api".to_owned(), "v1".to_owned())]),
    }
}

async fn ask(bus: &Arc<dyn Bus>, subject: &str) -> Value {
    let answer = bus
        .request(message(subject, ""), PATIENCE)
        .await
        .expect("the service answers");
    serde_json::from_slice(&answer.payload).expect("JSON")
}

pub(crate) async fn a_service_answers_questions(world: World) {
    let (bus, asker) = (world.connect().await, world.connect().await);
    let info = service_info("thalamus-gateway", "0.1.0");
    let service = service::register(bus.clone(), info, vec![endpoint("chat")]).await;
    let service = service.expect("a valid service");
    settle(&bus).await;
    let ping = ask(&asker, "$SRV.PING").await;
    assert_eq!(
        ping,
        json!({"type": "io.nats.micro.v1.ping_response", "name": "thalamus-gateway",
            "id": service.id(), "version": "0.1.0", "metadata": {"api": "v1"}})
    );
    service.set_endpoints(vec![endpoint("chat"), endpoint("models")]);
    let info = ask(&asker, "$SRV.INFO.thalamus-gateway").await;
    assert_eq!(info["type"], "io.nats.micro.v1.info_response");
    assert_eq!(info["description"], "serves models");
    assert_eq!(
        info["endpoints"][1],
        json!({"name": "models", "subject": "thalamus.v1.models", "queue_group": "thalamus-gw",
            "metadata": {"stream": "true"}})
    );
    service.record("chat", Duration::from_micros(30), None);
    service.record("chat", Duration::from_micros(10), Some("503:no room"));
    service.record("unknown", Duration::from_micros(10), None);
    service.set_data("chat", json!({"queue_depth": 3}));
    service.set_endpoints(vec![endpoint("chat")]);
    let stats = ask(
        &asker,
        &format!("$SRV.STATS.thalamus-gateway.{}", service.id()),
    )
    .await;
    assert_eq!(stats["type"], "io.nats.micro.v1.stats_response");
    assert!(
        stats["started"]
            .as_str()
            .is_some_and(|started| started.ends_with('Z')),
        "{stats}"
    );
    assert_eq!(
        stats["endpoints"],
        json!([{"name": "chat", "subject": "thalamus.v1.chat", "queue_group": "thalamus-gw",
            "num_requests": 2, "num_errors": 1, "last_error": "503:no room",
            "processing_time": 40_000, "average_processing_time": 20_000,
            "data": {"queue_depth": 3}}])
    );
    drop(service);
    eventually(async || no_one_listens(&asker, "$SRV.PING").await).await;
}

pub(crate) async fn a_service_refuses_bad_names(world: World) {
    let bus = world.connect().await;
    let refused = |name: &'static str, version: &'static str| {
        let bus = bus.clone();
        async move {
            service::register(bus, service_info(name, version), vec![])
                .await
                .map(drop)
        }
    };
    let name = refused("a.b", "0.1.0").await;
    assert_eq!(name, Err(ServiceError::Name("a.b".to_owned())));
    for version in ["1", "1.2.x", "", "v1.2.3"] {
        let refusal = refused("gateway", version).await;
        assert_eq!(refusal, Err(ServiceError::Version(version.to_owned())));
    }
    assert_eq!(refused("gateway", "1.2.3-rc.1+build").await, Ok(()));
}
