//! Bad input at the HTTP door: one clear error each, at the right status, naming the field.

use gateway::{Options, http::HttpConfig};
use serde_json::{Value, json};

use crate::support::{Client, Double, core::MODEL};

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

async fn client() -> Client {
    Client::of(&Double::saying("x")).await
}

/// Each field alone is refused by name.
async fn refuses(path: &str, base: Value, fields: &[(&str, Value)]) {
    let client = client().await;
    for (field, value) in fields {
        let mut body = base.clone();
        body[*field] = value.clone();
        let reply = client.post(path, &body).await;
        let (status, kind, _, param) = reply.error();
        assert_eq!(
            (status, kind.as_str()),
            (400, "invalid_request_error"),
            "{field}: {value}"
        );
        let param = param.as_str().unwrap_or_default();
        assert!(
            param.starts_with(field),
            "{field}: {value} is refused as {param:?}"
        );
        assert_eq!(reply.header("x-should-retry"), Some("false"));
    }
}

#[tokio::test]
async fn fields_of_a_wrong_type_or_range_are_named() {
    let base = json!({"messages": [{"role": "user", "content": "hi"}]});
    refuses(
        CHAT,
        base,
        &[
            ("temperature", json!(2.1)),
            ("temperature", json!(-0.1)),
            ("temperature", json!("hot")),
            ("top_p", json!(0)),
            ("top_p", json!(1.1)),
            ("top_k", json!(-2)),
            ("top_k", json!(1.5)),
            ("min_p", json!(1)),
            ("min_p", json!(-1)),
            ("frequency_penalty", json!(3)),
            ("presence_penalty", json!([])),
            ("repetition_penalty", json!(0)),
            ("logit_bias", json!({"x": 1})),
            ("logit_bias", json!({"1": 101})),
            ("logit_bias", json!([1])),
            ("logit_bias", json!({"259": 1})),
            ("seed", json!("1")),
            ("seed", json!(1e30)),
            ("n", json!(0)),
            ("n", json!(129)),
            ("n", json!(true)),
            ("max_tokens", json!(0)),
            ("max_tokens", json!(-1)),
            ("max_completion_tokens", json!("many")),
            ("stop", json!("")),
            ("stop", json!(5)),
            ("stop", json!([1])),
            ("stop", json!(vec!["x"; 17])),
            ("stop", json!("x".repeat(257))),
            ("stop_token_ids", json!([-1])),
            ("stop_token_ids", json!([259])),
        ],
    )
    .await;
}

#[tokio::test]
async fn fields_of_the_answer_and_messages_are_named() {
    let base = json!({"messages": [{"role": "user", "content": "hi"}]});
    refuses(
        CHAT,
        base,
        &[
            ("min_tokens", json!(-1)),
            ("min_tokens", json!(40_000)),
            ("ignore_eos", json!("yes")),
            ("stream", json!("true")),
            ("stream_options", json!({})),
            ("top_logprobs", json!(3)),
            ("logprobs", json!(3)),
            ("model", json!(5)),
            ("model", json!("x".repeat(300))),
            ("messages", json!([])),
            ("messages", json!("hi")),
            ("messages", json!([5])),
            ("messages", json!([{"role": "user"}])),
            ("messages", json!([{"content": "x"}])),
            ("messages", json!([{"role": "boss", "content": "x"}])),
            ("messages", json!([{"role": "user", "content": 5}])),
            ("chat_template_kwargs", json!([])),
            ("add_generation_prompt", json!(1)),
            ("cache_salt", json!("x".repeat(300))),
            ("priority", json!(-1)),
            ("best_of", json!(2)),
            ("return_token_ids", json!(1)),
            ("include_stop_str_in_output", json!("no")),
        ],
    )
    .await;
}

#[tokio::test]
async fn fields_of_a_completion_are_named() {
    let base = json!({"prompt": "x"});
    refuses(
        TEXT,
        base,
        &[
            ("prompt", json!([])),
            ("prompt", json!(5)),
            ("prompt", json!([-1])),
            ("prompt", json!(["a", 1])),
            ("prompt", json!([1, "a"])),
            ("prompt", json!([[]])),
            ("prompt", json!([259])),
            ("prompt", json!(vec!["x"; 65])),
            ("logprobs", json!(21)),
            ("logprobs", json!(true)),
            ("echo", json!("x")),
        ],
    )
    .await;
}

#[tokio::test]
async fn what_does_not_exist_yet_is_refused_by_name() {
    let chat = json!({"messages": [{"role": "user", "content": "hi"}]});
    let image = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]);
    let stream = json!({"continuous_usage_stats": true});
    refuses(
        CHAT,
        chat.clone(),
        &[
            ("tool_choice", json!("required")),
            ("functions", json!([{}])),
            ("response_format", json!({"type": "json_object"})),
            ("structured_outputs", json!({"json": {}})),
            ("guided_regex", json!("a+")),
            ("prompt_logprobs", json!(1)),
            ("modalities", json!(["audio"])),
            ("messages", image),
            ("chat_template", json!("{{ x }}")),
            ("skip_special_tokens", json!(false)),
        ],
    )
    .await;
    refuses(
        TEXT,
        json!({"prompt": "x"}),
        &[("suffix", json!("end")), ("response_format", json!({}))],
    )
    .await;
    refuses(
        TEXT,
        json!({"prompt": "x", "stream": true}),
        &[("stream_options", stream)],
    )
    .await;
    refuses(
        TEXT,
        json!({"prompt": "x", "logprobs": 1}),
        &[("echo", json!(true))],
    )
    .await;
}

