//! Linear layers over packed weights, for any number of rows: blocks of strips and of k that fit a core's caches, and
//! what happens to a sum once it is complete (bias, residual, gate).
//!
//! How rows are grouped and k is cut changes no bit, see [`super::panel`]. It never decides which thread computes what.
#![allow(unsafe_code, unsafe_op_in_unsafe_fn)]

use std::ops::Range;

use super::{
    isa::{Isa, dispatched},
    kernels::exp,
    packed::{Kind, Packed, STEP_BYTES, STRIP, scale_of, to_byte},
    panel::{Product, Rows, filled, groups, pairs, quads, singles},
    vector::offset,
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
    filled(rows) * BLOCK_STRIPS * STRIP
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

dispatched! {
    /// Computes the columns of `strips`, a thread's share of a checked job.
    fn run(share: Share<'_>, sums: &mut [f32]) {
        let Share { isa, job, strips } = share;
        let mut first = strips.start;
        while first < strips.end {
            let block = first..strips.end.min(first + BLOCK_STRIPS);
            let sums = &mut sums[..filled(job.inputs.rows) * block.len() * STRIP];
            sums.fill(0.0);
            // SAFETY: the job's maker checked all sizes.
            unsafe { sum(isa, job, &block, sums) };
            if job.packed.kind() == Kind::Quads {
                scale(offset(isa), job, &block, sums);
            }
            // SAFETY: likewise; and no other thread has these strips.
            unsafe { sink(job, &block, sums) };
            first = block.end;
        }
    }
}

/// What one thread does of a job.
#[derive(Clone, Debug)]
pub(super) struct Share<'a> {
    pub(super) isa: Isa,
    pub(super) job: &'a Job<'a>,
    pub(super) strips: Range<usize>,
}

/// Adds all products of a block of strips.
#[inline(always)]
unsafe fn sum(isa: Isa, job: &Job<'_>, block: &Range<usize>, sums: &mut [f32]) {
    let packed = job.packed;
    let mut from = 0;
    while from < packed.steps() {
        let steps = from..packed.steps().min(from + BLOCK_STEPS);
        match packed.kind() {
            Kind::Pairs => pairs(isa, product(job, block, &steps, sums)),
            Kind::Singles => singles(isa, product(job, block, &steps, sums)),
            Kind::Quads => quads(isa, product(job, block, &steps, sums)),
        }
        from = steps.end;
    }
}

/// Some steps of a block.
fn product<X, W, O>(
    job: &Job<'_>,
    block: &Range<usize>,
    steps: &Range<usize>,
    sums: &mut [f32],
) -> Product<X, W, O> {
    let (packed, size) = (job.packed, size_of::<W>());
    let bytes = packed.strip_bytes();
    Product {
        order: order(packed.kind(), job.inputs.rows),
        x: job.inputs.values.as_ptr().cast(),
        x_stride: packed.steps(),
        rows: job.inputs.rows,
        weights: packed.memory()[block.start * bytes..].as_ptr().cast(),
        step: STEP_BYTES / size,
        panel: STEP_BYTES / 2 / size,
        strip: bytes / size,
        panels: block.len() * 2,
        from: steps.start,
        steps: steps.len(),
        out: sums.as_mut_ptr().cast(),
        out_stride: block.len() * STRIP,
    }
}

/// How the rows of a layer's activations lie.
pub(super) const fn order(kind: Kind, rows: usize) -> Rows {
    match kind {
        Kind::Singles => Rows::Flat,
        Kind::Pairs | Kind::Quads if rows <= FLAT_MAX => Rows::Flat,
        Kind::Pairs | Kind::Quads => Rows::Packed,
    }
}

/// Turns exact sums of bytes into floats, in place.
#[inline(always)]
fn scale(offset: i32, job: &Job<'_>, block: &Range<usize>, sums: &mut [f32]) {
    let width = block.len() * STRIP;
    for (row, scale) in sums.chunks_exact_mut(width).zip(job.inputs.scales) {
        for (strip, sums) in block.clone().zip(row.chunks_exact_mut(STRIP)) {
            let (scales, totals) = job.packed.tail(strip);
            for ((sum, column), total) in sums.iter_mut().zip(scales).zip(totals) {
                let exact = sum.to_bits() as i32 - offset * total;
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
    let rows = sums.chunks_exact_mut(span).take(job.inputs.rows);
    for (row, sums) in rows.enumerate() {
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
    /// Most rows of a group.
    pub(in crate::model) most: usize,
    /// Added to bytes.
    pub(in crate::model) offset: i32,
}

// SAFETY: each thread writes the groups of rows that it was given.
unsafe impl Sync for Ready {}

dispatched! {
    /// Makes every `parts`-th group of rows ready for a layer of `kind`, from the `part`-th on. `to` has room for all.
    fn ready(to: Ready, kind: Kind, x: &[f32], inputs: usize, part: usize, parts: usize) {
        let rows = x.len() / inputs;
        let most = match order(kind, rows) {
            Rows::Flat => 1,
            Rows::Packed => to.most,
        };
        let all = (0..rows).map(|row| row..row + 1);
        let alone = all.filter(|_| most == 1);
        let together = groups(if most == 1 { 0 } else { rows }, most);
        for group in alone.chain(together).skip(part).step_by(parts) {
            for row in group.start..group.end.min(rows) {
                let x = &x[row * inputs..(row + 1) * inputs];
                // SAFETY: the group is this part's, and `to` has room for it.
                unsafe { ready_row(to, kind, x, row, &group) };
            }
        }
    }
}

/// Puts one row of a group in its place.
#[inline(always)]
unsafe fn ready_row(to: Ready, kind: Kind, x: &[f32], row: usize, group: &Range<usize>) {
    let (together, floats) = (group.len(), if kind == Kind::Pairs { 2 } else { 1 });
    let steps = x.len().div_ceil(kind.inputs());
    let place = (group.start * steps + row - group.start) * floats;
    let first = to.values.add(place);
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
            let byte = |x: &f32| (i32::from(to_byte(*x * inverse)) + to.offset) as u8;
            for (step, quad) in x.chunks(4).enumerate() {
                let mut bytes = [to.offset as u8; 4];
                bytes.iter_mut().zip(quad).for_each(|(to, x)| *to = byte(x));
                *first.add(step * together).cast::<[u8; 4]>() = bytes;
            }
        }
    }
}
