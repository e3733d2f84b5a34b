//! Who may enter, and the routes beside generation: keys, TLS, browsers, ids, models, probes, metrics.

use std::{fs, time::Duration};

use bus_schemas::{RefuseReason, Trace};
use gateway::{
    Doors, Options,
    backend::SubmitError,
    http::{HttpConfig, OpenError, ServeError, TlsFiles, serve},
};
use serde_json::{Value, json};

use crate::support::{Client, Double, core::MODEL};

const CHAT: &str = "/v1/chat/completions";
const KEY: &str = "th_0123456789abcdef0123456789abcdef";

fn chat() -> Value {
    json!({"messages": [{"role": "user", "content": "hi"}]})
}

#[tokio::test]
async fn a_key_opens_and_names_the_tenant() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("keys");
    fs::write(&file, format!("{KEY} team-a\n")).expect("it is written");
    let config = HttpConfig {
        keys_file: Some(file),
        ..HttpConfig::default()
    };
    let core = Double::saying("x");
    let mut client = Client::with(&core, Options::default(), config).await;
    for (header, says) in [
        (None, "Bearer th_"),
        (Some("Bearer th_wrong"), "not known"),
        (Some("Basic abc"), "must be"),
        (Some(KEY), "must be"),
    ] {
        client.headers.clear();
        client
            .headers
            .extend(header.map(|value| ("authorization".into(), value.into())));
        let reply = client.post(CHAT, &chat()).await;
        let wanted = (
            401,
            "authentication_error".into(),
            "invalid_api_key".into(),
            Value::Null,
        );
        assert_eq!(reply.error(), wanted);
        assert!(reply.text().contains(says), "{}", reply.text());
        assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
        assert_eq!(reply.header("x-should-retry"), Some("false"));
        assert_eq!(client.get("/v1/models").await.status, 401);
        assert_eq!(client.get("/nowhere").await.status, 401);
        assert_eq!(client.get("/health").await.status, 200);
    }
    assert!(core.seen().is_empty());
    client.headers = vec![("authorization".into(), format!("bearer  {KEY}"))];
    assert_eq!(client.post(CHAT, &chat()).await.status, 200);
    assert_eq!(core.only().tenant, "team-a");
}

#[tokio::test]
async fn files_that_are_wrong_keep_the_door_closed() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("bad");
    fs::write(&file, "not a key, not a certificate\n").expect("it is written");
    let listen = ([127, 0, 0, 1], 0).into();
    let open = |config| async move {
        let doors = Doors::new(Double::saying("x"), Options::default());
        serve(HttpConfig { listen, ..config }, doors)
            .await
            .map(|_| ())
    };
    for path in [file.clone(), dir.path().join("missing")] {
        let keys = HttpConfig {
            keys_file: Some(path.clone()),
            ..HttpConfig::default()
        };
        assert!(matches!(open(keys).await, Err(ServeError::Keys(_))));
        let tls = TlsFiles {
            cert: path.clone(),
            key: path,
        };
        let tls = HttpConfig {
            tls: Some(tls),
            ..HttpConfig::default()
        };
        assert!(matches!(
            open(tls).await,
            Err(ServeError::Open(OpenError::Tls(_)))
        ));
    }
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let client = Client::of(&Double::saying("x")).await;
    let config = HttpConfig {
        listen: client.addr,
        ..HttpConfig::default()
    };
    let doors = Doors::new(Double::saying("x"), Options::default());
    let error = serve(config, doors)
        .await
        .expect_err("the port is taken")
        .to_string();
    assert!(error.contains(&client.addr.to_string()), "{error}");
}

#[tokio::test]
async fn browsers_may_call_from_where_they_are_allowed() {
    let config = HttpConfig {
        cors_origins: vec!["https://ours.test".into()],
        ..HttpConfig::default()
    };
    let core = Double::saying("x");
    let client = Client::with(&core, Options::default(), config)
        .await
        .header("origin", "https://ours.test")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization");
    let reply = client.send("OPTIONS", CHAT, b"").await;
    assert_eq!(reply.status, 204);
    assert_eq!(
        reply.header("access-control-allow-origin"),
        Some("https://ours.test")
    );
    assert_eq!(
        reply.header("access-control-allow-headers"),
        Some("authorization")
    );
    let reply = client.post(CHAT, &chat()).await;
    assert_eq!(
        reply.header("access-control-allow-origin"),
        Some("https://ours.test")
    );
    let mut stranger = client;
    stranger.headers[0].1 = "https://theirs.test".into();
    let reply = stranger.post(CHAT, &chat()).await;
    assert_eq!(reply.header("access-control-allow-origin"), None);
    let closed = Client::of(&core)
        .await
        .header("origin", "https://ours.test");
    assert_eq!(
        closed
            .get("/health")
            .await
            .header("access-control-allow-origin"),
        None
    );
}

