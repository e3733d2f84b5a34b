//! Wiring: makes members of a cluster out of a configuration, and lets them go again.
//!
//! A member is one role holder: a gateway, a router or a worker, with a name of its own. Nothing here decides
//! about requests; a process may hold any number of members. Start reading at [`Process`].

mod admin;
mod bus;
mod cards;
mod load;
mod meter;
mod models;
mod process;
mod runtime;
mod streams;

pub use self::{
    bus::{connect, nats_config},
    load::{LoadedModel, load_models},
    process::{Ended, Process, ProcessArgs},
    runtime::{cookie, runtime_dir, secret_file},
};
