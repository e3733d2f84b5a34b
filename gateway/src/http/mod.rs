//! The HTTP door: OpenAI's routes on axum.
//!
//! It turns headers and bodies into a request and events into frames; what a request means is decided behind
//! [`crate::doors`]. Start reading at [`serve`], then `routes`.

mod body;
mod connection;
mod connections;
mod cors;
mod generate;
mod guard;
mod listener;
mod pace;
mod probe;
mod reply;
mod routes;
mod sse;
mod vitals;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinHandle};

use self::{body::Bodies, connections::Bounds, listener::Listener};
pub use self::{
    body::{BODIES_BYTES_MAX, BODY_BYTES_MAX, BODY_GRACE},
    listener::{OpenError, TlsError, TlsFiles},
    pace::{HEAD_MAX, IDLE_MAX, STUCK_MAX, Times},
    probe::{Probe, probe},
};
use crate::{
    doors::Doors,
    keys::{Keys, KeysError},
};

/// Open connections unless set otherwise: twice the open requests of a gateway, for clients that think.
pub const CONNECTIONS_MAX: usize = 8192;

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
    /// All bodies that are being read or worked on, together.
    pub bodies_bytes_max: usize,
    /// How long a client may send nothing of a body.
    pub body_grace: Duration,
    /// Open connections; one more is refused.
    pub connections_max: usize,
    /// What a client on a connection is allowed.
    pub times: Times,
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
            bodies_bytes_max: BODIES_BYTES_MAX,
            body_grace: BODY_GRACE,
            connections_max: CONNECTIONS_MAX,
            times: Times::default(),
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
    bodies: Bodies,
}

/// An open door.
#[derive(Debug)]
pub struct Running {
    /// Where it really listens.
    pub addr: SocketAddr,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl Running {
    /// Takes no new connections, waits for those that are open; false if some were left after `within`.
    pub async fn stop(mut self, within: Duration) -> bool {
        self.stop.send_replace(true);
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
    let listener = Listener::open(config.listen, config.tls.as_ref()).await?;
    let addr = listener.addr;
    let bounds = Bounds {
        door: "http",
        connections_max: config.connections_max,
        times: config.times,
    };
    let bodies = Bodies {
        bytes_max: config.body_bytes_max,
        held_max: config.bodies_bytes_max,
        grace: config.body_grace,
        held: Arc::default(),
    };
    let router = routes::router(Arc::new(Shop {
        doors,
        keys,
        config,
        bodies,
    }));
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(connections::serve(listener, router, bounds, stopped));
    Ok(Running {
        addr,
        stop,
        serving,
    })
}
