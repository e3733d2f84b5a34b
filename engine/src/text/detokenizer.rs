//! Ids to text, one by one: each push gives the text that is complete by then.
//!
//! It never splits a character, never takes anything back, and holds at most three bytes. What it gives
//! depends on the ids alone, not on how they came.

use std::{mem, sync::Arc};

use super::spelling::{Spelling, Start};

/// Turns a sequence of ids into text while it grows.
#[derive(Clone, Debug)]
pub struct Detokenizer {
    spelling: Arc<Spelling>,
    skip_special: bool,
    /// What the next bytes lose, as long as the text has not begun.
    start: Start,
    /// Bytes of a character that is not complete.
    pending: Vec<u8>,
    /// What the last push gave.
    text: String,
}

impl Detokenizer {
    pub(super) fn new(spelling: Arc<Spelling>, skip_special: bool) -> Self {
        let start = spelling.start;
        Self {
            spelling,
            skip_special,
            start,
            pending: Vec::new(),
            text: String::new(),
        }
    }

    pub(super) const fn continuing(mut self) -> Self {
        self.start = Start::Plain;
        self
    }

    /// Takes the next id and returns the text that is complete now, often nothing.
    pub fn push(&mut self, id: u32) -> &str {
        self.text.clear();
        if self.skip_special && self.spelling.is_special(id) {
            return &self.text;
        }
        let spelling = Arc::clone(&self.spelling);
        let bytes = self.without_start(spelling.bytes(id));
        self.pending.extend_from_slice(bytes);
        self.drain();
        &self.text
    }

    /// Ends the text: a character that never became complete is one U+FFFD.
    #[must_use]
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&mem::take(&mut self.pending)).into_owned()
    }

    /// Takes from the first bytes of a text what the tokenizer had put before it.
    fn without_start<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        if bytes.is_empty() {
            return bytes;
        }
        let spaces = bytes.iter().take_while(|byte| **byte == b' ').count();
        let lost = match self.start {
            Start::Plain => return bytes,
            Start::Marks => {
                self.start = Start::Plain;
                spaces
            }
            Start::Spaces(most) => {
                let lost = spaces.min(most);
                let goes_on = lost == bytes.len() && lost < most;
                self.start = if goes_on {
                    Start::Spaces(most - lost)
                } else {
                    Start::Plain
                };
                lost
            }
        };
        &bytes[lost..]
    }

    /// Moves all that is decided from the pending bytes to the text.
    fn drain(&mut self) {
        let mut done = 0;
        while done < self.pending.len() {
            let rest = &self.pending[done..];
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    self.text.push_str(text);
                    done = self.pending.len();
                }
                Err(error) => {
                    let valid = error.valid_up_to();
                    self.text.push_str(&String::from_utf8_lossy(&rest[..valid]));
                    done += valid;
                    let Some(invalid) = error.error_len() else {
                        break;
                    };
                    self.text.push(char::REPLACEMENT_CHARACTER);
                    done += invalid;
                }
            }
        }
        self.pending.drain(..done);
    }
}
