//! Configuration: flags over `THALAMUS_*` variables over a TOML file over defaults.
//!
//! Every setting is one row of [`schema`]: its name, type, default, allowed values and explanation. Nothing
//! else in the tree reads the environment or a configuration file. A setting never holds a secret, only the
//! path of a file that does; a password inside a NATS URL is not shown.
//!
//! Start reading at [`schema`], then [`load()`].

mod check;
mod file;
mod print;
mod reader;
pub mod schema;
mod sources;
mod suggest;
mod value;

#[cfg(test)]
mod tests;

pub use reader::{Origin, Setting, Shape};
pub use schema::{Config, FabricKind, ModelSource, NatsUrl};
pub use sources::{ConfigError, Flag, Loaded, Sources, load, settings};
