//! Linear layers over packed weights, for any number of rows: blocks of strips and of k that fit a core's caches, and
//! what happens to a sum once it is complete (bias, residual, gate).
//!
//! How rows are grouped and k is cut changes no bit, see [`super::panel`]. It never decides which thread computes what.
#![allow(unsafe_code, unsafe_op_in_unsafe_fn)]

use std::ops::Range;

use super::{
    kernels::exp,
    packed::{Kind, Packed, STRIP, scale_of, to_byte},
    panel::{Grain, Pairs, Product, Quads, Rows, Singles, groups, multiply},
    vector::{Vector, vectorised},
};

/// Strips that are summed side by side: with [`BLOCK_STEPS`] 256 KiB of weights, which stay in a core's L2 while all rows
/// pass by.
const BLOCK_STRIPS: usize = 8;
/// Steps of k in one go: the rows of a micro-kernel and one strip fit L1.
const BLOCK_STEPS: usize = 256;
/// Up to so many rows, activations are read where they are; more are packed first.
pub(in crate::model) const FLAT_MAX: usize = 3;

/// Floats of scratch that a thread needs for `rows` rows.
pub(in crate::model) const fn sums_len(rows: usize) -> usize {
    rows * BLOCK_STRIPS * STRIP
}

/// Activations of a layer, ready for its kernels.
#[derive(Clone, Copy, Debug)]
pub(in crate::model) struct Inputs<'a> {
    pub(in crate::model) rows: usize,
    /// Floats, or quads of bytes in their place: row after row, or packed if there are more than [`FLAT_MAX`].
    pub(in crate::model) values: &'a [f32],
    /// One for each row, of a quantised layer.
    pub(in crate::model) scales: &'a [f32],
}

/// What becomes of a sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::model) enum Sink {
    /// It is the output.
    Put,
    /// It is added to the output.
    Add,
    /// The sums of a strip's two panels, x and y, become x / (1 + e^-x) * y.
    SiluTimes,
}

/// A linear layer over some rows.
#[derive(Clone, Copy, Debug)]
pub(in crate::model) struct Job<'a> {
    pub(in crate::model) packed: &'a Packed,
    pub(in crate::model) inputs: Inputs<'a>,
    /// One for each column, in the order of the strips.
    pub(in crate::model) bias: Option<&'a [f32]>,
    pub(in crate::model) sink: Sink,
    /// Row after row of `width`; each thread writes the columns of its strips.
    pub(in crate::model) out: *mut f32,
    pub(in crate::model) width: usize,
}

// SAFETY: the output is written by disjoint strips, which `run`'s caller hands out.
unsafe impl Sync for Job<'_> {}

