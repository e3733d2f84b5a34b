//! The tensors of a decoder, bound to its description: every one present, of the right shape and format, none left over.
//!
//! Matrices stay where the file is mapped, until they are packed. Vectors (norms, biases: a few kilobytes) are widened once. Names of
//! tensors are known here and nowhere else.

use std::collections::BTreeSet;

use crate::checkpoint::{Checkpoint, CheckpointError, Dtype, Tensor};

use super::{
    Spec,
    cpu::{Format, Pool},
    linear::{Join, Linear, PackError, Stored, not_finite},
};

/// One layer.
#[derive(Debug)]
pub(super) struct LayerWeights {
    pub(super) attention_norm: Vec<f32>,
    /// Queries, keys and values of all heads, in this order.
    pub(super) inputs: Linear,
    pub(super) query_norm: Option<Vec<f32>>,
    pub(super) key_norm: Option<Vec<f32>>,
    pub(super) attention_out: Linear,
    pub(super) mlp_norm: Vec<f32>,
    pub(super) gate_up: Linear,
    pub(super) down: Linear,
}

/// The whole decoder.
#[derive(Debug)]
pub(super) struct Weights {
    pub(super) embedding: Stored,
    pub(super) layers: Vec<LayerWeights>,
    pub(super) norm: Vec<f32>,
    /// The output matrix, which is the embedding where they are tied.
    pub(super) head: Linear,
    tied: bool,
}

impl Weights {
    /// Finds every tensor that `spec` needs.
    pub(super) fn bind(checkpoint: &Checkpoint, spec: &Spec) -> Result<Self, CheckpointError> {
        let mut binder = Binder {
            checkpoint,
            taken: BTreeSet::new(),
        };
        let table = ([spec.vocab, spec.hidden], "vocab_size, hidden_size");
        let embedding = binder.matrix("model.embed_tokens.weight", table)?;
        let head = match spec.tied {
            true => Linear::new(Join::Rows, vec![embedding.clone()], None),
            false => binder.linear(Join::Rows, &["lm_head."], &[table], false)?,
        };
        let bound = Self {
            layers: (0..spec.layers.len())
                .map(|layer| binder.layer(spec, &format!("model.layers.{layer}.")))
                .collect::<Result<_, _>>()?,
            norm: binder.vector("model.norm.weight", (spec.hidden, "hidden_size"))?,
            embedding,
            head,
            tied: spec.tied,
        };
        binder.refuse_leftovers(spec)?;
        Ok(bound)
    }

    /// Reads every matrix once and refuses values that are not finite.
    pub(super) fn check_finite(
        &self,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), CheckpointError> {
        if !self.tied {
            self.embedding.check_finite(progress)?;
        }
        let mut parts = self.linears().flat_map(Linear::parts);
        parts.try_for_each(|part| part.check_finite(progress))
    }

    /// Packs every linear layer, see [`Linear::pack`]; what is only looked up stays in the map.
    pub(super) fn pack(
        &mut self,
        quantised: bool,
        pool: &Pool,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), PackError> {
        if !self.tied {
            self.embedding.check_finite(progress)?;
        }
        for layer in &mut self.layers {
            for linear in layer.linears_mut() {
                linear.pack(quantised, pool, progress)?;
            }
        }
        self.head.pack(quantised, pool, progress)
    }

    /// Bytes of all matrices.
    pub(super) fn bytes(&self) -> u64 {
        let linears: u64 = self.linears().map(Linear::bytes).sum();
        linears + if self.tied { 0 } else { self.embedding.bytes() }
    }

    /// The widest input of any layer.
    pub(super) fn inputs_max(&self) -> usize {
        self.linears().map(Linear::inputs).max().unwrap_or(0)
    }

    fn linears(&self) -> impl Iterator<Item = &Linear> {
        let layers = self.layers.iter();
        layers
            .flat_map(|l| [&l.inputs, &l.attention_out, &l.gate_up, &l.down])
            .chain(std::iter::once(&self.head))
    }
}

impl LayerWeights {
    fn linears_mut(&mut self) -> [&mut Linear; 4] {
        [
            &mut self.inputs,
            &mut self.attention_out,
            &mut self.gate_up,
            &mut self.down,
        ]
    }
}

/// Takes tensors out of a checkpoint, and remembers which.
struct Binder<'a> {
    checkpoint: &'a Checkpoint,
    taken: BTreeSet<String>,
}

