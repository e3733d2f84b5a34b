//! Model families as data: what their `config.json` leaves unsaid.
//!
//! A family never has code of its own; [`super::spec`] interprets these rows.

/// Which projections of attention have a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bias {
    /// None.
    Never,
    /// Queries, keys and values.
    Inputs,
    /// All four, if `attention_bias` says so.
    Configured,
}

/// Which layers see only the last `sliding_window` positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Window {
    /// None.
    Never,
    /// All, if `sliding_window` is set.
    Everywhere,
    /// If `use_sliding_window`: those that `layer_types` names, else those from `max_window_layers` on.
    Listed,
}

/// What sets a family apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Family {
    /// Its name in `architectures`.
    pub(super) architecture: &'static str,
    /// Biases of attention.
    pub(super) bias: Bias,
    /// Whether `mlp_bias` is heeded.
    pub(super) mlp_bias: bool,
    /// Whether each query and key head is normalised before its rotation.
    pub(super) qk_norm: bool,
    /// Sliding windows.
    pub(super) window: Window,
}

/// Every family that the engine runs.
pub(super) const FAMILIES: &[Family] = &[
    Family {
        architecture: "LlamaForCausalLM",
        bias: Bias::Configured,
        mlp_bias: true,
        qk_norm: false,
        window: Window::Never,
    },
    Family {
        architecture: "MistralForCausalLM",
        bias: Bias::Never,
        mlp_bias: false,
        qk_norm: false,
        window: Window::Everywhere,
    },
    Family {
        architecture: "Qwen2ForCausalLM",
        bias: Bias::Inputs,
        mlp_bias: false,
        qk_norm: false,
        window: Window::Listed,
    },
    Family {
        architecture: "Qwen3ForCausalLM",
        bias: Bias::Configured,
        mlp_bias: false,
        qk_norm: true,
        window: Window::Listed,
    },
];
