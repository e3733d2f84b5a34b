//! What tests of several crates share. Never part of the product, and it decides nothing.
//!
//! Crates below `tests` cannot depend on it without a cycle; their tests include single files by path:
//! `#[path = "../../tests/src/ledger.rs"] pub mod ledger;`. Start reading at [`ledger`], then [`tidy`].

pub mod cluster;
pub mod journal;
pub mod ledger;
pub mod tidy;
pub mod up;
