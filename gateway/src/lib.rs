//! Gateway.

pub mod backend;
