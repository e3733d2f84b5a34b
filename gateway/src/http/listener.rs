//! Connections: accepted, told not to wait for more bytes, wrapped in TLS where that is set.
//!
//! A handshake has a deadline and is its connection's own business, so that a silent client holds up nobody. Never
//! counts connections, and never looks at a request.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

/// A handshake takes two round trips; this bounds what a silent client holds.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Pause after the process ran out of descriptors, so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Certificate and key of the HTTP door.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// Certificate chain (PEM).
    pub cert: PathBuf,
    /// Its private key (PEM).
    pub key: PathBuf,
}

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or holds no PEM of that kind.
    #[error("cannot read the {what} in {path}: {problem}")]
    File {
        /// Certificate or key.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// They do not fit together.
    #[error("certificate and key cannot be used: {0}")]
    Pair(#[from] rustls::Error),
}

/// Any connection.
pub(super) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Where connections come in, and what they are wrapped in.
pub(super) struct Listener {
    tcp: TcpListener,
    /// Where it really listens.
    pub(super) addr: SocketAddr,
    /// None is plain HTTP.
    pub(super) tls: Option<TlsAcceptor>,
}

/// Why the door cannot open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The address is in use, or not ours.
    #[error("cannot listen on {listen}: {error}; choose another address or port")]
    Bind {
        /// The address.
        listen: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl Listener {
    /// Binds the address, within the runtime that will accept.
    pub(super) async fn open(
        listen: SocketAddr,
        tls: Option<&TlsFiles>,
    ) -> Result<Self, OpenError> {
        let tls = tls.map(acceptor).transpose()?;
        let failed = |error| OpenError::Bind { listen, error };
        let tcp = TcpListener::bind(listen).await.map_err(failed)?;
        let addr = tcp.local_addr().map_err(failed)?;
        Ok(Self { tcp, addr, tls })
    }

    /// The next connection.
    pub(super) async fn accept(&self) -> TcpStream {
        loop {
            match self.tcp.accept().await {
                Ok((stream, _)) => {
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "a connection keeps waiting for more bytes");
                    }
                    return stream;
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Makes a connection ready for requests; none if its client did not do its part in time.
pub(super) async fn shake(tls: Option<TlsAcceptor>, stream: TcpStream) -> Option<Box<dyn Io>> {
    let Some(tls) = tls else {
        return Some(Box::new(stream));
    };
    match tokio::time::timeout(HANDSHAKE_MAX, tls.accept(stream)).await {
        Ok(Ok(stream)) => return Some(Box::new(stream)),
        Ok(Err(error)) => tracing::debug!(%error, "no TLS handshake"),
        Err(_) => tracing::debug!("no TLS handshake in time"),
    }
    None
}

fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, TlsError> {
    let failed = |what, path: &PathBuf, problem: String| TlsError::File {
        what,
        path: path.clone(),
        problem,
    };
    let certs: Vec<_> = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect)
        .map_err(|error| failed("certificate", &files.cert, error.to_string()))?;
    if certs.is_empty() {
        return Err(failed("certificate", &files.cert, "it has none".into()));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| failed("private key", &files.key, error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certs, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
