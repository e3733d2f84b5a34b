//! Connections: accepted, told not to wait for more bytes, wrapped in TLS where that is set.
//!
//! A handshake runs in its own task with a deadline, so that a silent client holds up nobody. Never
//! looks at a request.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use axum::serve::Listener;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::TlsAcceptor;

/// A handshake takes two round trips; this bounds what a silent client holds.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Connections that are through but not yet served.
const READY_MAX: usize = 128;
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

/// Hands out connections that are ready to be served.
pub(super) struct Door {
    ready: mpsc::Receiver<(Box<dyn Io>, SocketAddr)>,
    addr: SocketAddr,
    accepting: tokio::task::JoinHandle<()>,
}

impl Door {
    /// Starts to accept.
    pub(super) async fn open(
        listen: SocketAddr,
        tls: Option<&TlsFiles>,
    ) -> Result<Self, OpenError> {
        let tls = tls.map(acceptor).transpose()?;
        let listener = TcpListener::bind(listen)
            .await
            .map_err(|error| OpenError::Bind { listen, error })?;
        let addr = listener
            .local_addr()
            .map_err(|error| OpenError::Bind { listen, error })?;
        let (sender, ready) = mpsc::channel(READY_MAX);
        let accepting = tokio::spawn(accept(listener, tls, sender));
        Ok(Self {
            ready,
            addr,
            accepting,
        })
    }
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

impl Drop for Door {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Listener for Door {
    type Io = Box<dyn Io>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(connection) => connection,
            // the accepting task only ends with this door
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.addr)
    }
}

async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    ready: mpsc::Sender<(Box<dyn Io>, SocketAddr)>,
) {
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(connection) => connection,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps waiting for more bytes");
        }
        match &tls {
            None => {
                if ready.send((Box::new(stream), peer)).await.is_err() {
                    return;
                }
            }
            Some(tls) => {
                tokio::spawn(shake(tls.clone(), stream, peer, ready.clone()));
            }
        }
    }
}

async fn shake(
    tls: TlsAcceptor,
    stream: TcpStream,
    peer: SocketAddr,
    ready: mpsc::Sender<(Box<dyn Io>, SocketAddr)>,
) {
    match tokio::time::timeout(HANDSHAKE_MAX, tls.accept(stream)).await {
        // the other end of the queue is gone only when the door is closed
        Ok(Ok(stream)) => drop(ready.send((Box::new(stream), peer)).await),
        Ok(Err(error)) => tracing::debug!(%peer, %error, "no TLS handshake"),
        Err(_) => tracing::debug!(%peer, "no TLS handshake in time"),
    }
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
