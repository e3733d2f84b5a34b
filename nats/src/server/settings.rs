//! What a child server shall be, and the configuration file that says so.
//!
//! The file holds the credential, so its folder is private; nothing here starts a process.

use std::path::{Path, PathBuf};

/// Who may connect.
#[derive(Clone, Debug, Default)]
pub enum Access {
    /// One user with a random password, made at the start.
    #[default]
    Password,
    /// The holder of this public nkey's seed.
    Nkey(String),
}

/// Certificates of a server that demands TLS, in PEM files.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// Its certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// If given, clients must show a certificate signed by it.
    pub client_ca: Option<PathBuf>,
    /// The handshake comes before the server's first line (servers since 2.10).
    pub first: bool,
}

/// What a child server shall be.
#[derive(Clone, Debug, Default)]
pub struct ServerSettings {
    /// Who may connect.
    pub access: Access,
    /// TLS, if any.
    pub tls: Option<ServerTls>,
    /// Whether JetStream is on, stored in the private folder.
    pub jetstream: bool,
    /// Largest payload in bytes, if not the server's default.
    pub max_payload: Option<usize>,
}

/// The one user of a server with a password.
pub(crate) const USER: &str = "thalamus";

impl ServerSettings {
    /// The configuration file: listen on loopback at `port` (any free one if none), keep everything
    /// in `folder`, let in who knows `password` or has the nkey.
    pub(crate) fn file(&self, port: Option<u16>, folder: &Path, password: &str) -> String {
        let port = port.map_or("-1".to_owned(), |port| port.to_string());
        let mut lines = vec![
            format!("listen: \"127.0.0.1:{port}\""),
            format!("log_file: {}", quoted(&folder.join("log"))),
            format!("ports_file_dir: {}", quoted(folder)),
        ];
        lines.push(match &self.access {
            Access::Password => {
                format!("authorization {{ users: [{{ user: {USER}, password: \"{password}\" }}] }}")
            }
            Access::Nkey(public) => {
                format!("authorization {{ users: [{{ nkey: \"{public}\" }}] }}")
            }
        });
        lines.extend(
            self.max_payload
                .map(|bytes| format!("max_payload: {bytes}")),
        );
        if self.jetstream {
            lines.push(format!(
                "jetstream {{ store_dir: {} }}",
                quoted(&folder.join("store"))
            ));
        }
        lines.extend(self.tls.as_ref().map(ServerTls::block));
        lines.push(String::new());
        lines.join("\n")
    }
}

impl ServerTls {
    fn block(&self) -> String {
        let mut lines = vec![
            "tls {".to_owned(),
            format!("  cert_file: {}", quoted(&self.cert)),
            format!("  key_file: {}", quoted(&self.key)),
        ];
        if let Some(ca) = &self.client_ca {
            lines.push(format!("  ca_file: {}", quoted(ca)));
            lines.push("  verify: true".to_owned());
        }
        if self.first {
            lines.push("  handshake_first: true".to_owned());
        }
        lines.push("}".to_owned());
        lines.join("\n")
    }
}

fn quoted(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_what_was_asked_for() {
        let settings = ServerSettings {
            tls: Some(ServerTls {
                cert: "/c".into(),
                key: "/k".into(),
                client_ca: None,
                first: false,
            }),
            max_payload: Some(4096),
            ..Default::default()
        };
        let file = settings.file(Some(4321), Path::new("/private"), "secret");
        for line in [
            "listen: \"127.0.0.1:4321\"",
            "password: \"secret\"",
            "max_payload: 4096",
            "cert_file: \"/c\"",
            "log_file: \"/private/log\"",
        ] {
            assert!(file.contains(line), "{line} in {file}");
        }
        assert!(!file.contains("jetstream") && !file.contains("ca_file"));
    }
}