#[tokio::test]
async fn what_asks_for_nothing_is_taken_and_what_is_unknown_is_told_back() {
    let core = Double::saying("x");
    let body = json!({
        "messages": [{"role": "user", "content": "hi", "tool_calls": []}], "tools": [],
        "tool_choice": "auto", "response_format": {"type": "text"}, "modalities": ["text"],
        "temperature": null, "best_of": 1, "top_k": -1, "top_logprobs": 0,
        "user": "me", "metadata": {}, "store": true, "new_thing": 1,
    });
    let reply = Client::of(&core).await.post(CHAT, &body).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(
        reply.header("x-ignored-params"),
        Some("user, metadata, store, new_thing")
    );
    assert_eq!(
        (core.only().sampling.temperature, core.only().sampling.top_k),
        (1.0, 0)
    );
}

#[tokio::test]
async fn garbage_is_not_json() {
    let client = client().await;
    let deep = format!(
        "{{\"messages\":{}{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    for body in [
        &b""[..],
        b"   ",
        b"{",
        b"[]",
        b"nonsense",
        b"\xff\xfe\x00",
        b"{\"a\":1}trailing",
        deep.as_bytes(),
    ] {
        for path in [CHAT, TEXT, "/tokenize", "/detokenize"] {
            let (status, _, code, _) = client.send("POST", path, body).await.error();
            assert_eq!((status, code.as_str()), (400, "invalid_json"));
        }
    }
    assert_eq!(client.get("/health").await.status, 200);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_413() {
    let config = HttpConfig {
        body_bytes_max: 1000,
        ..HttpConfig::default()
    };
    let client = Client::with(&Double::saying("x"), Options::default(), config).await;
    let reply = client.send("POST", CHAT, &[b' '; 1001]).await;
    assert_eq!(reply.error().0, 413);
    // one that does not say how large it is
    let chunked = client.header("transfer-encoding", "chunked");
    let mut body = format!("{:x}\r\n", 1001).into_bytes();
    body.extend([b' '; 1001]);
    body.extend(b"\r\n0\r\n\r\n");
    assert_eq!(chunked.send("POST", CHAT, &body).await.error().0, 413);
}

#[tokio::test]
async fn what_does_not_fit_the_context_says_so() {
    let client = client().await;
    let context = 32_768;
    for (body, says) in [
        (json!({"prompt": vec![97; context]}), "no room"),
        (
            json!({"prompt": vec![97; context - 10], "max_tokens": 11}),
            "11 more",
        ),
        (
            json!({"prompt": "x".repeat(context * 256 + 1)}),
            "cannot fit",
        ),
        (json!({"prompt": "x".repeat(context * 2)}), "no room"),
    ] {
        let reply = client.post(TEXT, &body).await;
        assert_eq!(
            (reply.error().0, reply.error().2.as_str()),
            (400, "context_length_exceeded")
        );
        assert!(reply.text().contains(says), "{}", reply.text());
        assert!(reply.text().contains("32768"));
    }
    let fits = json!({"prompt": vec![97; context - 10]});
    assert_eq!(client.post(TEXT, &fits).await.status, 200);
}

#[tokio::test]
async fn unknown_models_routes_and_methods_are_json_errors() {
    let client = client().await;
    let body = json!({"model": "gpt-none", "prompt": "x"});
    let wanted = (
        404,
        "not_found_error".into(),
        "model_not_found".into(),
        json!("model"),
    );
    assert_eq!(client.post(TEXT, &body).await.error(), wanted);
    assert_eq!(client.get("/v1/nothing").await.error().0, 404);
    assert_eq!(client.get(CHAT).await.error().0, 405);
    assert_eq!(client.post("/health", &json!({})).await.error().0, 405);
    let good = json!({"model": MODEL, "prompt": "x"});
    assert_eq!(client.post(TEXT, &good).await.status, 200);
}

#[tokio::test]
async fn bad_headers_are_named() {
    for (name, value) in [
        ("x-request-timeout-ms", "soon"),
        ("x-request-timeout-ms", "0"),
        ("x-request-timeout-ms", "3600001"),
        ("x-thalamus-priority", "system"),
    ] {
        let client = client().await.header(name, value);
        let reply = client.post(TEXT, &json!({"prompt": "x"})).await;
        assert_eq!((reply.error().0, reply.error().3), (400, json!(name)));
    }
    let client = client().await.header("x-long", &"x".repeat(40_000));
    assert_eq!(client.get("/health").await.error().0, 431);
}

#[tokio::test]
async fn a_template_that_refuses_is_a_400() {
    let client = client().await;
    let body = json!({"prompt": "x", "messages": []});
    // a prompt wins over messages in /tokenize, and neither is an error
    assert_eq!(client.post("/tokenize", &body).await.status, 200);
    assert_eq!(
        client.post("/tokenize", &json!({})).await.error().3,
        json!("prompt")
    );
}
