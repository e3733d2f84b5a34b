//! What every test of the doors uses: the scripted core, an HTTP client, a NATS client.

pub(crate) mod core;
pub(crate) mod http;
pub(crate) mod nats;

pub(crate) use self::{
    core::{Double, END, Step, ended, items, record, say},
    http::{Client, Reply},
};
