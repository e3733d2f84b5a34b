//! The body of `/v1/completions`.
//!
//! Sorts out the four forms of a prompt; never tokenises.

use bus_schemas::limits::{PROMPT_TOKENS_MAX, TOP_LOGPROBS_MAX};
use serde_json::{Map, Value};

use super::{
    Parsed,
    chat::is_idle,
    common::{self, Common},
    fields::{Fields, ids_of, wrong_type},
};
use crate::error::ApiError;

/// Prompts of one request: each is a request of its own inside.
const PROMPTS_MAX: usize = 64;
/// Choices over all prompts: what one client connection may have running.
const CHOICES_TOTAL_MAX: usize = 256;

/// A completion request.
#[derive(Clone, Debug, PartialEq)]
pub struct CompletionAsk {
    /// What it shares with chat.
    pub common: Common,
    /// At least one.
    pub prompts: Vec<Prompt>,
}

/// One prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// To be tokenised.
    Text(String),
    /// Taken as they are.
    Ids(Vec<u32>),
}

/// Fields that ask for what does not exist yet.
const UNSUPPORTED: [&str; 15] = [
    "suffix",
    "prompt_logprobs",
    "response_format",
    "structured_outputs",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "truncate_prompt_tokens",
    "logits_processors",
    "use_beam_search",
    "prompt_embeds",
    "tools",
    "thinking_token_budget",
    "skip_special_tokens",
];

/// Parses a completion request.
///
/// # Errors
/// A field is wrong or not supported.
pub fn parse_completion(object: Map<String, Value>) -> Result<Parsed<CompletionAsk>, ApiError> {
    let mut fields = Fields::new(object);
    fields.refuse(&UNSUPPORTED, is_idle)?;
    let mut common = common::take(&mut fields)?;
    common.sampling.logprobs = take_logprobs(&mut fields)?;
    common.output.logprobs = common.sampling.logprobs.is_some();
    common.output.echo = fields.flag("echo")?;
    if common.output.echo && common.output.logprobs {
        return Err(ApiError::field(
            "echo",
            "echo together with logprobs is not supported yet",
        ));
    }
    let prompts = take_prompts(&mut fields)?;
    if prompts.len() * usize::from(common.choices) > CHOICES_TOTAL_MAX {
        let message = format!("prompts times n must be at most {CHOICES_TOTAL_MAX}");
        return Err(ApiError::field("n", message));
    }
    Ok(Parsed {
        ask: CompletionAsk { common, prompts },
        ignored: fields.ignored(),
    })
}

fn take_logprobs(fields: &mut Fields) -> Result<Option<u8>, ApiError> {
    let top = fields.count("logprobs", 0..=u32::from(TOP_LOGPROBS_MAX))?;
    Ok(top.map(|top| u8::try_from(top).expect("at most 20")))
}

fn take_prompts(fields: &mut Fields) -> Result<Vec<Prompt>, ApiError> {
    const NAME: &str = "prompt";
    let list = match fields.take(NAME) {
        Some(Value::String(text)) => return Ok(vec![Prompt::Text(text)]),
        Some(Value::Array(list)) => list,
        Some(other) => {
            return Err(wrong_type(
                NAME,
                "text, token ids, or a list of them",
                &other,
            ));
        }
        None => return Err(ApiError::field(NAME, "prompt is missing")),
    };
    match list.first() {
        None => Err(ApiError::field(NAME, "prompt is an empty list")),
        Some(Value::Number(_)) => Ok(vec![Prompt::Ids(ids_of(NAME, &list, PROMPT_TOKENS_MAX)?)]),
        Some(_) if list.len() > PROMPTS_MAX => {
            let message = format!("prompt must hold at most {PROMPTS_MAX} prompts");
            Err(ApiError::field(NAME, message))
        }
        Some(_) => list.into_iter().map(prompt).collect(),
    }
}

fn prompt(value: Value) -> Result<Prompt, ApiError> {
    match value {
        Value::String(text) => Ok(Prompt::Text(text)),
        Value::Array(ids) => Ok(Prompt::Ids(ids_of("prompt", &ids, PROMPT_TOKENS_MAX)?)),
        other => Err(wrong_type(
            "prompt",
            "a list of texts or of lists of token ids",
            &other,
        )),
    }
}
