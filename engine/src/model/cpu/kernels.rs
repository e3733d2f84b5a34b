//! The arithmetic of a decoder, in plain Rust that the compiler turns into vectors.
//!
//! Order of summation is part of every contract here: dot products add into [`LANES`] lanes and fold those in a
//! fixed tree, attention adds block by block and token by token. So the bits are the same for every vector
//! width, and no kernel may look at anything but the unit that it computes.

use super::{
    isa::dispatched,
    weights::{Bf16, Element, F16, F32, Format, elements, widen},
};

/// Lanes of a dot product: one AVX-512 register, or two or four narrower ones.
pub(in crate::model) const LANES: usize = 16;
/// Columns that are computed together, so that one load of an activation serves several weights.
pub(in crate::model) const COLUMNS: usize = 4;
/// From so many rows on, weights are widened to scratch once instead of once a row.
const WIDEN_ROWS: usize = 4;

/// A matrix as it lies in the file: `rows` of `columns` elements; a linear layer gives one output per row.
#[derive(Clone, Copy, Debug)]
pub(in crate::model) struct Matrix<'a> {
    pub(in crate::model) format: Format,
    pub(in crate::model) bytes: &'a [u8],
    pub(in crate::model) columns: usize,
}

impl<'a> Matrix<'a> {
    /// The bytes of one row.
    pub(in crate::model) fn row(&self, row: usize) -> &'a [u8] {
        let bytes = self.columns * self.format.size();
        &self.bytes[row * bytes..(row + 1) * bytes]
    }
}

/// Dot products of each of `x` with each of `w`, all of one length.
#[inline(always)]
fn dots<E: Element, const R: usize, const C: usize>(x: [&[f32]; R], w: [&[E]; C]) -> [[f32; C]; R] {
    let mut sums = [[[0.0; LANES]; C]; R];
    let chunks = x[0].len() / LANES;
    let whole_x = x.map(|x| &x.as_chunks::<LANES>().0[..chunks]);
    let whole_w = w.map(|w| &w.as_chunks::<LANES>().0[..chunks]);
    for i in 0..chunks {
        for c in 0..C {
            let w = whole_w[c][i].map(E::widen);
            for r in 0..R {
                add_products(&mut sums[r][c], &whole_x[r][i], &w);
            }
        }
    }
    let tail = chunks * LANES;
    if tail < x[0].len() {
        for r in 0..R {
            for c in 0..C {
                add_products(
                    &mut sums[r][c],
                    &padded(&x[r][tail..]),
                    &padded(&w[c][tail..]),
                );
            }
        }
    }
    sums.map(|row| row.map(fold))
}

#[inline(always)]
fn add_products(sums: &mut [f32; LANES], x: &[f32; LANES], w: &[f32; LANES]) {
    for lane in 0..LANES {
        sums[lane] += x[lane] * w[lane];
    }
}

/// The elements, then zeros.
#[inline(always)]
fn padded<E: Element>(elements: &[E]) -> [f32; LANES] {
    let mut lanes = [0.0; LANES];
    for (lane, element) in lanes.iter_mut().zip(elements) {
        *lane = element.widen();
    }
    lanes
}

/// Sum of the lanes, by halves.
#[inline(always)]
fn fold(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

dispatched! {
    /// Linear layer: for each matrix row from `first` on, its products with all rows of `x`, next to each other in `out`.
    /// `scratch` has room for [`COLUMNS`] rows of the matrix.
    fn products(matrix: Matrix<'_>, first: usize, x: &[f32], out: &mut [f32], scratch: &mut [f32]) {
        match matrix.format {
            Format::F32 => all_products::<F32>(matrix, first, x, out, scratch),
            Format::F16 => all_products::<F16>(matrix, first, x, out, scratch),
            Format::Bf16 => all_products::<Bf16>(matrix, first, x, out, scratch),
        }
    }
}

#[inline(always)]
fn all_products<E: Element>(
    matrix: Matrix<'_>,
    first: usize,
    x: &[f32],
    out: &mut [f32],
    scratch: &mut [f32],
) {
    let columns = matrix.columns;
    let rows = x.len() / columns;
    let row = |n| elements::<E>(matrix.row(n));
    let mut at = first;
    let mut groups = out.chunks_exact_mut(rows * COLUMNS);
    for out in &mut groups {
        let w: [&[E]; COLUMNS] = std::array::from_fn(|c| row(at + c));
        if rows < WIDEN_ROWS {
            some_products(w, x, out);
        } else {
            for (row, wide) in w.iter().zip(scratch.chunks_exact_mut(columns)) {
                widen(row, wide);
            }
            let wide: [&[f32]; COLUMNS] =
                std::array::from_fn(|c| &scratch[c * columns..(c + 1) * columns]);
            some_products(wide, x, out);
        }
        at += COLUMNS;
    }
    for out in groups.into_remainder().chunks_exact_mut(rows) {
        some_products([row(at)], x, out);
        at += 1;
    }
}

/// Products of a few matrix rows with all of `x`.
#[inline(always)]
fn some_products<E: Element, const C: usize>(w: [&[E]; C], x: &[f32], out: &mut [f32]) {
    let columns = w[0].len();
    let rows = x.len() / columns;
    let row = |r: usize| &x[r * columns..(r + 1) * columns];
    let mut put = |r: usize, sums: [f32; C]| {
        for (c, sum) in sums.into_iter().enumerate() {
            out[c * rows + r] = sum;
        }
    };
    let pairs = rows / 2;
    for pair in 0..pairs {
        let r = 2 * pair;
        let [first, second] = dots([row(r), row(r + 1)], w);
        put(r, first);
        put(r + 1, second);
    }
    if rows % 2 == 1 {
        let [last] = dots([row(rows - 1)], w);
        put(rows - 1, last);
    }
}

dispatched! {
    /// Root-mean-square norm of each run of `weight.len()` elements of `x`, in place.
    fn normalise(x: &mut [f32], weight: &[f32], eps: f32) {
        for row in x.chunks_exact_mut(weight.len()) {
            let [[squares]] = dots([row], [&*row]);
            let scale = 1.0 / (squares / weight.len() as f32 + eps).sqrt();
            for (value, weight) in row.iter_mut().zip(weight) {
                *value = *weight * (*value * scale);
            }
        }
    }
}

dispatched! {
    /// Gated activation: `gate = silu(gate) * up`.
    fn gate(gate: &mut [f32], up: &[f32]) {
        for (gate, up) in gate.iter_mut().zip(up) {
            *gate = *gate / (1.0 + exp(-*gate)) * up;
        }
    }
}

/// e^x to about one unit in the last place, in operations that vectors have. Flushes to its least normal result below
/// -87 and saturates above 88; not a number stays so.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    /// Adding it leaves the nearest integer in the low bits of the sum: 1.5 x 2^23.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two parts; the first has few bits, so that its product with an integer is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    // Minimax coefficients of (e^r - 1 - r) / r^2 on |r| <= ln 2 / 2, as in the Cephes library.
    let mut tail = 1.987_569_1e-4;
    for coefficient in [
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
    ] {
        tail = tail * r + coefficient;
    }
    let power = f32::from_bits(rounded.to_bits().wrapping_add(127) << 23);
    (tail * r * r + r + 1.0) * power
}

