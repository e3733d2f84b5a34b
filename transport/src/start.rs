//! Starting a fabric: what every one needs, which kinds there are, and why one cannot start.
//!
//! Nothing here falls back in silence: the kind asked for starts, or the error says what to do.

use std::{io, path::PathBuf, sync::Arc};

use bus_schemas::NodeRef;
use gpu::Region;

use crate::{Checks, EventSink, Fabric, MemFabric, MemNetwork, ShmFabric, UcxFabric, UcxOptions};

/// What every fabric needs.
#[derive(Clone)]
pub struct FabricConfig {
    /// Whose fabric it is.
    pub me: NodeRef,
    /// The memory it reads from and writes into; held as long as the fabric lives.
    pub region: Arc<Region>,
    /// Where its events go.
    pub sink: EventSink,
    /// Which of the blocks that others read from it get a sum.
    pub checks: Checks,
}

/// Which fabric.
#[derive(Clone, Debug)]
pub enum FabricKind {
    /// Nodes of one process.
    Memory(MemNetwork),
    /// Processes of one host and user.
    Shm {
        /// A directory of ours, mode 0700, for the socket.
        dir: PathBuf,
    },
    /// Any hosts, by UCX.
    Ucx(UcxOptions),
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
    /// Others could read or replace our socket.
    #[error("directory {0} must belong to us alone: owned by this user, mode 0700")]
    Directory(PathBuf),
    /// The path does not fit a socket address.
    #[error("socket path {0} is too long; choose a shorter directory (at most 107 bytes in all)")]
    Path(PathBuf),
    /// UCX is missing or refused.
    #[error(transparent)]
    Ucx(#[from] crate::ucx::UcxError),
}

/// Version of the UCX library that is present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UcxVersion {
    /// 1 for every library this build can use.
    pub major: u32,
    /// 13 or later.
    pub minor: u32,
    /// The release within the minor version.
    pub release: u32,
}

/// Starts a fabric.
///
/// # Errors
/// [`FabricError`], which says what to do.
pub fn start(kind: FabricKind, config: FabricConfig) -> Result<Arc<dyn Fabric>, FabricError> {
    Ok(match kind {
        FabricKind::Memory(network) => MemFabric::start(&network, config)?,
        FabricKind::Shm { dir } => ShmFabric::start(&dir, config)?,
        FabricKind::Ucx(options) => UcxFabric::start(&options, config)?,
    })
}

/// Opens the UCX library, if that was not done yet, and reads its version.
///
/// # Errors
/// [`FabricError::Ucx`] if it is missing or too old.
pub fn probe_ucx() -> Result<UcxVersion, FabricError> {
    Ok(crate::ucx::version()?)
}

/// Cleans the environment for UCX. To be called first in `main`: later, other threads may be reading the environment,
/// and then nothing is done here and UCX cleans it when it is opened. True if it was done.
pub fn prepare_ucx() -> bool {
    let threads = std::fs::read_dir("/proc/self/task").map(Iterator::count);
    let alone = threads.is_ok_and(|threads| threads == 1);
    if alone {
        // SAFETY: this is the only thread of the process, as just counted.
        unsafe { ucx_sys::prepare_environment() };
    }
    alone
}
