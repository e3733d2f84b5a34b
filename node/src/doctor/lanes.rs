//! The fabrics between processes, tried: blocks move over each from this process to itself, and every byte is compared.
//!
//! A fabric that the configuration asks for and that does not move blocks is broken; another is only a warning. Sockets
//! are made in a folder of their own, which is gone afterwards.

use std::path::PathBuf;

use transport::{FabricKind, Trial, TrialError, UcxOptions, try_fabric};

use super::{Check, State};
use crate::{
    cluster::runtime_dir,
    config::{Config, FabricKind as Wanted},
    fabric_choice::ucx_options,
};

/// What to do where shared memory does not work.
const SHM_ADVICE: &str = "workers of one host cannot share blocks; free some memory, or set fabric.dir to a folder of \
                          this user's alone (mode 0700) with a short path";
/// What to do where UCX does not work.
const UCX_ADVICE: &str = "blocks cannot move between hosts; see `ucx_info -d` for transports and devices, and name them \
                          in fabric.ucx.tls, fabric.ucx.net_devices and fabric.ucx.listen";

pub(super) fn checks(config: &Config) -> Vec<Check> {
    let fabric = &config.fabric;
    let wanted = matches!(fabric.kind, Wanted::Auto | Wanted::Shm);
    let mut checks = vec![report(
        "shared memory",
        shm(fabric.dir.clone()),
        wanted,
        SHM_ADVICE,
    )];
    // Without the library there is nothing to try, and another line says so.
    if transport::probe_ucx().is_ok() {
        let wanted = fabric.kind == Wanted::Ucx;
        let tried = ucx(ucx_options(&fabric.ucx));
        checks.push(report("UCX lanes", tried, wanted, UCX_ADVICE));
    }
    checks
}

fn shm(dir: Option<PathBuf>) -> anyhow::Result<Trial> {
    let parent = dir.map_or_else(runtime_dir, Ok)?;
    let dir = parent.join(format!("doctor-{}", std::process::id()));
    let tried = try_fabric(&FabricKind::Shm { dir: dir.clone() });
    if dir.exists() {
        std::fs::remove_dir(&dir)?;
    }
    Ok(tried?)
}

fn ucx(options: UcxOptions) -> anyhow::Result<Trial> {
    let tried: Result<Trial, TrialError> = try_fabric(&FabricKind::Ucx(options));
    Ok(tried?)
}

fn report(
    name: &'static str,
    tried: anyhow::Result<Trial>,
    wanted: bool,
    advice: &'static str,
) -> Check {
    match tried {
        Ok(trial) => Check::ok(
            name,
            format!(
                "{}, {} MiB to itself at {:.1} GB/s, every byte compared",
                trial.lanes,
                trial.bytes >> 20,
                trial.bytes_per_second as f64 / 1e9
            ),
        ),
        Err(error) => {
            let state = if wanted { State::Broken } else { State::Warn };
            Check::not_ok(name, state, format!("{error:#}"), advice)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};

    fn config() -> Config {
        let loaded = load(&Sources::default());
        loaded.expect("defaults are valid").config
    }

    #[test]
    fn shared_memory_is_tried_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut config = config();
        config.fabric.dir = Some(dir.path().to_owned());
        let checks = checks(&config);
        assert_eq!(checks[0].state, State::Ok, "{checks:?}");
        assert!(checks[0].found.contains("every byte"));
        let left = std::fs::read_dir(dir.path()).expect("a folder").count();
        assert_eq!(left, 0);
    }

    #[test]
    fn a_fabric_that_is_asked_for_and_does_not_work_is_broken() {
        let mut config = config();
        config.fabric.dir = Some("/nowhere/at/all".into());
        assert_eq!(checks(&config)[0].state, State::Broken);
        config.fabric.kind = Wanted::Ucx;
        assert_eq!(checks(&config)[0].state, State::Warn);
        config.fabric.ucx.net_devices = vec!["nosuch0".to_owned()];
        if let Some(lanes) = checks(&config).get(1) {
            assert_eq!(lanes.state, State::Broken);
            assert!(lanes.advice.contains("net_devices"));
        }
    }
}
