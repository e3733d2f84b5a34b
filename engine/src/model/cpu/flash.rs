//! Attention of the fast backends: tiles of query rows against spans of 64 positions, with a running softmax between spans.
//!
//! Spans are counted from position 0, whatever the block size. Scores are summed over the head's width and values over the
//! span's positions, both in ascending order, and a position that a row does not see weighs exactly nothing. So
//! neither tiles nor chunks nor threads change a bit of a row. It never looks at a block that a tile does not see.
#![allow(unsafe_code, unsafe_op_in_unsafe_fn)]

use std::ops::Range;

use gpu::Region;

use super::{
    isa::{Isa, dispatched},
    kernels::{Softmax, exp},
    panel::{Product, Rows, singles},
    vector::LANES,
};
use crate::model::kv::KvDtype;

/// Positions whose scores a row has at once.
const SPAN: usize = 64;
/// Query rows of a tile: they share one reading of keys and values, and their sums stay in a core's L2.
const TILE_ROWS: usize = 128;

/// Where one layer's keys and values of one head and one sequence lie.
#[derive(Clone, Copy, Debug)]
pub(in crate::model) struct Cached<'a> {
    /// Slots of the sequence's blocks.
    pub(in crate::model) blocks: &'a [u32],
    pub(in crate::model) block_tokens: usize,
    pub(in crate::model) kv: &'a Region,
    /// From a slot's first byte to its first token's keys, and values.
    pub(in crate::model) keys: usize,
    pub(in crate::model) values: usize,
    pub(in crate::model) dtype: KvDtype,
}

/// Neighbouring tokens of one sequence, for one key head.
#[derive(Clone, Copy, Debug)]
pub(in crate::model) struct Tile<'a> {
    pub(in crate::model) cached: Cached<'a>,
    /// Position of the first token.
    pub(in crate::model) position: usize,
    pub(in crate::model) tokens: usize,
    /// Query heads, and their width.
    pub(in crate::model) group: usize,
    pub(in crate::model) dim: usize,
    pub(in crate::model) window: Option<usize>,
    /// First query row of the first token; the others of a token follow it.
    pub(in crate::model) queries: *const f32,
    pub(in crate::model) queries_stride: usize,
    /// Likewise, for the result.
    pub(in crate::model) out: *mut f32,
    pub(in crate::model) out_stride: usize,
}

/// Tokens of a tile, for so many query heads to a key head.
pub(in crate::model) const fn tile_tokens(group: usize) -> usize {
    let tokens = TILE_ROWS / group;
    if tokens == 0 { 1 } else { tokens }
}

/// One thread's scratch.
#[derive(Debug)]
pub(in crate::model) struct Scratch {
    queries: Vec<f32>,
    /// Panels of sixteen positions, each dimension after dimension.
    keys: Vec<f32>,
    /// Position after position, padded to whole panels.
    values: Vec<f32>,
    scores: Vec<f32>,
    sums: Vec<f32>,
    state: Vec<Softmax>,
}

impl Scratch {
    /// Room for any tile.
    pub(in crate::model) fn new(group: usize, dim: usize) -> Self {
        let rows = tile_tokens(group) * group;
        let padded = dim.next_multiple_of(LANES);
        Self {
            queries: vec![0.0; rows * dim],
            keys: vec![0.0; SPAN * dim],
            values: vec![0.0; SPAN * padded],
            scores: vec![0.0; rows * SPAN],
            sums: vec![0.0; rows * padded],
            state: vec![Softmax::START; rows],
        }
    }
}

dispatched! {
    /// Attention of one tile. Its maker saw to it that keys and values lie inside a slot and nobody writes them, that `queries`
    /// and `out` are good for its rows, and that nobody else has these rows of `out`.
    fn flash(all: Isa, tile: &Tile<'_>, scratch: &mut Scratch) {
        // SAFETY: the promise above.
        unsafe { run(all, tile, scratch) };
    }
}

