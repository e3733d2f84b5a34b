//! The scripts: which token follows a sequence. Pure functions of the ids, the seed and the choice.
//!
//! A script cannot be told where the prompt ends; it looks for the last [`GO`] in the sequence, which the
//! byte-level tokenizer puts there. Where there is none, every script but the endless one ends at once.

use std::{fmt, str::FromStr};

use crate::text::{END, GO, START};

/// What `script/text` says.
pub const TEXT: &str = "Prefill reads the whole question at once; decode answers it a word at a time. \
Zwei Häuser, ein Gedächtnis: 二つの家、一つの記憶 🏠🏠.";

/// Before the name of every scripted model.
const PREFIX: &str = "script/";
/// How far `script/count` counts unless it is told.
const COUNT_TO: u32 = 20;
/// Farthest count: its text is made anew for each token.
const COUNT_MAX: u32 = 10_000;
/// The letters of `script/hash`: printable ASCII.
const FIRST_LETTER: u32 = 0x20;
const LETTERS: u32 = 95;
/// After the last letter.
const LETTERS_END: u32 = FIRST_LETTER + LETTERS;
/// State before the first token; any constant will do that zeroed memory does not give.
const START_STATE: u64 = 0x7468_616c_616d_7573;

/// Which token comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// Printable letters that follow from every id before; ends after so many, or never.
    Hash(Option<u32>),
    /// The last message, or the whole prompt if it has no messages, and the end.
    Echo,
    /// [`TEXT`] and the end.
    Text,
    /// The numbers from 1 to this one, with spaces between, and the end.
    Count(u32),
}

/// Why there is no such scripted engine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// No script has this name.
    #[error(
        "there is no scripted model {0:?}; there are script/hash, script/hash-N, script/echo, script/text, \
         script/count and script/count-N (N from 1 to {COUNT_MAX} for count)"
    )]
    Unknown(String),
    /// Cells do not fit.
    #[error(
        "a scripted block of {block_tokens} tokens cannot have {block_bytes} bytes: \
         take a multiple of 8 for each token, at least 16"
    )]
    BlockSize {
        /// Bytes of the block.
        block_bytes: usize,
        /// Tokens in it.
        block_tokens: u32,
    },
    /// Letters would be ids that there are not.
    #[error(
        "a vocabulary of {0} ids is too small for a script, which draws ids below {LETTERS_END}"
    )]
    Vocabulary(u32),
}

/// What tells one choice's tokens from another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// The request's seed.
    pub seed: u64,
    /// The choice.
    pub choice: u16,
}

impl FromStr for Script {
    type Err = ScriptError;

    fn from_str(name: &str) -> Result<Self, ScriptError> {
        let unknown = || ScriptError::Unknown(name.to_owned());
        let script = name.strip_prefix(PREFIX).ok_or_else(unknown)?;
        let (kind, number) = match script.split_once('-') {
            Some((kind, digits)) => (kind, Some(digits.parse().map_err(|_| unknown())?)),
            None => (script, None),
        };
        match (kind, number) {
            ("hash", tokens) => Ok(Self::Hash(tokens)),
            ("echo", None) => Ok(Self::Echo),
            ("text", None) => Ok(Self::Text),
            ("count", to) if (1..=COUNT_MAX).contains(&to.unwrap_or(COUNT_TO)) => {
                Ok(Self::Count(to.unwrap_or(COUNT_TO)))
            }
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hash(None) => write!(f, "{PREFIX}hash"),
            Self::Hash(Some(tokens)) => write!(f, "{PREFIX}hash-{tokens}"),
            Self::Echo => write!(f, "{PREFIX}echo"),
            Self::Text => write!(f, "{PREFIX}text"),
            Self::Count(to) => write!(f, "{PREFIX}count-{to}"),
        }
    }
}

impl Script {
    /// Whether more than the state after the last id decides what follows.
    pub(super) const fn needs_tokens(self) -> bool {
        !matches!(self, Self::Hash(None))
    }

