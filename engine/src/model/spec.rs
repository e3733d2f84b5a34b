//! A decoder as a value: all that the forward must know, read from `config.json` in either published form.
//!
//! It is checked here once; later code relies on it. It holds no weights and no names of tensors.

use crate::checkpoint::{CheckpointError, Config};

use super::{
    family::{Bias, FAMILIES, Family, Window},
    rope::Rope,
};

/// Most layers that a description may have: real ones stay under 200, and a lying file must not cost memory.
const LAYERS_MAX: usize = 4096;

/// What bends the gate of the feed-forward part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x / (1 + e^-x).
    Silu,
}

/// What may differ from layer to layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerSpec {
    /// Positions that a token sees, itself included; none is all.
    pub window: Option<usize>,
    /// Which of [`Spec::ropes`] turns its queries and keys.
    pub rope: usize,
}

/// A decoder.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Its name in `architectures`.
    pub architecture: &'static str,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head; even.
    pub head_dim: usize,
    /// Width of the feed-forward part.
    pub intermediate: usize,
    /// Ids that it reads and draws.
    pub vocab: usize,
    /// Longest sequence.
    pub context: usize,
    /// Added to the mean square before its root.
    pub norm_eps: f32,
    /// Of the feed-forward part.
    pub activation: Activation,
    /// Biases on queries, keys and values.
    pub qkv_bias: bool,
    /// Bias on attention's output.
    pub output_bias: bool,
    /// Biases in the feed-forward part.
    pub mlp_bias: bool,
    /// Each query and key head is normalised before its rotation.
    pub qk_norm: bool,
    /// The embedding is also the output matrix.
    pub tied: bool,
    /// Layers in order.
    pub layers: Vec<LayerSpec>,
    /// Rotations that layers refer to.
    pub ropes: Vec<Rope>,
}

impl Spec {
    /// Reads the description.
    ///
    /// # Errors
    /// [`CheckpointError`] naming the key that is missing, contradicts another, or asks for what the engine lacks.
    pub fn from_config(config: &Config) -> Result<Self, CheckpointError> {
        let family = family(config)?;
        let heads = config.count("num_attention_heads")?;
        let kv_heads = config.count_opt("num_key_value_heads")?.unwrap_or(heads);
        if !heads.is_multiple_of(kv_heads) {
            let expected = format!("a divisor of num_attention_heads ({heads})");
            return Err(config.wrong("num_key_value_heads", expected));
        }
        let hidden = config.count("hidden_size")?;
        let head_dim = head_dim(config, hidden, heads)?;
        let context = config.count("max_position_embeddings")?;
        let all_bias =
            family.bias == Bias::Configured && config.flag_or("attention_bias", false)?;
        Ok(Self {
            architecture: family.architecture,
            hidden,
            heads,
            kv_heads,
            head_dim,
            intermediate: config.count("intermediate_size")?,
            vocab: config.count("vocab_size")?,
            context,
            norm_eps: config.number_opt("rms_norm_eps")?.unwrap_or(1e-6) as f32,
            activation: activation(config)?,
            qkv_bias: all_bias || family.bias == Bias::Inputs,
            output_bias: all_bias,
            mlp_bias: family.mlp_bias && config.flag_or("mlp_bias", false)?,
            qk_norm: family.qk_norm,
            tied: config.flag_or("tie_word_embeddings", false)?,
            layers: layers(config, family)?,
            ropes: vec![Rope::from_config(config, head_dim, context)?],
        })
    }

    /// Query heads that share a key and value head.
    #[must_use]
    pub const fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Queries, keys and values of a token together.
    #[must_use]
    pub const fn inputs(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }

