//! Fabric: bulk KV bytes between nodes.

pub mod fabric;
pub use fabric::{EventSink, Export, Fabric, FabricEvent, Failure, Moved, Piece, Take};
