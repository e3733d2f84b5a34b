//! The body of `/v1/chat/completions`.
//!
//! Checks the messages' shape and flattens their text parts; never renders a template.

use bus_schemas::limits::TOP_LOGPROBS_MAX;
use serde_json::{Map, Value};

use super::{
    Parsed,
    common::{self, Common},
    fields::{Fields, wrong_type},
    tools::{self, Offer},
};
use crate::error::{ApiError, quote};

/// Messages of one request: a long agent session has some hundreds.
const MESSAGES_MAX: usize = 16_384;

/// A chat request.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatAsk {
    /// What it shares with completions.
    pub common: Common,
    /// What the template gets.
    pub conversation: Conversation,
}

/// What a chat template gets.
#[derive(Clone, Debug, PartialEq)]
pub struct Conversation {
    /// A list of messages: a role each, content as a string.
    pub messages: Value,
    /// The tools that may be called.
    pub offer: Offer,
    /// More variables of the template.
    pub kwargs: Map<String, Value>,
    /// Open the assistant's turn after the last message.
    pub add_generation_prompt: bool,
}

/// Fields that ask for what does not exist yet.
const UNSUPPORTED: [&str; 25] = [
    "functions",
    "function_call",
    "response_format",
    "structured_outputs",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "prompt_logprobs",
    "modalities",
    "audio",
    "prediction",
    "web_search_options",
    "thinking_token_budget",
    "truncate_prompt_tokens",
    "chat_template",
    "continue_final_message",
    "documents",
    "mm_processor_kwargs",
    "logits_processors",
    "use_beam_search",
    "echo",
    "suffix",
    "prompt_embeds",
    "skip_special_tokens",
];

/// Parses a chat request.
///
/// # Errors
/// A field is wrong or not supported.
pub fn parse_chat(object: Map<String, Value>) -> Result<Parsed<ChatAsk>, ApiError> {
    let mut fields = Fields::new(object);
    fields.refuse(&UNSUPPORTED, is_idle)?;
    let mut common = common::take(&mut fields)?;
    if let Some(max) = common::take_max_completion_tokens(&mut fields)? {
        common.max_tokens = Some(max);
    }
    common.sampling.logprobs = take_logprobs(&mut fields)?;
    common.output.logprobs = common.sampling.logprobs.is_some();
    let conversation = take_conversation(&mut fields)?;
    Ok(Parsed {
        ask: ChatAsk {
            common,
            conversation,
        },
        ignored: fields.ignored(),
    })
}

/// Values that ask for nothing: what some SDKs always send.
pub(super) fn is_idle(name: &str, value: &Value) -> bool {
    match (name, value) {
        ("skip_special_tokens", Value::Bool(skip)) => *skip,
        (_, Value::Bool(false)) => true,
        (_, Value::Array(list)) if list.is_empty() => true,
        ("tool_choice" | "function_call", Value::String(word)) => word == "none" || word == "auto",
        ("response_format", Value::Object(format)) => {
            format.get("type").and_then(Value::as_str) == Some("text")
        }
        ("modalities", Value::Array(list)) => list.iter().all(|word| word == "text"),
        ("suffix", Value::String(text)) => text.is_empty(),
        _ => false,
    }
}

/// Takes messages and the template's variables.
pub(super) fn take_conversation(fields: &mut Fields) -> Result<Conversation, ApiError> {
    let messages = match fields.take("messages") {
        Some(Value::Array(list)) => list,
        Some(other) => return Err(wrong_type("messages", "a list of messages", &other)),
        None => return Err(ApiError::field("messages", "messages is missing")),
    };
    if messages.is_empty() || messages.len() > MESSAGES_MAX {
        let text = format!("messages must hold 1 to {MESSAGES_MAX} messages");
        return Err(ApiError::field("messages", text));
    }
    let kwargs = match fields.take("chat_template_kwargs") {
        None => Map::new(),
        Some(Value::Object(kwargs)) => kwargs,
        Some(other) => return Err(wrong_type("chat_template_kwargs", "an object", &other)),
    };
    let messages = messages.into_iter().enumerate().map(message);
    Ok(Conversation {
        messages: Value::Array(messages.collect::<Result<_, _>>()?),
        offer: tools::take(fields)?,
        kwargs,
        add_generation_prompt: fields.flag_or("add_generation_prompt", true)?,
    })
}

