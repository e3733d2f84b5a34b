//! A second forward, as plain as possible: dense, in f64, without blocks or cache. It anchors what the committed references
//! do not cover (sliding windows, number formats, attention biases), and is itself anchored by one that they do.

use std::{fs, path::Path};

use engine::{
    checkpoint::{Checkpoint, Dtype},
    model::{ModelOptions, Spec},
};

use crate::rig::{Rig, dir, expected};

type Rows = Vec<Vec<f64>>;

struct Plain {
    checkpoint: Checkpoint,
    spec: Spec,
}

impl Plain {
    fn open(dir: &Path) -> Self {
        let checkpoint = Checkpoint::open(dir).expect("a good checkpoint");
        let spec = Spec::from_config(checkpoint.config()).expect("a good config");
        Self { checkpoint, spec }
    }

    fn tensor(&self, name: &str) -> Vec<f64> {
        let tensor = self.checkpoint.tensor(name).expect("a tensor of the model");
        assert_eq!(*tensor.dtype(), Dtype::Bf16);
        let widen = |b: &[u8]| f64::from(f32::from_bits(u32::from_le_bytes([0, 0, b[0], b[1]])));
        tensor.bytes().chunks(2).map(widen).collect()
    }

    fn linear(&self, name: &str, x: &Rows) -> Rows {
        let weight = self.tensor(&format!("{name}.weight"));
        let bias = self.checkpoint.tensor(&format!("{name}.bias")).is_ok();
        let bias = bias.then(|| self.tensor(&format!("{name}.bias")));
        let row = |x: &Vec<f64>| {
            let outputs = weight.chunks(x.len()).enumerate();
            outputs
                .map(|(o, w)| dot(x, w) + bias.as_ref().map_or(0.0, |b| b[o]))
                .collect()
        };
        x.iter().map(row).collect()
    }

    fn norm(&self, name: &str, x: &Rows) -> Rows {
        let weight = self.tensor(name);
        let row = |x: &Vec<f64>| {
            let scale = 1.0 / (dot(x, x) / x.len() as f64 + f64::from(self.spec.norm_eps)).sqrt();
            x.iter().zip(&weight).map(|(x, w)| x * scale * w).collect()
        };
        x.iter().map(row).collect()
    }

    fn turn(&self, layer: usize, x: &mut Rows) {
        let (dim, rope) = (
            self.spec.head_dim,
            &self.spec.ropes[self.spec.layers[layer].rope],
        );
        for (position, row) in x.iter_mut().enumerate() {
            for head in row.chunks_mut(dim) {
                for (i, frequency) in rope.frequencies().iter().enumerate() {
                    let (sin, cos) = (position as f64 * f64::from(*frequency)).sin_cos();
                    let (a, b) = (head[i], head[i + dim / 2]);
                    (head[i], head[i + dim / 2]) = (a * cos - b * sin, b * cos + a * sin);
                }
            }
        }
    }

    fn attention(&self, layer: usize, x: &Rows) -> Rows {
        let at = format!("model.layers.{layer}.self_attn");
        let (dim, group) = (self.spec.head_dim, self.spec.group());
        let mut q = self.linear(&format!("{at}.q_proj"), x);
        let mut k = self.linear(&format!("{at}.k_proj"), x);
        let v = self.linear(&format!("{at}.v_proj"), x);
        self.turn(layer, &mut q);
        self.turn(layer, &mut k);
        let window = self.spec.layers[layer].window.unwrap_or(usize::MAX);
        let mut out = vec![vec![0.0; q[0].len()]; x.len()];
        for (i, out) in out.iter_mut().enumerate() {
            let seen = (i + 1).saturating_sub(window)..i + 1;
            for (head, out) in out.chunks_mut(dim).enumerate() {
                let at = head / group * dim;
                let q = &q[i][head * dim..(head + 1) * dim];
                let score = |j: usize| dot(q, &k[j][at..at + dim]) / (dim as f64).sqrt();
                let weights: Vec<f64> = seen.clone().map(|j| score(j).exp()).collect();
                let sum: f64 = weights.iter().sum();
                for (j, weight) in seen.clone().zip(weights) {
                    for (out, v) in out.iter_mut().zip(&v[j][at..at + dim]) {
                        *out += weight / sum * v;
                    }
                }
            }
        }
        self.linear(&format!("{at}.o_proj"), &out)
    }

