//! What both doors ask of the gateway's core: submit a request, follow it, cancel it, list models.
//!
//! The doors never see attempts, nodes or blocks.

use std::{sync::Arc, time::Duration};

use bus_schemas::{Item, Outcome, RefuseReason, RequestId, RequestSpec};
use engine::text::TextModel;
use tokio::sync::mpsc;

/// A validated request.
#[derive(Clone, Debug)]
pub struct Submission {
    /// What to run. Its id is fresh (UUID version 7); the client's own id is a matter of the doors.
    pub spec: RequestSpec,
    /// Time it may take.
    pub deadline: Duration,
}

/// What happens to a submitted request, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamEvent {
    /// Tokens and ends of choices, in order, each once.
    Items {
        /// What was made.
        items: Vec<Item>,
        /// Prompt tokens that were found cached (known from the first event on).
        cached_tokens: u32,
    },
    /// The outcome. The last event.
    Ended {
        /// How.
        outcome: Outcome,
        /// For `Failed(Overloaded | NoCapacity | Draining)`: when to try again.
        retry_after_ms: Option<u32>,
    },
}

/// Why a request was not even taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The gateway's own bound on open requests is reached, or it drains.
    #[error("the gateway takes no more requests now")]
    Refused {
        /// Why.
        reason: RefuseReason,
        /// When to try again.
        retry_after_ms: u32,
    },
}

/// A model that the cluster serves.
#[derive(Clone, Debug)]
pub struct ModelEntry {
    /// Name that clients use.
    pub name: String,
    /// Tokenizer, template, limits.
    pub text: Arc<TextModel>,
    /// At least one worker that can serve it lives.
    pub ready: bool,
    /// Unix seconds when this gateway first heard of it.
    pub created: u64,
}

/// The gateway behind the doors.
pub trait Backend: Send + Sync {
    /// Takes a request. Its events come through the channel, which is bounded; the last one is `Ended`.
    /// Dropping the receiver cancels the request.
    ///
    /// # Errors
    /// [`SubmitError`].
    fn submit(&self, submission: Submission) -> Result<mpsc::Receiver<StreamEvent>, SubmitError>;
    /// Cancels a request; false if it is not running here.
    fn cancel(&self, request: RequestId) -> bool;
    /// Models known now.
    fn models(&self) -> Vec<ModelEntry>;
    /// Requests that are open.
    fn open(&self) -> usize;
    /// Whether the gateway takes requests (it drains after SIGTERM).
    fn accepting(&self) -> bool;
}