#[inline(always)]
unsafe fn run(isa: Isa, tile: &Tile<'_>, scratch: &mut Scratch) {
    begin(tile, scratch);
    let end = tile.position + tile.tokens;
    for span in tile.first_seen(0) / SPAN..end.div_ceil(SPAN) {
        let start = span * SPAN;
        let seen = start..end.min(start + SPAN);
        gather(tile, seen.clone(), scratch);
        let tokens = tile.seeing(&seen);
        let rows = tokens.start * tile.group..tokens.end * tile.group;
        score(isa, tile, &rows, seen.len(), scratch);
        for row in rows.clone() {
            let position = tile.position + row / tile.group;
            let from = tile.first_seen(row / tile.group).max(start) - start;
            let to = (position + 1).min(seen.end) - start;
            soften(row, from..to, seen.len(), tile.dim, scratch);
        }
        add_values(isa, tile, &rows, seen.len(), scratch);
    }
    finish(tile, scratch);
}

impl Tile<'_> {
    /// First position that the tile's `token` sees.
    fn first_seen(&self, token: usize) -> usize {
        self.window.map_or(0, |window| {
            (self.position + token + 1).saturating_sub(window)
        })
    }

    /// The tokens that see any of some positions.
    fn seeing(&self, positions: &Range<usize>) -> Range<usize> {
        let from = positions.start.saturating_sub(self.position);
        let to = (from..self.tokens)
            .find(|token| self.first_seen(*token) >= positions.end)
            .unwrap_or(self.tokens);
        from..to
    }
}

/// Scales the queries and clears the sums.
#[inline(always)]
unsafe fn begin(tile: &Tile<'_>, scratch: &mut Scratch) {
    let scale = 1.0 / (tile.dim as f32).sqrt();
    let width = tile.group * tile.dim;
    for token in 0..tile.tokens {
        let from = tile.queries.add(token * tile.queries_stride);
        let from = std::slice::from_raw_parts(from, width);
        let to = &mut scratch.queries[token * width..(token + 1) * width];
        to.iter_mut().zip(from).for_each(|(to, x)| *to = x * scale);
    }
    scratch.state.fill(Softmax::START);
    scratch.sums.fill(0.0);
}

/// Brings some positions into the order of panels: keys with positions as lanes, values with dimensions.
#[inline(always)]
unsafe fn gather(tile: &Tile<'_>, positions: Range<usize>, scratch: &mut Scratch) {
    let (cached, dim) = (&tile.cached, tile.dim);
    let padded = dim.next_multiple_of(LANES);
    for (i, position) in positions.enumerate() {
        let block = cached
            .kv
            .slot(cached.blocks[position / cached.block_tokens]);
        let token = position % cached.block_tokens;
        let keys = &mut scratch.keys[i / LANES * LANES * dim + i % LANES..];
        let values = &mut scratch.values[i * padded..i * padded + dim];
        match cached.dtype {
            KvDtype::F32 => {
                let at = |part: usize| block.add(part + token * dim * 4).cast::<f32>();
                let (from, from_values) = (at(cached.keys), at(cached.values));
                for d in 0..dim {
                    keys[d * LANES] = from.add(d).read();
                }
                std::ptr::copy_nonoverlapping(from_values, values.as_mut_ptr(), dim);
            }
            KvDtype::Bf16 => {
                let at = |part: usize| block.add(part + token * dim * 2).cast::<u16>();
                let (from, from_values) = (at(cached.keys), at(cached.values));
                let widen = |x: u16| f32::from_bits(u32::from(x) << 16);
                for d in 0..dim {
                    keys[d * LANES] = widen(from.add(d).read());
                    values[d] = widen(from_values.add(d).read());
                }
            }
        }
    }
}