#[tokio::test]
async fn every_answer_has_an_id_and_keeps_the_clients_own() {
    let client = Client::of(&Double::saying("x")).await;
    let fresh = client.get("/health").await;
    assert!(
        fresh
            .header("x-request-id")
            .is_some_and(|id| id.starts_with("req_"))
    );
    let client = client.header("x-request-id", "mine-1");
    for path in ["/health", "/nowhere", "/v1/models"] {
        assert_eq!(
            client.get(path).await.header("x-request-id"),
            Some("mine-1")
        );
    }
    let client = Client::of(&Double::saying("x"))
        .await
        .header("x-request-id", &"x".repeat(500));
    assert_ne!(
        client
            .get("/health")
            .await
            .header("x-request-id")
            .map(str::len),
        Some(500)
    );
}

#[tokio::test]
async fn prompts_of_one_body_are_one_trace() {
    let core = Double::saying("x");
    let client = Client::of(&core).await;
    let body = json!({"prompt": ["a", "b", "c"]});
    let reply = client.post("/v1/completions", &body).await;
    assert_eq!(reply.status, 200);
    let seen = core.seen();
    let first = Trace::of(seen[0].spec.request);
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|one| one.spec.trace == first), "{seen:?}");
    let told = reply.header("traceparent").and_then(Trace::parse);
    assert_eq!(told.map(|trace| trace.id), Some(first.id));
}

#[tokio::test]
async fn deadline_and_trace_travel_with_the_request() {
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let core = Double::saying("x");
    let client = Client::of(&core)
        .await
        .header("x-request-timeout-ms", "60000")
        .header("x-stainless-read-timeout", "30")
        .header("traceparent", trace);
    let reply = client.post(CHAT, &chat()).await;
    assert_eq!(reply.status, 200);
    let seen = &core.seen()[0];
    assert!(seen.deadline <= Duration::from_secs(30) && seen.deadline > Duration::from_secs(20));
    assert_eq!(seen.spec.trace.to_string(), trace);
    let back = Trace::parse(reply.header("traceparent").unwrap_or_default());
    let (theirs, request) = (seen.spec.trace, seen.spec.request);
    assert_eq!(back, Some(theirs.entered(request)));
    assert_ne!(back.map(|t| t.span), Some(theirs.span));
    let reply = Client::of(&core).await.post(CHAT, &chat()).await;
    let own = Trace::of(core.seen()[1].spec.request).entered(core.seen()[1].spec.request);
    assert_eq!(reply.header("traceparent"), Some(own.to_string().as_str()));
    assert!(core.seen()[1].deadline > Duration::from_secs(590));
}

#[tokio::test]
async fn models_are_listed_and_found_by_names_with_slashes() {
    let core = Double::saying("x");
    core.serve(&["org/model-7b", "b"], true);
    let client = Client::of(&core).await;
    let list = client.get("/v1/models").await.json();
    assert_eq!(list["object"], "list");
    assert_eq!(list["data"][0]["id"], "org/model-7b");
    let one = client.get("/v1/models/org/model-7b").await.json();
    assert_eq!(one, list["data"][0]);
    assert_eq!(one["max_model_len"], 32_768);
    assert_eq!((&one["ready"], &one["created"]), (&json!(true), &json!(7)));
    let missing = client.get("/v1/models/org/none").await;
    assert_eq!(
        missing.error(),
        (
            404,
            "not_found_error".into(),
            "model_not_found".into(),
            json!("model")
        )
    );
}

