//! Tools and thoughts on chat: what the prompt is told, and how calls come back, in one body, in chunks, on the bus.

use bus_schemas::{EndReason, Outcome};
use serde_json::{Value, json};

use crate::support::{
    Client, Double, Reply, Step,
    core::{MODEL, end},
    ended, items,
    nats::Caller,
    record,
};

const CHAT: &str = "/v1/chat/completions";

/// Thinks, says something, calls twice, and calls what nobody offered.
const CALLING: &str = "<think>\nhm\n</think>\n\nLet me see.\n\
<tool_call>\n{\"name\": \"clock\", \"arguments\": {\"zone\": \"日本\"}}\n</tool_call>\n\
<tool_call>{\"name\":\"delete_all\",\"arguments\":{}}</tool_call>\n\
<tool_call>{\"name\":\"add\",\"arguments\":{\"a\":1.50}}</tool_call>";

fn tool(name: &str) -> Value {
    let parameters = json!({"type": "object", "properties": {}});
    json!({"type": "function", "function": {"name": name, "parameters": parameters}})
}

fn ask(more: Value) -> Value {
    let mut body = json!({
        "model": MODEL,
        "messages": [{"role": "user", "content": "what time is it"}],
        "tools": [tool("clock"), tool("add")],
    });
    let all = body.as_object_mut().expect("an object");
    all.extend(more.as_object().expect("an object").clone());
    body
}

