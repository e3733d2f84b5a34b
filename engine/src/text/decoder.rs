//! `tokenizer.json`, and how its decoder spells single tokens.
//!
//! Two ways of spelling are understood, those of all models that generate text: bytes as letters, and pieces
//! with a space mark. Others are refused by name; nothing is decoded by guess.

use serde_json::Value;
use tokenizers::Tokenizer;

use super::{TextError, spelling::Start};
use crate::card::{CardFiles, File};

/// Largest vocabulary: sixty times that of any public model, and its spelling still fits memory.
const IDS_MAX: u32 = 1 << 24;

/// The tokenizer of a model's files, without truncation and padding, which are not a server's business.
pub(super) fn tokenizer(files: &CardFiles) -> Result<(Tokenizer, Decoder), TextError> {
    let model = || files.name().to_owned();
    let bytes = files
        .get(File::Tokenizer)
        .ok_or_else(|| TextError::NoTokenizer { model: model() })?;
    let fail = |problem: String| TextError::Malformed {
        model: model(),
        file: File::Tokenizer.name(),
        problem,
    };
    let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(|e| fail(e.to_string()))?;
    tokenizer
        .with_truncation(None)
        .map_err(|e| fail(e.to_string()))?;
    tokenizer.with_padding(None);
    if let Some(id) = tokenizer
        .get_vocab(true)
        .into_values()
        .find(|id| *id >= IDS_MAX)
    {
        return Err(fail(format!(
            "it has the id {id}, at most {} is possible",
            IDS_MAX - 1
        )));
    }
    let decoder = Decoder::of(&tokenizer).map_err(fail)?;
    Ok((tokenizer, decoder))
}

/// How a token's text stands for bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Decoder {
    /// Each letter is a byte.
    letters: bool,
    /// Texts to be replaced, in order.
    replace: Vec<(String, String)>,
    /// `<0x41>` is the byte 0x41.
    hex: bool,
    start: Option<Start>,
}

impl Decoder {
    /// Reads a tokenizer's decoder.
    fn of(tokenizer: &Tokenizer) -> Result<Self, String> {
        let decoder = tokenizer.get_decoder().ok_or("it has no decoder")?;
        let value = serde_json::to_value(decoder).map_err(|e| e.to_string())?;
        let mut found = Self::default();
        found.read(&value)?;
        if found.letters && (found.hex || !found.replace.is_empty()) {
            return Err("its decoder mixes byte letters with pieces".into());
        }
        Ok(found)
    }

    fn read(&mut self, value: &Value) -> Result<(), String> {
        match value["type"].as_str().unwrap_or_default() {
            "Sequence" => {
                let parts = value["decoders"]
                    .as_array()
                    .ok_or("its decoder sequence is empty")?;
                return parts.iter().try_for_each(|part| self.read(part));
            }
            "ByteLevel" => self.letters = true,
            "ByteFallback" => self.hex = true,
            "Fuse" => {}
            "Replace" => {
                let from = value["pattern"]["String"].as_str();
                let (Some(from), Some(to)) = (from, value["content"].as_str()) else {
                    return Err("its decoder replaces by a pattern that is not a text".into());
                };
                self.replace.push((from.to_owned(), to.to_owned()));
            }
            "Strip" => {
                let count = |key: &str| value[key].as_u64().unwrap_or(0) as usize;
                if value["content"] != " " || count("stop") > 0 {
                    return Err("its decoder strips more than leading spaces".into());
                }
                self.start = Some(Start::Spaces(count("start")));
            }
            "Metaspace" => {
                let mark = value["replacement"].as_str().unwrap_or("\u{2581}");
                self.replace.push((mark.to_owned(), " ".to_owned()));
                if value["prepend_scheme"] != "never" {
                    self.start = Some(Start::Marks);
                }
            }
            other => return Err(format!("its decoder {other:?} is not supported")),
        }
        Ok(())
    }

    /// What the first token of a text loses.
    pub(super) fn start(&self) -> Start {
        self.start.unwrap_or(Start::Plain)
    }

    /// The bytes of a token of the vocabulary.
    pub(super) fn bytes(&self, token: &str) -> Vec<u8> {
        if self.letters {
            let letters: Option<Vec<u8>> = token.chars().map(byte_of_letter).collect();
            return letters.unwrap_or_else(|| token.as_bytes().to_vec());
        }
        if let Some(byte) = self.hex.then(|| byte_of_hex(token)).flatten() {
            return vec![byte];
        }
        let replace = |text: String, (from, to): &(String, String)| text.replace(from, to);
        self.replace
            .iter()
            .fold(token.to_owned(), replace)
            .into_bytes()
    }
}

/// The byte that `<0xAB>` names.
fn byte_of_hex(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    let hex = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    hex.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

/// The byte that a letter stands for: visible Latin-1 for itself, the other 68 bytes in order from U+0100 on.
fn byte_of_letter(letter: char) -> Option<u8> {
    let code = u32::from(letter);
    match code {
        0x100.. => hidden_bytes().nth(code as usize - 0x100),
        _ => u8::try_from(code).ok().filter(|byte| !is_hidden(*byte)),
    }
}

fn hidden_bytes() -> impl Iterator<Item = u8> {
    (0..=u8::MAX).filter(|byte| is_hidden(*byte))
}

const fn is_hidden(byte: u8) -> bool {
    matches!(byte, 0x00..=0x20 | 0x7f..=0xa0 | 0xad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_one_letter() {
        let letters = (0u32..0x150)
            .filter_map(char::from_u32)
            .filter_map(byte_of_letter);
        let mut bytes: Vec<u8> = letters.collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=u8::MAX).collect::<Vec<_>>());
        assert_eq!(byte_of_letter('Ġ'), Some(b' '));
        assert_eq!(byte_of_letter('Ċ'), Some(b'\n'));
    }

    #[test]
    fn only_two_digits_are_a_byte() {
        assert_eq!(byte_of_hex("<0xE4>"), Some(0xe4));
        assert_eq!(byte_of_hex("<0x4>"), None);
        assert_eq!(byte_of_hex("<0x+4>"), None);
    }
}
