//! What every test of the doors uses: the scripted core, an HTTP client, a NATS client.

pub mod core;
pub mod http;
pub mod nats;

pub use self::{
    core::{Double, END, Step, ended, items, record, say},
    http::{Client, Reply},
};
