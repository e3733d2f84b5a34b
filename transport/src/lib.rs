//! Bulk mover of KV blocks between nodes: [`Fabric`], and the fabrics that implement it.
//!
//! [`memory`] joins nodes of one process, [`shm`] processes of one host, [`ucx`] hosts. All keep the same promise:
//! a take ends with one `Taken` and then one `Settled`. This crate never decides what to move, never frees a
//! slot, and never writes into a slot that its own worker did not name.
//! Start reading at [`fabric`], then `book`, which keeps the promise for all three.
#![allow(unsafe_code)] // system calls, shared maps and UCX handles; each block says who guarantees it

mod book;
mod card;
mod checks;
mod codec;
mod copier;
mod counters;
mod exports;
pub mod fabric;
pub mod memory;
mod peers;
mod proof;
pub mod shm;
mod start;
mod trial;
pub mod ucx;
mod wake;

pub use checks::Checks;
pub use fabric::{EventSink, Export, Fabric, FabricEvent, Failure, Moved, Piece, Take};
pub use memory::{Faults, MemFabric, MemNetwork};
pub use shm::ShmFabric;
pub use start::{FabricConfig, FabricError, FabricKind, UcxVersion, prepare_ucx, probe_ucx, start};
pub use trial::{Trial, TrialError, try_fabric};
pub use ucx::{UcxError, UcxFabric, UcxOptions};
