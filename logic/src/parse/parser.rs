//! Runs a [`Format`] over text that comes piece by piece.
//!
//! How the text was cut never matters. Of text and thoughts it keeps back what may become a marker and the
//! line feeds before it; a call it keeps whole, up to a bound, so that a broken one is never shown in part.

use super::{
    Call, Format,
    format::{Row, State},
};

/// Largest call in bytes; as large as one tool's schema may be.
const CALL_BYTES_MAX: usize = 256 * 1024;
/// Line feeds before a marker that belong to it: the templates write up to two.
const LAYOUT_MAX: usize = 2;

/// Why bytes are not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A marker, or a line feed beside one.
    Markup,
    /// Between the markers of a call stands no call.
    Malformed,
    /// The text ended within a call.
    Truncated,
    /// The call is too large.
    TooLarge,
}

/// A piece of what was written. Every byte of the text is in exactly one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Text for the user.
    Content(String),
    /// A part of a thought.
    Thought(String),
    /// A whole call.
    Call {
        /// What is called.
        call: Call,
        /// Of the text that it was read from.
        bytes: usize,
    },
    /// Not to be shown.
    Dropped {
        /// Why.
        reason: Reason,
        /// How many bytes.
        bytes: usize,
    },
}

/// The parser of one answer.
#[derive(Clone, Debug)]
pub struct Parser {
    format: &'static Format,
    state: State,
    /// Not decided yet.
    pending: String,
    /// Bytes of `pending` in which no marker begins.
    searched: usize,
    /// A marker was just read: line feeds belong to it.
    after_marker: bool,
    /// Bytes of a call that is too large.
    lost: usize,
}

impl Parser {
    /// Nothing was read yet.
    #[must_use]
    pub const fn new(format: &'static Format, begins: State) -> Self {
        Self {
            format,
            state: begins,
            pending: String::new(),
            searched: 0,
            after_marker: matches!(begins, State::Thought),
            lost: 0,
        }
    }

    /// Whether a thought is being written.
    #[must_use]
    pub fn is_thinking(&self) -> bool {
        self.state == State::Thought
    }

    /// Takes more text and appends what is decided by it.
    pub fn push(&mut self, text: &str, out: &mut Vec<Piece>) {
        self.pending.push_str(text);
        loop {
            self.skip_layout(out);
            let Some((at, row)) = self.marker() else {
                break;
            };
            self.leave(at, out);
            self.drop_first(row.marker.len(), out);
            self.state = row.to;
            self.after_marker = true;
        }
        let doubt = self.doubt();
        match self.state {
            State::Call if doubt > CALL_BYTES_MAX || self.lost > 0 => {
                self.lost += doubt;
                self.pending.drain(..doubt);
                self.searched = 0;
            }
            State::Call => self.searched = doubt,
            State::Content | State::Thought => self.show(doubt, out),
        }
    }

    /// The text is over.
    pub fn finish(&mut self, out: &mut Vec<Piece>) {
        let rest = self.pending.len();
        if self.state == State::Call {
            self.pending.clear();
            Self::drop(Reason::Truncated, rest + self.lost, out);
        } else {
            self.show(rest, out);
        }
    }

    fn skip_layout(&mut self, out: &mut Vec<Piece>) {
        if self.after_marker && self.state != State::Call {
            let feeds = self.pending.bytes().take_while(|b| *b == b'\n').count();
            self.drop_first(feeds, out);
            self.after_marker = self.pending.is_empty();
        }
    }

    /// The first marker that counts here.
    fn marker(&self) -> Option<(usize, &'static Row)> {
        let rest = &self.pending[self.searched..];
        let rows = self.format.rows(self.state);
        let found = rows.filter_map(|row| Some((self.searched + rest.find(row.marker)?, row)));
        found.min_by_key(|(at, _)| *at)
    }

    /// Where what may become a marker begins, with the line feeds before it.
    fn doubt(&self) -> usize {
        let text = self.pending.as_bytes();
        let begun = |row: &Row| {
            let marker = row.marker.as_bytes();
            let longest = marker.len().min(text.len() + 1) - 1;
            (1..=longest).rev().find(|n| text.ends_with(&marker[..*n]))
        };
        let begun = self.format.rows(self.state).filter_map(begun).max();
        self.before_layout(text.len() - begun.unwrap_or(0))
    }

    fn before_layout(&self, at: usize) -> usize {
        let before = self.pending.as_bytes()[..at].iter().rev();
        at - before.take(LAYOUT_MAX).take_while(|b| **b == b'\n').count()
    }

    /// Ends a state at a marker.
    fn leave(&mut self, at: usize, out: &mut Vec<Piece>) {
        if self.state == State::Call {
            let text: String = self.pending.drain(..at).collect();
            let Format {
                name, arguments, ..
            } = self.format;
            let bytes = text.len() + std::mem::take(&mut self.lost);
            match Call::read(&text, name, arguments) {
                _ if bytes > CALL_BYTES_MAX => Self::drop(Reason::TooLarge, bytes, out),
                Some(call) => out.push(Piece::Call { call, bytes }),
                None => Self::drop(Reason::Malformed, bytes, out),
            }
            self.searched = 0;
        } else {
            let end = self.before_layout(at);
            self.show(end, out);
            self.drop_first(at - end, out);
        }
    }

    fn show(&mut self, bytes: usize, out: &mut Vec<Piece>) {
        if bytes == 0 {
            return;
        }
        let text = self.pending.drain(..bytes).collect();
        out.push(if self.is_thinking() {
            Piece::Thought(text)
        } else {
            Piece::Content(text)
        });
    }

    fn drop_first(&mut self, bytes: usize, out: &mut Vec<Piece>) {
        self.pending.drain(..bytes);
        Self::drop(Reason::Markup, bytes, out);
    }

    fn drop(reason: Reason, bytes: usize, out: &mut Vec<Piece>) {
        if bytes > 0 {
            out.push(Piece::Dropped { reason, bytes });
        }
    }
}
