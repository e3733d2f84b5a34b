//! The model engine on real (tiny) checkpoints: exact against the references, lawful, and strict about bad input.
//!
//! Nothing here measures time. Start reading at [`exact`].

mod exact;
mod laws;
mod plans;
mod refusals;
mod rig;
mod windows;
