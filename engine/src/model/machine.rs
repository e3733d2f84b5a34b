//! Kernels spread over the pool: what a layer of a decoder asks of the processor, whichever backend runs it.
//!
//! Reference products come out output after output, so that each thread writes one contiguous piece, and are turned
//! to token after token afterwards. Fast ones write their own columns. It knows vectors and matrices, not layers.

use super::{
    KvLayout, Spec,
    attention::{Attention, Scratch},
    backend::{Backend, WeightFormat},
    cpu::{self, Crew, FastLocal, Isa, Pool, Prepared, Sink},
    linear::Linear,
    spec::Activation,
};

/// What one thread of the reference needs for itself.
struct Local {
    widened: Vec<f32>,
    attention: Scratch,
}

/// What the reference needs.
struct Reference {
    /// Whether products are of bytes.
    quantised: bool,
    locals: Vec<Local>,
    turned: Vec<f32>,
    wide: Vec<f32>,
}

/// What the fast backends need.
struct Fast {
    locals: Vec<FastLocal>,
    prepared: Prepared,
}

/// One of both.
enum Scratches {
    Reference(Reference),
    Fast(Fast),
}

/// Threads and their scratch.
pub(super) struct Machine {
    pool: Pool,
    isa: Isa,
    scratch: Scratches,
    idle: Vec<()>,
}

impl Machine {
    /// For batches of at most `rows`, with scratch for layers of at most `inputs` inputs.
    pub(super) fn new(
        pool: Pool,
        (backend, weights): (Backend, WeightFormat),
        spec: &Spec,
        layout: &KvLayout,
        (rows, inputs): (usize, usize),
    ) -> Self {
        let (isa, fast) = backend.isa();
        let threads = 0..pool.threads();
        let scratch = if fast {
            let local = |_| FastLocal::new(rows, spec.group(), spec.head_dim);
            Scratches::Fast(Fast {
                locals: threads.map(local).collect(),
                prepared: Prepared::new(rows, inputs),
            })
        } else {
            let local = |_| Local {
                widened: vec![0.0; cpu::COLUMNS * inputs],
                attention: Scratch::new(layout, spec.group()),
            };
            Scratches::Reference(Reference {
                quantised: weights == WeightFormat::Int8,
                locals: threads.map(local).collect(),
                turned: Vec::new(),
                wide: Vec::new(),
            })
        };
        Self {
            isa,
            scratch,
            idle: vec![(); pool.threads()],
            pool,
        }
    }

    pub(super) const fn isa(&self) -> Isa {
        self.isa
    }

    /// `out = x W + b`, token after token.
    pub(super) fn linear(&mut self, linear: &Linear, x: &[f32], out: &mut Vec<f32>) {
        out.resize(x.len() / linear.inputs() * linear.outputs(), 0.0);
        match &mut self.scratch {
            Scratches::Reference(reference) => {
                reference.linear(&self.pool, self.isa, linear, x, out, |to, v| *to = v);
            }
            Scratches::Fast(fast) => {
                fast.linear(&self.pool, self.isa, linear, x, (Sink::Put, out));
            }
        }
    }

    /// `out += x W + b`.
    pub(super) fn linear_onto(&mut self, linear: &Linear, x: &[f32], out: &mut [f32]) {
        match &mut self.scratch {
            Scratches::Reference(reference) => {
                reference.linear(&self.pool, self.isa, linear, x, out, |to, v| *to += v);
            }
            Scratches::Fast(fast) => {
                fast.linear(&self.pool, self.isa, linear, x, (Sink::Add, out));
            }
        }
    }

    /// `out = activation(x G + b) * (x U + c)`, where the layer's parts are G and U.
    pub(super) fn gated(&mut self, by: Activation, linear: &Linear, x: &[f32], out: &mut Vec<f32>) {
        let width = linear.outputs() / 2;
        out.resize(x.len() / linear.inputs() * width, 0.0);
        match (&mut self.scratch, by) {
            (Scratches::Reference(reference), Activation::Silu) => {
                let mut wide = std::mem::take(&mut reference.wide);
                wide.resize(2 * out.len(), 0.0);
                reference.linear(&self.pool, self.isa, linear, x, &mut wide, |to, v| *to = v);
                for (out, both) in out
                    .chunks_exact_mut(width)
                    .zip(wide.chunks_exact(2 * width))
                {
                    out.copy_from_slice(&both[..width]);
                    cpu::gate(self.isa, out, &both[width..]);
                }
                reference.wide = wide;
            }
            (Scratches::Fast(fast), Activation::Silu) => {
                fast.linear(&self.pool, self.isa, linear, x, (Sink::SiluTimes, out));
            }
        }
    }

