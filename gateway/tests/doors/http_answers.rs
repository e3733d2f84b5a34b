//! Whole bodies: what is in them, and that they say what a stream says.

use bus_schemas::{EndReason, Outcome};
use serde_json::{Value, json};

use crate::support::{
    Client, Double, END, Reply,
    core::{MODEL, Step, end},
    ended, items, record,
};

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

fn chat(more: Value) -> Value {
    merge(
        json!({"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}),
        more,
    )
}

fn merge(mut body: Value, more: Value) -> Value {
    let (Value::Object(all), Value::Object(more)) = (&mut body, more) else {
        panic!("objects")
    };
    all.extend(more);
    body
}

#[tokio::test]
async fn a_chat_answer_has_message_finish_and_usage() {
    let core = Double::saying("Hello");
    let reply = Client::of(&core).await.post(CHAT, &chat(json!({}))).await;
    assert_eq!(reply.status, 200);
    let body = reply.json();
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(body["model"], MODEL);
    assert!(
        body["id"]
            .as_str()
            .is_some_and(|id| id.starts_with("chatcmpl-"))
    );
    let choice = json!({
        "index": 0,
        "message": {"role": "assistant", "content": "Hello", "refusal": null},
        "logprobs": null,
        "finish_reason": "stop",
    });
    assert_eq!(body["choices"], json!([choice]));
    let prompt = core.only().prompt.len();
    assert_eq!(
        body["usage"],
        json!({
            "prompt_tokens": prompt,
            "completion_tokens": 6,
            "total_tokens": prompt + 6,
            "prompt_tokens_details": {"cached_tokens": 3},
            "completion_tokens_details": {"reasoning_tokens": 0},
        })
    );
}

#[tokio::test]
async fn the_template_makes_the_prompt_and_the_rest_of_the_context_is_the_limit() {
    let core = Double::saying("x");
    let parts = json!({"messages": [
        {"role": "system", "content": "S"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
    ]});
    Client::of(&core).await.post(CHAT, &chat(parts)).await;
    let spec = core.only();
    let text = engine::text::TextModel::byte_level(MODEL);
    assert_eq!(
        text.decode(&spec.prompt, false),
        "<|start|>system\nS<|end|><|start|>user\nab<|end|><|start|>assistant\n<|go|>"
    );
    assert_eq!(
        spec.max_tokens as usize,
        text.context_tokens() as usize - spec.prompt.len()
    );
}

#[tokio::test]
async fn every_sampling_field_reaches_the_core() {
    let core = Double::saying("x");
    let client = Client::of(&core)
        .await
        .header("x-thalamus-priority", "bulk");
    let body = chat(json!({
        "temperature": 0.5, "top_p": 0.25, "top_k": 7, "min_p": 0.125, "n": 3, "seed": -1,
        "frequency_penalty": 0.75, "presence_penalty": -0.5, "repetition_penalty": 1.5,
        "logit_bias": {"65": -100}, "stop": ["A", "B"], "stop_token_ids": [66], "min_tokens": 2,
        "ignore_eos": true, "max_completion_tokens": 9, "max_tokens": 4, "logprobs": true,
        "top_logprobs": 4, "cache_salt": "s", "priority": 2,
    }));
    assert_eq!(client.post(CHAT, &body).await.status, 200);
    let spec = core.only();
    let sampling = &spec.sampling;
    assert_eq!(
        (sampling.temperature, sampling.top_p, sampling.top_k),
        (0.5, 0.25, 7)
    );
    assert_eq!((sampling.min_p, sampling.repetition_penalty), (0.125, 1.5));
    assert_eq!(
        (sampling.frequency_penalty, sampling.presence_penalty),
        (0.75, -0.5)
    );
    assert_eq!((sampling.seed, sampling.logprobs), (u64::MAX, Some(4)));
    assert_eq!(sampling.logit_bias, [(65, -100.0)]);
    assert_eq!(spec.stops.strings, ["A", "B"]);
    assert_eq!(
        (spec.stops.ids.as_slice(), spec.stops.min_tokens),
        (&[66][..], 2)
    );
    assert!(spec.stops.ignore_eos);
    assert_eq!((spec.choices, spec.max_tokens, spec.priority), (3, 9, -3));
    assert_eq!((spec.salt.as_str(), spec.tenant.as_str()), ("s", "default"));
}

#[tokio::test]
async fn without_a_seed_each_request_draws_its_own() {
    let core = Double::saying("x");
    let client = Client::of(&core).await;
    for _ in 0..2 {
        client.post(CHAT, &chat(json!({}))).await;
    }
    let seeds: Vec<u64> = core.seen().iter().map(|s| s.spec.sampling.seed).collect();
    assert_ne!(seeds[0], seeds[1]);
}

#[tokio::test]
async fn a_completion_takes_all_four_forms_of_a_prompt() {
    let ids = |text: &str| text.bytes().map(u32::from).collect::<Vec<_>>();
    let go = |text: &str| [ids(text), vec![engine::text::GO]].concat();
    for (prompt, wanted) in [
        (json!("ab"), vec![go("ab")]),
        (json!(["ab", "c"]), vec![go("ab"), go("c")]),
        (json!([97, 98]), vec![ids("ab")]),
        (json!([[97], [98, 99]]), vec![ids("a"), ids("bc")]),
    ] {
        let core = Double::saying("ok");
        let reply = Client::of(&core)
            .await
            .post(TEXT, &json!({"prompt": prompt}))
            .await;
        let prompts: Vec<_> = core.seen().into_iter().map(|s| s.spec.prompt).collect();
        assert_eq!(prompts, wanted);
        let choices = reply.json()["choices"].clone();
        assert_eq!(choices.as_array().map(Vec::len), Some(wanted.len()));
        for (index, choice) in choices.as_array().into_iter().flatten().enumerate() {
            assert_eq!(
                (&choice["index"], &choice["text"]),
                (&json!(index), &json!("ok"))
            );
        }
        assert!(core.seen().iter().all(|s| s.spec.max_tokens == 16));
    }
}

#[tokio::test]
async fn several_prompts_with_several_choices_are_numbered_through() {
    let core = Double::playing(|spec| {
        let mut steps = Vec::new();
        for choice in 0..spec.choices {
            let id = spec.prompt[0] + u32::from(choice);
            steps.push(Step::Send(items(vec![
                record(choice, 0, id),
                end(choice, EndReason::Length),
            ])));
        }
        steps.push(ended(Outcome::Completed));
        steps
    });
    let body = json!({"prompt": [[65], [97]], "n": 2, "max_tokens": 1});
    let body = Client::of(&core).await.post(TEXT, &body).await.json();
    let texts: Vec<_> = (0..4).map(|i| body["choices"][i]["text"].clone()).collect();
    assert_eq!(texts, ["A", "B", "a", "b"]);
    assert_eq!(body["choices"][3]["finish_reason"], "length");
    assert_eq!(body["usage"]["prompt_tokens"], 2);
    assert_eq!(body["usage"]["completion_tokens"], 4);
}

#[tokio::test]
async fn echo_puts_the_prompt_first() {
    let core = Double::saying("ok");
    let client = Client::of(&core).await;
    let body = client
        .post(TEXT, &json!({"prompt": "ab", "echo": true, "n": 2}))
        .await
        .json();
    assert_eq!(body["choices"][0]["text"], "abok");
    assert_eq!(body["choices"][1]["text"], "abok");
    let streamed = client
        .post(TEXT, &json!({"prompt": [97], "echo": true, "stream": true}))
        .await;
    assert_eq!(collect(&streamed)["choices"][0]["text"], "aok");
}

/// A core that says what a stop string ends, as a worker would.
fn stopping(text: &'static str) -> std::sync::Arc<Double> {
    Double::playing(move |_| {
        let bytes = text.bytes().zip(0..);
        let mut steps: Vec<_> = bytes
            .map(|(byte, at)| Step::Send(items(vec![record(0, at, byte.into())])))
            .collect();
        steps.push(Step::Send(items(vec![end(0, EndReason::StopString(1))])));
        steps.push(ended(Outcome::Completed));
        steps
    })
}

#[tokio::test]
async fn the_text_ends_before_the_stop_string_unless_it_is_wanted() {
    for (include, wanted) in [(false, "one "), (true, "one END")] {
        for stream in [false, true] {
            let body = chat(json!({
                "stop": ["never", "END"], "include_stop_str_in_output": include, "stream": stream,
            }));
            let reply = Client::of(&stopping("one END"))
                .await
                .post(CHAT, &body)
                .await;
            let body = if stream {
                collect(&reply)
            } else {
                reply.json()
            };
            assert_eq!(body["choices"][0]["message"]["content"], wanted, "{stream}");
            assert_eq!(body["choices"][0]["finish_reason"], "stop");
            // tokens are counted whether shown or not
            assert_eq!(body["usage"]["completion_tokens"].as_u64().unwrap_or(7), 7);
        }
    }
}

#[tokio::test]
async fn a_choice_without_an_end_gets_one() {
    let core = Double::playing(|_| {
        vec![
            Step::Send(items(vec![record(0, 0, 65)])),
            ended(Outcome::Completed),
        ]
    });
    let body = Client::of(&core)
        .await
        .post(CHAT, &chat(json!({})))
        .await
        .json();
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn logprobs_have_each_apis_own_shape() {
    let core = Double::saying("é");
    let client = Client::of(&core).await;
    let body = client
        .post(CHAT, &chat(json!({"logprobs": true, "top_logprobs": 2})))
        .await
        .json();
    let content = &body["choices"][0]["logprobs"]["content"];
    assert_eq!(content[0]["bytes"], json!([0xc3]));
    assert_eq!(content[0]["logprob"], -0.5);
    assert_eq!(content[0]["top_logprobs"][1]["token"], "?");
    assert_eq!(content[2]["token"], "<|end|>");
    assert_eq!(body["choices"][0]["logprobs"]["refusal"], Value::Null);

    let body = client
        .post(TEXT, &json!({"prompt": "x", "logprobs": 1}))
        .await
        .json();
    assert_eq!(
        body["choices"][0]["logprobs"],
        json!({
            "text_offset": [0, 1, 2],
            "token_logprobs": [-0.5, -0.5, -0.5],
            "tokens": ["\u{fffd}", "\u{fffd}", "<|end|>"],
            "top_logprobs": [
                {"\u{fffd}": -0.5, "?": -1.5}, {"\u{fffd}": -0.5, "?": -1.5},
                {"<|end|>": -0.5, "?": -1.5},
            ],
        })
    );
}

#[tokio::test]
async fn collected_streams_equal_whole_bodies() {
    let matrix = [
        json!({}),
        json!({"n": 3}),
        json!({"return_token_ids": true, "n": 2}),
        json!({"max_tokens": 4}),
        json!({"stop": ["lo"], "max_tokens": 5}),
    ];
    for more in matrix {
        for (path, logprobs) in [
            (CHAT, json!({})),
            (CHAT, json!({"logprobs": true, "top_logprobs": 1})),
            (TEXT, json!({})),
            (TEXT, json!({"logprobs": 2})),
        ] {
            let client = Client::of(&Double::saying("Héllo wörld")).await;
            let prompt = if path == CHAT {
                chat(json!({}))
            } else {
                json!({"prompt": "p"})
            };
            let body = merge(merge(prompt, more.clone()), logprobs.clone());
            let whole = client.post(path, &body).await.json();
            let options = json!({"stream": true, "stream_options": {"include_usage": true}});
            let collected = collect(&client.post(path, &merge(body.clone(), options)).await);
            assert_eq!(collected["choices"], whole["choices"], "{path} {body}");
            assert_eq!(collected["usage"], whole["usage"], "{path} {body}");
        }
    }
}

/// A stream as the body that it stands for, put together as a client would.
fn collect(reply: &Reply) -> Value {
    assert_eq!(reply.status, 200, "{}", reply.text());
    let (mut choices, mut usage) = (Vec::<Value>::new(), Value::Null);
    for event in reply.events() {
        if event["usage"].is_object() {
            usage = event["usage"].clone();
        }
        for chunk in event["choices"].as_array().into_iter().flatten() {
            let index = chunk["index"].as_u64().expect("an index") as usize;
            while choices.len() <= index {
                let at = choices.len();
                choices.push(json!({"index": at}));
            }
            add(&mut choices[index], chunk);
        }
    }
    json!({"choices": choices, "usage": usage})
}

fn add(choice: &mut Value, chunk: &Value) {
    if let Some(delta) = chunk.get("delta") {
        if choice.get("message").is_none() {
            assert_eq!(
                delta["role"], "assistant",
                "the first chunk says who speaks"
            );
            choice["message"] = json!({"role": "assistant", "content": "", "refusal": null});
        }
        push(&mut choice["message"]["content"], &delta["content"]);
    } else {
        if choice.get("text").is_none() {
            choice["text"] = json!("");
        }
        push(&mut choice["text"], &chunk["text"]);
    }
    join(choice, "logprobs", &chunk["logprobs"]);
    if let Some(Value::Array(ids)) = chunk.get("token_ids") {
        let all = choice
            .as_object_mut()
            .expect("an object")
            .entry("token_ids");
        all.or_insert(json!([]))
            .as_array_mut()
            .expect("a list")
            .extend(ids.clone());
    }
    if !chunk["finish_reason"].is_null() || choice.get("finish_reason").is_none() {
        choice["finish_reason"] = chunk["finish_reason"].clone();
    }
}

fn push(text: &mut Value, more: &Value) {
    let joined = text.as_str().unwrap_or_default().to_owned() + more.as_str().unwrap_or_default();
    *text = json!(joined);
}

/// Lists of the same name, one after the other.
fn join(choice: &mut Value, name: &str, more: &Value) {
    match (choice.get_mut(name), more) {
        (None | Some(Value::Null), more) => choice[name] = more.clone(),
        (Some(_), Value::Null) => {}
        (Some(all), more) => {
            for (key, list) in more.as_object().expect("an object") {
                if let (Value::Array(all), Value::Array(list)) = (&mut all[key], list) {
                    all.extend(list.clone());
                }
            }
        }
    }
}

#[tokio::test]
async fn token_ids_are_all_that_was_generated() {
    let core = Double::saying("ab");
    let client = Client::of(&core).await;
    let body = client
        .post(CHAT, &chat(json!({"return_token_ids": true})))
        .await
        .json();
    assert_eq!(body["choices"][0]["token_ids"], json!([97, 98, END]));
    let body = client.post(CHAT, &chat(json!({}))).await.json();
    assert!(body["choices"][0].get("token_ids").is_none());
}