/// Scores of some rows for the first `seen` positions of the span.
#[inline(always)]
unsafe fn score(
    isa: Isa,
    tile: &Tile<'_>,
    rows: &Range<usize>,
    seen: usize,
    scratch: &mut Scratch,
) {
    let scores = &mut scratch.scores[rows.start * SPAN..rows.end * SPAN];
    scores.fill(0.0);
    let product = Product {
        order: Rows::Flat,
        x: scratch.queries[rows.start * tile.dim..].as_ptr(),
        x_stride: tile.dim,
        rows: rows.len(),
        weights: scratch.keys.as_ptr(),
        step: LANES,
        panel: LANES * tile.dim,
        strip: 2 * LANES * tile.dim,
        panels: seen.div_ceil(LANES),
        from: 0,
        steps: tile.dim,
        out: scores.as_mut_ptr(),
        out_stride: SPAN,
    };
    singles(isa, product);
}

/// Turns a row's scores into weights: those of `seen` count, the rest of the first `known` are nothing.
#[inline(always)]
fn soften(row: usize, seen: Range<usize>, known: usize, dim: usize, scratch: &mut Scratch) {
    let scores = &mut scratch.scores[row * SPAN..(row + 1) * SPAN];
    let scores = &mut scores[..known.next_multiple_of(LANES)];
    scores[..seen.start].fill(f32::NEG_INFINITY);
    scores[seen.end..].fill(f32::NEG_INFINITY);
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for panel in scores.as_chunks::<LANES>().0 {
        for (most, score) in lanes.iter_mut().zip(panel) {
            *most = if *score > *most { *score } else { *most };
        }
    }
    let state = &mut scratch.state[row];
    let peak = lanes.iter().fold(state.peak, |peak, s| peak.max(*s));
    let decay = exp(state.peak - peak);
    for score in scores.iter_mut() {
        *score = exp(*score - peak);
    }
    scores[..seen.start].fill(0.0);
    scores[seen.end..].fill(0.0);
    let mut lanes = [0.0; LANES];
    for panel in scores.as_chunks::<LANES>().0 {
        for (sum, weight) in lanes.iter_mut().zip(panel) {
            *sum += weight;
        }
    }
    state.sum = state.sum * decay + fold(lanes);
    if state.peak != peak {
        let padded = dim.next_multiple_of(LANES);
        for sum in &mut scratch.sums[row * padded..(row + 1) * padded] {
            *sum *= decay;
        }
    }
    state.peak = peak;
}

/// Sum of the lanes, by halves.
#[inline(always)]
fn fold(mut lanes: [f32; LANES]) -> f32 {
    for width in [8, 4, 2, 1] {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
    }
    lanes[0]
}

/// Adds the weighted values of the first `seen` positions of the span.
#[inline(always)]
unsafe fn add_values(
    isa: Isa,
    tile: &Tile<'_>,
    rows: &Range<usize>,
    seen: usize,
    scratch: &mut Scratch,
) {
    let padded = tile.dim.next_multiple_of(LANES);
    let product = Product {
        order: Rows::Flat,
        x: scratch.scores[rows.start * SPAN..].as_ptr(),
        x_stride: SPAN,
        rows: rows.len(),
        weights: scratch.values.as_ptr(),
        step: padded,
        panel: LANES,
        strip: 2 * LANES,
        panels: padded / LANES,
        from: 0,
        steps: seen,
        out: scratch.sums[rows.start * padded..].as_mut_ptr(),
        out_stride: padded,
    };
    singles(isa, product);
}

/// Divides by the sums of weights, and writes the rows out.
#[inline(always)]
unsafe fn finish(tile: &Tile<'_>, scratch: &Scratch) {
    let dim = tile.dim;
    let sums = scratch.sums.chunks_exact(dim.next_multiple_of(LANES));
    let rows = sums.zip(&scratch.state).take(tile.tokens * tile.group);
    for (row, (sums, state)) in rows.enumerate() {
        let at = row / tile.group * tile.out_stride + row % tile.group * dim;
        let out = std::slice::from_raw_parts_mut(tile.out.add(at), dim);
        let share = 1.0 / state.sum;
        out.iter_mut()
            .zip(sums)
            .for_each(|(out, sum)| *out = sum * share);
    }
}