    /// Norm of each run of `weight.len()` elements.
    pub(super) fn normalise(&mut self, x: &mut [f32], weight: &[f32], eps: f32) {
        let isa = self.isa;
        self.pool
            .over(x, weight.len(), &mut self.idle, |_, run, _| {
                cpu::normalise(isa, run, weight, eps);
            });
    }

    /// Calls `f` for each row of `width`, with its index, on all threads.
    pub(super) fn rows(
        &mut self,
        x: &mut [f32],
        width: usize,
        f: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        self.pool.over(x, width, &mut self.idle, |first, run, _| {
            for (index, row) in (first..).zip(run.chunks_exact_mut(width)) {
                f(index, row);
            }
        });
    }

    /// Attention of one layer, token after token.
    pub(super) fn attention(&mut self, attention: &Attention<'_>, out: &mut Vec<f32>) {
        let heads = attention.layout.kv_heads;
        let width = attention.group * attention.layout.head_dim;
        let tokens = attention.batch.tokens.len();
        out.resize(tokens * heads * width, 0.0);
        match &mut self.scratch {
            Scratches::Reference(reference) => {
                let turned = &mut reference.turned;
                turned.resize(out.len(), 0.0);
                let locals = &mut reference.locals;
                self.pool.over(turned, width, locals, |first, run, local| {
                    attention.run(first, run, &mut local.attention);
                });
                for (unit, values) in out.chunks_exact_mut(width).enumerate() {
                    let from = (unit % heads * tokens + unit / heads) * width;
                    values.copy_from_slice(&turned[from..from + width]);
                }
            }
            Scratches::Fast(fast) => {
                let crew = Crew {
                    pool: &self.pool,
                    isa: self.isa,
                };
                crew.attention(attention, out, &mut fast.locals);
            }
        }
    }
}

impl Fast {
    fn linear(
        &mut self,
        pool: &Pool,
        isa: Isa,
        linear: &Linear,
        x: &[f32],
        (sink, out): (Sink, &mut [f32]),
    ) {
        let packed = linear.packed().expect("a fast backend packs all layers");
        let width = match sink {
            Sink::Put | Sink::Add => linear.outputs(),
            Sink::SiluTimes => linear.outputs() / 2,
        };
        let (prepared, locals) = (&mut self.prepared, &mut self.locals);
        Crew { pool, isa }.linear(packed, x, (sink, out, width), prepared, locals);
    }
}

impl Reference {
    fn linear(
        &mut self,
        pool: &Pool,
        isa: Isa,
        linear: &Linear,
        x: &[f32],
        out: &mut [f32],
        put: impl Fn(&mut f32, f32) + Sync,
    ) {
        let (inputs, width) = (linear.inputs(), linear.outputs());
        let tokens = x.len() / inputs;
        let mut before = 0;
        for part in linear.parts() {
            let (matrix, height) = (part.matrix(), part.rows());
            let (turned, locals) = (&mut self.turned, &mut self.locals);
            let quantised = self.quantised;
            turned.resize(height * tokens, 0.0);
            pool.over(turned, tokens, locals, |first, run, local| {
                if quantised {
                    cpu::byte_products(matrix, first, x, run, &mut local.widened);
                } else {
                    cpu::products(isa, matrix, first, x, run, &mut local.widened);
                }
            });
            let bias = linear.bias().map(|bias| &bias[before..before + height]);
            pool.over(out, width, locals, |first, run, _| {
                for (token, row) in (first..).zip(run.chunks_exact_mut(width)) {
                    let values = turned.iter().skip(token).step_by(tokens);
                    let row = row[before..before + height].iter_mut();
                    match bias {
                        None => row.zip(values).for_each(|(to, v)| put(to, *v)),
                        Some(bias) => row
                            .zip(values)
                            .zip(bias)
                            .for_each(|((to, v), bias)| put(to, v + bias)),
                    }
                }
            });
            before += height;
        }
    }
}
