//! Log-probabilities in the two shapes that clients know: chat's list of tokens, and the older four lists.
//!
//! Only formats; the numbers are the engine's.

use engine::text::TextModel;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::assemble::Token;

/// What stands for a probability of zero: JSON has no infinity, and clients know this number.
const LOGPROB_MIN: f32 = -9999.0;

/// Log-probabilities of some tokens of one choice.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Logprobs {
    /// Chat.
    Chat {
        /// One a token.
        content: Vec<ChatToken>,
        /// A model that refuses in words of its own is not known yet.
        refusal: Option<()>,
    },
    /// Completions.
    Lists {
        text_offset: Vec<usize>,
        token_logprobs: Vec<f32>,
        tokens: Vec<String>,
        top_logprobs: Vec<Map<String, Value>>,
    },
}

#[derive(Debug, Serialize)]
pub(super) struct ChatToken {
    #[serde(flatten)]
    chosen: Spelled,
    top_logprobs: Vec<Spelled>,
}

#[derive(Debug, Serialize)]
struct Spelled {
    token: String,
    bytes: Vec<u8>,
    logprob: f32,
}

/// Chat's shape.
pub(super) fn chat(tokens: &[Token], text: &TextModel) -> Logprobs {
    let spelled = |id: u32, logprob: f32| Spelled {
        token: text.token_text(id),
        bytes: text.token_bytes(id),
        logprob: finite(logprob),
    };
    let content = tokens
        .iter()
        .map(|token| ChatToken {
            chosen: spelled(token.id, token.logprob),
            top_logprobs: token
                .top
                .iter()
                .map(|(id, logprob)| spelled(*id, *logprob))
                .collect(),
        })
        .collect();
    Logprobs::Chat {
        content,
        refusal: None,
    }
}

/// The older shape; `offset` counts the characters of all tokens before, and goes on.
pub(super) fn lists(tokens: &[Token], text: &TextModel, offset: &mut usize) -> Logprobs {
    let texts: Vec<String> = tokens
        .iter()
        .map(|token| text.token_text(token.id))
        .collect();
    let text_offset = texts
        .iter()
        .map(|text| {
            let here = *offset;
            *offset += text.chars().count();
            here
        })
        .collect();
    Logprobs::Lists {
        text_offset,
        token_logprobs: tokens.iter().map(|token| finite(token.logprob)).collect(),
        top_logprobs: tokens
            .iter()
            .map(|token| alternatives(token, text))
            .collect(),
        tokens: texts,
    }
}

/// The most likely tokens, and the chosen one if it is not among them.
fn alternatives(token: &Token, text: &TextModel) -> Map<String, Value> {
    let chosen = (token.id, token.logprob);
    let mut map = Map::new();
    for (id, logprob) in token.top.iter().chain([&chosen]) {
        map.entry(text.token_text(*id))
            .or_insert_with(|| finite(*logprob).into());
    }
    map
}

fn finite(logprob: f32) -> f32 {
    if logprob.is_nan() {
        LOGPROB_MIN
    } else {
        logprob.max(LOGPROB_MIN)
    }
}