/// The queries of one token and one key head: rows of `dim`, and the positions of the block they see.
#[derive(Clone, Copy, Debug)]
pub(in crate::model) struct Queries<'a> {
    /// One row per query head of the group.
    pub(in crate::model) rows: &'a [f32],
    /// Width of a head.
    pub(in crate::model) dim: usize,
    /// First visible token of the block.
    pub(in crate::model) from: usize,
    /// End of the visible tokens.
    pub(in crate::model) to: usize,
    /// Multiplies scores.
    pub(in crate::model) scale: f32,
}

/// Running softmax of one query row.
#[derive(Clone, Copy, Debug)]
pub(in crate::model) struct Softmax {
    /// Highest score so far.
    pub(in crate::model) peak: f32,
    /// Sum of e^(score - peak).
    pub(in crate::model) sum: f32,
}

impl Softmax {
    /// Before any score.
    pub(in crate::model) const START: Self = Self {
        peak: f32::NEG_INFINITY,
        sum: 0.0,
    };
}

dispatched! {
    /// Takes one block of keys and values (rows of `dim`) into the running attention of each query row: `out`
    /// holds the unnormalised sums, `scores` is scratch for the tokens of a block.
    fn attend(
        queries: Queries<'_>,
        keys: &[f32],
        values: &[f32],
        state: &mut [Softmax],
        out: &mut [f32],
        scores: &mut [f32],
    ) {
        let Queries { rows, dim, from, to, scale } = queries;
        let scores = &mut scores[..to - from];
        let keys = &keys[from * dim..to * dim];
        let values = &values[from * dim..to * dim];
        let rows = rows.chunks_exact(dim).zip(out.chunks_exact_mut(dim));
        for ((query, out), state) in rows.zip(state) {
            score(query, keys, scale, scores);
            let peak = scores.iter().fold(state.peak, |peak, s| peak.max(*s));
            let decay = exp(state.peak - peak);
            for s in scores.iter_mut() {
                *s = exp(*s - peak);
            }
            state.sum = scores.iter().fold(state.sum * decay, |sum, s| sum + s);
            state.peak = peak;
            for value in out.iter_mut() {
                *value *= decay;
            }
            for (weight, row) in scores.iter().zip(values.chunks_exact(dim)) {
                for (sum, value) in out.iter_mut().zip(row) {
                    *sum += weight * value;
                }
            }
        }
    }
}

/// Scaled products of `query` with every row of `keys`.
#[inline(always)]
fn score(query: &[f32], keys: &[f32], scale: f32, scores: &mut [f32]) {
    let dim = query.len();
    let mut fours = keys.chunks_exact(dim * COLUMNS);
    let mut outs = scores.chunks_exact_mut(COLUMNS);
    for (keys, out) in (&mut fours).zip(&mut outs) {
        let w: [&[f32]; COLUMNS] = std::array::from_fn(|c| &keys[c * dim..(c + 1) * dim]);
        let [sums] = dots([query], w);
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = sum * scale;
        }
    }
    let rest = fours.remainder().chunks_exact(dim);
    for (key, out) in rest.zip(outs.into_remainder()) {
        let [[sum]] = dots([query], [key]);
        *out = sum * scale;
    }
}

#[cfg(test)]
mod tests;
