//! What is opened or started at run time and may be absent: nats-server, UCX, CUDA.
//!
//! UCX is opened to read its version; the others are only looked for. Nothing here starts anything.

use std::{
    env,
    path::{Path, PathBuf},
};

use super::{Check, State};
use crate::config::Config;

/// Where the dynamic linker looks, below the root and below each architecture.
const LIBRARY_DIRS: [&str; 6] = [
    "/usr/local/lib",
    "/usr/lib",
    "/usr/lib64",
    "/lib",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
];

pub(super) fn checks(config: &Config) -> Vec<Check> {
    vec![nats_server(config.nats.server.as_deref()), ucx(), cuda()]
}

fn nats_server(named: Option<&Path>) -> Check {
    match named {
        Some(path) if nats::server::is_program(path) => {
            Check::ok("nats-server", path.display().to_string())
        }
        Some(path) => Check::not_ok(
            "nats-server",
            State::Broken,
            format!("{} is no program", path.display()),
            "correct nats.server, or leave it out",
        ),
        None => match nats::server::find() {
            Ok(path) => Check::ok("nats-server", path.display().to_string()),
            Err(error) => Check::not_ok(
                "nats-server",
                State::Missing,
                error.to_string(),
                "without it `up --processes` cannot start one, and `serve` needs one elsewhere",
            ),
        },
    }
}

fn ucx() -> Check {
    match transport::probe_ucx() {
        Ok(version) => Check::ok(
            "UCX",
            format!("{}.{}.{}", version.major, version.minor, version.release),
        ),
        Err(error) => Check::not_ok(
            "UCX",
            State::Missing,
            error.to_string(),
            "blocks cannot move between hosts, only in one process or by shared memory",
        ),
    }
}

fn cuda() -> Check {
    match find_library("libcuda.so.1") {
        Some(path) => Check::ok("CUDA", path.display().to_string()),
        None => Check::not_ok(
            "CUDA",
            State::Missing,
            "libcuda.so.1 not found",
            "models run on the CPU; install the NVIDIA driver where there is a GPU",
        ),
    }
}

fn find_library(name: &str) -> Option<PathBuf> {
    let dirs = split_paths("LD_LIBRARY_PATH")
        .into_iter()
        .chain(LIBRARY_DIRS.map(PathBuf::from));
    find(name, dirs)
}

fn split_paths(variable: &str) -> Vec<PathBuf> {
    env::var_os(variable).map_or_else(Vec::new, |value| env::split_paths(&value).collect())
}

fn find(name: &str, dirs: impl IntoIterator<Item = PathBuf>) -> Option<PathBuf> {
    dirs.into_iter()
        .map(|dir| dir.join(name))
        .find(|path| Path::is_file(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};

    #[test]
    fn the_first_folder_that_has_it_wins() {
        let [first, second] = [(), ()].map(|()| tempfile::tempdir().expect("a temporary folder"));
        for dir in [&first, &second] {
            std::fs::write(dir.path().join("thing"), "").expect("a writable folder");
        }
        let dirs = [
            PathBuf::from("/nowhere"),
            first.path().into(),
            second.path().into(),
        ];
        assert_eq!(find("thing", dirs), Some(first.path().join("thing")));
    }

    #[test]
    fn what_is_missing_says_what_to_install() {
        let config = load(&Sources::default())
            .expect("defaults are valid")
            .config;
        for check in checks(&config) {
            assert_eq!(
                check.state == State::Ok,
                check.advice.is_empty(),
                "{check:?}"
            );
        }
    }
}
