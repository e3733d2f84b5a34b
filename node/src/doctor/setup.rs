//! What the operator set up: the configuration, the files it names, the ports it wants.
//!
//! Ports are tried by binding them for a moment; nothing is ever sent or accepted.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use super::{Check, State};
use crate::{
    cli::{Settings, flags::NoFlags},
    config::{Config, Loaded, Sources, load},
};

/// Permission bits of group and others: a secret has none of them.
const OTHERS: u32 = 0o077;

pub(super) fn checks(config: &Config) -> Vec<Check> {
    let ports = [
        ("HTTP port", config.gateway.listen, "gateway.listen"),
        ("admin port", config.admin.listen, "admin.listen"),
    ];
    let mut checks = vec![cookie(config.admin.cookie_file.as_deref())];
    checks.extend(config.fabric.dir.as_deref().map(fabric_dir));
    checks.extend(files(config));
    checks.extend(ports.map(|(name, address, key)| port(name, address, key)));
    checks
}

/// The check, and the configuration to go on with: the defaults where it is broken.
pub(super) fn configuration(settings: &Settings<NoFlags>) -> (Check, Config) {
    match settings.load() {
        Ok(Loaded { config, file, .. }) => {
            let found = file.map_or_else(
                || "no file; flags, environment and defaults".to_owned(),
                |path| path.display().to_string(),
            );
            (Check::ok("configuration", found), config)
        }
        Err(error) => {
            let found = error.0.join("; ");
            let advice = "correct it; the other checks use the defaults";
            let defaults = load(&Sources::default()).expect("a test loads the defaults");
            (
                Check::not_ok("configuration", State::Broken, found, advice),
                defaults.config,
            )
        }
    }
}

fn cookie(path: Option<&Path>) -> Check {
    let Some(path) = path else {
        return Check::ok("cookie", "none named; one is made in the runtime folder");
    };
    let shown = path.display();
    match fs::metadata(path) {
        Err(error) => Check::not_ok(
            "cookie",
            State::Broken,
            format!("{shown}: {error}"),
            "make it, for instance: (umask 077; head -c 32 /dev/urandom | base64 > FILE)",
        ),
        Ok(meta) if meta.permissions().mode() & OTHERS != 0 => Check::not_ok(
            "cookie",
            State::Broken,
            format!("{shown} can be read by others"),
            format!(
                "whoever reads it can steer the cluster; chmod 600 {shown}, then make a new one"
            ),
        ),
        Ok(_) => Check::ok("cookie", shown.to_string()),
    }
}

/// Who can write there could stand in for a peer.
fn fabric_dir(path: &Path) -> Check {
    let shown = path.display();
    match fs::metadata(path) {
        Ok(meta) if !meta.is_dir() => Check::not_ok(
            "fabric folder",
            State::Broken,
            format!("{shown} is no folder"),
            "correct fabric.dir",
        ),
        Ok(meta) if meta.permissions().mode() & OTHERS != 0 => Check::not_ok(
            "fabric folder",
            State::Broken,
            format!("{shown} is open to others"),
            format!("shared memory would not start; chmod 700 {shown}"),
        ),
        Ok(_) => Check::ok("fabric folder", shown.to_string()),
        Err(error) => Check::not_ok(
            "fabric folder",
            State::Warn,
            format!("{shown}: {error}"),
            "shared memory needs it; make it with mode 0700",
        ),
    }
}

/// Every file that a setting names and a node reads at its start.
fn files(config: &Config) -> Vec<Check> {
    let (nats, gateway) = (&config.nats, &config.gateway);
    [
        ("nats.creds_file", &nats.creds_file),
        ("nats.nkey_file", &nats.nkey_file),
        ("nats.password_file", &nats.password_file),
        ("nats.tls.ca", &nats.tls.ca),
        ("nats.tls.cert", &nats.tls.cert),
        ("nats.tls.key", &nats.tls.key),
        ("gateway.api_keys_file", &gateway.api_keys_file),
        ("gateway.tls.cert", &gateway.tls.cert),
        ("gateway.tls.key", &gateway.tls.key),
    ]
    .into_iter()
    .filter_map(|(key, path)| path.as_deref().map(|path| (key, path)))
    .map(|(key, path)| match fs::File::open(path) {
        Ok(_) => Check::ok("file", format!("{key} {}", path.display())),
        Err(error) => Check::not_ok(
            "file",
            State::Broken,
            format!("{key} {}: {error}", path.display()),
            "make it readable, or correct the setting",
        ),
    })
    .collect()
}

fn port(name: &'static str, address: SocketAddr, key: &str) -> Check {
    match TcpListener::bind(address) {
        Ok(_) => Check::ok(name, format!("{address} is free")),
        Err(error) => Check::not_ok(
            name,
            State::Warn,
            format!("{address}: {error}"),
            format!("a node cannot start here while that lasts; stop what has it, or set {key}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_that_others_can_read_is_broken() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        for (mode, state) in [
            (0o644, State::Broken),
            (0o640, State::Broken),
            (0o600, State::Ok),
        ] {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode))
                .expect("our own file");
            assert_eq!(cookie(Some(file.path())).state, state, "{mode:o}");
        }
    }

    #[test]
    fn a_cookie_that_is_not_there_is_broken_and_says_how_to_make_one() {
        let check = cookie(Some(Path::new("nowhere/cookie")));
        assert_eq!(check.state, State::Broken);
        assert!(check.advice.contains("umask 077"));
    }

    #[test]
    fn a_fabric_folder_that_is_open_to_others_is_broken() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        for (mode, state) in [(0o755, State::Broken), (0o700, State::Ok)] {
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).expect("our own");
            assert_eq!(fabric_dir(dir.path()).state, state, "{mode:o}");
        }
        assert_eq!(fabric_dir(Path::new("nowhere")).state, State::Warn);
    }

    #[test]
    fn a_taken_port_is_named_with_its_setting() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("a bound socket has an address");
        let check = port("HTTP port", address, "gateway.listen");
        assert_eq!(check.state, State::Warn);
        assert!(check.advice.contains("gateway.listen"));
    }

    #[test]
    fn a_named_file_that_is_missing_is_broken() {
        let mut config = load(&Sources::default())
            .expect("defaults are valid")
            .config;
        assert_eq!(files(&config), []);
        config.nats.creds_file = Some("nowhere/creds".into());
        let checks = files(&config);
        assert_eq!(checks[0].state, State::Broken);
        assert!(checks[0].found.contains("nats.creds_file"));
    }
}
