//! All connections of a door: so many and no more, and nobody waits for one that does nothing.
//!
//! One too many is told so and closed, at once. Never looks at a request.

use axum::Router;
use tokio::{net::TcpStream, sync::watch, task::JoinSet};

use super::{
    connection,
    listener::{self, Listener},
    pace::Times,
};
use crate::error::{ApiError, Class};

/// Clients that are being told that there are too many; more are closed without a word.
const FAREWELLS_MAX: usize = 64;
/// What they are asked to wait: a place is free when the next client leaves, which is soon or late.
const RETRY_AFTER_MS: u32 = 1000;

/// How many, and how patient.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// The door's name among its metrics.
    pub(super) door: &'static str,
    /// Open connections.
    pub(super) connections_max: usize,
    /// What each client is allowed.
    pub(super) times: Times,
}

/// Serves until `stop` says so, and then until the last connection has ended. Dropped, it closes all of them.
pub(super) async fn serve(
    listener: Listener,
    router: Router,
    bounds: Bounds,
    mut stop: watch::Receiver<bool>,
) {
    let (mut open, mut farewells) = (JoinSet::new(), JoinSet::new());
    let shown = metrics::gauge!("thalamus_http_connections", "door" => bounds.door);
    loop {
        let stream = tokio::select! {
            stream = listener.accept() => stream,
            Some(_) = open.join_next() => {
                shown.set(open.len() as f64);
                continue;
            }
            Some(_) = farewells.join_next() => continue,
            // its sender lives as long as the door
            _ = stop.wait_for(|stopped| *stopped) => break,
        };
        if open.len() < bounds.connections_max {
            let (tls, router, stop) = (listener.tls.clone(), router.clone(), stop.clone());
            open.spawn(async move {
                if let Some(io) = listener::shake(tls, stream).await {
                    connection::serve(io, router, bounds.times, stop).await;
                }
            });
            shown.set(open.len() as f64);
            continue;
        }
        metrics::counter!("thalamus_http_connections_refused_total", "door" => bounds.door)
            .increment(1);
        // without a handshake there is nothing that a TLS client would understand
        if listener.tls.is_none() && farewells.len() < FAREWELLS_MAX {
            farewells.spawn(refuse(stream));
        }
    }
    drop(listener);
    while open.join_next().await.is_some() {}
}

async fn refuse(stream: TcpStream) {
    let message = "too many connections are open; try again later";
    let error = ApiError {
        retry_after_ms: Some(RETRY_AFTER_MS),
        ..ApiError::new(Class::Unavailable, "too_many_connections", message)
    };
    connection::send_away(stream, &error).await;
}
