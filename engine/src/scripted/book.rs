//! What a scripted engine has done, and how it tells the beginning of a sequence from its going on.
//!
//! A plan does not say which sequence a row belongs to, so the book goes by where rows ended. It serves
//! counting only: no token depends on it.

use std::sync::atomic::AtomicU64;

use logic::batch::Row;

/// Totals since the engine was made.
#[derive(Debug, Default)]
pub struct Counters {
    /// Steps that ran.
    pub steps: AtomicU64,
    /// Tokens run as part of a prompt, or of a resumed text.
    pub prefilled: AtomicU64,
    /// Tokens before the start of rows that began in the middle: they were found in blocks, not run.
    pub reused: AtomicU64,
    /// Tokens run one at a time, each drawn the step before.
    pub decoded: AtomicU64,
    /// Tokens drawn.
    pub drawn: AtomicU64,
    /// Blocks copied.
    pub copies: AtomicU64,
    /// Rows that found a block broken. Never anything but 0 unless somebody lost or mixed up bytes.
    pub broken: AtomicU64,
}

/// How a row relates to the rows before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The first row of a sequence here.
    Begins,
    /// A further chunk of a prompt.
    Continues,
    /// One token that was drawn before.
    Decodes,
}

/// Where the last row that wrote into a block ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct End {
    position: u32,
    drawn: bool,
}

/// The ends of rows, by slot.
#[derive(Clone, Debug, Default)]
pub(super) struct Book {
    ends: Vec<End>,
}

impl Book {
    /// Notes where a row ended, and whether something was drawn there from blocks that held what they should.
    pub(super) fn leave(&mut self, row: &Row, block_tokens: u32, drawn: bool) {
        let position = row.start + row.tokens.len() as u32;
        let slot = row.blocks[((position - 1) / block_tokens) as usize];
        *self.end(slot) = End { position, drawn };
    }

    /// A block was copied.
    pub(super) fn copy(&mut self, from: u32, to: u32) {
        *self.end(to) = *self.end(from);
    }

    /// What a row is.
    pub(super) fn kind(&mut self, row: &Row, block_tokens: u32) -> Kind {
        let Some(before) = row.start.checked_sub(1) else {
            return Kind::Begins;
        };
        let end = self.end(row.blocks[(before / block_tokens) as usize]);
        let joins = end.position == row.start;
        match (joins, end.drawn, row.tokens.len()) {
            (true, true, 1) => Kind::Decodes,
            (true, false, _) => {
                // One sequence goes on from here; the next one that starts here found the block cached.
                *end = End::default();
                Kind::Continues
            }
            _ => Kind::Begins,
        }
    }

    fn end(&mut self, slot: u32) -> &mut End {
        let slot = slot as usize;
        if slot >= self.ends.len() {
            self.ends.resize(slot + 1, End::default());
        }
        &mut self.ends[slot]
    }
}
