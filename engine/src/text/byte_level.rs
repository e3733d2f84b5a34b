//! The tokenizer of scripted models: an id for each byte and three special ones.
//!
//! It needs no files and has no settings. [`GO`] is what a script goes by: the last one in a sequence marks
//! where the prompt ends and the output begins.

use super::{
    spelling::{Spelling, Start},
    template::{ChatTemplate, TemplateSource},
};

/// Ends a message and a text.
pub const END: u32 = 256;
/// Begins a message: its role, a line feed, its content.
pub const START: u32 = 257;
/// Ends a prompt.
pub const GO: u32 = 258;

/// Spelling of the special ids, from 256 on.
const SPECIALS: [(u32, &str); 3] = [(END, "<|end|>"), (START, "<|start|>"), (GO, "<|go|>")];
/// Context unless a card says otherwise: that of common small models.
pub(super) const CONTEXT_TOKENS: u32 = 32_768;
/// Bytes and special ids.
const VOCAB_SIZE: u32 = 259;

/// Tools and calls as Qwen3 has them, so that a script can play a model that thinks and calls.
const TEMPLATE: &str = "{% if tools %}<|start|>tools\n{% for t in tools %}{{ t | tojson }}\n{% endfor %}<|end|>{% endif %}\
{% for m in messages %}<|start|>{{ m.role }}\n\
{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}\
{% for c in m.tool_calls or [] %}<tool_call>{\"name\": {{ c.function.name | tojson }}, \
\"arguments\": {{ c.function.arguments | tojson }}}</tool_call>{% endfor %}<|end|>{% endfor %}\
{% if add_generation_prompt %}<|start|>assistant\n<|go|>{% endif %}";

/// Bytes of every id.
pub(super) fn spelling() -> Spelling {
    let mut spelling = Spelling::empty(VOCAB_SIZE, vec![END], Start::Plain);
    for byte in 0..=u8::MAX {
        spelling.append(&[byte], false);
    }
    for (_, text) in SPECIALS {
        spelling.append(text.as_bytes(), true);
    }
    spelling
}

/// The chat template.
pub(super) fn template() -> ChatTemplate {
    ChatTemplate::compile(TemplateSource::plain(TEMPLATE), Vec::new())
        .expect("the template is a constant that a test renders")
}

/// Ids of a text; `add_special` ends it with [`GO`].
pub(super) fn encode(text: &str, add_special: bool) -> Vec<u32> {
    let mut ids = Vec::with_capacity(text.len() + 1);
    let mut rest = text;
    while let Some(byte) = rest.bytes().next() {
        match SPECIALS
            .iter()
            .find(|(_, special)| rest.starts_with(special))
        {
            Some((id, special)) => {
                ids.push(*id);
                rest = &rest[special.len()..];
            }
            None => {
                let width = rest.chars().next().map_or(1, char::len_utf8);
                ids.push(u32::from(byte));
                ids.extend(rest.bytes().take(width).skip(1).map(u32::from));
                rest = &rest[width..];
            }
        }
    }
    if add_special {
        ids.push(GO);
    }
    ids
}
