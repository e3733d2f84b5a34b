//! `/tokenize`, `/detokenize` and `/tokenizer_info`, in vLLM's shapes.
//!
//! Runs off the async threads; never submits anything.

use serde_json::{Value, json};

use crate::{
    ask::{self, TokenizeInput},
    backend::ModelEntry,
    error::ApiError,
    json, models,
    prepare::{conversation_ids, encode, text_error},
};

/// Text or messages to ids.
pub(crate) fn tokenize(
    body: &[u8],
    token: Option<&str>,
    models: Vec<ModelEntry>,
) -> Result<Value, ApiError> {
    let ask = ask::parse_tokenize(json::object(body)?)?.ask;
    let text = models::choose(models, ask.model.as_deref(), token)?.text;
    let ids = match &ask.input {
        TokenizeInput::Text(prompt) => encode(prompt, ask.add_special_tokens, &text, "prompt")?,
        TokenizeInput::Conversation(conversation) => {
            conversation_ids(conversation, ask.add_special_tokens, &text)?
        }
    };
    let strings = || {
        ids.iter()
            .map(|id| text.token_text(*id))
            .collect::<Vec<_>>()
    };
    Ok(json!({
        "count": ids.len(),
        "max_model_len": text.context_tokens(),
        "token_strs": ask.token_strings.then(strings),
        "tokens": ids,
    }))
}

/// Ids to text.
pub(crate) fn detokenize(
    body: &[u8],
    token: Option<&str>,
    models: Vec<ModelEntry>,
) -> Result<Value, ApiError> {
    let ask = ask::parse_detokenize(json::object(body)?)?.ask;
    let text = models::choose(models, ask.model.as_deref(), token)?.text;
    text.check_ids(&ask.ids)
        .map_err(|error| text_error(&error, "tokens"))?;
    Ok(json!({ "prompt": text.decode(&ask.ids, false) }))
}

/// What there is to know of a tokenizer.
pub(crate) fn describe(model: &ModelEntry) -> Value {
    json!({
        "model": model.name,
        "vocab_size": model.text.vocab_size(),
        "eos_token_ids": model.text.end_ids(),
        "model_max_length": model.text.context_tokens(),
        "has_chat_template": model.text.has_chat_template(),
    })
}
