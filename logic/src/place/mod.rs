//! Placement: where the blocks of a prompt are, what each choice would cost in milliseconds, and the choice.
//!
//! Pure functions over what was heard; a picture that may be old. It never promises memory: the worker does.
//! The rule and its constants: PLACEMENT section 5. Start at [`choose`].

mod choose;
mod cost;
mod index;
mod keyed;
mod run;

pub use choose::{Ask, Candidate, Choice, Explanation, choose, choose_prefill};
pub use cost::{Cost, NodeLoad, Prompt};
pub use index::KvIndex;
