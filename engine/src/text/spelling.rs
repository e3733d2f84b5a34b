//! The bytes of every id, flat, and which ids are special or end a text.
//!
//! It never looks at more than one id: what a token is worth at the start of a text is the detokenizer's
//! business. This is the [`Vocabulary`] that workers see.

use logic::text::Vocabulary;
use tokenizers::Tokenizer;

use super::decoder::Decoder;

/// Ids to bytes.
#[derive(Debug)]
pub(super) struct Spelling {
    /// All bytes, one id after the other.
    bytes: Vec<u8>,
    /// Where each id's bytes end; as long as the tokenizer's largest id + 1.
    ends: Vec<u32>,
    special: Vec<bool>,
    end_ids: Vec<u32>,
    vocab_size: u32,
    /// What the first token of a text loses.
    pub(super) start: Start,
}

/// What a tokenizer puts in front of a text, and its decoder takes away again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// Nothing.
    Plain,
    /// Up to this many spaces of the whole text.
    Spaces(usize),
    /// All space marks of the first token.
    Marks,
}

impl Spelling {
    /// Spells out all ids of a tokenizer. The model may have more ids than these, or fewer.
    pub(super) fn of(
        tokenizer: &Tokenizer,
        decoder: &Decoder,
        vocab_size: Option<u32>,
        end_ids: Vec<u32>,
    ) -> Self {
        let added = tokenizer.get_added_tokens_decoder();
        let known = tokenizer
            .get_vocab(true)
            .into_values()
            .max()
            .map_or(0, |id| id + 1);
        let mut table = Self::empty(vocab_size.unwrap_or(known), end_ids, decoder.start());
        for id in 0..known {
            match added.get(&id) {
                Some(token) => table.append(token.content.as_bytes(), token.special),
                None => table.append(
                    &tokenizer
                        .id_to_token(id)
                        .map_or(Vec::new(), |token| decoder.bytes(&token)),
                    false,
                ),
            }
        }
        table
    }

    /// A table of no ids yet.
    pub(super) const fn empty(vocab_size: u32, end_ids: Vec<u32>, start: Start) -> Self {
        Self {
            bytes: Vec::new(),
            ends: Vec::new(),
            special: Vec::new(),
            end_ids,
            vocab_size,
            start,
        }
    }

    /// Spells the next id.
    pub(super) fn append(&mut self, bytes: &[u8], special: bool) {
        self.bytes.extend_from_slice(bytes);
        self.ends
            .push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
        self.special.push(special);
    }

    /// Bytes of an id, special or not; none if it is unknown.
    pub(super) fn bytes(&self, id: u32) -> &[u8] {
        let id = id as usize;
        let Some(end) = self.ends.get(id) else {
            return &[];
        };
        let begin = id.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[begin as usize..*end as usize]
    }

    /// Whether an id is special.
    pub(super) fn is_special(&self, id: u32) -> bool {
        self.special.get(id as usize).copied().unwrap_or(false)
    }
}

impl Vocabulary for Spelling {
    fn len(&self) -> u32 {
        self.vocab_size
    }

    fn append_bytes(&self, id: u32, out: &mut Vec<u8>) {
        if !self.is_special(id) {
            out.extend_from_slice(self.bytes(id));
        }
    }

    fn end_ids(&self) -> &[u32] {
        &self.end_ids
    }
}
