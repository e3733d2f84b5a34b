//! What a position leaves in its block, and how a whole sequence is read back and checked.
//!
//! A cell is words of 8 bytes, little endian: the state after this token, the token with its position, and
//! filler that follows from the state. The state follows from the state before, so that every byte of every cell is
//! vouched for by its neighbours. Nothing here knows a script.

use gpu::Region;
use logic::batch::Row;

use super::script::{ScriptError, start_state, state_after};

/// Bytes of a word.
const WORD: usize = 8;
/// State, and token with position.
const HEAD_WORDS: usize = 2;
/// Odd, with well spread bits: makes the filler words of one cell differ.
const STRIDE: u64 = 0x9e37_79b9_7f4a_7c15;

/// Where the cells lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) block_bytes: usize,
    pub(super) block_tokens: usize,
}

/// A sequence as its blocks have it.
#[derive(Clone, Debug, Default)]
pub(super) struct Reading {
    /// The tokens.
    pub(super) tokens: Vec<u32>,
    /// State after the last of them.
    pub(super) state: u64,
    /// First position whose cell is not what it should be.
    pub(super) broken: Option<usize>,
    /// Bytes of the block that is being read.
    buffer: Vec<u8>,
}

impl Layout {
    pub(super) fn new(block_bytes: usize, block_tokens: u32) -> Result<Self, ScriptError> {
        let tokens = block_tokens as usize;
        let even = tokens > 0 && block_bytes.is_multiple_of(tokens * WORD);
        if !even || block_bytes / tokens < HEAD_WORDS * WORD {
            return Err(ScriptError::BlockSize {
                block_bytes,
                block_tokens,
            });
        }
        Ok(Self {
            block_bytes,
            block_tokens: tokens,
        })
    }

    const fn cell_bytes(self) -> usize {
        self.block_bytes / self.block_tokens
    }

    /// Slot of a position's block, and where in it its cell begins.
    fn place(self, blocks: &[u32], position: usize) -> (u32, usize) {
        let offset = position % self.block_tokens * self.cell_bytes();
        (blocks[position / self.block_tokens], offset)
    }

    /// Writes the cells of a row, going on from the state that the blocks have before it.
    pub(super) fn write(self, kv: &Region, row: &Row) {
        let start = row.start as usize;
        let mut state = match start.checked_sub(1) {
            None => start_state(),
            Some(before) => {
                let (slot, offset) = self.place(&row.blocks, before);
                let mut word = [0; WORD];
                kv.read(slot, offset, &mut word);
                u64::from_le_bytes(word)
            }
        };
        let mut cell = Vec::with_capacity(self.cell_bytes());
        for (position, token) in (start..).zip(&row.tokens) {
            state = state_after(state, *token, position);
            cell.clear();
            cell.extend(
                self.words(state, *token, position)
                    .flat_map(u64::to_le_bytes),
            );
            let (slot, offset) = self.place(&row.blocks, position);
            kv.write(slot, offset, &cell);
        }
    }

    /// Reads and checks the first `end` positions of a sequence.
    pub(super) fn read(self, kv: &Region, blocks: &[u32], end: usize, into: &mut Reading) {
        into.tokens.clear();
        into.state = start_state();
        into.broken = None;
        for slot in blocks {
            let cells = (end - into.tokens.len()).min(self.block_tokens);
            if cells == 0 {
                return;
            }
            into.buffer.resize(cells * self.cell_bytes(), 0);
            kv.read(*slot, 0, &mut into.buffer);
            into.check(self.cell_bytes());
        }
    }

    /// The words of a cell.
    fn words(self, state: u64, token: u32, position: usize) -> impl Iterator<Item = u64> {
        let filler = (HEAD_WORDS..self.cell_bytes() / WORD).map(move |i| filler(state, i));
        [state, label(token, position)].into_iter().chain(filler)
    }
}

impl Reading {
    /// Takes the cells in the buffer.
    fn check(&mut self, cell_bytes: usize) {
        for cell in self.buffer.chunks_exact(cell_bytes) {
            let position = self.tokens.len();
            let (words, _) = cell.as_chunks::<WORD>();
            let (head, rest) = words.split_at(HEAD_WORDS);
            let (found, labelled) = (u64::from_le_bytes(head[0]), u64::from_le_bytes(head[1]));
            let token = labelled as u32;
            self.state = state_after(self.state, token, position);
            let mut wrong = found ^ self.state | labelled ^ label(token, position);
            for (i, word) in (HEAD_WORDS..).zip(rest) {
                wrong |= u64::from_le_bytes(*word) ^ filler(found, i);
            }
            if wrong != 0 {
                self.broken.get_or_insert(position);
            }
            self.tokens.push(token);
        }
    }
}

/// A token and its position in one word.
const fn label(token: u32, position: usize) -> u64 {
    token as u64 | (position as u64) << 32
}

const fn filler(state: u64, index: usize) -> u64 {
    state ^ (index as u64).wrapping_mul(STRIDE)
}