async fn whole(core: &std::sync::Arc<Double>, more: Value) -> Value {
    let reply = Client::of(core).await.post(CHAT, &ask(more)).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

/// Name and arguments of each call of a message.
fn calls(message: &Value) -> Vec<(&str, &str)> {
    let calls = message["tool_calls"].as_array().into_iter().flatten();
    calls
        .map(|call| {
            let field = |name: &str| call["function"][name].as_str().expect("a text");
            assert_eq!(call["type"], "function");
            (field("name"), field("arguments"))
        })
        .collect()
}

#[tokio::test]
async fn thoughts_text_and_offered_calls_are_apart() {
    let body = whole(&Double::saying(CALLING), json!({})).await;
    let (choice, message) = (&body["choices"][0], &body["choices"][0]["message"]);
    assert_eq!(message["reasoning_content"], "hm");
    assert_eq!(message["content"], "Let me see.");
    assert_eq!(
        calls(message),
        [("clock", "{\"zone\": \"日本\"}"), ("add", "{\"a\":1.50}")]
    );
    assert_ne!(
        message["tool_calls"][0]["id"],
        message["tool_calls"][1]["id"]
    );
    assert_eq!(choice["finish_reason"], "tool_calls");
    let thought = body["usage"]["completion_tokens_details"]["reasoning_tokens"].as_u64();
    // a token a byte: markers and line feeds count as thinking
    assert_eq!(thought, Some("\nhm\n</think>".len() as u64 + 1));
}

#[tokio::test]
async fn a_collected_stream_of_calls_is_the_whole_body() {
    let texts = [
        CALLING,
        "<think>only thought</think>",
        "<tool_call>{\"name\":\"add\",\"arguments\":{}}</tool_call>",
        "plain <b>text</b> <",
        "",
    ];
    for text in texts {
        for more in [json!({}), json!({"logprobs": true}), json!({"n": 2})] {
            let core = Double::saying(text);
            let mut body = whole(&core, more.clone()).await["choices"].clone();
            let mut streaming = more.clone();
            streaming["stream"] = json!(true);
            let reply = Client::of(&core).await.post(CHAT, &ask(streaming)).await;
            let mut choices = collect(&reply);
            strip_ids(&mut body);
            strip_ids(&mut choices);
            assert_eq!(choices, body, "{text} {more}");
        }
    }
}

/// Ids differ from request to request.
fn strip_ids(choices: &mut Value) {
    for choice in choices.as_array_mut().expect("a list") {
        choice
            .as_object_mut()
            .expect("an object")
            .remove("logprobs");
        let calls = choice["message"].get_mut("tool_calls");
        for call in calls.and_then(Value::as_array_mut).into_iter().flatten() {
            let id = call["id"].take();
            assert!(
                id.as_str().is_some_and(|id| id.starts_with("call_")),
                "{id}"
            );
        }
    }
}

/// The choices of a stream, put together as the OpenAI SDK does.
fn collect(reply: &Reply) -> Value {
    let mut choices = Vec::<Value>::new();
    for event in reply.events() {
        for chunk in event["choices"].as_array().into_iter().flatten() {
            let index = chunk["index"].as_u64().expect("an index") as usize;
            while choices.len() <= index {
                let message = json!({"role": "assistant", "content": null, "refusal": null});
                choices.push(json!({"index": choices.len(), "message": message}));
            }
            let choice = &mut choices[index];
            for name in ["content", "reasoning_content"] {
                append(&mut choice["message"], name, &chunk["delta"][name]);
            }
            for call in chunk["delta"]["tool_calls"]
                .as_array()
                .into_iter()
                .flatten()
            {
                add_call(&mut choice["message"], call);
            }
            assert!(
                choice.get("finish_reason").is_none_or(Value::is_null),
                "one end"
            );
            choice["finish_reason"] = chunk["finish_reason"].clone();
        }
    }
    json!(choices)
}

fn append(object: &mut Value, name: &str, more: &Value) {
    if let Some(more) = more.as_str() {
        let joined = object[name].as_str().unwrap_or_default().to_owned() + more;
        object[name] = json!(joined);
    }
}

fn add_call(message: &mut Value, call: &Value) {
    if message.get("tool_calls").is_none() {
        message["tool_calls"] = json!([]);
    }
    let calls = message["tool_calls"].as_array_mut().expect("a list");
    let index = call["index"].as_u64().expect("an index") as usize;
    if let Some(begun) = calls.get_mut(index) {
        assert!(call.get("id").is_none(), "only the first part names it");
        append(
            &mut begun["function"],
            "arguments",
            &call["function"]["arguments"],
        );
    } else {
        assert_eq!(index, calls.len(), "calls are numbered through");
        let mut call = call.clone();
        call.as_object_mut().expect("an object").remove("index");
        calls.push(call);
    }
}

#[tokio::test]
async fn a_call_that_was_cut_off_is_not_shown_and_length_wins() {
    let first = "<tool_call>{\"name\":\"add\",\"arguments\":{}}</tool_call>";
    for (text, shown) in [
        (format!("{first}<tool_call>{{\"name\": \"clo"), 1),
        (
            "<tool_call>{\"name\":\"add\",\"arguments\":{}}".to_owned(),
            0,
        ),
    ] {
        let core = Double::playing(move |_| {
            let records = text.bytes().zip(0..).map(|(b, at)| record(0, at, b.into()));
            let mut all: Vec<_> = records.collect();
            all.push(end(0, EndReason::Length));
            vec![Step::Send(items(all)), ended(Outcome::Completed)]
        });
        let body = whole(&core, json!({})).await;
        assert_eq!(calls(&body["choices"][0]["message"]).len(), shown);
        assert_eq!(body["choices"][0]["finish_reason"], "length");
    }
}

#[tokio::test]
async fn without_parallel_calls_one_is_shown() {
    let core = Double::saying(CALLING);
    let body = whole(&core, json!({"parallel_tool_calls": false})).await;
    let message = &body["choices"][0]["message"];
    assert_eq!(calls(message), [("clock", "{\"zone\": \"日本\"}")]);
}

#[tokio::test]
async fn tools_that_must_not_be_called_are_neither_told_nor_shown() {
    let core = Double::saying(CALLING);
    let body = whole(&core, json!({"tool_choice": "none"})).await;
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    assert_eq!(body["choices"][0]["message"]["content"], "Let me see.");
    assert!(body["choices"][0]["message"].get("tool_calls").is_none());
    let text = engine::text::TextModel::byte_level(MODEL);
    let prompt = text.decode(&core.only().prompt, false);
    assert!(!prompt.contains("clock"), "{prompt}");
}

#[tokio::test]
async fn the_template_sees_tools_calls_and_results() {
    let core = Double::saying("x");
    let call = json!({"id": "c", "type": "function", "function": {"name": "clock", "arguments": "{\"zone\":\"UTC\"}"}});
    let messages = json!([
        {"role": "user", "content": "time?"},
        {"role": "assistant", "content": null, "reasoning_content": "hm", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "12:00"},
    ]);
    whole(
        &core,
        json!({"messages": messages, "tools": [tool("clock")]}),
    )
    .await;
    let text = engine::text::TextModel::byte_level(MODEL);
    assert_eq!(
        text.decode(&core.only().prompt, false),
        "<|start|>tools\n{\"type\": \"function\", \"function\": {\"name\": \"clock\", \"parameters\": \
         {\"type\": \"object\", \"properties\": {}}}}\n<|end|><|start|>user\ntime?<|end|>\
         <|start|>assistant\n<think>hm</think><tool_call>{\"name\": \"clock\", \"arguments\": {\"zone\": \"UTC\"}}\
         </tool_call><|end|><|start|>tool\n12:00<|end|><|start|>assistant\n<|go|>"
    );
}

#[tokio::test]
async fn both_doors_give_the_same_calls() {
    let http = whole(&Double::saying(CALLING), json!({})).await;
    let caller = Caller::of(&Double::saying(CALLING)).await;
    let mut answers = caller.ask("thalamus.v1.chat", &[], &ask(json!({}))).await;
    let nats = answers.json().await;
    let (mut http, mut nats) = (http["choices"].clone(), nats["choices"].clone());
    strip_ids(&mut http);
    strip_ids(&mut nats);
    assert_eq!(http, nats);
}

#[tokio::test]
async fn wrong_tools_are_refused_by_name() {
    let client = Client::of(&Double::saying("x")).await;
    let function = |more: Value| json!([{"type": "function", "function": more}]);
    let called = |function: Value| {
        let call = json!({"id": "c", "type": "function", "function": function});
        json!([{"role": "assistant", "content": null, "tool_calls": [call]}])
    };
    let many: Vec<_> = (0..257).map(|n| tool(&format!("t{n}"))).collect();
    let big = json!({"name": "f", "description": "x".repeat(300_000)});
    let cases = [
        ("tools", json!("x"), "tools"),
        ("tools", json!(many), "tools"),
        ("tools", json!([tool("a"), tool("a")]), "tools"),
        ("tools", json!([{"type": "web_search"}]), "tools[0].type"),
        ("tools", json!([{"type": "function"}]), "tools[0].function"),
        (
            "tools",
            function(json!({"name": "a b"})),
            "tools[0].function.name",
        ),
        (
            "tools",
            function(json!({"name": ""})),
            "tools[0].function.name",
        ),
        ("tools", function(big), "tools[0].function"),
        (
            "tools",
            function(json!({"name": "f", "parameters": 1})),
            "tools[0].function.parameters",
        ),
        (
            "tools",
            function(json!({"name": "f", "strict": true})),
            "tools[0].function.strict",
        ),
        ("tool_choice", json!("required"), "tool_choice"),
        (
            "tool_choice",
            json!({"type": "function", "function": {"name": "clock"}}),
            "tool_choice",
        ),
        ("parallel_tool_calls", json!("no"), "parallel_tool_calls"),
        (
            "messages",
            called(json!({})),
            "messages[0].tool_calls[0].function.name",
        ),
        (
            "messages",
            called(json!({"name": "f", "arguments": "{\"cut"})),
            "messages[0].tool_calls[0].function.arguments",
        ),
        (
            "messages",
            json!([{"role": "user", "content": "x", "tool_calls": [{}]}]),
            "messages[0].tool_calls",
        ),
    ];
    for (name, value, param) in cases {
        let reply = client.post(CHAT, &ask(json!({ name: value }))).await;
        let (status, kind, _, found) = reply.error();
        assert_eq!((status, found), (400, json!(param)), "{name}");
        assert_eq!(kind, "invalid_request_error");
    }
}
