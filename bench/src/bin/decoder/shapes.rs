//! Published shapes with random weights, as a checkpoint in a folder. They never say anything sensible.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

use anyhow::Result;
use bench::random::Random;

/// A decoder's dimensions, under its architecture's name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ModelShape {
    /// How it is asked for.
    pub(crate) name: &'static str,
    architecture: &'static str,
    hidden: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    intermediate: usize,
    vocab: usize,
}

/// Qwen2.5-0.5B and Llama-3.2-1B, both with tied embeddings.
pub(crate) const SHAPES: [ModelShape; 2] = [
    ModelShape {
        name: "0.5b",
        architecture: "Qwen2ForCausalLM",
        hidden: 896,
        layers: 24,
        heads: 14,
        kv_heads: 2,
        head_dim: 64,
        intermediate: 4864,
        vocab: 151_936,
    },
    ModelShape {
        name: "1b",
        architecture: "LlamaForCausalLM",
        hidden: 2048,
        layers: 16,
        heads: 32,
        kv_heads: 8,
        head_dim: 64,
        intermediate: 8192,
        vocab: 128_256,
    },
];

impl ModelShape {
    /// Elements of the matrices of all layers.
    pub(crate) fn inner_parameters(&self) -> f64 {
        let heads = self.head_dim * (2 * self.heads + 2 * self.kv_heads);
        (self.layers * self.hidden * (heads + 3 * self.intermediate)) as f64
    }

    /// The same and the output matrix: what one step of decoding reads.
    pub(crate) fn step_parameters(&self) -> f64 {
        self.inner_parameters() + (self.vocab * self.hidden) as f64
    }

    /// Operations of prefilling `tokens` from the start: two for each element and token, and attention's.
    pub(crate) fn prefill_operations(&self, tokens: usize) -> f64 {
        let pairs = (tokens * (tokens + 1) / 2) as f64;
        let attention = 4.0 * pairs * (self.layers * self.heads * self.head_dim) as f64;
        2.0 * self.inner_parameters() * tokens as f64 + attention
    }

    /// Ids that it knows.
    pub(crate) fn vocab(&self) -> u32 {
        self.vocab as u32
    }

    /// Writes it into `dir`.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        let config = format!(
            r#"{{"architectures":["{}"],"hidden_size":{},"num_hidden_layers":{},"num_attention_heads":{},
"num_key_value_heads":{},"head_dim":{},"intermediate_size":{},"vocab_size":{},"max_position_embeddings":4096,
"rms_norm_eps":1e-6,"rope_theta":1000000.0,"tie_word_embeddings":true,"torch_dtype":"bfloat16"}}"#,
            self.architecture,
            self.hidden,
            self.layers,
            self.heads,
            self.kv_heads,
            self.head_dim,
            self.intermediate,
            self.vocab
        );
        std::fs::write(dir.join("config.json"), config)?;
        let (mut header, mut end) = (Vec::new(), 0);
        for (name, shape) in self.tensors() {
            let begin = end;
            end += shape.iter().product::<usize>() * 2;
            header.push(format!(
                r#""{name}":{{"dtype":"BF16","shape":{shape:?},"data_offsets":[{begin},{end}]}}"#
            ));
        }
        let mut header = format!("{{{}}}", header.join(","));
        while !header.len().is_multiple_of(8) {
            header.push(' ');
        }
        let mut file = BufWriter::new(File::create(dir.join("model.safetensors"))?);
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        let mut random = Random::new(1);
        for _ in 0..end / 8 {
            file.write_all(&four_weights(random.next()))?;
        }
        file.flush()?;
        Ok(())
    }

    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let (h, i) = (self.hidden, self.intermediate);
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let mut all = vec![
            ("model.embed_tokens.weight".into(), vec![self.vocab, h]),
            ("model.norm.weight".into(), vec![h]),
        ];
        for layer in 0..self.layers {
            let mut add = |name: &str, shape: &[usize]| {
                all.push((format!("model.layers.{layer}.{name}"), shape.to_vec()));
            };
            add("input_layernorm.weight", &[h]);
            add("post_attention_layernorm.weight", &[h]);
            for (name, outputs) in [("q", q), ("k", kv), ("v", kv)] {
                add(&format!("self_attn.{name}_proj.weight"), &[outputs, h]);
                if self.architecture.starts_with("Qwen2") {
                    add(&format!("self_attn.{name}_proj.bias"), &[outputs]);
                }
            }
            add("self_attn.o_proj.weight", &[h, q]);
            add("mlp.gate_proj.weight", &[i, h]);
            add("mlp.up_proj.weight", &[i, h]);
            add("mlp.down_proj.weight", &[h, i]);
        }
        all
    }
}

/// Four bf16 of either sign between 2^-7 and 2^-5, so that activations neither vanish nor explode.
fn four_weights(random: u64) -> [u8; 8] {
    /// Sign and mantissa are random, and the lowest bit of the exponent.
    const RANDOM: u64 = 0x80ff_80ff_80ff_80ff;
    const EXPONENT: u64 = 0x3c00_3c00_3c00_3c00;
    ((random & RANDOM) | EXPONENT).to_le_bytes()
}
