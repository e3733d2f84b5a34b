//! The fields that chat and completions share: model, sampling, stops, output.
//!
//! Never fills in what depends on a model (its longest output, its vocabulary): that is `prepare`'s work.

use bus_schemas::{
    Sampling, Stops,
    limits::{CHOICES_MAX, PROMPT_TOKENS_MAX, STOP_STRING_BYTES_MAX, STOP_STRINGS_MAX},
};
use serde_json::Value;

use super::fields::{Fields, number_of, wrong_type};
use crate::error::{ApiError, quote};

/// Longest model name in bytes: names become one subject token, percent-coded at worst.
const MODEL_BYTES_MAX: usize = 256;
/// Stop ids of one request: the worker compares each token with all of them.
const STOP_IDS_MAX: usize = 64;
/// Biased tokens of one request, more than OpenAI's 300: each is looked at for every token.
const LOGIT_BIAS_MAX: usize = 1024;
/// Longest salt in bytes: it is hashed once and travels with the request.
const SALT_BYTES_MAX: usize = 256;
/// Largest repetition penalty: beyond it a model only avoids what it said.
const REPETITION_MAX: f64 = 10.0;
/// A penalty divides, so it must not be zero.
const REPETITION_MIN: f64 = 0.01;
/// Bounds a request's output as the prompt is bounded.
const OUTPUT_TOKENS_MAX: u32 = PROMPT_TOKENS_MAX as u32;

/// How the answer is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// In chunks.
    pub stream: bool,
    /// One more chunk with the usage.
    pub include_usage: bool,
    /// With the ids of the tokens.
    pub token_ids: bool,
    /// The stop string, or the text of the stop id, stays in the text.
    pub include_stop: bool,
    /// With log-probabilities.
    pub logprobs: bool,
    /// The prompt comes first in the text (completions).
    pub echo: bool,
}

/// What chat and completions share.
#[derive(Clone, Debug, PartialEq)]
pub struct Common {
    /// The model; none means the only one there is.
    pub model: Option<String>,
    /// How tokens are drawn; `logprobs` is set by the caller.
    pub sampling: Sampling,
    /// The seed, if the client gave one.
    pub seed: Option<u64>,
    /// What ends a choice.
    pub stops: Stops,
    /// Choices of each prompt.
    pub choices: u16,
    /// Most tokens of a choice, if the client said so.
    pub max_tokens: Option<u32>,
    /// Separates cached blocks.
    pub salt: String,
    /// Lower is later; 0 is ordinary.
    pub priority: i8,
    /// How the answer is shown.
    pub output: Output,
}

/// Takes the shared fields out of `fields`.
pub(super) fn take(fields: &mut Fields) -> Result<Common, ApiError> {
    Ok(Common {
        model: take_model(fields)?,
        sampling: take_sampling(fields)?,
        seed: fields
            .integer("seed", i64::MIN..=i64::MAX)?
            .map(|seed| seed as u64),
        choices: take_choices(fields)?,
        max_tokens: fields.count("max_tokens", 1..=OUTPUT_TOKENS_MAX)?,
        salt: fields
            .text("cache_salt", SALT_BYTES_MAX)?
            .unwrap_or_default(),
        priority: take_priority(fields)?,
        output: take_output(fields)?,
        stops: take_stops(fields)?,
    })
}

/// Takes `model`.
pub(super) fn take_model(fields: &mut Fields) -> Result<Option<String>, ApiError> {
    let model = fields.text("model", MODEL_BYTES_MAX)?;
    Ok(model.filter(|name| !name.is_empty()))
}

/// Takes a limit that goes by another name in chat.
pub(super) fn take_max_completion_tokens(fields: &mut Fields) -> Result<Option<u32>, ApiError> {
    fields.count("max_completion_tokens", 1..=OUTPUT_TOKENS_MAX)
}

fn take_choices(fields: &mut Fields) -> Result<u16, ApiError> {
    let choices = fields.count("n", 1..=u32::from(CHOICES_MAX))?.unwrap_or(1);
    let best_of = fields.count("best_of", 1..=u32::from(CHOICES_MAX))?;
    if best_of.is_some_and(|best| best != choices) {
        return Err(ApiError::unsupported("best_of"));
    }
    Ok(u16::try_from(choices).expect("at most CHOICES_MAX"))
}

