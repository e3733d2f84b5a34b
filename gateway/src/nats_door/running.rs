//! Which request ids are in use at this gateway, and the subjects on which others speak of a request that runs.
//!
//! An id belongs to one request while it runs. Another gateway's ids are not known here.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use bus_schemas::subjects::{public_ack, public_attach, public_cancel};
use nats::{Bus, Delivery, Publication, Subscription};

use super::attach::{Attach, Attached, in_use};
use crate::error::{ApiError, Class};

/// Cancels of one request that wait: the first one is enough. The same for callers that take it over.
const QUESTIONS_MAX: usize = 4;
/// Acknowledgements that wait: a client may send one for each message of the largest window.
const ACKS_MAX: usize = 512;

/// Ids in use, each with its body's hash.
#[derive(Debug, Default)]
pub(super) struct Registry(Mutex<HashMap<String, blake3::Hash>>);

/// An id in use; dropping it frees it.
pub(super) struct Claim {
    registry: Arc<Registry>,
    id: String,
}

/// What others say of a request while it runs.
pub(super) struct Line {
    bus: Arc<dyn Bus>,
    body: blake3::Hash,
    cancels: Option<Box<dyn Subscription>>,
    attaches: Option<Box<dyn Subscription>>,
    acks: Option<Box<dyn Subscription>>,
}

/// What was said.
#[derive(Debug)]
pub(super) enum Said {
    /// End it; that is confirmed already.
    Cancel,
    /// The same request came again; to be answered at this subject.
    Attach(Attach, Option<String>),
    /// All messages up to this one were taken.
    Ack(u64),
}

impl Registry {
    /// Takes an id.
    ///
    /// # Errors
    /// It is in use.
    pub(super) fn claim(self: &Arc<Self>, id: &str, hash: blake3::Hash) -> Result<Claim, ApiError> {
        let mut ids = self.ids();
        match ids.get(id) {
            None => {
                ids.insert(id.to_owned(), hash);
                Ok(Claim {
                    registry: self.clone(),
                    id: id.to_owned(),
                })
            }
            Some(other) if *other != hash => Err(in_use()),
            Some(_) => {
                let message = "this request is about to run; send it again in a moment";
                Err(ApiError::new(Class::Conflict, "request_starts", message))
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

impl Line {
    /// Listens for what is said of `id`, a request with this body; for acknowledgements if it has a window.
    pub(super) async fn of(bus: &Arc<dyn Bus>, id: &str, body: blake3::Hash, window: bool) -> Self {
        let acks = if window {
            listen(bus, &public_ack(id), ACKS_MAX).await
        } else {
            None
        };
        Self {
            bus: bus.clone(),
            body,
            cancels: listen(bus, &public_cancel(id), QUESTIONS_MAX).await,
            attaches: listen(bus, &public_attach(id), QUESTIONS_MAX).await,
            acks,
        }
    }

    /// Waits for something to be said.
    pub(super) async fn next(&mut self) -> Said {
        loop {
            tokio::select! {
                cancel = next(&mut self.cancels) => {
                    answer(&*self.bus, cancel.reply, cancelled(true));
                    return Said::Cancel;
                }
                question = next(&mut self.attaches) => match Attach::parse(&question.payload) {
                    Some(attach) if attach.body == self.body => {
                        return Said::Attach(attach, question.reply);
                    }
                    Some(_) => answer(&*self.bus, question.reply, Attached::Other.to_json()),
                    None => tracing::debug!("garbage on a request's attach subject"),
                },
                ack = next(&mut self.acks) => match number(&ack.payload) {
                    Some(seq) => return Said::Ack(seq),
                    None => tracing::debug!("an acknowledgement is no number"),
                },
            }
        }
    }

    /// Answers whoever asked to attach.
    pub(super) fn attached(&self, reply: Option<String>, attached: Attached) {
        answer(&*self.bus, reply, attached.to_json());
    }

    /// Tells those that came too late.
    pub(super) async fn close(mut self) {
        let late = [
            (&mut self.cancels, cancelled(false)),
            (&mut self.attaches, Attached::Ended.to_json()),
        ];
        for (questions, word) in late {
            let Some(questions) = questions else { continue };
            questions.drain();
            while let Some(question) = questions.next().await {
                answer(&*self.bus, question.reply, word.clone());
            }
        }
    }
}

async fn listen(
    bus: &Arc<dyn Bus>,
    subject: &str,
    capacity: usize,
) -> Option<Box<dyn Subscription>> {
    let listening = bus.subscribe(subject, None, capacity).await;
    listening
        .inspect_err(
            |error| tracing::warn!(%error, subject, "a request runs that cannot be spoken of"),
        )
        .ok()
}

async fn next(subscription: &mut Option<Box<dyn Subscription>>) -> Delivery {
    if let Some(open) = subscription {
        if let Some(delivery) = open.next().await {
            return delivery;
        }
        *subscription = None;
    }
    std::future::pending().await
}

fn number(body: &[u8]) -> Option<u64> {
    std::str::from_utf8(body).ok()?.trim().parse().ok()
}

fn cancelled(cancelled: bool) -> String {
    serde_json::json!({ "cancelled": cancelled }).to_string()
}

fn answer(bus: &dyn Bus, subject: Option<String>, body: String) {
    let Some(subject) = subject else { return };
    let publication = Publication {
        subject,
        payload: body.into(),
        ..Publication::default()
    };
    if let Err(error) = bus.publish(publication) {
        tracing::warn!(%error, "a question about a request was not answered");
    }
}
