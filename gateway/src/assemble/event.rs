//! The one internal event stream that every rendering draws from.
//!
//! Plain data: text that may be shown, tokens, ends, usage, failure. Never knows of a shape or a door.

use crate::error::ApiError;

/// A token with what is to be told about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// The token.
    pub id: u32,
    /// Its log-probability.
    pub logprob: f32,
    /// The most likely tokens, best first.
    pub top: Vec<(u32, f32)>,
}

/// Why a choice ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// By an end id or a stop string.
    Stop,
    /// By its length.
    Length,
    /// By itself, after it called tools.
    ToolCalls,
}

/// What a text is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// For the user.
    #[default]
    Content,
    /// The model's own thoughts.
    Thought,
}

impl Finish {
    /// As `finish_reason` says it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
        }
    }
}

/// Tokens of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of all prompts.
    pub prompt_tokens: u64,
    /// Of all choices.
    pub completion_tokens: u64,
    /// Of the prompts, found cached.
    pub cached_tokens: u64,
    /// Of the output, thinking.
    pub reasoning_tokens: u64,
}

/// What happens to an answer, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// More of one choice. The text may be empty while it is held back.
    Delta {
        /// Which choice.
        choice: usize,
        /// What the text is.
        part: Part,
        /// Text to be shown.
        text: String,
        /// Tokens that came; not all of their text need be in `text` yet.
        tokens: Vec<Token>,
    },
    /// A call of a tool begins; its arguments follow.
    CallBegins {
        /// Which choice.
        choice: usize,
        /// Which of its calls.
        index: usize,
        /// To name it by.
        id: String,
        /// Of the tool.
        name: String,
    },
    /// Arguments of a call.
    CallArguments {
        /// Which choice.
        choice: usize,
        /// Which of its calls.
        index: usize,
        /// JSON, as the model wrote it.
        text: String,
    },
    /// What the model wrote and nobody is shown; only counted.
    Dropped {
        /// Why, in a word.
        reason: &'static str,
        /// How many bytes.
        bytes: usize,
    },
    /// A choice ended. Exactly one for each choice of an answer that does not fail.
    Finish {
        /// Which choice.
        choice: usize,
        /// Why.
        reason: Finish,
    },
    /// All choices ended. The last event of a good answer.
    Done(Usage),
    /// It failed. The last event of a bad one.
    Failed(ApiError),
}

impl Event {
    /// Whether nothing follows.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        matches!(self, Self::Done(_) | Self::Failed(_))
    }
}

/// Appends an event, joined with the last one if both are more of the same choice.
pub fn append(events: &mut Vec<Event>, event: Event) {
    if let Event::Delta {
        choice,
        part,
        text,
        tokens,
    } = &event
        && let Some(Event::Delta {
            choice: last,
            part: kind,
            text: shown,
            tokens: told,
        }) = events.last_mut()
        && last == choice
        && (kind == part || shown.is_empty() || text.is_empty())
    {
        if shown.is_empty() {
            *kind = *part;
        }
        shown.push_str(text);
        told.extend_from_slice(tokens);
        return;
    }
    events.push(event);
}
