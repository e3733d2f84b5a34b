//! The NATS door, one message for one: bodies, headers, errors, models, registration.

use std::time::Duration;

use bus_schemas::{FailReason, subjects::model_token};
use gateway::{Options, nats_door::NatsConfig};
use nats::{Bus, RequestError};
use serde_json::{Value, json};

use crate::support::{
    Client, Double,
    core::{MODEL, failed},
    nats::Caller,
};

const CHAT: &str = "thalamus.v1.chat";

fn chat() -> Value {
    json!({"messages": [{"role": "user", "content": "hi"}]})
}

fn code(delivery: &nats::Delivery) -> Option<&str> {
    delivery
        .headers
        .get("Nats-Service-Error-Code")
        .map(String::as_str)
}

#[tokio::test]
async fn one_message_answers_with_the_http_body() {
    let core = Double::saying("Hello");
    let caller = Caller::of(&core).await;
    let reply = caller.ask(CHAT, &[], &chat()).await.next().await;
    assert_eq!(code(&reply), None);
    assert!(reply.headers.contains_key("Thalamus-Request-Id"));
    let mut own: Value = serde_json::from_slice(&reply.payload).expect("JSON");
    let mut http = Client::of(&core)
        .await
        .post("/v1/chat/completions", &chat())
        .await
        .json();
    for body in [&mut own, &mut http] {
        body["id"] = json!("");
        body["created"] = json!(0);
    }
    assert_eq!(own, http);
}

#[tokio::test]
async fn the_subject_may_name_the_model() {
    let core = Double::saying("x");
    core.serve(&["org/m.1", "other"], true);
    let caller = Caller::of(&core).await;
    let subject = format!("thalamus.v1.completions.{}", model_token("org/m.1"));
    let body = caller
        .ask(&subject, &[], &json!({"prompt": "x"}))
        .await
        .json()
        .await;
    assert_eq!(body["model"], "org/m.1");
    let wrong = json!({"prompt": "x", "model": "other"});
    assert_eq!(
        code(&caller.ask(&subject, &[], &wrong).await.next().await),
        Some("400")
    );
    let unknown = caller
        .ask("thalamus.v1.chat.none", &[], &chat())
        .await
        .next()
        .await;
    assert_eq!(code(&unknown), Some("404"));
}

#[tokio::test]
async fn models_and_tokens_are_answered() {
    let caller = Caller::of(&Double::saying("x")).await;
    let models = caller
        .ask("thalamus.v1.models", &[], &json!({}))
        .await
        .json()
        .await;
    assert_eq!(models["data"][0]["id"], MODEL);
    let tokenize = format!("thalamus.v1.tokenize.{}", model_token(MODEL));
    let text = json!({"prompt": "ab", "add_special_tokens": false});
    let tokens = caller.ask(&tokenize, &[], &text).await.json().await;
    assert_eq!(tokens["tokens"], json!([97, 98]));
    let ids = json!({"tokens": [97, 98]});
    let back = caller
        .ask("thalamus.v1.detokenize", &[], &ids)
        .await
        .json()
        .await;
    assert_eq!(back["prompt"], "ab");
}

#[tokio::test]
async fn headers_say_deadline_priority_and_trace() {
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let core = Double::saying("x");
    let caller = Caller::of(&core).await;
    let headers = [
        ("thalamus-timeout-ms", "5000"),
        ("Thalamus-Priority", "interactive"),
        ("Thalamus-Request-Id", "mine_1"),
        ("traceparent", trace),
        ("Thalamus-Content", "json"),
    ];
    let reply = caller.ask(CHAT, &headers, &chat()).await.next().await;
    assert_eq!(
        reply.headers.get("Thalamus-Request-Id").map(String::as_str),
        Some("mine_1")
    );
    let seen = &core.seen()[0];
    assert!(seen.deadline <= Duration::from_secs(5) && seen.deadline > Duration::from_secs(1));
    assert_eq!(seen.spec.priority, 1);
    assert_eq!(seen.spec.trace.to_string(), trace);
    let back = seen.spec.trace.entered(seen.spec.request).to_string();
    assert_eq!(reply.headers.get("traceparent"), Some(&back));
}

#[tokio::test]
async fn errors_have_code_line_and_body() {
    let core = Double::playing(|_| vec![failed(FailReason::Overloaded, 250)]);
    let reply = Caller::of(&core)
        .await
        .ask(CHAT, &[], &chat())
        .await
        .next()
        .await;
    let header = |name: &str| reply.headers.get(name).map(String::as_str);
    assert_eq!(code(&reply), Some("503"));
    assert_eq!(header("Thalamus-Retry-After-Ms"), Some("250"));
    assert_eq!(header("Thalamus-Retryable"), Some("true"));
    assert!(header("Nats-Service-Error").is_some_and(|line| line.len() <= 200));
    let body: Value = serde_json::from_slice(&reply.payload).expect("JSON");
    assert_eq!(body["error"]["code"], "overloaded");
}

#[tokio::test]
async fn bad_messages_are_400_and_the_door_lives() {
    let caller = Caller::of(&Double::saying("x")).await;
    let deep = "{\"a\":".repeat(10_000);
    for body in ["", "garbage", "[]", "\u{0}", &deep] {
        for op in ["chat", "completions", "tokenize", "detokenize"] {
            let mut answers = caller
                .ask_bytes(&format!("thalamus.v1.{op}"), &[], body.to_owned().into())
                .await;
            assert_eq!(code(&answers.next().await), Some("400"), "{op} {body:.10}");
        }
    }
    for (name, value) in [
        ("Thalamus-Request-Id", "a.b"),
        ("Thalamus-Request-Id", ""),
        ("Thalamus-Timeout-Ms", "never"),
        ("Thalamus-Priority", "system"),
        ("Thalamus-Content", "msgpack"),
        ("Thalamus-Window", "0"),
        ("Thalamus-Body-Ref", "a/b"),
    ] {
        let reply = caller
            .ask(CHAT, &[(name, value)], &chat())
            .await
            .next()
            .await;
        let body: Value = serde_json::from_slice(&reply.payload).expect("JSON");
        assert_eq!(
            (code(&reply), &body["error"]["param"]),
            (Some("400"), &json!(name))
        );
    }
    assert_eq!(
        code(&caller.ask(CHAT, &[], &chat()).await.next().await),
        None
    );
}

