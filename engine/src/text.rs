//! The text side of a model: text to ids, ids to text, messages to a prompt, and the ids that end a text.
//!
//! A [`TextModel`] is made from a model's files ([`CardFiles`]) or, for scripted models, from nothing. It
//! never sees weights, requests or blocks, and after it was made it never changes. Start reading at
//! [`TextModel::from_files`].

mod byte_level;
mod decoder;
mod detokenizer;
mod error;
mod facts;
mod spelling;
mod strftime;
mod template;

use std::{fmt, path::Path, sync::Arc};

use bus_schemas::limits::BLOCK_TOKENS;
use logic::{parse::Format, text::Vocabulary};
use tokenizers::Tokenizer;

pub use self::{
    byte_level::{END, GO, START},
    detokenizer::Detokenizer,
    error::TextError,
    template::ChatInput,
};
use self::{facts::Facts, spelling::Spelling, template::ChatTemplate};
use crate::card::CardFiles;

/// Tokenizer, chat template and limits of one model.
pub struct TextModel {
    name: String,
    tokenizer: Encoder,
    spelling: Arc<Spelling>,
    template: Option<ChatTemplate>,
    context_tokens: u32,
}

/// How text becomes ids.
enum Encoder {
    /// One id per byte, without files.
    Bytes,
    /// `tokenizer.json`.
    Files(Box<Tokenizer>),
}

impl TextModel {
    /// Reads the files of the model in `dir`.
    ///
    /// # Errors
    /// [`TextError`], which names the file and what to do.
    pub fn load(dir: &Path) -> Result<Self, TextError> {
        Self::from_files(&CardFiles::read(dir, BLOCK_TOKENS)?)
    }

    /// Makes it of files that may have come over the bus.
    ///
    /// # Errors
    /// [`TextError`].
    pub fn from_files(files: &CardFiles) -> Result<Self, TextError> {
        let facts = Facts::read(files)?;
        if let Some(name) = facts.script {
            return Ok(Self::scripted(&name, facts.context_tokens));
        }
        let (tokenizer, decoder) = decoder::tokenizer(files)?;
        let end_ids = facts.end_ids(&tokenizer);
        let spelling = Spelling::of(&tokenizer, &decoder, facts.vocab_size, end_ids);
        let template = match facts.template {
            Some(source) => Some(ChatTemplate::compile(source, facts.special_tokens)?),
            None => None,
        };
        Ok(Self {
            name: files.name().to_owned(),
            tokenizer: Encoder::Files(Box::new(tokenizer)),
            spelling: Arc::new(spelling),
            template,
            context_tokens: facts.context_tokens,
        })
    }

    /// The text side of a scripted model: one id per byte and three special ones, no files.
    #[must_use]
    pub fn byte_level(name: &str) -> Self {
        Self::scripted(name, byte_level::CONTEXT_TOKENS)
    }

    fn scripted(name: &str, context_tokens: u32) -> Self {
        Self {
            name: name.to_owned(),
            tokenizer: Encoder::Bytes,
            spelling: Arc::new(byte_level::spelling()),
            template: Some(byte_level::template()),
            context_tokens,
        }
    }

    /// Ids of `text`. Special tokens that are spelled out in it count as such, as everywhere in this field;
    /// `add_special` also adds those that the tokenizer puts around a text.
    ///
    /// # Errors
    /// [`TextError::Encode`] if the tokenizer cannot, [`TextError::UnknownId`] if it knows more ids than the model.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, TextError> {
        let ids = match &self.tokenizer {
            Encoder::Bytes => byte_level::encode(text, add_special),
            Encoder::Files(tokenizer) => tokenizer
                .encode_fast(text, add_special)
                .map_err(|e| TextError::Encode(e.to_string()))?
                .get_ids()
                .to_vec(),
        };
        self.check_ids(&ids)?;
        Ok(ids)
    }

    /// Whether every id is one of this model's.
    ///
    /// # Errors
    /// [`TextError::UnknownId`].
    pub fn check_ids(&self, ids: &[u32]) -> Result<(), TextError> {
        let vocab_size = self.vocab_size();
        match ids.iter().find(|id| **id >= vocab_size) {
            None => Ok(()),
            Some(id) => Err(TextError::UnknownId {
                id: *id,
                vocab_size,
            }),
        }
    }

    /// Text of `ids`, with or without special tokens. Bytes that are no UTF-8 become U+FFFD.
    #[must_use]
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        let mut detokenizer = Detokenizer::new(Arc::clone(&self.spelling), skip_special);
        let mut text = String::new();
        for id in ids {
            text.push_str(detokenizer.push(*id));
        }
        text.push_str(&detokenizer.finish());
        text
    }

    /// Text of one token as it stands alone, special ones included.
    #[must_use]
    pub fn token_text(&self, id: u32) -> String {
        String::from_utf8_lossy(self.spelling.bytes(id)).into_owned()
    }

    /// Bytes of one token in running text, special ones included; nothing for an unknown id.
    #[must_use]
    pub fn token_bytes(&self, id: u32) -> Vec<u8> {
        self.spelling.bytes(id).to_vec()
    }

    /// The prompt that the model's own chat template makes of messages.
    ///
    /// # Errors
    /// [`TextError`] if there is no template, it raises, or it takes too long.
    pub fn render_chat(&self, input: &ChatInput) -> Result<String, TextError> {
        self.template
            .as_ref()
            .ok_or(TextError::NoTemplate)?
            .render(input)
    }

    /// Whether [`TextModel::render_chat`] can work.
    #[must_use]
    pub const fn has_chat_template(&self) -> bool {
        self.template.is_some()
    }

    /// How the model marks thoughts and calls, if its template knows the markers of a family.
    #[must_use]
    pub fn format(&self) -> Option<&'static Format> {
        self.template.as_ref()?.format()
    }

    /// What a worker's core needs of it.
    #[must_use]
    pub fn vocabulary(&self) -> Arc<dyn Vocabulary> {
        Arc::clone(&self.spelling) as Arc<dyn Vocabulary>
    }

    /// Longest sequence, prompt and output together.
    #[must_use]
    pub const fn context_tokens(&self) -> u32 {
        self.context_tokens
    }

    /// Number of ids; every valid id is smaller.
    #[must_use]
    pub fn vocab_size(&self) -> u32 {
        self.spelling.len()
    }

    /// Ids with which the model ends a text.
    #[must_use]
    pub fn end_ids(&self) -> &[u32] {
        self.spelling.end_ids()
    }

    /// Whether an id is a special token, which is not part of the text.
    #[must_use]
    pub fn is_special(&self, id: u32) -> bool {
        self.spelling.is_special(id)
    }

    /// Turns ids into text one by one, without special tokens; all it gives equals [`TextModel::decode`].
    #[must_use]
    pub fn detokenizer(&self) -> Detokenizer {
        Detokenizer::new(Arc::clone(&self.spelling), true)
    }

    /// The same for ids that go on after other text, so that a leading space is kept.
    #[must_use]
    pub fn continuation(&self) -> Detokenizer {
        self.detokenizer().continuing()
    }
}

impl fmt::Debug for TextModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TextModel")
            .field("name", &self.name)
            .field("vocab_size", &self.vocab_size())
            .field("context_tokens", &self.context_tokens)
            .field("end_ids", &self.end_ids())
            .field("has_chat_template", &self.has_chat_template())
            .finish_non_exhaustive()
    }
}