    /// Elements of all matrices and vectors.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let mut layer = 2 * self.hidden * (q + kv) + 3 * self.hidden * self.intermediate;
        layer += 2 * self.hidden;
        layer += usize::from(self.qkv_bias) * (q + 2 * kv);
        layer += usize::from(self.output_bias) * self.hidden;
        layer += usize::from(self.mlp_bias) * (2 * self.intermediate + self.hidden);
        layer += usize::from(self.qk_norm) * 2 * self.head_dim;
        let tables = if self.tied { 1 } else { 2 };
        (self.layers.len() * layer + tables * self.vocab * self.hidden + self.hidden) as u64
    }

    /// The description for people: label and value, in reading order.
    #[must_use]
    pub fn describe(&self) -> Vec<(&'static str, String)> {
        let windowed = self.layers.iter().filter(|l| l.window.is_some()).count();
        let mut lines = vec![
            ("architecture", self.architecture.into()),
            ("parameters", self.parameters().to_string()),
            ("layers", self.layers.len().to_string()),
            ("hidden size", self.hidden.to_string()),
            (
                "attention",
                format!(
                    "{} query heads, {} key and value heads of {}{}{}",
                    self.heads,
                    self.kv_heads,
                    self.head_dim,
                    if self.qkv_bias { ", biased" } else { "" },
                    if self.qk_norm { ", normalised" } else { "" },
                ),
            ),
            (
                "feed-forward",
                format!("{} gated by {:?}", self.intermediate, self.activation),
            ),
            ("vocabulary", self.vocab.to_string()),
            (
                "embeddings",
                if self.tied { "tied" } else { "apart" }.into(),
            ),
            ("context", format!("{} tokens", self.context)),
        ];
        lines.extend(self.ropes.iter().map(|rope| ("rotation", rope.to_string())));
        if let Some(window) = self.layers.iter().find_map(|l| l.window) {
            let text = format!(
                "{window} tokens in {windowed} of {} layers",
                self.layers.len()
            );
            lines.push(("sliding window", text));
        }
        lines
    }
}

fn family(config: &Config) -> Result<Family, CheckpointError> {
    let named = config.texts_opt("architectures")?.unwrap_or_default();
    FAMILIES
        .iter()
        .find(|family| named.iter().any(|name| name == family.architecture))
        .copied()
        .ok_or_else(|| CheckpointError::Architecture {
            path: config.path().into(),
            found: if named.is_empty() {
                "(none named)".into()
            } else {
                named.join(", ")
            },
            known: super::known_architectures().collect::<Vec<_>>().join(", "),
        })
}

fn head_dim(config: &Config, hidden: usize, heads: usize) -> Result<usize, CheckpointError> {
    let dim = match config.count_opt("head_dim")? {
        Some(dim) => dim,
        None if hidden.is_multiple_of(heads) => hidden / heads,
        None => {
            let expected =
                format!("a multiple of num_attention_heads ({heads}), as head_dim is missing");
            return Err(config.wrong("hidden_size", expected));
        }
    };
    if dim.is_multiple_of(2) {
        Ok(dim)
    } else {
        Err(config.wrong("head_dim", format!("an even number (it comes to {dim})")))
    }
}

fn activation(config: &Config) -> Result<Activation, CheckpointError> {
    match config.text_or("hidden_act", "silu")?.as_str() {
        "silu" | "swish" => Ok(Activation::Silu),
        _ => Err(config.wrong("hidden_act", "silu")),
    }
}

fn layers(config: &Config, family: Family) -> Result<Vec<LayerSpec>, CheckpointError> {
    let count = config.count("num_hidden_layers")?;
    if count > LAYERS_MAX {
        return Err(config.wrong("num_hidden_layers", format!("at most {LAYERS_MAX}")));
    }
    let windows = match family.window {
        Window::Never => vec![None; count],
        Window::Everywhere => vec![config.count_opt("sliding_window")?; count],
        Window::Listed => listed_windows(config, count)?,
    };
    Ok(windows
        .into_iter()
        .map(|window| LayerSpec { window, rope: 0 })
        .collect())
}