fn take_sampling(fields: &mut Fields) -> Result<Sampling, ApiError> {
    let top_p = fields.number("top_p", 0.0..=1.0, 1.0)?;
    if top_p == 0.0 {
        return Err(ApiError::field(
            "top_p",
            "top_p must be more than 0, at most 1",
        ));
    }
    let min_p = fields.number("min_p", 0.0..=1.0, 0.0)?;
    if min_p == 1.0 {
        return Err(ApiError::field(
            "min_p",
            "min_p must be from 0, less than 1",
        ));
    }
    // -1 is what vLLM's clients write for "off"
    let top_k = fields
        .integer("top_k", -1..=i64::from(u32::MAX))?
        .unwrap_or(0)
        .max(0);
    Ok(Sampling {
        temperature: fields.number("temperature", 0.0..=2.0, 1.0)?,
        top_p,
        top_k: u32::try_from(top_k).expect("the range is within 32 bits"),
        min_p,
        frequency_penalty: fields.number("frequency_penalty", -2.0..=2.0, 0.0)?,
        presence_penalty: fields.number("presence_penalty", -2.0..=2.0, 0.0)?,
        repetition_penalty: fields.number(
            "repetition_penalty",
            REPETITION_MIN..=REPETITION_MAX,
            1.0,
        )?,
        logit_bias: take_logit_bias(fields)?,
        seed: 0,
        logprobs: None,
    })
}

fn take_logit_bias(fields: &mut Fields) -> Result<Vec<(u32, f32)>, ApiError> {
    const NAME: &str = "logit_bias";
    let bias = match fields.take(NAME) {
        None => return Ok(Vec::new()),
        Some(Value::Object(bias)) => bias,
        Some(other) => return Err(wrong_type(NAME, "an object of token id to bias", &other)),
    };
    if bias.len() > LOGIT_BIAS_MAX {
        let message = format!("{NAME} must name at most {LOGIT_BIAS_MAX} tokens");
        return Err(ApiError::field(NAME, message));
    }
    bias.iter()
        .map(|(id, bias)| {
            let id = id.parse().map_err(|_| {
                ApiError::field(
                    NAME,
                    format!("{NAME} has the key {}, not a token id", quote(id)),
                )
            })?;
            Ok((id, number_of(NAME, bias, -100.0..=100.0)?))
        })
        .collect()
}

fn take_stops(fields: &mut Fields) -> Result<Stops, ApiError> {
    Ok(Stops {
        strings: take_stop_strings(fields)?,
        ids: fields
            .ids("stop_token_ids", STOP_IDS_MAX)?
            .unwrap_or_default(),
        ignore_eos: fields.flag("ignore_eos")?,
        min_tokens: fields
            .count("min_tokens", 0..=OUTPUT_TOKENS_MAX)?
            .unwrap_or(0),
    })
}

fn take_stop_strings(fields: &mut Fields) -> Result<Vec<String>, ApiError> {
    const NAME: &str = "stop";
    let list = match fields.take(NAME) {
        None => return Ok(Vec::new()),
        Some(one @ Value::String(_)) => vec![one],
        Some(Value::Array(list)) => list,
        Some(other) => return Err(wrong_type(NAME, "a string or a list of strings", &other)),
    };
    if list.len() > STOP_STRINGS_MAX {
        let message = format!("{NAME} must have at most {STOP_STRINGS_MAX} strings");
        return Err(ApiError::field(NAME, message));
    }
    list.into_iter()
        .map(|item| match item {
            Value::String(text) if (1..=STOP_STRING_BYTES_MAX).contains(&text.len()) => Ok(text),
            Value::String(_) => {
                let message =
                    format!("{NAME} strings must have 1 to {STOP_STRING_BYTES_MAX} bytes");
                Err(ApiError::field(NAME, message))
            }
            other => Err(wrong_type(NAME, "a string or a list of strings", &other)),
        })
        .collect()
}

/// As in vLLM a lower number goes first; clients may only step back, since a better place is not theirs to take.
fn take_priority(fields: &mut Fields) -> Result<i8, ApiError> {
    let later = fields.integer("priority", 0..=127)?.unwrap_or(0);
    Ok(-i8::try_from(later).expect("the range is within 8 bits"))
}

fn take_output(fields: &mut Fields) -> Result<Output, ApiError> {
    let stream = fields.flag("stream")?;
    let include_usage = take_stream_options(fields, stream)?;
    Ok(Output {
        stream,
        include_usage,
        token_ids: fields.flag("return_token_ids")?,
        include_stop: fields.flag("include_stop_str_in_output")?,
        ..Output::default()
    })
}

/// Whether the usage is wanted as a last chunk.
fn take_stream_options(fields: &mut Fields, stream: bool) -> Result<bool, ApiError> {
    const NAME: &str = "stream_options";
    let mut options = match fields.take(NAME) {
        None => return Ok(false),
        Some(Value::Object(options)) => Fields::new(options),
        Some(other) => return Err(wrong_type(NAME, "an object", &other)),
    };
    if !stream {
        return Err(ApiError::field(NAME, "stream_options needs stream: true"));
    }
    if options.flag("continuous_usage_stats")? {
        return Err(ApiError::unsupported(
            "stream_options.continuous_usage_stats",
        ));
    }
    options.flag("include_usage")
}
