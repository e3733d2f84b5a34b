//! Kernels spread over the pool: what a layer of a decoder asks of the processor.
//!
//! Products come out output after output, so that each thread writes one contiguous piece, and are turned to token
//! after token afterwards. It knows vectors and matrices, not layers.

use super::{
    KvLayout, Spec,
    attention::{Attention, Scratch},
    cpu::{self, Isa, Pool},
    spec::Activation,
    weights::{Linear, Stored},
};

/// What one thread needs for itself.
struct Local {
    widened: Vec<f32>,
    attention: Scratch,
}

/// Threads and their scratch.
pub(super) struct Machine {
    pool: Pool,
    isa: Isa,
    locals: Vec<Local>,
    turned: Vec<f32>,
}

impl Machine {
    /// Scratch for the widest matrix of `spec`.
    pub(super) fn new(pool: Pool, spec: &Spec, layout: &KvLayout) -> Self {
        let attended = spec.heads * spec.head_dim;
        let widest = spec.hidden.max(spec.intermediate).max(attended);
        let local = |_| Local {
            widened: vec![0.0; cpu::COLUMNS * widest],
            attention: Scratch::new(layout, spec.group()),
        };
        Self {
            isa: Isa::widest(),
            locals: (0..pool.threads()).map(local).collect(),
            turned: Vec::new(),
            pool,
        }
    }

    pub(super) const fn isa(&self) -> Isa {
        self.isa
    }

    /// The last products, output after output.
    pub(super) fn turned(&self) -> &[f32] {
        &self.turned
    }

    /// Products of every row of `x` with every row of the matrix, into [`Self::turned`].
    pub(super) fn products(&mut self, stored: &Stored, x: &[f32]) {
        let matrix = stored.matrix();
        let tokens = x.len() / matrix.columns;
        self.turned.resize(stored.rows() * tokens, 0.0);
        let isa = self.isa;
        let locals = &mut self.locals;
        self.pool
            .over(&mut self.turned, tokens, locals, |first, run, local| {
                cpu::products(isa, matrix, first, x, run, &mut local.widened);
            });
    }

    /// `out = x W + b`.
    pub(super) fn linear(&mut self, linear: &Linear, x: &[f32], out: &mut Vec<f32>) {
        self.products(&linear.weight, x);
        out.resize(self.turned.len(), 0.0);
        self.turn_back(linear, out, |to, value| *to = value);
    }

    /// `out += x W + b`.
    pub(super) fn linear_onto(&mut self, linear: &Linear, x: &[f32], out: &mut [f32]) {
        self.products(&linear.weight, x);
        self.turn_back(linear, out, |to, value| *to += value);
    }

    /// Norm of each run of `weight.len()` elements.
    pub(super) fn normalise(&mut self, x: &mut [f32], weight: &[f32], eps: f32) {
        let isa = self.isa;
        self.pool
            .over(x, weight.len(), &mut self.locals, |_, run, _| {
                cpu::normalise(isa, run, weight, eps);
            });
    }

    /// `gate = activation(gate) * up`, for rows of `width`.
    pub(super) fn gated(&mut self, by: Activation, gate: &mut [f32], up: &[f32], width: usize) {
        let isa = self.isa;
        self.pool
            .over(gate, width, &mut self.locals, |first, run, _| {
                let up = &up[first * width..first * width + run.len()];
                match by {
                    Activation::Silu => cpu::gate(isa, run, up),
                }
            });
    }

    /// Attention of one layer, head after head, turned to token after token.
    pub(super) fn attention(&mut self, attention: &Attention<'_>, out: &mut Vec<f32>) {
        let heads = attention.layout.kv_heads;
        let width = attention.group * attention.layout.head_dim;
        let tokens = attention.queries.len() / (heads * width);
        self.turned.resize(attention.queries.len(), 0.0);
        out.resize(attention.queries.len(), 0.0);
        let locals = &mut self.locals;
        self.pool
            .over(&mut self.turned, width, locals, |first, run, local| {
                attention.run(first, run, &mut local.attention);
            });
        for (unit, values) in out.chunks_exact_mut(width).enumerate() {
            let from = (unit % heads * tokens + unit / heads) * width;
            values.copy_from_slice(&self.turned[from..from + width]);
        }
    }

    fn turn_back(&mut self, linear: &Linear, out: &mut [f32], put: impl Fn(&mut f32, f32) + Sync) {
        let width = linear.weight.rows();
        let tokens = out.len() / width;
        let turned = &self.turned;
        self.pool
            .over(out, width, &mut self.locals, |first, run, _| {
                for (token, row) in (first..).zip(run.chunks_exact_mut(width)) {
                    let values = turned.iter().skip(token).step_by(tokens);
                    match &linear.bias {
                        None => row.iter_mut().zip(values).for_each(|(to, v)| put(to, *v)),
                        Some(bias) => {
                            for ((to, v), bias) in row.iter_mut().zip(values).zip(bias) {
                                put(to, v + bias);
                            }
                        }
                    }
                }
            });
    }
}
