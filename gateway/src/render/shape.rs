//! The objects of OpenAI's API that hold an answer, field for field.
//!
//! Plain data for serde; never decides what is in them.

use serde::Serialize;

use super::logprobs::Logprobs;
use crate::assemble::Usage;

/// A chunk or a whole body.
#[derive(Serialize)]
pub(super) struct Body<'a, C> {
    pub(super) id: &'a str,
    pub(super) object: &'static str,
    pub(super) created: u64,
    pub(super) model: &'a str,
    pub(super) choices: &'a [C],
    /// Absent, null or there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) usage: Option<Option<UsageBody>>,
}

/// A choice of a chat chunk.
#[derive(Serialize)]
pub(super) struct ChatDelta<'a> {
    pub(super) index: usize,
    pub(super) delta: Delta<'a>,
    pub(super) logprobs: Option<Logprobs>,
    pub(super) finish_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token_ids: Option<Vec<u32>>,
}

/// More of a message.
#[derive(Default, Serialize)]
pub(super) struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tool_calls: Option<[CallDelta<'a>; 1]>,
}

impl Delta<'_> {
    /// Whether there is more in it than who speaks.
    pub(super) const fn says_something(&self) -> bool {
        self.content.is_some() || self.reasoning_content.is_some() || self.tool_calls.is_some()
    }
}

/// More of a call: its beginning with id and name, or arguments.
#[derive(Serialize)]
pub(super) struct CallDelta<'a> {
    pub(super) index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<&'a str>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub(super) kind: Option<&'static str>,
    pub(super) function: FunctionDelta<'a>,
}

/// More of the function of a call.
#[derive(Serialize)]
pub(super) struct FunctionDelta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<&'a str>,
    pub(super) arguments: &'a str,
}

/// A whole call.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct CallBody {
    pub(super) id: String,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) function: FunctionBody,
}

/// The function of a whole call.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct FunctionBody {
    pub(super) name: String,
    pub(super) arguments: String,
}

/// What every call is of.
pub(super) const FUNCTION: &str = "function";

/// A choice of a chat body.
#[derive(Serialize)]
pub(super) struct ChatChoice<'a> {
    pub(super) index: usize,
    pub(super) message: Message<'a>,
    pub(super) logprobs: Option<Logprobs>,
    pub(super) finish_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token_ids: Option<Vec<u32>>,
}

/// What the assistant said.
#[derive(Serialize)]
pub(super) struct Message<'a> {
    pub(super) role: &'static str,
    /// Null where there is nothing but thoughts and calls.
    pub(super) content: Option<&'a str>,
    pub(super) refusal: Option<()>,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) reasoning_content: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(super) tool_calls: &'a [CallBody],
}

/// A choice of a completion, in a chunk or a body.
#[derive(Serialize)]
pub(super) struct TextChoice<'a> {
    pub(super) index: usize,
    pub(super) text: &'a str,
    pub(super) logprobs: Option<Logprobs>,
    pub(super) finish_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token_ids: Option<Vec<u32>>,
}

/// Tokens of a request.
#[derive(Serialize)]
pub(super) struct UsageBody {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptDetails,
    completion_tokens_details: CompletionDetails,
}

#[derive(Serialize)]
struct PromptDetails {
    cached_tokens: u64,
}

#[derive(Serialize)]
struct CompletionDetails {
    reasoning_tokens: u64,
}

impl From<Usage> for UsageBody {
    fn from(usage: Usage) -> Self {
        let Usage {
            prompt_tokens,
            completion_tokens,
            cached_tokens,
            reasoning_tokens,
        } = usage;
        Self {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens + completion_tokens,
            prompt_tokens_details: PromptDetails { cached_tokens },
            completion_tokens_details: CompletionDetails { reasoning_tokens },
        }
    }
}

/// JSON of a body: texts and numbers, which always serialise.
pub(super) fn json<C: Serialize>(body: &Body<'_, C>) -> Vec<u8> {
    serde_json::to_vec(body).expect("texts and finite numbers are JSON")
}