    /// The id that follows `position` ids, whose state is `state`; `seen` are these ids, if the script needs them. A banned one
    /// gives way to a letter.
    pub(super) fn next(
        self,
        seen: &[u32],
        position: u32,
        state: u64,
        key: Key,
        banned: &[u32],
    ) -> u32 {
        let letter = letter(state, key, position as usize);
        let wanted = match self {
            Self::Hash(None) => letter,
            Self::Hash(Some(tokens)) => match said(seen) {
                Some((_, count)) if count < tokens as usize => letter,
                _ => END,
            },
            Self::Echo => recite(seen, |prompt| echoed(prompt).collect()),
            Self::Text => recite(seen, |_| bytes(TEXT)),
            Self::Count(to) => recite(seen, |_| bytes(&count_text(to))),
        };
        let letters = (0..LETTERS).map(|i| FIRST_LETTER + (letter - FIRST_LETTER + i) % LETTERS);
        let mut candidates = [wanted].into_iter().chain(letters).chain(0..=GO);
        candidates.find(|id| !banned.contains(id)).unwrap_or(wanted)
    }
}

/// The ids that must come out of `prompt`: up to `n`, fewer if the script ends (the end id is the last one then).
#[must_use]
pub fn expected(script: Script, prompt: &[u32], choice: u16, seed: u64, n: usize) -> Vec<u32> {
    let mut seen = prompt.to_vec();
    let after = |state, (position, id): (usize, &u32)| state_after(state, *id, position);
    let mut state = prompt.iter().enumerate().fold(start_state(), after);
    while seen.len() < prompt.len() + n {
        let position = u32::try_from(seen.len()).unwrap_or(u32::MAX);
        let id = script.next(&seen, position, state, Key { seed, choice }, &[]);
        state = state_after(state, id, seen.len());
        seen.push(id);
        if id == END {
            break;
        }
    }
    seen.split_off(prompt.len())
}

/// Refuses a vocabulary in which a letter is no id.
pub(super) const fn check_vocabulary(ids: u32) -> Result<(), ScriptError> {
    if ids < LETTERS_END {
        return Err(ScriptError::Vocabulary(ids));
    }
    Ok(())
}

/// State before the first token.
pub(super) const fn start_state() -> u64 {
    START_STATE
}

/// State after `token` at `position`.
pub(super) const fn state_after(before: u64, token: u32, position: usize) -> u64 {
    mix(before ^ mix(token as u64 | (position as u64) << 32))
}

/// A letter that follows from everything.
const fn letter(state: u64, key: Key, position: usize) -> u32 {
    let place = (position as u64) << 16 | key.choice as u64;
    let value = mix(state ^ mix(key.seed ^ mix(place)));
    FIRST_LETTER + (value % LETTERS as u64) as u32
}

/// The finaliser of the splitmix64 generator: every input bit reaches every output bit.
const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

/// The prompt without its last mark, and how many ids follow that.
fn said(seen: &[u32]) -> Option<(&[u32], usize)> {
    let go = seen.iter().rposition(|id| *id == GO)?;
    Some((&seen[..go], seen.len() - go - 1))
}

/// The next id of a fixed answer to the prompt.
fn recite(seen: &[u32], answer: impl Fn(&[u32]) -> Vec<u32>) -> u32 {
    let next = said(seen).and_then(|(prompt, count)| answer(prompt).get(count).copied());
    next.unwrap_or(END)
}

/// Content of the last whole message of a prompt, or all of a prompt that has none.
fn echoed(prompt: &[u32]) -> impl Iterator<Item = u32> {
    let message = || {
        let end = prompt.iter().rposition(|id| *id == END)?;
        let start = prompt[..end].iter().rposition(|id| *id == START)?;
        let header = prompt[start..end]
            .iter()
            .position(|id| *id == u32::from(b'\n'))?;
        Some(&prompt[start + header + 1..end])
    };
    message()
        .unwrap_or(prompt)
        .iter()
        .copied()
        .filter(|id| *id < END)
}

fn bytes(text: &str) -> Vec<u32> {
    text.bytes().map(u32::from).collect()
}

fn count_text(to: u32) -> String {
    let numbers: Vec<String> = (1..=to).map(|n| n.to_string()).collect();
    numbers.join(" ")
}
