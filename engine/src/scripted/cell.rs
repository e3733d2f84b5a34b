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
/// Tokens between two blocks that are read whole although they were read before.
const WHOLE_EVERY: usize = 4;
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
        let mut cell = vec![0; self.cell_bytes()];
        for (position, token) in (start..).zip(&row.tokens) {
            state = state_after(state, *token, position);
            let (words, _) = cell.as_chunks_mut::<WORD>();
            for (word, value) in words.iter_mut().zip(self.words(state, *token, position)) {
                *word = value.to_le_bytes();
            }
            let (slot, offset) = self.place(&row.blocks, position);
            kv.write(slot, offset, &cell);
        }
    }

    /// Reads and checks the first `end` positions of a sequence.
    pub(super) fn read(self, kv: &Region, blocks: &[u32], end: usize, into: &mut Reading) {
        into.begin();
        into.tokens.clear();
        for (index, slot) in blocks.iter().enumerate() {
            let first = index * self.block_tokens;
            let cells = end.saturating_sub(first).min(self.block_tokens);
            if cells == 0 {
                return;
            }
            into.read(self, kv, *slot, first, cells);
            into.spell(self.cell_bytes());
        }
    }

    /// Checks a sequence of which all but the last position was read before, and knows no tokens of it.
    ///
    /// A block that is not the one that was read does not join its neighbours: all joints are looked at, and the last cells. Every
    /// few tokens one block is read whole, each in its turn, so that every byte is read again and again.
    pub(super) fn follow(self, kv: &Region, blocks: &[u32], end: usize, into: &mut Reading) {
        into.begin();
        let count = end.div_ceil(self.block_tokens);
        let turn = end
            .is_multiple_of(WHOLE_EVERY)
            .then(|| end / WHOLE_EVERY % count);
        for (index, slot) in blocks.iter().enumerate().take(count) {
            let first = index * self.block_tokens;
            let cells = (end - first).min(self.block_tokens);
            if turn == Some(index) {
                into.read(self, kv, *slot, first, cells);
            } else {
                into.join(self, kv, *slot, first, cells);
            }
        }
    }

    /// The words of a cell.
    fn words(self, state: u64, token: u32, position: usize) -> impl Iterator<Item = u64> {
        let filler = (HEAD_WORDS..self.cell_bytes() / WORD).map(move |i| filler(state, i));
        [state, label(token, position)].into_iter().chain(filler)
    }

    /// State and label of a block's cell.
    fn head(self, kv: &Region, slot: u32, cell: usize) -> (u64, u64) {
        let mut head = [0; HEAD_WORDS * WORD];
        kv.read(slot, cell * self.cell_bytes(), &mut head);
        let (words, _) = head.as_chunks::<WORD>();
        (u64::from_le_bytes(words[0]), u64::from_le_bytes(words[1]))
    }
}

impl Reading {
    fn begin(&mut self) {
        self.state = start_state();
        self.broken = None;
    }

    /// Reads cells from the front of a block and checks each against the one before it.
    fn read(&mut self, layout: Layout, kv: &Region, slot: u32, first: usize, cells: usize) {
        let cell_bytes = layout.cell_bytes();
        self.buffer.resize(cells * cell_bytes, 0);
        kv.read(slot, 0, &mut self.buffer);
        let mut state = self.state;
        for (position, cell) in (first..).zip(self.buffer.chunks_exact(cell_bytes)) {
            let (words, _) = cell.as_chunks::<WORD>();
            let (head, rest) = words.split_at(HEAD_WORDS);
            let (found, labelled) = (u64::from_le_bytes(head[0]), u64::from_le_bytes(head[1]));
            let mut wrong = differs(state, found, labelled, position);
            for (i, word) in (HEAD_WORDS..).zip(rest) {
                wrong |= u64::from_le_bytes(*word) ^ filler(found, i);
            }
            if wrong != 0 {
                self.broken.get_or_insert(position);
            }
            state = found;
        }
        self.state = state;
    }

    /// Checks that a block's first cell follows from what is before it, and its last two from each other.
    fn join(&mut self, layout: Layout, kv: &Region, slot: u32, first: usize, cells: usize) {
        let (found, labelled) = layout.head(kv, slot, 0);
        let mut wrong = differs(self.state, found, labelled, first);
        self.state = found;
        for cell in cells.saturating_sub(2).max(1)..cells {
            let (found, labelled) = layout.head(kv, slot, cell);
            if cell == 1 || cell + 1 == cells {
                wrong |= differs(self.state, found, labelled, first + cell);
            }
            self.state = found;
        }
        if wrong != 0 {
            self.broken.get_or_insert(first);
        }
    }

    /// Takes the tokens of the cells that were read.
    fn spell(&mut self, cell_bytes: usize) {
        let labels = self.buffer.chunks_exact(cell_bytes).map(|cell| {
            let (words, _) = cell.as_chunks::<WORD>();
            u64::from_le_bytes(words[1]) as u32
        });
        self.tokens.extend(labels);
    }
}

/// Not 0 if a cell's head does not follow from the state before it.
const fn differs(before: u64, found: u64, labelled: u64, position: usize) -> u64 {
    let token = labelled as u32;
    (found ^ state_after(before, token, position)) | (labelled ^ label(token, position))
}

/// A token and its position in one word.
const fn label(token: u32, position: usize) -> u64 {
    token as u64 | (position as u64) << 32
}

const fn filler(state: u64, index: usize) -> u64 {
    state ^ (index as u64).wrapping_mul(STRIDE)
}
