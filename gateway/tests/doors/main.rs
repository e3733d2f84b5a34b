//! Both doors over a scripted core: real sockets, the in-memory bus, no cluster.
//!
//! Start at `support` for the double and the clients.

mod bad_input;
mod http_access;
mod http_answers;
mod http_bounds;
mod http_streams;
mod nats_again;
mod nats_answers;
mod nats_streams;
mod support;
mod tls;
mod tools;
