//! What a client asks for, parsed from a JSON body and checked field by field.
//!
//! Knows the fields, their types and ranges; never looks at a model or a tokenizer. Whatever a field
//! asks for is either kept here or refused by name; only fields we do not know are ignored, and told back.

mod chat;
mod common;
mod completion;
mod fields;
mod tokens;
mod tools;

pub use chat::{ChatAsk, Conversation, parse_chat};
pub use common::{Common, Output};
pub use completion::{CompletionAsk, Prompt, parse_completion};
pub use fields::Fields;
pub use tokens::{DetokenizeAsk, TokenizeAsk, TokenizeInput, parse_detokenize, parse_tokenize};
pub use tools::Offer;

/// A request for generated tokens.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// `/v1/chat/completions`.
    Chat(ChatAsk),
    /// `/v1/completions`.
    Completion(CompletionAsk),
}

impl Ask {
    /// What both kinds have.
    #[must_use]
    pub fn common(&self) -> &Common {
        match self {
            Self::Chat(ask) => &ask.common,
            Self::Completion(ask) => &ask.common,
        }
    }
}

/// What was asked, and the names of the fields that were ignored.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed<T> {
    /// What was asked.
    pub ask: T,
    /// Names of unknown fields.
    pub ignored: Vec<String>,
}
