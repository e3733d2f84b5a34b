//! The front doors: OpenAI's API over HTTP and on public NATS subjects.
//!
//! One way in for both: a body becomes an [`ask`], is [`prepare`]d, runs behind a [`backend::Backend`], comes back
//! through [`assemble`] and is [`render`]ed. This crate never places a request, never retries one, and knows no
//! nodes. Start reading at [`doors::Doors`].

pub mod answer;
pub mod ask;
pub mod assemble;
pub mod backend;
pub mod doors;
pub mod error;
pub mod http;
mod jobs;
pub mod json;
pub mod keys;
pub mod metrics;
pub mod models;
pub mod nats_door;
pub mod prepare;
pub mod render;
mod said;
mod tokens;

pub use doors::{Caller, Doors, Kind, Options};
