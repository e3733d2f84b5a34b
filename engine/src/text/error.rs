//! Why text and ids do not become each other. Every message names the file or the value, and what to do.

use crate::card::CardError;

/// What went wrong with a model's text side.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// The files could not be had.
    #[error(transparent)]
    Card(#[from] CardError),
    /// The model has no tokenizer.
    #[error(
        "model {model} has no tokenizer.json; put the file of its Hugging Face repository beside config.json"
    )]
    NoTokenizer {
        /// Which model.
        model: String,
    },
    /// A file is not what it should be.
    #[error("{file} of model {model} cannot be used: {problem}")]
    Malformed {
        /// Which model.
        model: String,
        /// Which file.
        file: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The tokenizer gave up on a text.
    #[error("cannot tokenize the text: {0}")]
    Encode(String),
    /// An id that the model has not.
    #[error("token id {id} is out of range: the model has {vocab_size} ids, 0 to {}", vocab_size.saturating_sub(1))]
    UnknownId {
        /// The id.
        id: u32,
        /// How many there are.
        vocab_size: u32,
    },
    /// The model cannot chat.
    #[error("the model has no chat template; use completions, or add chat_template.jinja to it")]
    NoTemplate,
    /// The template refused the messages in its own words.
    #[error("the chat template refuses these messages: {0}")]
    TemplateRaised(String),
    /// The template does not compile or fails on these messages.
    #[error("the chat template failed: {0}")]
    Template(String),
    /// The template ran too long.
    #[error("the chat template ran too long and was stopped")]
    TemplateFuel,
    /// The template wrote too much.
    #[error("the chat template made more than {0} bytes and was stopped")]
    TemplateTooLong(usize),
}

impl TextError {
    /// Whether the request's messages are to blame, rather than the model's files.
    #[must_use]
    pub const fn is_bad_request(&self) -> bool {
        matches!(
            self,
            Self::Encode(_)
                | Self::UnknownId { .. }
                | Self::NoTemplate
                | Self::TemplateRaised(_)
                | Self::Template(_)
                | Self::TemplateFuel
                | Self::TemplateTooLong(_)
        )
    }
}
