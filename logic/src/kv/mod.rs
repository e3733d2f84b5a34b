//! The block pool: every block of a worker in exactly one state, and the cache of what finished blocks hold.
//!
//! The pool never moves bytes and never decides who may have memory. Life of a block: `Free -> Reserved ->
//! Filling -> Sealed -> Cached -> Free`; what fails while bytes may still arrive goes to `Quarantined`
//! and from there to `Free` only when its user says that nothing can write any more. Start at [`Pool`].

mod check;
mod pool;

pub use check::{Fault, check};
pub use pool::{Change, Counts, Pool, Seal, State};
