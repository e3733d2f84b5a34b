//! The chat template of our own small model, as this side renders it: tools, calls, results, thoughts.

use engine::text::{ChatInput, TextModel};
use serde_json::{Map, Value, json};

use crate::fixtures::{load, piece_decoder, pieces};

fn mini() -> TextModel {
    let [config, tokenizer, words] = pieces(piece_decoder());
    let text = include_str!("../../../models/mini/chat_template.jinja");
    let template = ("chat_template.jinja", text.to_owned());
    load(&[config, tokenizer, words, template]).expect("a whole model")
}

fn prompt(messages: Value, tools: Option<&Value>) -> String {
    let input = ChatInput {
        messages: &messages,
        tools,
        add_generation_prompt: true,
        kwargs: &Map::new(),
    };
    mini().render_chat(&input).expect("it renders")
}

#[test]
fn the_small_models_template_teaches_thoughts_and_calls() {
    let format = mini().format().expect("it has markers");
    assert!(format.has_calls() && format.has_thoughts());
}

#[test]
fn the_small_models_template_renders_tools_calls_and_results() {
    let tools = json!([{"type": "function", "function": {"name": "clock"}}]);
    let call = json!({"function": {"name": "clock", "arguments": {"zone": "UTC", "day": 1}}});
    let messages = json!([
        {"role": "user", "content": "time?"},
        {"role": "assistant", "content": "", "reasoning_content": "hm", "tool_calls": [call]},
        {"role": "tool", "content": "12:00"},
    ]);
    assert_eq!(
        prompt(messages, Some(&tools)),
        "<|im_start|>system\n# Tools\n\nFunctions that you may call, a JSON schema on each line:\n<tools>\n\
         {\"type\": \"function\", \"function\": {\"name\": \"clock\"}}\n</tools>\n\n\
         To call one, write its name and arguments as JSON:\n<tool_call>\n\
         {\"name\": <name>, \"arguments\": <object>}\n</tool_call><|im_end|>\n\
         <|im_start|>user\ntime?<|im_end|>\n\
         <|im_start|>assistant\n<think>\nhm\n</think>\n\n<tool_call>\n\
         {\"name\": \"clock\", \"arguments\": {\"zone\": \"UTC\", \"day\": 1}}\n</tool_call><|im_end|>\n\
         <|im_start|>user\n<tool_response>\n12:00\n</tool_response><|im_end|>\n\
         <|im_start|>assistant\n"
    );
}