#[tokio::test]
async fn tokens_come_and_go() {
    let client = Client::of(&Double::saying("x")).await;
    for prefix in ["", "/v1"] {
        let body = json!({"prompt": "hé", "return_token_strs": true, "add_special_tokens": false});
        let tokens = client
            .post(&format!("{prefix}/tokenize"), &body)
            .await
            .json();
        assert_eq!(tokens["tokens"], json!([104, 0xc3, 0xa9]));
        assert_eq!(
            (&tokens["count"], &tokens["max_model_len"]),
            (&json!(3), &json!(32_768))
        );
        assert_eq!(tokens["token_strs"][0], "h");
        let back = json!({"model": MODEL, "tokens": tokens["tokens"]});
        let back = client
            .post(&format!("{prefix}/detokenize"), &back)
            .await
            .json();
        assert_eq!(back, json!({"prompt": "hé"}));
    }
    let chat = client.post("/tokenize", &chat()).await.json();
    assert!(chat["count"].as_u64().is_some_and(|count| count > 10));
    let info = client
        .get(&format!("/tokenizer_info?model={MODEL}"))
        .await
        .json();
    assert_eq!(info["vocab_size"], 259);
    let wrong = client.post("/detokenize", &json!({"tokens": [259]})).await;
    assert_eq!(wrong.error().3, json!("tokens"));
}

#[tokio::test]
async fn probes_tell_whether_and_why_not() {
    let core = Double::saying("x");
    let client = Client::of(&core).await;
    assert_eq!(client.get("/ready").await.status, 200);
    assert!(client.get("/version").await.json()["version"].is_string());
    core.serve(&["a"], false);
    let reply = client.get("/ready").await;
    assert_eq!(
        (reply.status, &reply.json()["models"][0]["ready"]),
        (503, &json!(false))
    );
    core.serve(&[], false);
    assert!(
        client.get("/ready").await.json()["reason"]
            .as_str()
            .is_some_and(|r| r.contains("no model"))
    );
    core.drain();
    assert!(client.get("/ready").await.text().contains("draining"));
    for path in ["/health", "/live"] {
        assert_eq!(client.get(path).await.status, 200);
    }
    let refused = client.post(CHAT, &chat()).await;
    assert_eq!(
        refused.error(),
        (503, "server_error".into(), "draining".into(), Value::Null)
    );
}

#[tokio::test]
async fn refusals_have_their_statuses() {
    for (reason, status, code) in [
        (RefuseReason::Full, 503, "overloaded"),
        (RefuseReason::Draining, 503, "draining"),
        (RefuseReason::NoCapacity, 503, "no_capacity"),
        (RefuseReason::UnknownModel, 404, "model_not_found"),
        (RefuseReason::TooLarge, 400, "context_length_exceeded"),
        (RefuseReason::Expired, 504, "deadline_exceeded"),
    ] {
        let core = Double::saying("x");
        core.refuse(SubmitError::Refused {
            reason,
            retry_after_ms: 700,
        });
        let reply = Client::of(&core).await.post(CHAT, &chat()).await;
        assert_eq!((reply.error().0, reply.error().2), (status, code.into()));
        assert_eq!(
            reply.header("retry-after-ms"),
            (status == 503).then_some("700")
        );
    }
}

#[tokio::test]
async fn metrics_count_under_both_names() {
    let core = Double::saying("abc");
    core.serve(&["metrics-model"], true);
    let client = Client::of(&core).await;
    assert_eq!(client.post(CHAT, &chat()).await.status, 200);
    let text = client.get("/metrics").await;
    assert!(
        text.header("content-type")
            .is_some_and(|kind| kind.starts_with("text/plain"))
    );
    let text = text.text();
    for line in [
        "thalamus_generation_tokens_total{model=\"metrics-model\"} 4",
        "vllm:generation_tokens_total{model_name=\"metrics-model\",engine=\"0\"} 4",
        "vllm:num_requests_running{model_name=\"metrics-model\",engine=\"0\"} 0",
        "vllm:num_requests_waiting{model_name=\"metrics-model\",engine=\"0\"} 0",
        "vllm:prefix_cache_hits_total{model_name=\"metrics-model\",engine=\"0\"} 3",
        "vllm:time_to_first_token_seconds_count{model_name=\"metrics-model\",engine=\"0\"} 1",
        "vllm:inter_token_latency_seconds_count{model_name=\"metrics-model\",engine=\"0\"}",
        "vllm:e2e_request_latency_seconds_count{model_name=\"metrics-model\",engine=\"0\"} 1",
    ] {
        assert!(text.contains(line), "{line} is not in:\n{text}");
    }
    assert!(text.contains("finished_reason=\"stop\""));
    assert!(text.contains("_bucket{"), "latencies have buckets");
}
