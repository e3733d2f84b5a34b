//! The doors' side of the gateway's actor: one bounded channel per open request.
//!
//! A client that is gone or takes nothing costs its own request and nobody else's. It never renders anything.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actors::{ShellMsg, gateway::GatewayRef};
use bus_schemas::{Item, Outcome, RefuseReason, RequestId, spec::FailReason};
use gateway::backend::{Backend, ModelEntry, StreamEvent, Submission, SubmitError};
use logic::role::gateway::Input;
use tokio::sync::{mpsc, watch};

use super::models::Models;

/// Events of one request that may wait for its client: some minutes of a fast model for a client that pauses.
const EVENTS_WAITING: usize = 1024;
/// What a client is told when this gateway is full or leaving.
const RETRY_AFTER_MS: u32 = 1000;

/// All open requests of a gateway.
pub(super) struct Streams {
    open: Mutex<HashMap<RequestId, mpsc::Sender<StreamEvent>>>,
    gateway: watch::Receiver<Option<GatewayRef>>,
    models: Arc<Models>,
    open_max: usize,
    accepting: AtomicBool,
}

impl Streams {
    pub(super) fn new(
        gateway: watch::Receiver<Option<GatewayRef>>,
        models: Arc<Models>,
        open_max: usize,
    ) -> Arc<Self> {
        let open = Mutex::default();
        Arc::new(Self {
            open,
            gateway,
            models,
            open_max,
            accepting: AtomicBool::new(true),
        })
    }

    /// Takes nothing new.
    pub(super) fn close(&self) {
        self.accepting.store(false, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RequestId, mpsc::Sender<StreamEvent>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, input: Input) -> bool {
        let gateway = self.gateway.borrow().clone();
        gateway.is_some_and(|g| g.cast(ShellMsg::Input(input, None)).is_ok())
    }
}

impl Backend for Shared {
    fn submit(&self, submission: Submission) -> Result<mpsc::Receiver<StreamEvent>, SubmitError> {
        let refused = |reason| SubmitError::Refused {
            reason,
            retry_after_ms: RETRY_AFTER_MS,
        };
        let request = submission.spec.request;
        let (sender, receiver) = mpsc::channel(EVENTS_WAITING);
        {
            let mut open = self.0.lock();
            if !self.accepting() {
                return Err(refused(RefuseReason::Draining));
            }
            if open.len() >= self.0.open_max {
                return Err(refused(RefuseReason::Full));
            }
            open.insert(request, sender.clone());
        }
        let deadline_us = u64::try_from(submission.deadline.as_micros()).unwrap_or(u64::MAX);
        if !self.0.tell(Input::Submit {
            spec: submission.spec,
            deadline_us,
        }) {
            self.0.lock().remove(&request);
            return Err(refused(RefuseReason::NoCapacity));
        }
        let streams = self.0.clone();
        tokio::spawn(async move {
            sender.closed().await;
            if streams.lock().remove(&request).is_some() {
                streams.tell(Input::Cancel(request));
            }
        });
        Ok(receiver)
    }

    fn cancel(&self, request: RequestId) -> bool {
        self.0.lock().contains_key(&request) && self.0.tell(Input::Cancel(request))
    }

    fn models(&self) -> Vec<ModelEntry> {
        self.0.models.list()
    }

    fn open(&self) -> usize {
        self.0.lock().len()
    }

    fn accepting(&self) -> bool {
        self.0.accepting.load(Ordering::Relaxed)
    }
}

/// The backend that both doors share.
pub(super) struct Shared(pub(super) Arc<Streams>);

impl actors::gateway::Doors for Streams {
    fn deliver(&self, request: RequestId, items: Vec<Item>, cached_tokens: u32) -> bool {
        let Some(sender) = self.lock().get(&request).cloned() else {
            return false;
        };
        let sent = sender.try_send(StreamEvent::Items {
            items,
            cached_tokens,
        });
        if let Err(mpsc::error::TrySendError::Full(_)) = &sent {
            tracing::info!(%request, "client too slow: cancelled");
        }
        sent.is_ok()
    }

    fn ended(&self, request: RequestId, outcome: Outcome, retry_after_ms: Option<u32>) {
        let Some(sender) = self.lock().remove(&request) else {
            return;
        };
        tokio::spawn(async move {
            // A client that left needs no outcome.
            let _client_left = sender
                .send(StreamEvent::Ended {
                    outcome,
                    retry_after_ms,
                })
                .await;
        });
    }

    fn let_go(&self, after: Duration) {
        metrics::histogram!("thalamus_cancel_to_free_seconds").record(after);
    }

    fn models(&self, live: Vec<(String, u64)>) {
        self.models.live(live);
    }

    fn all_lost(&self) {
        self.models.live(Vec::new());
        let lost: Vec<_> = std::mem::take(&mut *self.lock()).into_values().collect();
        for sender in lost {
            let outcome = Outcome::Failed(FailReason::WorkerLost);
            let ended = StreamEvent::Ended {
                outcome,
                retry_after_ms: Some(RETRY_AFTER_MS),
            };
            let _full_or_left = sender.try_send(ended);
        }
    }
}