fn take_logprobs(fields: &mut Fields) -> Result<Option<u8>, ApiError> {
    let wanted = fields.flag("logprobs")?;
    let top = fields.count("top_logprobs", 0..=u32::from(TOP_LOGPROBS_MAX))?;
    match top {
        Some(top) if !wanted && top > 0 => Err(ApiError::field(
            "top_logprobs",
            "top_logprobs needs logprobs: true",
        )),
        top => Ok(wanted.then(|| u8::try_from(top.unwrap_or(0)).expect("at most 20"))),
    }
}

fn message((index, value): (usize, Value)) -> Result<Value, ApiError> {
    let at = format!("messages[{index}]");
    let Value::Object(mut message) = value else {
        return Err(wrong_type(&at, "an object with role and content", &value));
    };
    check_role(&at, message.get("role"))?;
    let calls = match message.shift_remove("tool_calls") {
        None | Some(Value::Null) => None,
        Some(Value::Array(calls)) if calls.is_empty() => None,
        Some(Value::Array(calls)) if message.get("role").is_some_and(|r| r == "assistant") => {
            Some(tools::calls(&at, calls)?)
        }
        Some(_) => {
            let name = format!("{at}.tool_calls");
            let text = format!("{name} must be a list of calls, in a message of the assistant");
            return Err(ApiError::field(&name, text));
        }
    };
    for name in ["function_call", "audio"] {
        match message.shift_remove(name) {
            None | Some(Value::Null) => {}
            Some(Value::Array(list)) if list.is_empty() => {}
            Some(_) => return Err(ApiError::unsupported(&format!("{at}.{name}"))),
        }
    }
    let content = match message.shift_remove("content") {
        Some(Value::String(text)) => text,
        Some(Value::Array(parts)) => flatten(&at, parts)?,
        Some(Value::Null) | None if calls.is_some() => String::new(),
        Some(Value::Null) | None => {
            return Err(ApiError::field(&at, format!("{at} has no content")));
        }
        Some(other) => {
            let name = format!("{at}.content");
            return Err(wrong_type(&name, "a string or a list of parts", &other));
        }
    };
    message.insert("content".into(), Value::String(content));
    if let Some(calls) = calls {
        message.insert("tool_calls".into(), calls);
    }
    Ok(Value::Object(message))
}

fn check_role(at: &str, role: Option<&Value>) -> Result<(), ApiError> {
    let name = format!("{at}.role");
    match role {
        Some(Value::String(role)) => match role.as_str() {
            "system" | "developer" | "user" | "assistant" | "tool" => Ok(()),
            other => {
                let roles = "system, developer, user, assistant or tool";
                let text = format!("{name} must be {roles}, not {}", quote(other));
                Err(ApiError::field(&name, text))
            }
        },
        Some(other) => Err(wrong_type(&name, "a string", other)),
        None => Err(ApiError::field(&name, format!("{name} is missing"))),
    }
}

/// The text parts, one after the other.
fn flatten(at: &str, parts: Vec<Value>) -> Result<String, ApiError> {
    let mut text = String::new();
    for (index, part) in parts.into_iter().enumerate() {
        let name = format!("{at}.content[{index}]");
        let kind = part.get("type").and_then(Value::as_str);
        match (kind, part.get("text").and_then(Value::as_str)) {
            (Some("text"), Some(piece)) => text.push_str(piece),
            (Some("text") | None, _) => return Err(wrong_type(&name, "a text part", &part)),
            (Some(_), _) => return Err(ApiError::unsupported(&name)),
        }
    }
    Ok(text)
}
