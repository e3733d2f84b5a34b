//! The reference attention over paged blocks: for each key head, tiles of neighbouring queries walk their blocks in order.
//!
//! The softmax runs from block to block. Which blocks a query sees, and in which order, follows from its position
//! and the layer's window alone, so neither chunks nor tiles nor threads change a bit of its result.

use gpu::Region;
use logic::batch::Row;

use super::{
    KvLayout,
    batch::Batch,
    cpu::{self, Isa, Queries, Softmax},
    kv::Part,
};

/// Queries that share one reading of a block.
const TILE_TOKENS: usize = 16;

/// One thread's scratch.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    keys: Vec<f32>,
    values: Vec<f32>,
    raw: Vec<u16>,
    scores: Vec<f32>,
    state: Vec<Softmax>,
}

impl Scratch {
    /// Room for any tile of a model with `group` query heads to a key head.
    pub(super) fn new(layout: &KvLayout, group: usize) -> Self {
        let elements = layout.block_tokens * layout.head_dim;
        Self {
            keys: vec![0.0; elements],
            values: vec![0.0; elements],
            raw: vec![0; elements],
            scores: vec![0.0; layout.block_tokens],
            state: vec![Softmax::START; TILE_TOKENS * group],
        }
    }
}

/// Attention of one layer over one batch.
pub(super) struct Attention<'a> {
    pub(super) isa: Isa,
    pub(super) layout: KvLayout,
    pub(super) kv: &'a Region,
    pub(super) rows: &'a [Row],
    pub(super) batch: &'a Batch,
    pub(super) layer: usize,
    pub(super) window: Option<usize>,
    /// Query heads to a key head.
    pub(super) group: usize,
    /// Token after token, head after head, at the beginning of rows of `stride`.
    pub(super) queries: &'a [f32],
    pub(super) stride: usize,
}

impl Attention<'_> {
    /// Computes units from `first` on into `out`. A unit is one token's `group` rows for one key head; the units
    /// of a key head follow each other, token by token.
    pub(super) fn run(&self, first: usize, out: &mut [f32], scratch: &mut Scratch) {
        let tokens = self.batch.tokens.len();
        let width = self.group * self.layout.head_dim;
        let (mut unit, mut out) = (first, out);
        while !out.is_empty() {
            let (head, token) = (unit / tokens, unit % tokens);
            let segment = &self.batch.segments[self.batch.segment_of[token]];
            let left = segment.at + segment.count - token;
            let count = left.min(TILE_TOKENS).min(out.len() / width);
            let (tile, rest) = out.split_at_mut(count * width);
            self.tile(head, token, tile, scratch);
            (unit, out) = (unit + count, rest);
        }
    }

    /// The tokens from `token` on that `out` has room for, all of one segment.
    fn tile(&self, head: usize, token: usize, out: &mut [f32], scratch: &mut Scratch) {
        let dim = self.layout.head_dim;
        let block_tokens = self.layout.block_tokens;
        let count = out.len() / (self.group * dim);
        let segment = &self.batch.segments[self.batch.segment_of[token]];
        let position = segment.start + token - segment.at;
        let end = position + count;
        out.fill(0.0);
        scratch.state.fill(Softmax::START);
        for block in self.first_seen(position) / block_tokens..end.div_ceil(block_tokens) {
            let start = block * block_tokens;
            let slot = self.rows[segment.row].blocks[block];
            self.load(slot, head, block_tokens.min(end - start), scratch);
            for i in 0..count {
                let seen = position + i + 1;
                let from = self.first_seen(position + i).max(start);
                let to = seen.min(start + block_tokens);
                if from < to {
                    self.fold(head, token + i, i, from - start..to - start, out, scratch);
                }
            }
        }
        for (row, state) in out.chunks_exact_mut(dim).zip(&scratch.state) {
            let share = 1.0 / state.sum;
            row.iter_mut().for_each(|value| *value *= share);
        }
    }

    fn load(&self, slot: u32, head: usize, tokens: usize, scratch: &mut Scratch) {
        let elements = tokens * self.layout.head_dim;
        let at = |part| self.layout.offset(self.layer, part, head, 0);
        let (keys, values) = (
            &mut scratch.keys[..elements],
            &mut scratch.values[..elements],
        );
        self.layout
            .read(self.kv, slot, at(Part::Keys), keys, &mut scratch.raw);
        self.layout
            .read(self.kv, slot, at(Part::Values), values, &mut scratch.raw);
    }

    /// Takes the loaded block into the `i`-th token of the tile.
    fn fold(
        &self,
        head: usize,
        token: usize,
        i: usize,
        seen: std::ops::Range<usize>,
        out: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let dim = self.layout.head_dim;
        let width = self.group * dim;
        let query = token * self.stride + head * width;
        let queries = Queries {
            rows: &self.queries[query..query + width],
            dim,
            from: seen.start,
            to: seen.end,
            scale: 1.0 / (dim as f32).sqrt(),
        };
        let state = &mut scratch.state[i * self.group..(i + 1) * self.group];
        let out = &mut out[i * width..(i + 1) * width];
        cpu::attend(
            self.isa,
            queries,
            &scratch.keys,
            &scratch.values,
            state,
            out,
            &mut scratch.scores,
        );
    }

    /// First position that a token at `position` sees.
    fn first_seen(&self, position: usize) -> usize {
        self.window
            .map_or(0, |window| (position + 1).saturating_sub(window))
    }
}
