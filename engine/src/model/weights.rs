//! The tensors of a decoder, bound to its description: every one present, of the right shape and format, none left over.
//!
//! Matrices stay where the file is mapped. Vectors (norms, biases: a few kilobytes) are widened once. Names of
//! tensors are known here and nowhere else.

use std::collections::BTreeSet;

use crate::checkpoint::{Checkpoint, CheckpointError, Dtype, Tensor};

use super::{
    Spec,
    cpu::{Format, Matrix},
};

/// Bytes checked between two reports of progress.
const CHECK_BYTES: usize = 16 << 20;

/// A matrix in the map.
#[derive(Debug)]
pub(super) struct Stored {
    tensor: Tensor,
    format: Format,
    columns: usize,
}

impl Stored {
    /// The view that kernels take.
    pub(super) fn matrix(&self) -> Matrix<'_> {
        Matrix {
            format: self.format,
            bytes: self.tensor.bytes(),
            columns: self.columns,
        }
    }

    /// How many outputs a linear layer of it has.
    pub(super) fn rows(&self) -> usize {
        self.tensor.shape()[0]
    }
}

/// A linear layer.
#[derive(Debug)]
pub(super) struct Linear {
    pub(super) weight: Stored,
    pub(super) bias: Option<Vec<f32>>,
}

/// One layer.
#[derive(Debug)]
pub(super) struct LayerWeights {
    pub(super) attention_norm: Vec<f32>,
    pub(super) query: Linear,
    pub(super) key: Linear,
    pub(super) value: Linear,
    pub(super) query_norm: Option<Vec<f32>>,
    pub(super) key_norm: Option<Vec<f32>>,
    pub(super) attention_out: Linear,
    pub(super) mlp_norm: Vec<f32>,
    pub(super) gate: Linear,
    pub(super) up: Linear,
    pub(super) down: Linear,
}

/// The whole decoder.
#[derive(Debug)]
pub(super) struct Weights {
    pub(super) embedding: Stored,
    pub(super) layers: Vec<LayerWeights>,
    pub(super) norm: Vec<f32>,
    head: Option<Linear>,
}

impl Weights {
    /// Finds every tensor that `spec` needs.
    pub(super) fn bind(checkpoint: &Checkpoint, spec: &Spec) -> Result<Self, CheckpointError> {
        let mut binder = Binder {
            checkpoint,
            taken: BTreeSet::new(),
        };
        let table = ([spec.vocab, spec.hidden], "vocab_size, hidden_size");
        let bound = Self {
            embedding: binder.matrix("model.embed_tokens.weight", table)?,
            layers: (0..spec.layers.len())
                .map(|layer| binder.layer(spec, &format!("model.layers.{layer}.")))
                .collect::<Result<_, _>>()?,
            norm: binder.vector("model.norm.weight", (spec.hidden, "hidden_size"))?,
            head: match spec.tied {
                true => None,
                false => Some(binder.linear("lm_head.", table, false)?),
            },
        };
        binder.refuse_leftovers(spec)?;
        Ok(bound)
    }

    /// The output matrix.
    pub(super) fn head(&self) -> &Stored {
        self.head
            .as_ref()
            .map_or(&self.embedding, |head| &head.weight)
    }

    /// Reads every matrix once, which also brings it into memory, and refuses values that are not finite.
    pub(super) fn check_finite(
        &self,
        mut progress: impl FnMut(u64),
    ) -> Result<(), CheckpointError> {
        for stored in self.matrices() {
            let size = stored.format.size();
            for (chunk, bytes) in stored.tensor.bytes().chunks(CHECK_BYTES).enumerate() {
                if let Some(at) = stored.format.first_not_finite(bytes) {
                    return Err(not_finite(&stored.tensor, chunk * CHECK_BYTES / size + at));
                }
                progress(bytes.len() as u64);
            }
        }
        Ok(())
    }

    /// Bytes of all matrices.
    pub(super) fn bytes(&self) -> u64 {
        self.matrices().map(|m| m.tensor.bytes().len() as u64).sum()
    }

    fn matrices(&self) -> impl Iterator<Item = &Stored> {
        let layers = self.layers.iter().flat_map(|l| {
            [
                &l.query,
                &l.key,
                &l.value,
                &l.attention_out,
                &l.gate,
                &l.up,
                &l.down,
            ]
        });
        let linears = layers.chain(&self.head).map(|linear| &linear.weight);
        std::iter::once(&self.embedding).chain(linears)
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
            query: self.linear(&name("self_attn.q_proj."), query, spec.qkv_bias)?,
            key: self.linear(&name("self_attn.k_proj."), key, spec.qkv_bias)?,
            value: self.linear(&name("self_attn.v_proj."), key, spec.qkv_bias)?,
            query_norm,
            key_norm,
            attention_out: self.linear(&name("self_attn.o_proj."), out, spec.output_bias)?,
            mlp_norm: self.vector(&name("post_attention_layernorm.weight"), norm)?,
            gate: self.linear(&name("mlp.gate_proj."), up, spec.mlp_bias)?,
            up: self.linear(&name("mlp.up_proj."), up, spec.mlp_bias)?,
            down: self.linear(&name("mlp.down_proj."), down, spec.mlp_bias)?,
        })
    }

    fn linear(&mut self, at: &str, dims: Dims, biased: bool) -> Result<Linear, CheckpointError> {
        let weight = self.matrix(&format!("{at}weight"), dims)?;
        let bias = match biased {
            true => Some(self.vector(&format!("{at}bias"), (dims.0[0], dims.1))?),
            false => None,
        };
        Ok(Linear { weight, bias })
    }

    fn matrix(&mut self, name: &str, (dims, because): Dims) -> Result<Stored, CheckpointError> {
        let (tensor, format) = self.take(name, &dims, because)?;
        Ok(Stored {
            tensor,
            format,
            columns: dims[1],
        })
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

fn not_finite(tensor: &Tensor, index: usize) -> CheckpointError {
    CheckpointError::NotFinite {
        tensor: tensor.name().into(),
        path: tensor.path().into(),
        index,
    }
}
