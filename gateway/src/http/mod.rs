//! The HTTP door: OpenAI's routes on axum.
//!
//! It turns headers and bodies into a request and events into frames; what a request means is decided behind
//! [`crate::doors`]. Start reading at [`serve`], then `routes`.

mod body;
mod cors;
mod generate;
mod guard;
mod listener;
mod reply;
mod routes;
mod sse;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use axum::serve::Listener;
use tokio::{sync::oneshot, task::JoinHandle};

use self::listener::Door;
pub use self::listener::{OpenError, TlsError, TlsFiles};
use crate::{
    doors::Doors,
    keys::{Keys, KeysError},
};

/// Largest body unless set otherwise.
pub const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Settings of the HTTP door.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// Where it listens; loopback unless told otherwise.
    pub listen: SocketAddr,
    /// Certificate and key; plain HTTP without.
    pub tls: Option<TlsFiles>,
    /// API keys; without, anybody is let in.
    pub keys_file: Option<PathBuf>,
    /// Origins that browsers may call from; `*` is all.
    pub cors_origins: Vec<String>,
    /// Largest body.
    pub body_bytes_max: usize,
    /// How long a stream waits for its first event before it answers 200.
    pub pre_commit: Duration,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            tls: None,
            keys_file: None,
            cors_origins: Vec::new(),
            body_bytes_max: BODY_BYTES_MAX,
            pre_commit: Duration::from_millis(50),
        }
    }
}

/// Why the door cannot open.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address or TLS.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The API keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
}

/// What every route sees.
#[derive(Debug)]
struct Shop {
    doors: Arc<Doors>,
    keys: Option<Keys>,
    config: HttpConfig,
}

/// An open door.
#[derive(Debug)]
pub struct Running {
    /// Where it really listens.
    pub addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
}

impl Running {
    /// Takes no new connections, waits for those that are open; false if some were left after `within`.
    pub async fn stop(mut self, within: Duration) -> bool {
        // the receiver is gone only if serving has ended
        drop(self.stop.take());
        let ended = tokio::time::timeout(within, &mut self.serving)
            .await
            .is_ok();
        if !ended {
            self.serving.abort();
        }
        ended
    }
}

/// Opens the door.
///
/// # Errors
/// [`ServeError`].
pub async fn serve(config: HttpConfig, doors: Arc<Doors>) -> Result<Running, ServeError> {
    let keys = config.keys_file.as_deref().map(Keys::load).transpose()?;
    let door = Door::open(config.listen, config.tls.as_ref()).await?;
    let addr = door.local_addr().map_err(|error| OpenError::Bind {
        listen: config.listen,
        error,
    })?;
    let router = routes::router(Arc::new(Shop {
        doors,
        keys,
        config,
    }));
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(async move {
        let stopped = async move { drop(stopped.await) };
        if let Err(error) = axum::serve(door, router)
            .with_graceful_shutdown(stopped)
            .await
        {
            tracing::error!(%error, "the HTTP door has closed");
        }
    });
    Ok(Running {
        addr,
        stop: Some(stop),
        serving,
    })
}
