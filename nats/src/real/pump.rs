//! The tasks that carry arrivals from the client library to whoever waits for them.
//!
//! A pump never waits for its reader: the feed drops and counts. It ends when its reader is gone,
//! wants no more, or the bus ends; what the server had sent by then still comes out.

use std::{sync::Arc, time::Duration};

use async_nats::{Client, Subscriber};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{oneshot, watch};

use super::{
    requests::Requests,
    wire::{delivery_of, send},
};
use crate::{bus::Publication, feed::Inlet};

/// A drain waits so long for the server's echo before it unsubscribes without.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Signals that end a pump.
pub(crate) struct Stops {
    /// The reader wants no more.
    pub(crate) drain: oneshot::Receiver<()>,
    /// The bus ends.
    pub(crate) ending: watch::Receiver<bool>,
}

/// What a drain needs to know that all sent before it has arrived.
pub(crate) struct Echo {
    pub(crate) client: Client,
    pub(crate) requests: Arc<Requests>,
}

/// Carries one subscription's messages into its feed.
pub(crate) async fn feed(mut subscriber: Subscriber, inlet: Inlet, stops: Stops, echo: Echo) {
    let Stops { drain, mut ending } = stops;
    let stop = async {
        tokio::select! {
            biased;
            () = inlet.abandoned() => {}
            () = ended(&mut ending) => {}
            _ = drain => echo.wait().await,
        }
    };
    tokio::pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            message = subscriber.next() => match message {
                Some(message) => inlet.offer(delivery_of(message)),
                None => return,
            },
        }
        while let Some(Some(message)) = subscriber.next().now_or_never() {
            inlet.offer(delivery_of(message));
        }
    }
    finish(&mut subscriber).await;
    while let Some(message) = subscriber.next().await {
        inlet.offer(delivery_of(message));
    }
}

/// Carries answers to their waiters.
pub(crate) async fn answer(
    mut subscriber: Subscriber,
    requests: Arc<Requests>,
    mut ending: watch::Receiver<bool>,
) {
    let stop = ended(&mut ending);
    tokio::pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            message = subscriber.next() => match message {
                Some(message) => requests.answer(delivery_of(message)),
                None => return,
            },
        }
    }
    finish(&mut subscriber).await;
}

/// Resolves when the bus closes or is dropped.
pub(crate) async fn ended(ending: &mut watch::Receiver<bool>) {
    ending.wait_for(|ending| *ending).await.ok();
}

async fn finish(subscriber: &mut Subscriber) {
    if let Err(error) = subscriber.unsubscribe().await {
        tracing::debug!(%error, "the connection ended before its subscription");
    }
}

impl Echo {
    /// Waits until the server has sent all that it had for this connection when asked.
    async fn wait(&self) {
        let mut awaited = self.requests.expect();
        let subject = awaited.subject().to_owned();
        let echo = async {
            let publication = Publication {
                subject,
                ..Publication::default()
            };
            match send(&self.client, publication).await {
                Ok(()) => drop(awaited.answer().await),
                Err(error) => tracing::debug!(%error, "no echo: the connection has ended"),
            }
        };
        if tokio::time::timeout(DRAIN_TIMEOUT, echo).await.is_err() {
            tracing::debug!("no echo in time: draining without");
        }
    }
}