vectorised! {
    /// Computes the columns of `strips`.
    fn run(job: &Job<'_>, strips: Range<usize>, sums: &mut [f32]) = run_strips
}

/// # Safety
/// The processor has `V`; no other thread touches the columns of these strips; `out` has all rows.
#[inline(always)]
unsafe fn run_strips<V: Vector>(job: &Job<'_>, strips: Range<usize>, sums: &mut [f32]) {
    let mut first = strips.start;
    while first < strips.end {
        let block = first..strips.end.min(first + BLOCK_STRIPS);
        let sums = &mut sums[..job.inputs.rows * block.len() * STRIP];
        sums.fill(0.0);
        match job.packed.kind() {
            Kind::Pairs => sum::<V, Pairs>(job, &block, sums.as_mut_ptr()),
            Kind::Singles => sum::<V, Singles>(job, &block, sums.as_mut_ptr()),
            Kind::Quads => {
                sum::<V, Quads>(job, &block, sums.as_mut_ptr().cast());
                scale::<V>(job, &block, sums);
            }
        }
        sink(job, &block, sums);
        first = block.end;
    }
}

/// Adds all products of a block of strips.
#[inline(always)]
unsafe fn sum<V: Vector, G: Grain<V>>(job: &Job<'_>, block: &Range<usize>, out: *mut G::Out) {
    let packed = job.packed;
    let bytes = packed.strip_bytes();
    let size = size_of::<G::Weight>();
    let order = match job.inputs.rows {
        ..=FLAT_MAX => Rows::Flat,
        _ => Rows::Packed,
    };
    let mut from = 0;
    while from < packed.steps() {
        let steps = BLOCK_STEPS.min(packed.steps() - from);
        multiply::<V, G>(Product {
            order,
            x: job.inputs.values.as_ptr().cast(),
            x_stride: packed.steps(),
            rows: job.inputs.rows,
            weights: packed.memory().as_ptr().add(block.start * bytes).cast(),
            step: 128 / size,
            panel: 64 / size,
            strip: bytes / size,
            panels: block.len() * 2,
            from,
            steps,
            out,
            out_stride: block.len() * STRIP,
        });
        from += steps;
    }
}

/// Turns exact sums of bytes into floats, in place.
#[inline(always)]
unsafe fn scale<V: Vector>(job: &Job<'_>, block: &Range<usize>, sums: &mut [f32]) {
    let width = block.len() * STRIP;
    for (row, scale) in sums.chunks_exact_mut(width).zip(job.inputs.scales) {
        for (strip, sums) in block.clone().zip(row.chunks_exact_mut(STRIP)) {
            let (scales, totals) = job.packed.tail(strip);
            for ((sum, column), total) in sums.iter_mut().zip(scales).zip(totals) {
                let exact = sum.to_bits() as i32 - V::OFFSET * total;
                *sum = exact as f32 * (scale * column);
            }
        }
    }
}

#[inline(always)]
unsafe fn sink(job: &Job<'_>, block: &Range<usize>, sums: &mut [f32]) {
    let span = block.len() * STRIP;
    let (columns, first) = match job.sink {
        Sink::Put | Sink::Add => (span, block.start * STRIP),
        Sink::SiluTimes => (span / 2, block.start * STRIP / 2),
    };
    let columns = columns.min(job.width - first);
    for (row, sums) in sums.chunks_exact_mut(span).enumerate() {
        if let Some(bias) = job.bias {
            for (sum, bias) in sums.iter_mut().zip(&bias[block.start * STRIP..]) {
                *sum += bias;
            }
        }
        let out = std::slice::from_raw_parts_mut(job.out.add(row * job.width + first), columns);
        match job.sink {
            Sink::Put => out.copy_from_slice(&sums[..columns]),
            Sink::Add => out.iter_mut().zip(sums).for_each(|(out, sum)| *out += *sum),
            Sink::SiluTimes => {
                for (out, sums) in out.chunks_mut(STRIP / 2).zip(sums.chunks_exact(STRIP)) {
                    let (gate, up) = sums.split_at(STRIP / 2);
                    for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
                        *out = *gate / (1.0 + exp(-*gate)) * up;
                    }
                }
            }
        }
    }
}

/// Where activations are made ready: the same groups as the kernels use.
#[derive(Clone, Copy, Debug)]
pub(in crate::model) struct Ready {
    /// As many floats as the rows have, padded to whole steps.
    pub(in crate::model) values: *mut f32,
    /// One for each row.
    pub(in crate::model) scales: *mut f32,
}

// SAFETY: each thread writes the groups of rows that it was given.
unsafe impl Sync for Ready {}

vectorised! {
    /// Makes every `parts`-th group of rows ready for a layer of `kind`, from the `part`-th on.
    fn ready(kind: Kind, x: &[f32], inputs: usize, to: Ready, part: usize, parts: usize) = make_ready
}

/// # Safety
/// The processor has `V`; `to` has room; no other thread has this part.
#[inline(always)]
unsafe fn make_ready<V: Vector>(
    kind: Kind,
    x: &[f32],
    inputs: usize,
    to: Ready,
    part: usize,
    parts: usize,
) {
    let rows = x.len() / inputs;
    let most = if rows > FLAT_MAX { V::PACKED_ROWS } else { 1 };
    let steps = inputs.div_ceil(kind.inputs());
    let floats = if kind == Kind::Pairs { 2 } else { 1 };
    for group in groups(rows, most).skip(part).step_by(parts) {
        let together = group.len();
        for (place, row) in group.clone().enumerate() {
            let x = &x[row * inputs..(row + 1) * inputs];
            let first = to.values.add(group.start * steps * floats + place * floats);
            match kind {
                Kind::Pairs => {
                    for (step, pair) in x.as_chunks::<2>().0.iter().enumerate() {
                        *first.add(step * together * 2).cast::<[f32; 2]>() = *pair;
                    }
                }
                Kind::Singles => {
                    for (step, value) in x.iter().enumerate() {
                        *first.add(step * together) = *value;
                    }
                }
                Kind::Quads => {
                    let (scale, inverse) = scale_of(x);
                    *to.scales.add(row) = scale;
                    let byte = |x: &f32| (i32::from(to_byte(*x * inverse)) + V::OFFSET) as u8;
                    for (step, quad) in x.chunks(4).enumerate() {
                        let mut bytes = [V::OFFSET as u8; 4];
                        bytes.iter_mut().zip(quad).for_each(|(to, x)| *to = byte(x));
                        *first.add(step * together).cast::<[u8; 4]>() = bytes;
                    }
                }
            }
        }
    }
}
