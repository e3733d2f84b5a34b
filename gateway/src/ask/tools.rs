//! The tools that a chat offers, and the messages that tell of their calls.
//!
//! Checks shapes, names and sizes; never whether a schema is a good one.

use serde_json::{Map, Value};

use super::fields::{Fields, wrong_type};
use crate::error::{ApiError, quote};

/// Tools of one request.
const TOOLS_MAX: usize = 256;
/// Largest tool in bytes of JSON, its schema included.
const TOOL_BYTES_MAX: usize = 256 * 1024;
/// Longest name, as OpenAI has it.
const NAME_BYTES_MAX: usize = 64;

/// What a chat offers to the model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Offer {
    /// The tools as the template gets them; none if there are none, or none shall be called.
    pub tools: Option<Value>,
    /// Their names: nothing else is ever shown as a call.
    pub names: Vec<String>,
    /// One answer may call several.
    pub parallel: bool,
}

/// Takes `tools`, `tool_choice` and `parallel_tool_calls`.
pub(super) fn take(fields: &mut Fields) -> Result<Offer, ApiError> {
    let tools = match fields.take("tools") {
        None => Vec::new(),
        Some(Value::Array(tools)) => tools,
        Some(other) => return Err(wrong_type("tools", "a list of tools", &other)),
    };
    if tools.len() > TOOLS_MAX {
        let message = format!("tools must hold at most {TOOLS_MAX} tools");
        return Err(ApiError::field("tools", message));
    }
    let mut names = Vec::with_capacity(tools.len());
    for (index, tool) in tools.iter().enumerate() {
        let name = checked(&format!("tools[{index}]"), tool)?;
        if names.contains(&name) {
            let message = format!("tools has {} twice", quote(&name));
            return Err(ApiError::field("tools", message));
        }
        names.push(name);
    }
    let parallel = fields.flag_or("parallel_tool_calls", true)?;
    if !may_call(fields)? || names.is_empty() {
        return Ok(Offer::default());
    }
    Ok(Offer {
        tools: Some(Value::Array(tools)),
        names,
        parallel,
    })
}

/// `auto` or `none`; what needs guidance does not exist yet.
fn may_call(fields: &mut Fields) -> Result<bool, ApiError> {
    match fields.take("tool_choice") {
        None => Ok(true),
        Some(Value::String(word)) if word == "auto" => Ok(true),
        Some(Value::String(word)) if word == "none" => Ok(false),
        Some(_) => {
            let message =
                "tool_choice can only be auto or none yet: nothing forces a model to call";
            Err(ApiError {
                code: "unsupported_parameter",
                ..ApiError::field("tool_choice", message)
            })
        }
    }
}

/// The name of a tool that is one.
fn checked(at: &str, tool: &Value) -> Result<String, ApiError> {
    match tool.get("type") {
        Some(Value::String(kind)) if kind == "function" => {}
        Some(Value::String(_)) => return Err(ApiError::unsupported(&format!("{at}.type"))),
        Some(other) => return Err(wrong_type(&format!("{at}.type"), "a string", other)),
        None => return Err(wrong_type(at, "an object with a type", tool)),
    }
    let at = format!("{at}.function");
    let Some(Value::Object(function)) = tool.get("function") else {
        return Err(ApiError::field(&at, format!("{at} must be an object")));
    };
    if tool.to_string().len() > TOOL_BYTES_MAX {
        let message = format!("{at} must have at most {TOOL_BYTES_MAX} bytes");
        return Err(ApiError::field(&at, message));
    }
    match function.get("parameters") {
        None | Some(Value::Null | Value::Object(_)) => {}
        Some(other) => return Err(wrong_type(&format!("{at}.parameters"), "an object", other)),
    }
    match function.get("description") {
        None | Some(Value::Null | Value::String(_)) => {}
        Some(other) => return Err(wrong_type(&format!("{at}.description"), "a string", other)),
    }
    if function.get("strict") == Some(&Value::Bool(true)) {
        // it promises arguments that fit the schema, which takes guidance
        return Err(ApiError::unsupported(&format!("{at}.strict")));
    }
    name(&at, function)
}

fn name(at: &str, function: &Map<String, Value>) -> Result<String, ApiError> {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    let good = |name: &&str| (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(letter);
    let name = function.get("name").and_then(Value::as_str).filter(good);
    name.map(str::to_owned).ok_or_else(|| {
        let at = format!("{at}.name");
        let message = format!("{at} must be 1 to {NAME_BYTES_MAX} letters, digits, _, - or .");
        ApiError::field(&at, message)
    })
}

/// The calls of an assistant's message, with their arguments as the objects that templates want.
pub(super) fn calls(at: &str, calls: Vec<Value>) -> Result<Value, ApiError> {
    let call = |(index, call): (usize, Value)| {
        let at = format!("{at}.tool_calls[{index}]");
        let Value::Object(mut call) = call else {
            return Err(wrong_type(&at, "an object", &call));
        };
        let at = format!("{at}.function");
        let Some(Value::Object(function)) = call.get_mut("function") else {
            return Err(ApiError::field(&at, format!("{at} must be an object")));
        };
        name(&at, function)?;
        let at = format!("{at}.arguments");
        let arguments = match function.get("arguments") {
            Some(Value::String(text)) => serde_json::from_str(text).ok(),
            Some(Value::Object(object)) => Some(object.clone()),
            _ => None,
        };
        let Some(arguments) = arguments else {
            let message = format!("{at} must be a JSON object, written as a string");
            return Err(ApiError::field(&at, message));
        };
        function.insert("arguments".into(), Value::Object(arguments));
        Ok(Value::Object(call))
    };
    let calls = calls.into_iter().enumerate().map(call);
    Ok(Value::Array(calls.collect::<Result<_, _>>()?))
}
