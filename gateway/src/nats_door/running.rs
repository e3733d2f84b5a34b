//! Which request ids are in use at this gateway, and the subjects on which they may be cancelled.
//!
//! An id belongs to one request while it runs. Another gateway's ids are not known here.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use bus_schemas::subjects::public_cancel;
use nats::{Bus, Publication, Subscription};

use crate::error::{ApiError, Class};

/// Cancels of one request that wait: the first one is enough.
const CANCELS_MAX: usize = 4;

/// Ids in use, each with its body's hash.
#[derive(Debug, Default)]
pub(super) struct Registry(Mutex<HashMap<String, blake3::Hash>>);

/// An id in use; dropping it frees it.
pub(super) struct Claim {
    registry: Arc<Registry>,
    id: String,
}

/// Where one request is cancelled, while it lives.
pub(super) struct Cancels {
    bus: Arc<dyn Bus>,
    asked: Option<Box<dyn Subscription>>,
}

impl Registry {
    /// Takes an id.
    ///
    /// # Errors
    /// It is in use.
    pub(super) fn claim(self: &Arc<Self>, id: &str, body: &[u8]) -> Result<Claim, ApiError> {
        let hash = blake3::hash(body);
        let mut ids = self.ids();
        match ids.get(id) {
            None => {
                ids.insert(id.to_owned(), hash);
                Ok(Claim {
                    registry: self.clone(),
                    id: id.to_owned(),
                })
            }
            Some(other) => {
                let message = if *other == hash {
                    "this request is running already; wait for it, cancel it, or use another id"
                } else {
                    "another request with this id is running; use another id"
                };
                Err(ApiError::new(Class::Conflict, "request_id_in_use", message))
            }
        }
    }

    fn ids(&self) -> MutexGuard<'_, HashMap<String, blake3::Hash>> {
        self.0
            .lock()
            .expect("nothing panics while it holds the ids")
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.registry.ids().remove(&self.id);
    }
}

impl Cancels {
    /// Listens for cancels of `id`.
    pub(super) async fn of(bus: &Arc<dyn Bus>, id: &str) -> Self {
        let asked = match bus.subscribe(&public_cancel(id), None, CANCELS_MAX).await {
            Ok(asked) => Some(asked),
            Err(error) => {
                tracing::warn!(%error, "a request runs that cannot be cancelled by subject");
                None
            }
        };
        Self {
            bus: bus.clone(),
            asked,
        }
    }

    /// Waits for a cancel, and confirms it.
    pub(super) async fn asked(&mut self) {
        let Some(asked) = &mut self.asked else {
            return std::future::pending().await;
        };
        let Some(cancel) = asked.next().await else {
            self.asked = None;
            return std::future::pending().await;
        };
        if let Some(subject) = cancel.reply {
            answer(&*self.bus, subject, true);
        }
    }

    /// Tells those that came too late.
    pub(super) async fn close(mut self) {
        let Some(asked) = &mut self.asked else { return };
        asked.drain();
        while let Some(cancel) = asked.next().await {
            if let Some(subject) = cancel.reply {
                answer(&*self.bus, subject, false);
            }
        }
    }
}

fn answer(bus: &dyn Bus, subject: String, cancelled: bool) {
    let body = serde_json::json!({ "cancelled": cancelled }).to_string();
    let publication = Publication {
        subject,
        payload: body.into(),
        ..Publication::default()
    };
    if let Err(error) = bus.publish(publication) {
        tracing::warn!(%error, "a cancel was not confirmed");
    }
}
