//! What the measuring programs share: loads, an HTTP client, a running thalamus, medians.
//!
//! It never judges: programs print what they saw, and no test depends on a time. It never reaches into the
//! process that it measures; what that costs is read from /proc. Start reading at [`load`], then `bin/path.rs`.

pub mod alone;
pub mod client;
pub mod load;
pub mod process;
pub mod random;
pub mod spread;
pub mod table;
pub mod up;