/// Outputs and inputs of a matrix, and the config values they are.
type Dims = ([usize; 2], &'static str);

impl Binder<'_> {
    fn layer(&mut self, spec: &Spec, at: &str) -> Result<LayerWeights, CheckpointError> {
        let name = |part: &str| format!("{at}{part}");
        let (hidden, inner) = (spec.hidden, spec.intermediate);
        let query: Dims = (
            [spec.heads * spec.head_dim, hidden],
            "num_attention_heads x head_dim, hidden_size",
        );
        let key: Dims = (
            [spec.kv_heads * spec.head_dim, hidden],
            "num_key_value_heads x head_dim, hidden_size",
        );
        let out: Dims = (
            [hidden, spec.heads * spec.head_dim],
            "hidden_size, num_attention_heads x head_dim",
        );
        let up: Dims = ([inner, hidden], "intermediate_size, hidden_size");
        let down: Dims = ([hidden, inner], "hidden_size, intermediate_size");
        let norm = (hidden, "hidden_size");
        let mut head_norm = |part: &str| match spec.qk_norm {
            true => self
                .vector(&name(part), (spec.head_dim, "head_dim"))
                .map(Some),
            false => Ok(None),
        };
        let query_norm = head_norm("self_attn.q_norm.weight")?;
        let key_norm = head_norm("self_attn.k_norm.weight")?;
        Ok(LayerWeights {
            attention_norm: self.vector(&name("input_layernorm.weight"), norm)?,
            inputs: self.linear(
                Join::Rows,
                &["q", "k", "v"].map(|part| name(&format!("self_attn.{part}_proj."))),
                &[query, key, key],
                spec.qkv_bias,
            )?,
            query_norm,
            key_norm,
            attention_out: self.linear(
                Join::Rows,
                &[name("self_attn.o_proj.")],
                &[out],
                spec.output_bias,
            )?,
            mlp_norm: self.vector(&name("post_attention_layernorm.weight"), norm)?,
            gate_up: self.linear(
                Join::Gate,
                &[name("mlp.gate_proj."), name("mlp.up_proj.")],
                &[up, up],
                spec.mlp_bias,
            )?,
            down: self.linear(
                Join::Rows,
                &[name("mlp.down_proj.")],
                &[down],
                spec.mlp_bias,
            )?,
        })
    }

    fn linear(
        &mut self,
        join: Join,
        names: &[impl AsRef<str>],
        dims: &[Dims],
        biased: bool,
    ) -> Result<Linear, CheckpointError> {
        let (mut parts, mut bias) = (Vec::new(), Vec::new());
        for (at, dims) in names.iter().zip(dims) {
            let at = at.as_ref();
            parts.push(self.matrix(&format!("{at}weight"), *dims)?);
            if biased {
                bias.extend(self.vector(&format!("{at}bias"), (dims.0[0], dims.1))?);
            }
        }
        Ok(Linear::new(join, parts, biased.then_some(bias)))
    }

    fn matrix(&mut self, name: &str, (dims, because): Dims) -> Result<Stored, CheckpointError> {
        let (tensor, format) = self.take(name, &dims, because)?;
        Ok(Stored::new(tensor, format))
    }

    fn vector(
        &mut self,
        name: &str,
        (length, because): (usize, &'static str),
    ) -> Result<Vec<f32>, CheckpointError> {
        let (tensor, format) = self.take(name, &[length], because)?;
        if let Some(at) = format.first_not_finite(tensor.bytes()) {
            return Err(not_finite(&tensor, at));
        }
        let mut values = vec![0.0; length];
        format.widen(tensor.bytes(), &mut values);
        Ok(values)
    }

    fn take(
        &mut self,
        name: &str,
        shape: &[usize],
        because: &'static str,
    ) -> Result<(Tensor, Format), CheckpointError> {
        let tensor = self.checkpoint.tensor(name)?.clone();
        tensor.expect_shape(shape, because)?;
        let format = match tensor.dtype() {
            Dtype::F32 => Format::F32,
            Dtype::F16 => Format::F16,
            Dtype::Bf16 => Format::Bf16,
            Dtype::Other(found) => {
                return Err(CheckpointError::Dtype {
                    tensor: name.into(),
                    path: tensor.path().into(),
                    found: found.clone(),
                });
            }
        };
        self.taken.insert(name.into());
        Ok((tensor, format))
    }

    /// A tensor that nobody asked for means that the description is of another model, unless it is known to be redundant.
    fn refuse_leftovers(&self, spec: &Spec) -> Result<(), CheckpointError> {
        let redundant = |name: &str| {
            name.ends_with(".rotary_emb.inv_freq") || spec.tied && name == "lm_head.weight"
        };
        let left = self
            .checkpoint
            .tensors()
            .find(|t| !self.taken.contains(t.name()) && !redundant(t.name()));
        match left {
            None => Ok(()),
            Some(tensor) => Err(CheckpointError::Unexpected {
                tensor: tensor.name().into(),
                path: tensor.path().into(),
                why: format!(
                    "{} with num_hidden_layers {}, attention bias {}, query and key norms {}",
                    spec.architecture,
                    spec.layers.len(),
                    spec.qkv_bias,
                    spec.qk_norm
                ),
            }),
        }
    }
}
