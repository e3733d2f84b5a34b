//! One forward for every description: embeds a batch, runs its layers over paged keys and values, and yields logits.
//!
//! It branches on the description, never on a family's name. All buffers are reused and grow to the largest
//! batch seen, which [`super::batch`] bounds.

use std::sync::Arc;

use gpu::Region;
use logic::batch::StepPlan;

use super::{
    KvLayout, Rope, Spec,
    attention::Attention,
    backend::{Backend, WeightFormat},
    batch::{BATCH_TOKENS, Batch},
    cpu::{self, Pool},
    kv::Part,
    machine::Machine,
    weights::{LayerWeights, Weights},
};

/// Sees intermediate values, for tests and diagnosis. Does nothing unless implemented.
pub trait Observer {
    /// The residual stream of one token: depth 0 is the embedding, `d` what layer `d` (counted from 1) made of it. At the last depth it
    /// is shown after the final norm, as references do, and only for tokens whose logits are needed.
    fn hidden(&mut self, row: usize, position: usize, depth: usize, values: &[f32]) {
        let _ = (row, position, depth, values);
    }
    /// The unmodified logits after a row's last token.
    fn logits(&mut self, row: usize, logits: &[f32]) {
        let _ = (row, logits);
    }
}

impl Observer for () {}

/// Activations of one batch, token after token.
#[derive(Default)]
struct Activations {
    hidden: Vec<f32>,
    normed: Vec<f32>,
    /// Queries, keys and values of a token side by side.
    inputs: Vec<f32>,
    attended: Vec<f32>,
    gated: Vec<f32>,
    logits: Vec<f32>,
    /// Cosine and sine of every pair of dimensions of every token.
    angles: Vec<(f32, f32)>,
}

/// A model ready to run.
pub(super) struct Forward {
    spec: Spec,
    weights: Arc<Weights>,
    layout: KvLayout,
    /// For each of the description's rotations, radians a position.
    frequencies: Vec<Vec<f32>>,
    machine: Machine,
    act: Activations,
    raw: Vec<u16>,
}

impl Forward {
    pub(super) fn new(
        spec: Spec,
        weights: Arc<Weights>,
        layout: KvLayout,
        pool: Pool,
        kernels: (Backend, WeightFormat),
    ) -> Self {
        let most = (BATCH_TOKENS, weights.inputs_max());
        Self {
            frequencies: spec.ropes.iter().map(Rope::frequencies).collect(),
            machine: Machine::new(pool, kernels, &spec, &layout, most),
            act: Activations::default(),
            raw: vec![0; layout.head_dim],
            spec,
            weights,
            layout,
        }
    }

    /// The same model on other threads: it shares the weights and nothing else.
    pub(super) fn twin(&self, pool: Pool, kernels: (Backend, WeightFormat)) -> Self {
        Self::new(
            self.spec.clone(),
            Arc::clone(&self.weights),
            self.layout,
            pool,
            kernels,
        )
    }

    pub(super) const fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Runs a batch through all layers; keys and values are in `kv` afterwards.
    pub(super) fn run(
        &mut self,
        plan: &StepPlan,
        batch: &Batch,
        kv: &Region,
        observer: &mut dyn Observer,
    ) {
        self.embed(batch);
        self.show(batch, 0, observer);
        for layer in 0..self.spec.layers.len() {
            // Neighbours usually turn alike, and the angles are as long as the batch: only a change costs.
            let rope = self.spec.layers[layer].rope;
            if layer == 0 || rope != self.spec.layers[layer - 1].rope {
                self.turn_angles(batch, rope);
            }
            self.attend(plan, batch, kv, layer);
            self.feed_forward(layer);
            if layer + 1 < self.spec.layers.len() {
                self.show(batch, layer + 1, observer);
            }
        }
    }

    /// Computes the logits of the given tokens of the batch that just ran; [`Self::logits`] then reads them.
    pub(super) fn project(&mut self, batch: &Batch, tokens: &[usize], observer: &mut dyn Observer) {
        let width = self.spec.hidden;
        let act = &mut self.act;
        act.normed.clear();
        for token in tokens {
            let row = &act.hidden[token * width..(token + 1) * width];
            act.normed.extend_from_slice(row);
        }
        self.machine
            .normalise(&mut act.normed, &self.weights.norm, self.spec.norm_eps);
        for (token, values) in tokens.iter().zip(act.normed.chunks_exact(width)) {
            let row = batch.segments[batch.segment_of[*token]].row;
            observer.hidden(row, batch.position(*token), self.spec.layers.len(), values);
        }
        self.machine
            .linear(&self.weights.head, &act.normed, &mut act.logits);
    }

    /// The logits of the `index`-th of the tokens that were just projected.
    pub(super) fn logits(&self, index: usize) -> &[f32] {
        &self.act.logits[index * self.spec.vocab..(index + 1) * self.spec.vocab]
    }

    fn show(&self, batch: &Batch, depth: usize, observer: &mut dyn Observer) {
        for (token, values) in self.act.hidden.chunks_exact(self.spec.hidden).enumerate() {
            let row = batch.segments[batch.segment_of[token]].row;
            observer.hidden(row, batch.position(token), depth, values);
        }
    }

