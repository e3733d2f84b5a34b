//! The fast kernels, spread over a pool: a linear layer, and attention. Safe to call, with every size checked.
//!
//! Each thread gets a fixed share of the output, so that no two ever write one place. It knows matrices and tiles, not models.
#![allow(unsafe_code)]

use super::{
    flash::{self, Cached, Tile, tile_tokens},
    gemm::{FLAT_MAX, Inputs, Job, Ready, Share, Sink, order, ready, run, sums_len},
    isa::Isa,
    packed::{Kind, Packed},
    panel::{Rows, filled},
    pool::{Pool, Shareable},
    vector::{offset, packed_rows},
};
use crate::model::{attention::Attention, kv::Part};

/// What one thread needs for itself.
#[derive(Debug)]
pub(in crate::model) struct Local {
    sums: Vec<f32>,
    flash: flash::Scratch,
}

impl Local {
    /// For batches of at most `rows`, and attention of `group` query heads of `dim` to a key head.
    pub(in crate::model) fn new(rows: usize, group: usize, dim: usize) -> Self {
        Self {
            sums: vec![0.0; sums_len(rows)],
            flash: flash::Scratch::new(group, dim),
        }
    }
}

/// Activations on their way into a layer.
#[derive(Debug, Default)]
pub(in crate::model) struct Prepared {
    values: Vec<f32>,
    scales: Vec<f32>,
}

impl Prepared {
    /// Room for `rows` of at most `inputs`.
    pub(in crate::model) fn new(rows: usize, inputs: usize) -> Self {
        Self {
            values: vec![0.0; filled(rows) * inputs.next_multiple_of(4)],
            scales: vec![0.0; rows],
        }
    }

    /// Orders and, for bytes, quantises the rows of `x` as the kernels of a layer want them.
    fn prepare<'a>(
        &'a mut self,
        pool: &Pool,
        isa: Isa,
        packed: &Packed,
        x: &'a [f32],
        locals: &mut [Local],
    ) -> Inputs<'a> {
        let inputs = packed.inputs();
        let rows = x.len() / inputs;
        assert_eq!(rows * inputs, x.len(), "whole rows");
        let kind = packed.kind();
        let flat = order(kind, rows) == Rows::Flat;
        if flat && kind != Kind::Quads {
            return Inputs {
                rows,
                values: x,
                scales: &[],
            };
        }
        let needed = filled(rows) * inputs.next_multiple_of(4);
        assert!(needed <= self.values.len() && rows <= self.scales.len());
        let to = Ready {
            values: self.values.as_mut_ptr(),
            scales: self.scales.as_mut_ptr(),
            most: packed_rows(isa),
            offset: offset(isa),
        };
        let to = &to;
        if rows <= FLAT_MAX {
            ready(isa, *to, kind, x, inputs, 0, 1);
        } else {
            pool.each(locals, |part, parts, _| {
                ready(isa, *to, kind, x, inputs, part, parts)
            });
        }
        Inputs {
            rows,
            values: &self.values,
            scales: &self.scales[..rows],
        }
    }
}

/// The threads, their kernels and their scratch.
#[derive(Clone, Copy)]
pub(in crate::model) struct Crew<'a> {
    pub(in crate::model) pool: &'a Pool,
    pub(in crate::model) isa: Isa,
}

impl Crew<'_> {
    /// A linear layer: `out` has one row of `width` for each row of `x`.
    pub(in crate::model) fn linear(
        self,
        (packed, bias): (&Packed, Option<&[f32]>),
        x: &[f32],
        (sink, out, width): (Sink, &mut [f32], usize),
        prepared: &mut Prepared,
        locals: &mut [Local],
    ) {
        let inputs = prepared.prepare(self.pool, self.isa, packed, x, locals);
        let columns = match sink {
            Sink::Put | Sink::Add => width,
            Sink::SiluTimes => 2 * width,
        };
        let strips = packed.strips();
        assert_eq!(columns.div_ceil(super::packed::STRIP), strips);
        assert_eq!(out.len(), inputs.rows * width);
        assert!(bias.is_none_or(|bias| bias.len() >= strips * super::packed::STRIP));
        assert!(
            locals
                .iter()
                .all(|local| sums_len(inputs.rows) <= local.sums.len())
        );
        let job = Job {
            packed,
            inputs,
            bias,
            sink,
            out: out.as_mut_ptr(),
            width,
        };
        self.pool.each(locals, |part, parts, local| {
            let share = Share {
                isa: self.isa,
                job: &job,
                strips: part * strips / parts..(part + 1) * strips / parts,
            };
            run(self.isa, share, &mut local.sums);
        });
    }

    /// Attention of one layer, into rows of as many floats as all query heads have.
    pub(in crate::model) fn attention(
        self,
        attention: &Attention<'_>,
        out: &mut [f32],
        locals: &mut [Local],
    ) {
        let layout = &attention.layout;
        let width = attention.group * layout.head_dim;
        let tokens = attention.batch.tokens.len();
        assert_eq!(
            out.len(),
            tokens * width * layout.kv_heads,
            "one row a token"
        );
        assert!(attention.stride >= width * layout.kv_heads);
        assert!(attention.queries.len() >= tokens * attention.stride);
        assert_eq!(attention.kv.slot_bytes(), layout.block_bytes());
        let out = Shareable::new(out.as_mut_ptr());
        self.pool.each(locals, |part, parts, local| {
            let tiles = tiles(attention).skip(part).step_by(parts);
            for (head, first, tile) in tiles {
                let at = first * width * layout.kv_heads + head * width;
                // SAFETY: the tile's rows lie inside `out`, whose length was checked, and no other tile has them.
                let out = unsafe { out.at(at) };
                let tile = Tile { out, ..tile };
                flash::flash(self.isa, self.isa, &tile, &mut local.flash);
            }
        });
    }
}

/// All tiles of a batch in a fixed order: key head, first token in the batch, and the tile, still without an output.
fn tiles<'a>(attention: &'a Attention<'_>) -> impl Iterator<Item = (usize, usize, Tile<'a>)> {
    let layout = &attention.layout;
    let (group, dim) = (attention.group, layout.head_dim);
    let most = tile_tokens(group);
    let segments = attention.batch.segments.iter();
    let pieces = segments.flat_map(move |segment| {
        let starts = (0..segment.count).step_by(most);
        starts.map(move |from| (segment, from, most.min(segment.count - from)))
    });
    pieces.flat_map(move |(segment, from, tokens)| {
        (0..layout.kv_heads).map(move |head| {
            let first = segment.at + from;
            let query = first * attention.stride + head * group * dim;
            let tile = Tile {
                cached: Cached {
                    blocks: &attention.rows[segment.row].blocks,
                    block_tokens: layout.block_tokens,
                    kv: attention.kv,
                    keys: layout.offset(attention.layer, Part::Keys, head, 0),
                    values: layout.offset(attention.layer, Part::Values, head, 0),
                    dtype: layout.dtype,
                },
                position: segment.start + from,
                tokens,
                group,
                dim,
                window: attention.window,
                queries: attention.queries[query..].as_ptr(),
                queries_stride: attention.stride,
                out: std::ptr::null_mut(),
                out_stride: group * dim * layout.kv_heads,
            };
            (head, first, tile)
        })
    })
}

#[cfg(test)]
mod tests;
