//! Event streams: their frames, their ends, and what becomes of a client that leaves.

use std::{sync::Arc, time::Duration};

use bus_schemas::{FailReason, IncompleteReason, Outcome};
use gateway::{Options, http::HttpConfig};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use crate::support::{
    Client, Double, Step,
    core::{MODEL, failed},
    ended, items, record,
};

const CHAT: &str = "/v1/chat/completions";

fn chat(more: &[(&str, Value)]) -> Value {
    let mut body = json!({
        "model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": true,
    });
    for (name, value) in more {
        body[*name] = value.clone();
    }
    body
}

#[tokio::test]
async fn a_stream_says_who_speaks_ends_each_choice_once_and_is_done() {
    let client = Client::of(&Double::saying("Hey")).await;
    let reply = client.post(CHAT, &chat(&[("n", json!(2))])).await;
    assert_eq!(
        reply.header("content-type"),
        Some("text/event-stream; charset=utf-8")
    );
    assert_eq!(reply.header("cache-control"), Some("no-cache"));
    assert_eq!(reply.header("x-accel-buffering"), Some("no"));
    let events = reply.events();
    assert_eq!(events.last(), Some(&Value::Null), "[DONE] comes last");
    let chunks = &events[..events.len() - 1];
    for choice in 0..2 {
        let own: Vec<_> = chunks
            .iter()
            .map(|c| &c["choices"][0])
            .filter(|c| c["index"] == choice)
            .collect();
        assert_eq!(own[0]["delta"]["role"], "assistant");
        assert!(own[1..].iter().all(|c| c["delta"].get("role").is_none()));
        let ends: Vec<_> = own
            .iter()
            .filter(|c| !c["finish_reason"].is_null())
            .collect();
        assert_eq!(ends.len(), 1);
        assert_eq!(ends[0]["finish_reason"], "stop");
        assert_eq!(own.last(), ends.last().copied(), "nothing follows the end");
    }
    assert!(
        chunks
            .iter()
            .all(|c| c["id"] == chunks[0]["id"] && c.get("usage").is_none())
    );
    assert!(
        chunks
            .iter()
            .all(|c| c["object"] == "chat.completion.chunk")
    );
}

#[tokio::test]
async fn the_usage_comes_in_one_more_chunk() {
    let client = Client::of(&Double::saying("Hey")).await;
    let options = json!({"include_usage": true});
    let events = client
        .post(CHAT, &chat(&[("stream_options", options)]))
        .await
        .events();
    let (last, before) = events[..events.len() - 1].split_last().expect("chunks");
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["completion_tokens"], 4);
    assert_eq!(last["usage"]["prompt_tokens_details"]["cached_tokens"], 3);
    assert!(
        before
            .iter()
            .all(|chunk| chunk.get("usage") == Some(&Value::Null))
    );
}

