//! Starting a fabric: what every one needs, which kinds there are, and why one cannot start.
//!
//! Nothing here falls back in silence: the kind asked for starts, or the error says what to do.

use std::{io, sync::Arc};

use bus_schemas::NodeRef;
use gpu::Region;

use crate::{EventSink, Fabric, MemFabric, MemNetwork};

/// What every fabric needs.
#[derive(Clone)]
pub struct FabricConfig {
    /// Whose fabric it is.
    pub me: NodeRef,
    /// The memory it reads from and writes into; held as long as the fabric lives.
    pub region: Arc<Region>,
    /// Where its events go.
    pub sink: EventSink,
}

/// Which fabric.
#[derive(Clone, Debug)]
pub enum FabricKind {
    /// Nodes of one process.
    Memory(MemNetwork),
}

/// Why a fabric could not start.
#[derive(Debug, thiserror::Error)]
pub enum FabricError {
    /// The same incarnation has a fabric in this network already.
    #[error("{0:?} has a fabric in this process already")]
    Duplicate(NodeRef),
    /// The system refused.
    #[error("cannot {what}: {source}")]
    System {
        /// What was attempted.
        what: &'static str,
        /// Its answer.
        source: io::Error,
    },
}

/// Starts a fabric.
///
/// # Errors
/// [`FabricError`], which says what to do.
pub fn start(kind: FabricKind, config: FabricConfig) -> Result<Arc<dyn Fabric>, FabricError> {
    Ok(match kind {
        FabricKind::Memory(network) => MemFabric::start(&network, config)?,
    })
}
