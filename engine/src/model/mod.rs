//! The model engine on the CPU: decoder families described as data, one forward that interprets the description.
//!
//! A [`Spec`] is read from `config.json`; [`weights`] binds it to the tensors of a checkpoint, which stay where the
//! file is mapped or are packed once; [`forward`] runs ragged batches over paged, block-major keys and values. Every
//! sum has a fixed order, so that on one [`Backend`] a row's bits depend on its tokens and positions alone: not on the
//! batch, the chunks, the slots or the threads. Nothing here schedules, tokenises or talks to anybody.
//!
//! Where to add what: a family is a line in [`family`]; a property that no family had is a field of [`Spec`] and a
//! branch in the forward; a faster kernel is behind [`cpu`]. Start reading at [`ModelEngine::load`].

mod attention;
mod backend;
mod batch;
mod check;
mod cpu;
mod engine;
mod family;
mod forward;
mod kv;
mod linear;
mod machine;
mod rope;
mod spec;
mod weights;

pub use backend::{BACKENDS, Backend, BackendError, WeightFormat};
pub use engine::{LoadError, ModelEngine, ModelOptions, Progress};
pub use forward::Observer;
pub use kv::{KvDtype, KvLayout};
pub use rope::{Rope, Scaling};
pub use spec::{Activation, LayerSpec, Spec};

pub(crate) use cpu::exp;

/// Architectures that this engine runs, by their names in `config.json`.
pub fn known_architectures() -> impl Iterator<Item = &'static str> {
    family::FAMILIES.iter().map(|family| family.architecture)
}

/// Bytes of keys and values of one token, in the format that [`ModelOptions`] has by default.
#[must_use]
pub fn kv_bytes_per_token(spec: &Spec) -> usize {
    KvLayout::new(spec, 1, KvDtype::default()).block_bytes()
}