#[tokio::test]
async fn characters_are_never_split_between_chunks() {
    let client = Client::of(&Double::saying("日本")).await;
    let events = client.post(CHAT, &chat(&[])).await.events();
    let pieces: Vec<_> = events
        .iter()
        .filter_map(|e| e["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(pieces.concat(), "日本");
    assert!(pieces.iter().all(|piece| !piece.contains('\u{fffd}')));
}

#[tokio::test]
async fn what_fails_at_once_has_a_status_of_its_own() {
    let core = Double::playing(|_| vec![failed(FailReason::Overloaded, 2500)]);
    let reply = Client::of(&core).await.post(CHAT, &chat(&[])).await;
    assert_eq!(reply.error().0, 503);
    assert_eq!(reply.header("retry-after"), Some("3"));
    assert_eq!(reply.header("retry-after-ms"), Some("2500"));
    assert_eq!(reply.header("x-should-retry"), Some("true"));
}

#[tokio::test]
async fn what_fails_later_is_the_last_event() {
    let late = |outcome| {
        Double::playing(move |_| {
            vec![
                Step::Send(items(vec![record(0, 0, 65)])),
                Step::Wait(Duration::from_millis(100)),
                ended(outcome),
            ]
        })
    };
    for (outcome, code) in [
        (Outcome::Failed(FailReason::WorkerLost), "worker_lost"),
        (
            Outcome::Incomplete(IncompleteReason::Deadline),
            "deadline_exceeded",
        ),
        (Outcome::Cancelled, "cancelled"),
    ] {
        let reply = Client::of(&late(outcome))
            .await
            .post(CHAT, &chat(&[]))
            .await;
        let events = reply.events();
        assert_eq!(reply.status, 200);
        assert_eq!(events[0]["choices"][0]["delta"]["content"], "A");
        assert_eq!(events[1]["error"]["code"], code);
        assert_eq!(events.len(), 2, "no [DONE] after an error");
    }
}

#[tokio::test]
async fn text_held_for_a_stop_string_is_shown_when_the_deadline_ends_it() {
    let core = Double::playing(|_| {
        vec![
            Step::Send(items(vec![record(0, 0, b'E'.into())])),
            Step::Wait(Duration::from_millis(100)),
            ended(Outcome::Incomplete(IncompleteReason::Deadline)),
        ]
    });
    let events = Client::of(&core)
        .await
        .post(CHAT, &chat(&[("stop", json!("END"))]))
        .await
        .events();
    assert_eq!(events[0]["choices"][0]["delta"]["content"], "E");
    assert_eq!(events[1]["error"]["code"], "deadline_exceeded");
}

#[tokio::test]
async fn a_core_that_vanishes_is_an_error_not_an_end() {
    let reply = Client::of(&Double::playing(|_| Vec::new()))
        .await
        .post(CHAT, &chat(&[]))
        .await;
    assert_eq!(
        reply.error(),
        (500, "server_error".into(), "internal".into(), Value::Null)
    );
}

#[tokio::test]
async fn silence_is_filled_with_comments() {
    let core = Double::playing(|spec| {
        let mut steps = vec![Step::Wait(Duration::from_millis(300))];
        steps.extend(crate::support::say(spec, "late"));
        steps
    });
    let options = Options {
        keep_alive: Some(Duration::from_millis(20)),
        ..Options::default()
    };
    let client = Client::with(&core, options, HttpConfig::default()).await;
    let reply = client.post(CHAT, &chat(&[])).await;
    assert!(reply.text().starts_with(": ka\n\n"), "{}", reply.text());
    assert_eq!(reply.events().last(), Some(&Value::Null));
    let quiet = Options {
        keep_alive: None,
        ..Options::default()
    };
    let reply = Client::with(&core, quiet, HttpConfig::default())
        .await
        .post(CHAT, &chat(&[]))
        .await;
    assert!(!reply.text().contains(": ka"));
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_request() {
    let core = Double::hanging_after("abc");
    let client = Client::of(&core).await;
    let mut stream = client
        .open("POST", CHAT, chat(&[]).to_string().as_bytes())
        .await;
    let mut head = [0; 64];
    stream.read_exact(&mut head).await.expect("it has begun");
    drop(stream);
    core.cancelled(1).await;
    // before the first token, and without a stream
    for streams in [true, false] {
        let core = Double::hanging_after("");
        let client = Client::of(&core).await;
        let body = chat(&[("stream", json!(streams))]).to_string();
        let stream = client.open("POST", CHAT, body.as_bytes()).await;
        while core.seen().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(stream);
        core.cancelled(1).await;
    }
}

#[tokio::test]
async fn all_prompts_of_a_request_are_cancelled_when_one_fails() {
    let core = Double::playing(|spec| match spec.prompt[0] {
        65 => vec![failed(FailReason::Engine, 1)],
        _ => vec![Step::Hang],
    });
    let body = json!({"prompt": [[66], [65], [67]]});
    let reply = Client::of(&core).await.post("/v1/completions", &body).await;
    assert_eq!(reply.status, 500);
    core.cancelled(2).await;
}

#[tokio::test]
async fn a_slow_reader_gets_everything() {
    let core = Double::playing(|_| {
        let mut steps: Vec<_> = (0..5000)
            .map(|at| Step::Send(items(vec![record(0, at, 65)])))
            .collect();
        steps.push(ended(Outcome::Completed));
        steps
    });
    let client = Client::of(&core).await;
    let mut stream = client
        .open("POST", CHAT, chat(&[]).to_string().as_bytes())
        .await;
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let read = stream.read(&mut piece).await.expect("it goes on");
        if read == 0 {
            break;
        }
        text.extend_from_slice(&piece[..read]);
        tokio::task::yield_now().await;
    }
    let text = String::from_utf8(text).expect("UTF-8");
    let letters = |event: &str| event.matches('A').count();
    let shown: usize = text
        .split("\"content\":\"")
        .skip(1)
        .filter_map(|e| e.split('"').next())
        .map(letters)
        .sum();
    assert_eq!(shown, 5000);
    assert!(text.contains("[DONE]"));
}

#[tokio::test]
async fn stopping_waits_for_streams_that_run() {
    let core: Arc<Double> = Double::playing(|spec| {
        let mut steps = vec![Step::Wait(Duration::from_millis(200))];
        steps.extend(crate::support::say(spec, "done"));
        steps
    });
    let client = Client::of(&core).await;
    let mut stream = client
        .open("POST", CHAT, chat(&[]).to_string().as_bytes())
        .await;
    while core.seen().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let reading = tokio::spawn(async move {
        let mut text = String::new();
        stream
            .read_to_string(&mut text)
            .await
            .expect("a whole answer");
        text
    });
    assert!(client.stop(Duration::from_secs(10)).await);
    assert!(reading.await.expect("it reads").contains("[DONE]"));
}
