//! Chat templates: what Hugging Face's own renderer gives, whose words an error has, and what is stopped.

use engine::text::{ChatInput, TextError, TextModel};
use serde_json::{Map, Value, json};

use super::fixtures::{load, piece_decoder, pieces};

/// A model with this template, as its tokenizer's configuration has it.
fn model(template: Value) -> TextModel {
    let [config, tokenizer, _] = pieces(piece_decoder());
    let words = json!({
        "chat_template": template,
        "bos_token": "<s>",
        "eos_token": {"content": "</s>"},
    });
    let files = [
        config,
        tokenizer,
        ("tokenizer_config.json", words.to_string()),
    ];
    load(&files).expect("the template compiles")
}

fn render_with(
    model: &TextModel,
    messages: Value,
    tools: Option<Value>,
    kwargs: Value,
) -> Result<String, TextError> {
    let kwargs: Map<String, Value> = kwargs.as_object().cloned().unwrap_or_default();
    model.render_chat(&ChatInput {
        messages: &messages,
        tools: tools.as_ref(),
        add_generation_prompt: true,
        kwargs: &kwargs,
    })
}

fn render(template: &str, messages: Value) -> Result<String, TextError> {
    render_with(&model(json!(template)), messages, None, Value::Null)
}

fn check(template: &str, messages: Value, expected: &str) {
    assert_eq!(
        render(template, messages).expect("it renders"),
        expected,
        "{template}"
    );
}

#[test]
fn templates_render_as_elsewhere() {
    let hi = || json!([{"role": "user", "content": " hi "}]);
    check("{{ bos_token }}{{ eos_token }}", hi(), "<s></s>");
    check("{{ messages[0]['content'] | trim }}|", hi(), "hi|");
    check("{{ messages[0].content.strip().upper() }}", hi(), "HI");
    check("{{ messages[0].content.split('h')[-1] }}", hi(), "i ");
    check(
        "{% for m in messages %}\n  {% if true %}\n{{ m.role }}\n  {% endif %}\n{% endfor %}",
        hi(),
        "user\n",
    );
    check("{{ messages[0].name }}{{ pad_token }}", hi(), "");
    check(
        "{{ none }} {{ true }} {{ add_generation_prompt }}",
        hi(),
        "None True True",
    );
    check(
        "{% for i in range(9) %}{% if i > 1 %}{% break %}{% endif %}{{ i }}{% endfor %}",
        hi(),
        "01",
    );
    check(
        "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
        hi(),
        "1",
    );
    check("{{ '<b>&' }}", hi(), "<b>&");
    check(
        "{% if tools is none and documents is none %}bare{% endif %}",
        hi(),
        "bare",
    );
}

#[test]
fn json_is_written_as_python_writes_it() {
    let value = || json!([{"z": "<é'\">", "a": [1, 2.5, true, null], "e": {}}]);
    check(
        "{{ messages[0] | tojson }}",
        value(),
        r#"{"z": "<é'\">", "a": [1, 2.5, true, null], "e": {}}"#,
    );
    check(
        "{{ messages[0].a | tojson(indent=2) }}",
        value(),
        "[\n  1,\n  2.5,\n  true,\n  null\n]",
    );
    check(
        "{{ messages[0].z | tojson(ensure_ascii=False) }}",
        value(),
        r#""<é'\">""#,
    );
}

#[test]
fn a_template_that_raises_is_heard() {
    let error = render("{{ raise_exception('roles must alternate') }}", json!([]));
    let error = error.expect_err("it raises");
    assert!(error.is_bad_request());
    assert_eq!(
        error.to_string(),
        "the chat template refuses these messages: roles must alternate"
    );
}

#[test]
fn a_failing_template_says_where() {
    let error = render("a\n{{ messages[0].x.y }}", json!([{}])).expect_err("x is undefined");
    assert!(
        matches!(error, TextError::Template(_)) && error.to_string().contains(":2"),
        "{error}"
    );
}

#[test]
fn templates_that_run_away_are_stopped() {
    let endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";
    let check = |template: &str, messages: Value| match render(template, messages) {
        Err(TextError::TemplateFuel | TextError::TemplateTooLong(_) | TextError::Template(_)) => {}
        other => panic!("{template} gave {other:?}"),
    };
    check(endless, json!([]));
    check("{{ 'x' * 9999999999 }}", json!([]));
    check("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", json!([]));
    let wordy = "{% for i in range(20000) %}{{ messages[0] }}{% endfor %}";
    let error = render(wordy, json!(["x".repeat(1000)])).expect_err("20 MB is too much");
    assert!(matches!(error, TextError::TemplateTooLong(_)), "{error}");
}

#[test]
fn a_list_of_templates_has_one_for_tools() {
    let model = model(json!([
        {"name": "default", "template": "plain"},
        {"name": "tool_use", "template": "{{ tools[0].name }}"},
    ]));
    let with = |tools| render_with(&model, json!([]), tools, Value::Null).expect("it renders");
    assert_eq!(with(None), "plain");
    assert_eq!(with(Some(json!([{"name": "clock"}]))), "clock");
}

#[test]
fn arguments_reach_the_template_but_replace_nothing() {
    let model = model(json!(
        "{{ enable_thinking }} {{ messages | length }} {{ bos_token }}"
    ));
    let kwargs = json!({"enable_thinking": false, "messages": [1, 2, 3], "bos_token": "!"});
    let text = render_with(&model, json!([{}]), None, kwargs).expect("it renders");
    assert_eq!(text, "False 1 !");
}

#[test]
fn today_is_known() {
    let text = render("{{ strftime_now('%Y-%m-%d') }}", json!([])).expect("it renders");
    let digits = text
        .split('-')
        .map(|part| part.parse::<u32>().expect("a number"));
    let [year, month, day] = digits.collect::<Vec<_>>()[..] else {
        panic!("no date: {text}")
    };
    assert!(
        year >= 2024 && (1..=12).contains(&month) && (1..=31).contains(&day),
        "{text}"
    );
}

#[test]
fn a_file_of_its_own_wins() {
    let [config, tokenizer, _] = pieces(piece_decoder());
    let words = (
        "tokenizer_config.json",
        json!({"chat_template": "old"}).to_string(),
    );
    let own = ("chat_template.jinja", "new\n".to_owned());
    let model = load(&[config, tokenizer, words, own]).expect("a whole model");
    assert_eq!(
        render_with(&model, json!([]), None, Value::Null).expect("it renders"),
        "new"
    );
}

#[test]
fn a_model_without_a_template_says_so() {
    let model = load(&pieces(piece_decoder())).expect("a whole model");
    assert!(!model.has_chat_template());
    let error = render_with(&model, json!([]), None, Value::Null).expect_err("no template");
    assert!(matches!(error, TextError::NoTemplate));
}