    fn embed(&mut self, batch: &Batch) {
        let table = self.weights.embedding.matrix();
        self.act
            .hidden
            .resize(batch.tokens.len() * self.spec.hidden, 0.0);
        let rows = self.act.hidden.chunks_exact_mut(self.spec.hidden);
        for (row, id) in rows.zip(&batch.tokens) {
            table.format.widen(table.row(*id as usize), row);
        }
    }

    fn turn_angles(&mut self, batch: &Batch, rope: usize) {
        let magnitude = self.spec.ropes[rope].magnitude();
        self.act.angles.clear();
        for token in 0..batch.tokens.len() {
            let position = batch.position(token) as f32;
            self.act
                .angles
                .extend(self.frequencies[rope].iter().map(|frequency| {
                    let (sine, cosine) = (position * frequency).sin_cos();
                    (cosine * magnitude, sine * magnitude)
                }));
        }
    }

    fn attend(&mut self, plan: &StepPlan, batch: &Batch, kv: &Region, layer: usize) {
        let Self {
            spec,
            weights,
            layout,
            machine,
            act,
            raw,
            ..
        } = self;
        let weights = &weights.layers[layer];
        act.normed.clone_from(&act.hidden);
        machine.normalise(&mut act.normed, &weights.attention_norm, spec.norm_eps);
        machine.linear(&weights.inputs, &act.normed, &mut act.inputs);
        turn(machine, spec, weights, act);
        store(layout, plan, batch, kv, layer, (&act.inputs, raw));
        let attention = Attention {
            isa: machine.isa(),
            layout: *layout,
            kv,
            rows: &plan.rows,
            batch,
            layer,
            window: spec.layers[layer].window,
            group: spec.group(),
            queries: &act.inputs,
            stride: spec.inputs(),
        };
        machine.attention(&attention, &mut act.attended);
        machine.linear_onto(&weights.attention_out, &act.attended, &mut act.hidden);
    }

    fn feed_forward(&mut self, layer: usize) {
        let Self {
            spec,
            weights,
            machine,
            act,
            ..
        } = self;
        let weights = &weights.layers[layer];
        act.normed.clone_from(&act.hidden);
        machine.normalise(&mut act.normed, &weights.mlp_norm, spec.norm_eps);
        machine.gated(
            spec.activation,
            &weights.gate_up,
            &act.normed,
            &mut act.gated,
        );
        machine.linear_onto(&weights.down, &act.gated, &mut act.hidden);
    }
}

/// Normalises query and key heads where the description says so, and turns them to their positions.
fn turn(machine: &mut Machine, spec: &Spec, weights: &LayerWeights, act: &mut Activations) {
    let (isa, dim) = (machine.isa(), spec.head_dim);
    let (queries, keys) = (spec.heads * dim, spec.kv_heads * dim);
    let angles = &act.angles;
    machine.rows(&mut act.inputs, spec.inputs(), |token, row| {
        let (query, rest) = row.split_at_mut(queries);
        let key = &mut rest[..keys];
        if let Some(norm) = &weights.query_norm {
            cpu::normalise(isa, query, norm, spec.norm_eps);
        }
        if let Some(norm) = &weights.key_norm {
            cpu::normalise(isa, key, norm, spec.norm_eps);
        }
        let angles = &angles[token * dim / 2..(token + 1) * dim / 2];
        rotate(query, dim, angles);
        rotate(key, dim, angles);
    });
}

/// Turns each pair (i, i + dim / 2) of every head by the angles of its token.
fn rotate(heads: &mut [f32], dim: usize, angles: &[(f32, f32)]) {
    for head in heads.chunks_exact_mut(dim) {
        let (low, high) = head.split_at_mut(dim / 2);
        for ((low, high), (cosine, sine)) in low.iter_mut().zip(high).zip(angles) {
            let (x, y) = (*low, *high);
            *low = x * cosine - y * sine;
            *high = y * cosine + x * sine;
        }
    }
}

/// Writes one layer's keys and values of every token into its block.
fn store(
    layout: &KvLayout,
    plan: &StepPlan,
    batch: &Batch,
    kv: &Region,
    layer: usize,
    (inputs, raw): (&[f32], &mut [u16]),
) {
    let dim = layout.head_dim;
    let (width, keys) = (inputs.len() / batch.tokens.len(), layout.kv_heads * dim);
    for (token, row) in inputs.chunks_exact(width).enumerate() {
        let position = batch.position(token);
        let slot = plan.rows[batch.segments[batch.segment_of[token]].row].blocks
            [position / layout.block_tokens];
        let (keys, values) = row[width - 2 * keys..].split_at(keys);
        for (part, heads) in [(Part::Keys, keys), (Part::Values, values)] {
            for (head, values) in heads.chunks_exact(dim).enumerate() {
                let offset = layout.offset(layer, part, head, position % layout.block_tokens);
                layout.write(kv, slot, offset, values, raw);
            }
        }
    }
}
