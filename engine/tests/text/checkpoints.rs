//! The text side of real model directories: samples that the reference made, limits, and what is refused.

use std::fs;

use engine::text::{ChatInput, TextError, TextModel};
use serde_json::{Map, Value, json};

use super::fixtures::{checkpoint, config, load, model, piece_decoder, pieces};

const CHECKPOINTS: [&str; 3] = ["llama3", "qwen2", "qwen3"];

#[test]
fn ids_are_those_of_the_reference() {
    for name in CHECKPOINTS {
        let model = model(name);
        let text = fs::read_to_string(checkpoint(name).join("expected.json")).expect("samples");
        let expected: Value = serde_json::from_str(&text).expect("samples are JSON");
        for sample in expected["tokenizer"].as_array().expect("a list of samples") {
            let text = sample["text"].as_str().expect("a text");
            let ids = model.encode(text, true).expect("it can be tokenized");
            assert_eq!(json!(ids), sample["ids"], "{name}: {text:?}");
            assert_eq!(model.decode(&ids, true), text, "{name}");
        }
    }
}

#[test]
fn limits_and_end_ids_come_from_the_files() {
    let model = model("llama3");
    assert_eq!(model.end_ids(), [1]);
    assert_eq!(model.vocab_size(), 384);
    assert_eq!(model.context_tokens(), 1024);
    assert!(model.is_special(0) && !model.is_special(4) && !model.is_special(9999));
    assert_eq!(model.token_text(1), "<|eos|>");
    assert_eq!(model.token_bytes(9999), b"");
    let mut bytes = Vec::new();
    (0..4).for_each(|id| model.vocabulary().append_bytes(id, &mut bytes));
    assert_eq!(bytes, b"", "special tokens are not text");
}

#[test]
fn a_chat_is_rendered_by_the_models_own_template() {
    let model = model("qwen3");
    let messages = json!([{"role": "user", "content": "hi"}]);
    let input = ChatInput {
        messages: &messages,
        tools: None,
        add_generation_prompt: true,
        kwargs: &Map::new(),
    };
    let prompt = model.render_chat(&input).expect("a plain chat");
    assert_eq!(prompt, "<|start|>user\nhi<|end|>\n<|start|>assistant\n");
    let ids = model.encode(&prompt, false).expect("it can be tokenized");
    assert_eq!((ids[0], model.decode(&ids, false)), (2, prompt));
    assert_eq!(model.decode(&ids, true), "user\nhi\nassistant\n");
}

#[test]
fn the_first_file_that_names_end_ids_wins() {
    let end_ids = |config: Value, generation: Option<Value>| {
        let [_, tokenizer, words] = pieces(piece_decoder());
        let mut files = vec![("config.json", config.to_string()), tokenizer, words];
        files.extend(generation.map(|value| ("generation_config.json", value.to_string())));
        load(&files).map(|model| model.end_ids().to_vec())
    };
    let with = |id: Value| json!({"max_position_embeddings": 8, "eos_token_id": id});
    let generation = |id: Value| Some(json!({"eos_token_id": id}));
    let check = |found: Result<Vec<u32>, TextError>, ids: &[u32]| {
        assert_eq!(found.expect("a whole model"), ids);
    };
    check(end_ids(with(json!(5)), generation(json!([7, 8]))), &[7, 8]);
    check(end_ids(with(json!(5)), generation(json!(7))), &[7]);
    check(end_ids(with(json!(5)), generation(Value::Null)), &[5]);
    check(end_ids(with(json!([5, 6])), None), &[5, 6]);
    check(end_ids(with(Value::Null), None), &[2]);
    let wrong = end_ids(with(json!("five")), None).expect_err("an end id is a number");
    assert!(wrong.to_string().contains("eos_token_id"), "{wrong}");
}

#[test]
fn the_smaller_sane_context_wins() {
    let context = |limit: Value| {
        let [config, tokenizer, _] = pieces(piece_decoder());
        let words = (
            "tokenizer_config.json",
            json!({"model_max_length": limit}).to_string(),
        );
        load(&[config, tokenizer, words])
            .expect("a whole model")
            .context_tokens()
    };
    assert_eq!(context(json!(64)), 64);
    assert_eq!(context(json!(512)), 128);
    assert_eq!(context(json!(1e30)), 128);
    assert_eq!(context(Value::Null), 128);
}

#[test]
fn bad_files_are_refused_by_name() {
    let check = |files: &[(&str, String)], parts: &[&str]| {
        let error = load(files).expect_err("bad files").to_string();
        for part in parts {
            assert!(error.contains(part), "{error:?} does not say {part:?}");
        }
    };
    let text = |name, content: &str| (name, content.to_owned());
    let [whole_config, whole_tokenizer, _] = pieces(piece_decoder());
    check(&[], &["config.json"]);
    check(&[config()], &["no tokenizer.json", "put the file"]);
    check(
        &[text("config.json", "{"), whole_tokenizer.clone()],
        &["config.json", "EOF"],
    );
    check(
        &[text("config.json", "{}"), whole_tokenizer.clone()],
        &["max_position_embeddings"],
    );
    check(
        &[config(), text("tokenizer.json", "{}")],
        &["tokenizer.json"],
    );
    check(
        &[config(), text("tokenizer.json", "\u{0}")],
        &["tokenizer.json"],
    );
    let [_, unknown, _] = pieces(json!({"type": "WordPiece", "prefix": "##", "cleanup": true}));
    check(&[config(), unknown], &["tokenizer.json", "WordPiece"]);
    let template = text("chat_template.jinja", "{% if %}");
    check(
        &[whole_config, whole_tokenizer, template],
        &["chat template", "default:1"],
    );
}

#[test]
fn ids_that_the_model_has_not_are_refused() {
    let model = model("qwen2");
    assert!(model.check_ids(&[0, 383]).is_ok());
    let error = model.check_ids(&[5, 384]).expect_err("there are 384 ids");
    assert!(error.is_bad_request());
    assert_eq!(
        error.to_string(),
        "token id 384 is out of range: the model has 384 ids, 0 to 383"
    );
}

#[test]
fn a_tokenizer_that_knows_more_ids_than_the_model_is_held_to_the_models() {
    let [_, tokenizer, words] = pieces(piece_decoder());
    let small = json!({"max_position_embeddings": 8, "vocab_size": 100});
    let model = load(&[("config.json", small.to_string()), tokenizer, words]).expect("a model");
    assert!(matches!(
        model.encode("hello", false),
        Err(TextError::UnknownId { .. })
    ));
}

#[test]
fn the_byte_level_model_needs_no_files() {
    let model = TextModel::byte_level("script/echo");
    let ids = model
        .encode("é<|end|>", true)
        .expect("any text can be tokenized");
    assert_eq!(ids, [0xc3, 0xa9, 256, 258]);
    assert_eq!(model.decode(&ids, true), "é");
    assert_eq!(model.decode(&ids, false), "é<|end|><|go|>");
    assert_eq!(model.end_ids(), [256]);
    assert!(model.has_chat_template());
}