    fn feed_forward(&self, layer: usize, x: &Rows) -> Rows {
        let at = format!("model.layers.{layer}.mlp");
        let mut gate = self.linear(&format!("{at}.gate_proj"), x);
        let up = self.linear(&format!("{at}.up_proj"), x);
        for (gate, up) in gate.iter_mut().flatten().zip(up.iter().flatten()) {
            *gate = *gate / (1.0 + (-*gate).exp()) * up;
        }
        self.linear(&format!("{at}.down_proj"), &gate)
    }

    fn logits(&self, ids: &[u32]) -> Vec<f64> {
        let table = self.tensor("model.embed_tokens.weight");
        let width = self.spec.hidden;
        let embed = |id: &u32| table[*id as usize * width..][..width].to_vec();
        let mut x: Rows = ids.iter().map(embed).collect();
        for layer in 0..self.spec.layers.len() {
            let at = format!("model.layers.{layer}");
            let y = self.attention(
                layer,
                &self.norm(&format!("{at}.input_layernorm.weight"), &x),
            );
            add(&mut x, &y);
            let normed = self.norm(&format!("{at}.post_attention_layernorm.weight"), &x);
            add(&mut x, &self.feed_forward(layer, &normed));
        }
        let last = vec![x.pop().expect("a prompt is not empty")];
        let normed = self.norm("model.norm.weight", &last);
        let head = if self.spec.tied {
            "model.embed_tokens"
        } else {
            "lm_head"
        };
        self.linear(head, &normed).remove(0)
    }
}

fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

fn add(x: &mut Rows, y: &Rows) {
    for (x, y) in x.iter_mut().flatten().zip(y.iter().flatten()) {
        *x += y;
    }
}

/// The weights of `name` under a changed configuration.
fn variant(name: &str, changes: &[(&str, serde_json::Value)]) -> tempfile::TempDir {
    let to = tempfile::tempdir().expect("a temporary directory");
    let text = fs::read_to_string(dir(name).join("config.json")).expect("a file in the tree");
    let mut config: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    for (key, value) in changes {
        config[*key] = value.clone();
    }
    fs::write(to.path().join("config.json"), config.to_string()).expect("written");
    let weights = "model.safetensors";
    fs::copy(dir(name).join(weights), to.path().join(weights)).expect("copied");
    to
}

/// Engine (whole and in chunks) and plain forward agree on the logits after a prompt of 150 and two of its beginnings.
fn agree(dir: &Path) -> Vec<f64> {
    let prompt = &expected("llama3").cases[3].prompt_ids;
    let plain = Plain::open(dir);
    let mut last = Vec::new();
    for length in [5, 45, 150] {
        last = plain.logits(&prompt[..length]);
        for chunk in [usize::MAX, 7] {
            let mut rig = Rig::with(dir, ModelOptions::default());
            let found = rig.complete(&prompt[..length], chunk, 1);
            for (found, expected) in found.logits[0].iter().zip(&last) {
                let found = f64::from(f32::from_bits(*found));
                assert!(
                    (found - expected).abs() < 2e-3,
                    "{length}: {found}, expected {expected}"
                );
            }
        }
    }
    last
}

#[test]
fn plain_forward_agrees_with_the_committed_reference() {
    let case = &expected("llama3").cases[3];
    let found = agree(&dir("llama3"));
    for (found, expected) in found.iter().zip(&case.prompt_last_logits) {
        assert!((found - f64::from(*expected)).abs() < 2e-3);
    }
}

#[test]
fn mistral_sees_its_window_and_no_more() {
    let mistral = |window: serde_json::Value| {
        let changes = [
            ("architectures", ["MistralForCausalLM"].as_slice().into()),
            ("sliding_window", window),
        ];
        variant("llama3", &changes)
    };
    let narrow = agree(mistral(20.into()).path());
    let wide = agree(mistral(serde_json::Value::Null).path());
    let apart = narrow.iter().zip(&wide).any(|(a, b)| (a - b).abs() > 0.1);
    assert!(
        apart,
        "a window of 20 in a prompt of 150 changes the logits"
    );
}

#[test]
fn windows_may_differ_from_layer_to_layer() {
    let kinds = ["full_attention", "sliding_attention", "full_attention"];
    let changes = [
        ("use_sliding_window", true.into()),
        ("sliding_window", 16.into()),
        ("layer_types", kinds.as_slice().into()),
    ];
    agree(variant("qwen2", &changes).path());
}
