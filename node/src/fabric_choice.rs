//! Which fabric the workers of this process get.
//!
//! `auto` is memory in one process and shared memory between processes of one host. Nothing falls back in silence.

use transport::{FabricKind, MemNetwork, UcxOptions};

use crate::{
    cluster::runtime_dir,
    config::schema::{Fabric, FabricKind as Wanted, Ucx},
};

/// The fabric that a configuration names; `one_process`: all workers of the cluster are in this process.
///
/// # Errors
/// Memory was asked for although there are other processes, or the runtime folder cannot be made.
pub fn choose(
    settings: &Fabric,
    one_process: bool,
    network: &MemNetwork,
) -> anyhow::Result<FabricKind> {
    let shm = || -> anyhow::Result<FabricKind> {
        let dir = match &settings.dir {
            Some(dir) => dir.clone(),
            None => runtime_dir()?,
        };
        Ok(FabricKind::Shm { dir })
    };
    match settings.kind {
        Wanted::Memory if !one_process => anyhow::bail!(
            "--fabric memory only joins workers of one process; use shm on one host, ucx between hosts"
        ),
        Wanted::Memory => Ok(FabricKind::Memory(network.clone())),
        Wanted::Auto if one_process => Ok(FabricKind::Memory(network.clone())),
        Wanted::Auto | Wanted::Shm => shm(),
        Wanted::Ucx => Ok(FabricKind::Ucx(ucx_options(&settings.ucx))),
    }
}

/// What UCX is to use.
pub(crate) fn ucx_options(settings: &Ucx) -> UcxOptions {
    let mut options = UcxOptions::default();
    if !settings.tls.is_empty() {
        options.tls = settings.tls.join(",");
    }
    if !settings.net_devices.is_empty() {
        options.net_devices = settings.net_devices.join(",");
    }
    if let Some(listen) = settings.listen {
        options.listen = listen;
    }
    options
}
