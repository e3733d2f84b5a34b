//! A door for probes and scrapers alone, on a port and a thread of its own: whatever the main door suffers, it answers.
//!
//! It has no keys, takes no body, and never serves a request for tokens.

use std::{io, net::SocketAddr, sync::Arc, thread, time::Duration};

use tokio::{
    runtime,
    sync::{oneshot, watch},
};

use super::{
    connections::{self, Bounds},
    listener::{Listener, OpenError},
    pace::Times,
    routes, vitals,
};
use crate::doors::Doors;

/// A prober, a scraper and a few people; each holds a connection.
const CONNECTIONS_MAX: usize = 64;
/// Probes come often or open a new connection; an idle one must not keep others out for long.
const IDLE_MAX: Duration = Duration::from_secs(15);

/// An open door for probes; dropping it closes it.
#[derive(Debug)]
pub struct Probe {
    /// Where it really listens.
    pub addr: SocketAddr,
    _open: watch::Sender<bool>,
}

/// Opens a door for probes.
///
/// # Errors
/// The address is in use or not ours, or there is no thread to be had.
pub async fn probe(listen: SocketAddr, doors: Arc<Doors>) -> Result<Probe, OpenError> {
    let failed = move |error: io::Error| OpenError::Bind { listen, error };
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    let (open, stop) = watch::channel(false);
    let (tell, told) = oneshot::channel();
    let run = move || runtime.block_on(serve(listen, doors, stop, tell));
    thread::Builder::new()
        .name("probe".to_owned())
        .spawn(run)
        .map_err(failed)?;
    let addr = told
        .await
        .unwrap_or_else(|_| Err(failed(io::Error::other("its thread ended"))))?;
    Ok(Probe { addr, _open: open })
}

async fn serve(
    listen: SocketAddr,
    doors: Arc<Doors>,
    mut stop: watch::Receiver<bool>,
    tell: oneshot::Sender<Result<SocketAddr, OpenError>>,
) {
    let listener = match Listener::open(listen, None).await {
        Ok(listener) => listener,
        Err(error) => {
            // who asked for it has gone
            drop(tell.send(Err(error)));
            return;
        }
    };
    if tell.send(Ok(listener.addr)).is_err() {
        return;
    }
    let router = vitals::routes(doors)
        .fallback(routes::unknown_path)
        .method_not_allowed_fallback(routes::unknown_method);
    let bounds = Bounds {
        door: "probe",
        connections_max: CONNECTIONS_MAX,
        times: Times {
            idle: IDLE_MAX,
            ..Times::default()
        },
    };
    let never = stop.clone();
    tokio::select! {
        () = connections::serve(listener, router, bounds, never) => {}
        // an error when the door is dropped, and nothing else
        _ = stop.changed() => {}
    }
}
