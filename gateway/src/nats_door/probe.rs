//! Whether the callers of streams still listen: some messages carry a reply subject of ours, and where the server
//! answers it with "no responders", the caller is gone.
//!
//! One subscription for all streams. It tells only what the server tells; silence means nothing.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use nats::{Subscription, bus::NO_RESPONDERS};
use tokio::sync::Notify;

/// All streams that are watched.
#[derive(Debug)]
pub(super) struct Probes {
    prefix: String,
    count: AtomicU64,
    watched: Mutex<HashMap<u64, Arc<Notify>>>,
}

/// One stream's watch; dropping it ends it.
pub(super) struct Probe {
    probes: Arc<Probes>,
    id: u64,
    gone: Arc<Notify>,
}

impl Probes {
    /// Probes below an inbox of ours.
    pub(super) fn new(inbox: String) -> Self {
        Self {
            prefix: format!("{inbox}.nr"),
            count: AtomicU64::new(0),
            watched: Mutex::default(),
        }
    }

    /// Where the server's answers come.
    pub(super) fn pattern(&self) -> String {
        format!("{}.*", self.prefix)
    }

    /// Watches one more stream.
    pub(super) fn watch(self: &Arc<Self>) -> Probe {
        let id = self.count.fetch_add(1, Ordering::Relaxed);
        let gone = Arc::new(Notify::new());
        self.watched().insert(id, gone.clone());
        Probe {
            probes: self.clone(),
            id,
            gone,
        }
    }

    /// Takes the server's answers until the bus closes.
    pub(super) async fn listen(self: Arc<Self>, mut answers: Box<dyn Subscription>) {
        while let Some(answer) = answers.next().await {
            if answer.status != Some(NO_RESPONDERS) {
                continue;
            }
            let id = answer
                .subject
                .rsplit('.')
                .next()
                .and_then(|id| id.parse().ok());
            if let Some(gone) = id.and_then(|id: u64| self.watched().get(&id).cloned()) {
                gone.notify_one();
            }
        }
    }

    fn watched(&self) -> MutexGuard<'_, HashMap<u64, Arc<Notify>>> {
        self.watched
            .lock()
            .expect("nothing panics while it holds the watches")
    }
}

impl Probe {
    /// The reply subject of its messages.
    pub(super) fn subject(&self) -> String {
        format!("{}.{}", self.probes.prefix, self.id)
    }

    /// Waits until nobody listens.
    pub(super) async fn gone(&self) {
        self.gone.notified().await;
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.probes.watched().remove(&self.id);
    }
}
