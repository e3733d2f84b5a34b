//! Why the first connect failed, in words that say what to do.
//!
//! Never shows a secret; never reports a later loss of the link, which is a state and no error.

use std::{error::Error, io, path::PathBuf, time::Duration};

use async_nats::ConnectErrorKind;

use super::config::NatsConfig;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The configuration contradicts itself.
    #[error("nats configuration: {0}")]
    Config(String),
    /// A file of the configuration cannot be read.
    #[error("cannot read {}: {reason}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// Others can read a secret.
    #[error("{} holds a secret that others can read (mode {mode:04o}): chmod 600 it", path.display())]
    OpenSecret {
        /// Which file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A secret file's content is not what it should be.
    #[error("{} holds no usable identity: {reason}", path.display())]
    Credentials {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Nobody is there.
    #[error(
        "no nats-server at {urls}: {reason}; start one (`nats-server -p 4222`), correct the url, \
         or run `thalamus up`, which needs none"
    )]
    NoServer {
        /// Where.
        urls: String,
        /// What the system says.
        reason: String,
    },
    /// Something is there and says nothing.
    #[error("{urls} did not answer as a nats-server within {after:?}")]
    Silent {
        /// Where.
        urls: String,
        /// How long it was given.
        after: Duration,
    },
    /// The server does not want us.
    #[error("the nats-server at {urls} refused authorization of {identity}")]
    Refused {
        /// Where.
        urls: String,
        /// Who we said we are.
        identity: String,
    },
    /// No TLS with this server.
    #[error("TLS with the nats-server at {urls} failed: {reason}")]
    Tls {
        /// Where.
        urls: String,
        /// What the handshake says.
        reason: String,
    },
    /// Anything else.
    #[error("connecting to the nats-server at {urls} failed: {reason}")]
    Other {
        /// Where.
        urls: String,
        /// What the client library says.
        reason: String,
    },
}

impl ConnectError {
    /// The client library's error, in our words.
    pub(crate) fn from_library(config: &NatsConfig, error: &async_nats::ConnectError) -> Self {
        let urls = config.shown_urls();
        let reason = error
            .source()
            .map_or_else(|| error.to_string(), ToString::to_string);
        match error.kind() {
            ConnectErrorKind::AuthorizationViolation => Self::Refused {
                urls,
                identity: config.shown_identity(),
            },
            ConnectErrorKind::Authentication => Self::Credentials {
                path: config
                    .nkey_file
                    .clone()
                    .or(config.creds_file.clone())
                    .unwrap_or_default(),
                reason: "its seed cannot sign".to_owned(),
            },
            ConnectErrorKind::TimedOut => Self::Silent {
                urls,
                after: config.connect_timeout,
            },
            ConnectErrorKind::Tls => Self::Tls { urls, reason },
            ConnectErrorKind::Dns => Self::NoServer { urls, reason },
            ConnectErrorKind::Io if is_tls(error) => Self::Tls { urls, reason },
            ConnectErrorKind::Io if is_refusal(error) => Self::NoServer { urls, reason },
            ConnectErrorKind::Io
            | ConnectErrorKind::ServerParse
            | ConnectErrorKind::MaxReconnects => Self::Other { urls, reason },
        }
    }
}

fn io_source(error: &async_nats::ConnectError) -> Option<&io::Error> {
    error.source()?.downcast_ref()
}

/// A failed handshake comes as an IO error that wraps the TLS library's.
fn is_tls(error: &async_nats::ConnectError) -> bool {
    let inner = io_source(error).and_then(io::Error::get_ref);
    inner.is_some_and(|inner| inner.is::<rustls::Error>())
}

fn is_refusal(error: &async_nats::ConnectError) -> bool {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable, NotFound};
    io_source(error).is_some_and(|error| {
        matches!(
            error.kind(),
            ConnectionRefused | HostUnreachable | NetworkUnreachable | NotFound
        )
    })
}
