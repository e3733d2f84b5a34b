//! A core that plays a script for each request, and remembers what it was asked and what was cancelled.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bus_schemas::{
    ChoiceEnd, EndReason, FailReason, Item, Outcome, Record, RequestId, RequestSpec,
};
pub(crate) use engine::text::END;
use engine::text::TextModel;
use gateway::backend::{Backend, ModelEntry, StreamEvent, Submission, SubmitError};
use tokio::sync::{mpsc, watch};

/// Name of the double's model.
pub(crate) const MODEL: &str = "script/double";

/// What the core does next.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Delivers.
    Send(StreamEvent),
    /// Takes its time.
    Wait(Duration),
    /// Does nothing more, and keeps the channel open.
    Hang,
}

type Script = Box<dyn Fn(&RequestSpec) -> Vec<Step> + Send + Sync>;

/// The scripted core.
pub(crate) struct Double {
    script: Script,
    models: Mutex<Vec<ModelEntry>>,
    refusal: Mutex<Option<SubmitError>>,
    accepting: AtomicBool,
    seen: Mutex<Vec<Submission>>,
    /// Requests whose receiver was dropped before their script ended.
    cancelled: watch::Sender<usize>,
}

impl Double {
    /// A core that plays `script`.
    pub(crate) fn playing(
        script: impl Fn(&RequestSpec) -> Vec<Step> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let text = Arc::new(TextModel::byte_level(MODEL));
        let model = ModelEntry {
            name: MODEL.into(),
            text,
            ready: true,
            created: 7,
        };
        Arc::new(Self {
            script: Box::new(script),
            models: Mutex::new(vec![model]),
            refusal: Mutex::default(),
            accepting: AtomicBool::new(true),
            seen: Mutex::default(),
            cancelled: watch::Sender::new(0),
        })
    }

    /// A core that says `text` in every choice, a token an event, and stops.
    pub(crate) fn saying(text: &'static str) -> Arc<Self> {
        Self::playing(move |spec| say(spec, text))
    }

    /// A core that says `text` and then nothing more.
    pub(crate) fn hanging_after(text: &'static str) -> Arc<Self> {
        Self::playing(move |_| {
            let mut steps: Vec<_> = text
                .bytes()
                .zip(0..)
                .map(|(b, at)| Step::Send(items(vec![record(0, at, b.into())])))
                .collect();
            steps.push(Step::Hang);
            steps
        })
    }

    /// Refuses everything from now on.
    pub(crate) fn refuse(&self, error: SubmitError) {
        *self.refusal.lock().expect("no panic") = Some(error);
    }

    /// Takes nothing new from now on.
    pub(crate) fn drain(&self) {
        self.accepting.store(false, Ordering::Relaxed);
    }

    /// Replaces the models.
    pub(crate) fn serve(&self, names: &[&str], ready: bool) {
        let entry = |name: &&str| ModelEntry {
            name: (*name).into(),
            text: Arc::new(TextModel::byte_level(name)),
            ready,
            created: 7,
        };
        *self.models.lock().expect("no panic") = names.iter().map(entry).collect();
    }

    /// What was submitted.
    pub(crate) fn seen(&self) -> Vec<Submission> {
        self.seen.lock().expect("no panic").clone()
    }

    /// The only submission.
    pub(crate) fn only(&self) -> RequestSpec {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen[0].spec.clone()
    }

    /// Waits until `count` requests were cancelled.
    pub(crate) async fn cancelled(&self, count: usize) {
        let mut cancelled = self.cancelled.subscribe();
        let waiting = cancelled.wait_for(|now| *now >= count);
        let waited = tokio::time::timeout(Duration::from_secs(10), waiting).await;
        waited.expect("it is cancelled").expect("the double lives");
    }
}

impl Backend for Double {
    fn submit(&self, submission: Submission) -> Result<mpsc::Receiver<StreamEvent>, SubmitError> {
        if let Some(refusal) = *self.refusal.lock().expect("no panic") {
            return Err(refusal);
        }
        let steps = (self.script)(&submission.spec);
        self.seen.lock().expect("no panic").push(submission);
        let (sender, receiver) = mpsc::channel(256);
        let cancelled = self.cancelled.clone();
        tokio::spawn(async move {
            if play(steps, &sender).await.is_err() {
                cancelled.send_modify(|count| *count += 1);
            }
        });
        Ok(receiver)
    }

    fn cancel(&self, _: RequestId) -> bool {
        false
    }

    fn models(&self) -> Vec<ModelEntry> {
        self.models.lock().expect("no panic").clone()
    }

    fn open(&self) -> usize {
        self.seen().len()
    }

    fn accepting(&self) -> bool {
        self.accepting.load(Ordering::Relaxed)
    }
}

async fn play(steps: Vec<Step>, sender: &mpsc::Sender<StreamEvent>) -> Result<(), ()> {
    for step in steps {
        match step {
            Step::Send(event) => sender.send(event).await.map_err(drop)?,
            Step::Wait(time) => tokio::select! {
                () = tokio::time::sleep(time) => {}
                () = sender.closed() => return Err(()),
            },
            Step::Hang => {
                sender.closed().await;
                return Err(());
            }
        }
    }
    Ok(())
}

/// A delivery; three tokens of the prompt were cached.
pub(crate) fn items(items: Vec<Item>) -> StreamEvent {
    StreamEvent::Items {
        items,
        cached_tokens: 3,
    }
}

/// A token with made-up log-probabilities.
pub(crate) fn record(choice: u16, index: u32, id: u32) -> Item {
    let top = vec![(id, -0.5), (u32::from(b'?'), -1.5)];
    Item::Token(Record {
        choice,
        index,
        id,
        logprob: -0.5,
        top,
    })
}

/// The end of a choice.
pub(crate) fn end(choice: u16, reason: EndReason) -> Item {
    Item::End(ChoiceEnd { choice, reason })
}

/// The outcome.
pub(crate) fn ended(outcome: Outcome) -> Step {
    Step::Send(StreamEvent::Ended {
        outcome,
        retry_after_ms: None,
    })
}

/// A failure that tells when to try again.
pub(crate) fn failed(reason: FailReason, retry_after_ms: u32) -> Step {
    let outcome = Outcome::Failed(reason);
    Step::Send(StreamEvent::Ended {
        outcome,
        retry_after_ms: Some(retry_after_ms),
    })
}

/// Every choice says `text` up to its length, a token an event; choices take turns.
pub(crate) fn say(spec: &RequestSpec, text: &str) -> Vec<Step> {
    let full = text.len() >= spec.max_tokens as usize;
    let shown = &text.as_bytes()[..text.len().min(spec.max_tokens as usize)];
    let mut steps = Vec::new();
    for (byte, index) in shown.iter().zip(0..) {
        for choice in 0..spec.choices {
            steps.push(Step::Send(items(vec![record(
                choice,
                index,
                (*byte).into(),
            )])));
        }
    }
    for choice in 0..spec.choices {
        let last = if full {
            vec![end(choice, EndReason::Length)]
        } else {
            let index = shown.len() as u32;
            vec![
                record(choice, index, END),
                end(choice, EndReason::StopId(END)),
            ]
        };
        steps.push(Step::Send(items(last)));
    }
    steps.push(ended(Outcome::Completed));
    steps
}
