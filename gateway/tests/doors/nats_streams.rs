//! The NATS door, one message for many: numbers, ends, pings, cancels, callers that leave.

use std::time::Duration;

use bus_schemas::{FailReason, Outcome};
use gateway::{Options, nats_door::NatsConfig};
use nats::{Bus, Delivery};
use serde_json::{Value, json};

use crate::support::{Client, Double, Step, core::failed, ended, items, nats::Caller, record, say};

const CHAT: &str = "thalamus.v1.chat";

fn chat(more: &[(&str, Value)]) -> Value {
    let mut body = json!({"messages": [{"role": "user", "content": "hi"}], "stream": true});
    for (name, value) in more {
        body[*name] = value.clone();
    }
    body
}

fn parsed(message: &Delivery) -> Value {
    serde_json::from_slice(&message.payload).expect("JSON")
}

/// Every message is numbered, from zero and without a gap.
fn assert_numbered(messages: &[Delivery]) {
    for (at, message) in messages.iter().enumerate() {
        assert_eq!(message.headers.get("Thalamus-Seq"), Some(&at.to_string()));
        assert_eq!(message.headers.contains_key("Thalamus-Request-Id"), at == 0);
    }
}

#[tokio::test]
async fn a_stream_is_the_http_chunks_numbered_and_ended() {
    let core = Double::saying("Hey you");
    let caller = Caller::of(&core).await;
    let body = chat(&[
        ("stream_options", json!({"include_usage": true})),
        ("n", json!(2)),
    ]);
    let messages = caller.ask(CHAT, &[], &body).await.all().await;
    assert_numbered(&messages);
    let text = |events: &[Value], choice: u64| -> String {
        let own = events
            .iter()
            .map(|e| &e["choices"][0])
            .filter(|c| c["index"] == choice);
        own.filter_map(|c| c["delta"]["content"].as_str()).collect()
    };
    let events: Vec<Value> = messages.iter().map(parsed).collect();
    let http = Client::of(&core)
        .await
        .post("/v1/chat/completions", &body)
        .await
        .events();
    for choice in 0..2 {
        assert_eq!(text(&events, choice), "Hey you");
        assert_eq!(text(&events, choice), text(&http, choice));
    }
    let usage = &events.last().expect("a usage chunk")["usage"];
    assert_eq!(usage, &http[http.len() - 2]["usage"]);
    assert!(events.iter().all(|event| event != "[DONE]"));
}

#[tokio::test]
async fn errors_end_a_stream_too() {
    let caller = Caller::of(&Double::saying("x")).await;
    let bad = caller
        .ask(CHAT, &[], &chat(&[("n", json!(0))]))
        .await
        .all()
        .await;
    assert_eq!(bad.len(), 1);
    assert_eq!(bad[0].headers["Nats-Service-Error-Code"], "400");

    let core = Double::playing(|_| {
        vec![
            Step::Send(items(vec![record(0, 0, 65)])),
            Step::Wait(Duration::from_millis(20)),
            failed(FailReason::WorkerLost, 1),
        ]
    });
    let messages = Caller::of(&core)
        .await
        .ask(CHAT, &[], &chat(&[]))
        .await
        .all()
        .await;
    assert_numbered(&messages);
    assert_eq!(parsed(&messages[0])["choices"][0]["delta"]["content"], "A");
    let last = messages.last().expect("an error");
    assert_eq!(last.headers["Nats-Service-Error-Code"], "502");
    assert_eq!(parsed(last)["error"]["code"], "worker_lost");
}

#[tokio::test]
async fn silence_is_filled_with_pings() {
    let core = Double::playing(|spec| {
        let mut steps = vec![Step::Wait(Duration::from_millis(300))];
        steps.extend(say(spec, "late"));
        steps
    });
    let options = Options {
        keep_alive: Some(Duration::from_millis(20)),
        ..Options::default()
    };
    let caller = Caller::with(&core, options, NatsConfig::default()).await;
    let messages = caller.ask(CHAT, &[], &chat(&[])).await.all().await;
    assert_numbered(&messages);
    assert_eq!(parsed(&messages[0]), json!({"type": "ping"}));
    let text: String = messages
        .iter()
        .map(parsed)
        .filter_map(|m| Some(m["choices"][0]["delta"]["content"].as_str()?.to_owned()))
        .collect();
    assert_eq!(text, "late");
}

