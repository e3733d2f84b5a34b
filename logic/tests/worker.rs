//! The worker's core, driven letter by letter.

#[path = "worker/bench.rs"]
mod bench;
#[path = "worker/helper.rs"]
mod helper;
#[path = "worker/poison.rs"]
mod poison;
#[path = "worker/refused.rs"]
mod refused;