fn listed_windows(config: &Config, count: usize) -> Result<Vec<Option<usize>>, CheckpointError> {
    if !config.flag_or("use_sliding_window", false)? {
        return Ok(vec![None; count]);
    }
    let Some(window) = config.count_opt("sliding_window")? else {
        return Ok(vec![None; count]);
    };
    let Some(types) = config.texts_opt("layer_types")? else {
        let first = config.count_opt("max_window_layers")?.unwrap_or(0);
        return Ok((0..count).map(|i| (i >= first).then_some(window)).collect());
    };
    if types.len() != count {
        return Err(config.wrong(
            "layer_types",
            format!("{count} entries (num_hidden_layers)"),
        ));
    }
    types
        .iter()
        .map(|kind| match kind.as_str() {
            "full_attention" => Ok(None),
            "sliding_attention" => Ok(Some(window)),
            _ => Err(config.wrong("layer_types", "full_attention or sliding_attention each")),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const QWEN: &str = r#"{"architectures":["Qwen2ForCausalLM"],"hidden_size":64,"num_attention_heads":4,
        "num_key_value_heads":2,"num_hidden_layers":4,"intermediate_size":96,"vocab_size":384,
        "max_position_embeddings":1024,"sliding_window":32,"max_window_layers":3"#;

    fn read(extra: &str) -> Result<Spec, CheckpointError> {
        let text = format!("{QWEN}{extra}}}");
        Spec::from_config(&Config::parse(Path::new("config.json"), &text)?)
    }

    fn refused(extra: &str, says: &str) {
        let found = read(extra).expect_err("must be refused").to_string();
        assert!(found.contains(says), "{found:?} does not say {says:?}");
    }

    fn windows(extra: &str) -> Vec<Option<usize>> {
        let spec = read(extra).expect("a good config");
        spec.layers.iter().map(|l| l.window).collect()
    }

    #[test]
    fn families_fill_in_what_the_file_leaves_unsaid() {
        let spec = read("").expect("a good config");
        assert_eq!((spec.head_dim, spec.group()), (16, 2));
        assert!(spec.qkv_bias && !spec.output_bias && !spec.qk_norm && !spec.tied);
        assert!(
            spec.describe()
                .iter()
                .any(|(label, _)| *label == "rotation")
        );
    }

    #[test]
    fn windows_are_on_only_where_they_are_asked_for() {
        assert_eq!(windows(""), [None; 4]);
        let on = r#","use_sliding_window":true"#;
        assert_eq!(windows(on), [None, None, None, Some(32)]);
        let types = r#","use_sliding_window":true,"layer_types":["full_attention","sliding_attention","full_attention","full_attention"]"#;
        assert_eq!(windows(types), [None, Some(32), None, None]);
    }

    #[test]
    fn values_that_make_no_sense_are_named() {
        refused(
            r#","head_dim":15"#,
            "head_dim is 15, expected an even number",
        );
        refused(
            r#","hidden_act":"gelu""#,
            r#"hidden_act is "gelu", expected silu"#,
        );
        refused(r#","rms_norm_eps":-1"#, "rms_norm_eps is -1");
        refused(r#","rope_theta":"big""#, "rope_theta");
        refused(r#","tie_word_embeddings":3"#, "true or false");
        refused(
            r#","rope_scaling":{"type":"dynamic","factor":2}"#,
            "rope_scaling.type",
        );
        refused(
            r#","use_sliding_window":true,"layer_types":[]"#,
            "4 entries",
        );
        refused(r#","num_hidden_layers":100000"#, "at most 4096");
        refused(r#","num_key_value_heads":3"#, "a divisor");
    }

    #[test]
    fn unknown_architectures_list_the_known_ones() {
        let text = r#"{"architectures":["GPT2LMHeadModel"]}"#;
        let config = Config::parse(Path::new("config.json"), text).expect("JSON");
        let found = Spec::from_config(&config).expect_err("unknown").to_string();
        assert!(
            found.contains("GPT2LMHeadModel") && found.contains("Qwen3ForCausalLM"),
            "{found}"
        );
    }
}
