//! The bodies of `/tokenize` and `/detokenize`.
//!
//! Only the shapes; the work is the tokenizer's.

use bus_schemas::limits::PROMPT_TOKENS_MAX;
use serde_json::{Map, Value};

use super::{
    Parsed,
    chat::{Conversation, take_conversation},
    common::take_model,
    fields::Fields,
};
use crate::error::ApiError;

/// Text or messages to be tokenised.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenizeAsk {
    /// The model; none means the only one there is.
    pub model: Option<String>,
    /// What.
    pub input: TokenizeInput,
    /// Put the tokenizer's own begin and end tokens around it.
    pub add_special_tokens: bool,
    /// Tell each token's text too.
    pub token_strings: bool,
}

/// What is tokenised.
#[derive(Clone, Debug, PartialEq)]
pub enum TokenizeInput {
    /// As it stands.
    Text(String),
    /// Through the chat template.
    Conversation(Conversation),
}

/// Ids to be turned into text.
#[derive(Clone, Debug, PartialEq)]
pub struct DetokenizeAsk {
    /// The model; none means the only one there is.
    pub model: Option<String>,
    /// The ids.
    pub ids: Vec<u32>,
}

/// Parses a request to tokenise.
///
/// # Errors
/// A field is wrong or missing.
pub fn parse_tokenize(object: Map<String, Value>) -> Result<Parsed<TokenizeAsk>, ApiError> {
    let mut fields = Fields::new(object);
    fields.refuse(
        &["chat_template", "continue_final_message"],
        super::chat::is_idle,
    )?;
    let model = take_model(&mut fields)?;
    let text = fields.text("prompt", usize::MAX)?;
    let from_text = text.is_some();
    let input = match text {
        Some(text) => TokenizeInput::Text(text),
        None if fields.has("messages") => {
            TokenizeInput::Conversation(take_conversation(&mut fields)?)
        }
        None => return Err(ApiError::field("prompt", "give prompt or messages")),
    };
    let ask = TokenizeAsk {
        model,
        input,
        // a template writes its own special tokens
        add_special_tokens: fields.flag_or("add_special_tokens", from_text)?,
        token_strings: fields.flag("return_token_strs")?,
    };
    Ok(Parsed {
        ask,
        ignored: fields.ignored(),
    })
}

/// Parses a request to detokenise.
///
/// # Errors
/// A field is wrong or missing.
pub fn parse_detokenize(object: Map<String, Value>) -> Result<Parsed<DetokenizeAsk>, ApiError> {
    let mut fields = Fields::new(object);
    let model = take_model(&mut fields)?;
    let Some(ids) = fields.ids("tokens", PROMPT_TOKENS_MAX)? else {
        return Err(ApiError::field(
            "tokens",
            "tokens is missing: a list of token ids",
        ));
    };
    let ask = DetokenizeAsk { model, ids };
    Ok(Parsed {
        ask,
        ignored: fields.ignored(),
    })
}
