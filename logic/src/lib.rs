//! Every decision of Thalamus, as plain synchronous structs: placement, memory, batching, membership, and the four roles.
//!
//! Nothing here reads a clock, does IO, blocks, spawns or draws randomness: time and randomness come in
//! as arguments, effects go out as values. The same cores run in production, in tests and in the simulator.
//!
//! Start reading at [`core`], then [`role`].

pub mod batch;
pub mod core;
pub mod fact;
pub mod hash;
pub mod kv;
pub mod member;
pub mod parse;
pub mod place;
pub mod role;
pub mod text;

pub use crate::core::{Core, Micros};
