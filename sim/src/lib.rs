//! The cluster in one thread and virtual time: production's cores under seeded faults, checked after every run.
//!
//! It sees `logic` and `bus-schemas` only, never reads a clock, and is deterministic: a failure is a seed.
//! Start reading at [`day`], then [`world`].

pub mod day;
pub mod engine;
pub mod faults;
pub mod rng;
pub mod world;