#[tokio::test]
async fn a_message_without_a_reply_is_dropped() {
    let core = Double::saying("x");
    let caller = Caller::of(&core).await;
    let payload = chat().to_string().into();
    let subject = CHAT.to_owned();
    caller
        .bus
        .publish(nats::Publication {
            subject,
            payload,
            ..Default::default()
        })
        .expect("it is sent");
    // messages of one subject are looked at in order
    caller.ask(CHAT, &[], &chat()).await.next().await;
    assert_eq!(core.seen().len(), 1);
}

#[tokio::test]
async fn a_cancel_ends_the_request_and_is_confirmed() {
    let core = Double::hanging_after("");
    let caller = Caller::of(&core).await;
    let mut answers = caller
        .ask(CHAT, &[("Thalamus-Request-Id", "c1")], &chat())
        .await;
    while core.seen().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let confirmed = caller
        .request("thalamus.v1.cancel.c1")
        .await
        .expect("it runs");
    assert_eq!(&confirmed.payload[..], br#"{"cancelled":true}"#);
    assert_eq!(code(&answers.next().await), Some("499"));
    core.cancelled(1).await;
    // nobody runs it, so nobody listens
    let again = caller.request("thalamus.v1.cancel.c1").await;
    assert_eq!(again.err(), Some(RequestError::NoResponders));
}

#[tokio::test]
async fn without_a_gateway_there_are_no_responders() {
    let caller = Caller::of(&Double::saying("x")).await;
    let (bus, door) = (caller.bus, caller.door);
    assert!(door.stop(Duration::from_secs(5)).await);
    let subject = CHAT.to_owned();
    let asked = nats::Publication {
        subject,
        ..Default::default()
    };
    let asked = bus.request(asked, Duration::from_secs(5)).await;
    assert_eq!(asked.err(), Some(RequestError::NoResponders));
}

#[tokio::test]
async fn the_service_tells_its_endpoints_and_counts() {
    let core = Double::saying("x");
    let caller = Caller::of(&core).await;
    caller.ask(CHAT, &[], &chat()).await.next().await;
    caller.ask(CHAT, &[], &json!({})).await.next().await;
    let info = caller
        .request("$SRV.INFO.thalamus-gateway")
        .await
        .expect("it is registered");
    let info: Value = serde_json::from_slice(&info.payload).expect("JSON");
    assert_eq!(info["metadata"]["api"], "v1");
    let endpoints = info["endpoints"].as_array().expect("a list");
    let subject = format!("{CHAT}.{}", model_token(MODEL));
    let of_model = endpoints
        .iter()
        .find(|e| e["subject"] == subject)
        .expect("the model's");
    assert_eq!(of_model["metadata"]["model"], MODEL);
    assert_eq!(of_model["queue_group"], "thalamus-gw");
    // counted after the answer went out
    let stats = async {
        loop {
            let stats = caller
                .request("$SRV.STATS.thalamus-gateway")
                .await
                .expect("it answers");
            let stats: Value = serde_json::from_slice(&stats.payload).expect("JSON");
            let rows = stats["endpoints"].as_array().expect("a list").clone();
            let row = rows
                .into_iter()
                .find(|row| row["name"] == "chat")
                .expect("chat");
            if row["num_requests"] == 2 {
                return row;
            }
        }
    };
    let row = tokio::time::timeout(Duration::from_secs(5), stats)
        .await
        .expect("it counts");
    assert_eq!(row["num_errors"], 1);
}

#[tokio::test]
async fn the_service_tells_its_models_and_how_they_fare() {
    let core = Double::playing(|spec| match spec.max_tokens {
        1 => crate::support::say(spec, "x"),
        _ => vec![crate::support::Step::Hang],
    });
    let config = NatsConfig {
        refresh: Duration::from_millis(10),
        ..NatsConfig::default()
    };
    let caller = Caller::with(&core, Options::default(), config).await;
    let ask = async |question: &str| -> Value {
        let answer = caller.request(question).await.expect("it is registered");
        serde_json::from_slice(&answer.payload).expect("JSON")
    };
    assert_eq!(ask("$SRV.PING").await["metadata"]["models"], MODEL);
    let mut short = chat();
    short["max_tokens"] = json!(1);
    caller.ask(CHAT, &[], &short).await.next().await;
    let _waits = caller.ask(CHAT, &[], &chat()).await;
    let name = format!("chat-{}", model_token(MODEL).replace('%', "-"));
    let fares = async {
        loop {
            let stats = ask("$SRV.STATS.thalamus-gateway").await;
            let rows = stats["endpoints"].as_array().expect("a list").clone();
            let mut rows = rows.into_iter();
            let row = rows.find(|row| row["name"] == name.as_str()).expect("it");
            if row["data"]["queue_depth"] == 1 && row["data"]["ttft_ms"].is_number() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), fares)
        .await
        .expect("one waits, and one had its first token");
    core.serve(&["one", "two"], true);
    let changed = async {
        while ask("$SRV.INFO").await["metadata"]["models"] != "one,two" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), changed)
        .await
        .expect("it tells the new models");
}