#[tokio::test]
async fn the_id_of_the_first_chunk_cancels() {
    let core = Double::hanging_after("ab");
    let caller = Caller::of(&core).await;
    let mut answers = caller.ask(CHAT, &[], &chat(&[])).await;
    let first = answers.next().await;
    let id = &first.headers["Thalamus-Request-Id"];
    let confirmed = caller
        .request(&format!("thalamus.v1.cancel.{id}"))
        .await
        .expect("it runs");
    assert_eq!(&confirmed.payload[..], br#"{"cancelled":true}"#);
    let rest = answers.all().await;
    assert_eq!(
        rest.last()
            .map(|m| m.headers["Nats-Service-Error-Code"].as_str()),
        Some("499")
    );
    core.cancelled(1).await;
}

#[tokio::test]
async fn a_caller_that_leaves_is_noticed() {
    // while tokens come: more than one probe's worth
    let core = Double::playing(|_| {
        let mut steps = Vec::new();
        for at in 0..2000 {
            steps.push(Step::Send(items(vec![record(0, at, 65)])));
            steps.push(Step::Wait(Duration::from_millis(1)));
        }
        steps.push(Step::Hang);
        steps
    });
    let caller = Caller::of(&core).await;
    let mut answers = caller.ask(CHAT, &[], &chat(&[])).await;
    answers.next().await;
    drop(answers);
    core.cancelled(1).await;
    // while nothing comes: the pings ask
    let core = Double::hanging_after("");
    let options = Options {
        keep_alive: Some(Duration::from_millis(20)),
        ..Options::default()
    };
    let caller = Caller::with(&core, options, NatsConfig::default()).await;
    let mut answers = caller.ask(CHAT, &[], &chat(&[])).await;
    answers.next().await;
    drop(answers);
    core.cancelled(1).await;
}

#[tokio::test]
async fn the_first_chunk_asks_whether_somebody_listens_and_then_few_do() {
    let core = Double::playing(|_| {
        let mut steps: Vec<_> = (0..100)
            .flat_map(|at| {
                [
                    Step::Send(items(vec![record(0, at, 65)])),
                    Step::Wait(Duration::from_millis(1)),
                ]
            })
            .collect();
        steps.push(ended(Outcome::Completed));
        steps
    });
    let messages = Caller::of(&core)
        .await
        .ask(CHAT, &[], &chat(&[]))
        .await
        .all()
        .await;
    assert!(
        messages[0]
            .reply
            .as_ref()
            .is_some_and(|reply| reply.contains(".nr."))
    );
    let probes = messages
        .iter()
        .filter(|message| message.reply.is_some())
        .count();
    assert!(
        probes <= messages.len() / 16 + 1,
        "{probes} of {}",
        messages.len()
    );
}

#[tokio::test]
async fn one_request_more_than_allowed_is_refused() {
    let core = Double::hanging_after("");
    let config = NatsConfig {
        open_max: 1,
        ..NatsConfig::default()
    };
    let caller = Caller::with(&core, Options::default(), config).await;
    let _held = caller
        .ask(CHAT, &[("Thalamus-Request-Id", "held")], &chat(&[]))
        .await;
    while core.seen().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let refused = caller.ask(CHAT, &[], &chat(&[])).await.next().await;
    assert_eq!(refused.headers["Nats-Service-Error-Code"], "503");
    assert_eq!(refused.headers["Thalamus-Retryable"], "true");
    caller
        .request("thalamus.v1.cancel.held")
        .await
        .expect("it runs");
    core.cancelled(1).await;
}

#[tokio::test]
async fn stopping_lets_streams_end() {
    let core = Double::playing(|spec| {
        let mut steps = vec![Step::Wait(Duration::from_millis(100))];
        steps.extend(say(spec, "done"));
        steps
    });
    let caller = Caller::of(&core).await;
    let mut answers = caller.ask(CHAT, &[], &chat(&[])).await;
    while core.seen().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(caller.door.stop(Duration::from_secs(10)).await);
    let last = answers.all().await.pop().expect("an answer");
    assert_eq!(parsed(&last)["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn an_answer_larger_than_the_bus_takes_is_an_error() {
    let core = Double::playing(|spec| say(spec, "A long answer that does not fit the bus."));
    let server = nats::MemServer::with_max_payload(700);
    let doors = gateway::Doors::new(core.clone(), Options::default());
    let _door = gateway::nats_door::serve(server.connect(), doors, NatsConfig::default())
        .await
        .expect("the door opens");
    let bus = server.connect();
    let body = json!({"messages": [{"role": "user", "content": "hi"}], "n": 8});
    let subject = CHAT.to_owned();
    let asked = nats::Publication {
        subject,
        payload: body.to_string().into(),
        ..Default::default()
    };
    let reply = bus
        .request(asked, Duration::from_secs(5))
        .await
        .expect("an answer");
    assert_eq!(reply.headers["Nats-Service-Error-Code"], "413");
}
