//! A subscription's bounded queue: one end is fed by a bus, the other is read by its owner.
//!
//! Feeding never waits: what does not fit is dropped and counted. Both buses use it, so that they
//! cannot differ in what a full queue or a drain means.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::mpsc;

use crate::bus::{BusFuture, Delivery, Subscription};

/// The bus's end. When the last one is gone, the feed ends after what is queued.
pub(crate) struct Inlet {
    queue: mpsc::Sender<Delivery>,
    dropped: Arc<AtomicU64>,
}

/// The subscriber's end.
pub(crate) struct Feed {
    queue: mpsc::Receiver<Delivery>,
    dropped: Arc<AtomicU64>,
    stop: Option<Box<dyn FnOnce() + Send>>,
}

/// A queue of at least one place; `stop` tells the bus, once, that no more is wanted.
pub(crate) fn feed(capacity: usize, stop: impl FnOnce() + Send + 'static) -> (Inlet, Feed) {
    let (sender, receiver) = mpsc::channel(capacity.max(1));
    let dropped = Arc::new(AtomicU64::new(0));
    let inlet = Inlet {
        queue: sender,
        dropped: dropped.clone(),
    };
    (
        inlet,
        Feed {
            queue: receiver,
            dropped,
            stop: Some(Box::new(stop)),
        },
    )
}

impl Inlet {
    /// Queues `delivery`, or drops and counts it.
    pub(crate) fn offer(&self, delivery: Delivery) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.queue.try_send(delivery) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Resolves when the subscriber is gone.
    pub(crate) async fn abandoned(&self) {
        self.queue.closed().await;
    }
}

impl Feed {
    fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop();
        }
    }
}

impl Subscription for Feed {
    fn next(&mut self) -> BusFuture<'_, Option<Delivery>> {
        Box::pin(self.queue.recv())
    }

    fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn drain(&mut self) {
        self.stop();
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.queue.close();
        self.stop();
    }
}
