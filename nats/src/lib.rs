//! The control bus: one trait, [`Bus`], in memory ([`MemBus`]) and over a NATS server ([`NatsBus`]).
//!
//! It carries messages and says how the link fares. It never knows what a message means, never
//! blocks a publisher, and never holds more than its bounds. Start reading in [`bus`].

pub mod bus;
mod feed;
mod headers;
mod mem;
mod name;
mod real;
pub mod server;
pub mod service;
pub mod subject;

pub use bus::{
    Bus, BusFuture, Delivery, Headers, Link, Publication, PublishError, RequestError,
    SubscribeError, Subscription,
};
pub use mem::{Loss, MemBus, MemServer};
pub use real::{ConnectError, NatsBus, NatsConfig, TlsFiles};
