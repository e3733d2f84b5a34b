//! A running answer: the channels of its prompts, joined into the one internal event stream.
//!
//! Dropping it cancels what still runs. Never renders, and never waits for its reader.

use std::task::Poll;

use bus_schemas::Trace;
use tokio::sync::mpsc::Receiver;

use crate::{
    assemble::{Assembly, Event, Plan},
    backend::StreamEvent,
    metrics::Meter,
    render::Style,
};

/// Deliveries joined into one step of the reader: one that fell behind catches up in fewer, larger chunks.
const JOINED_MAX: usize = 64;

/// An answer that grows.
#[derive(Debug)]
pub struct Answer {
    /// One for each prompt, as long as something may come.
    sources: Vec<Option<Receiver<StreamEvent>>>,
    /// Where to look first, so that no prompt starves another.
    turn: usize,
    assembly: Assembly,
    begun: bool,
    meter: Meter,
    style: Style,
    stream: bool,
    ignored: Vec<String>,
    trace: Trace,
}

impl Answer {
    pub(crate) fn new(
        sources: Vec<Receiver<StreamEvent>>,
        plan: Plan,
        style: Style,
        stream: bool,
        ignored: Vec<String>,
        trace: Trace,
        meter: Meter,
    ) -> Self {
        Self {
            sources: sources.into_iter().map(Some).collect(),
            turn: 0,
            assembly: Assembly::new(plan),
            begun: false,
            meter,
            style,
            stream,
            ignored,
            trace,
        }
    }

    /// How it is shown.
    #[must_use]
    pub fn style(&self) -> Style {
        self.style.clone()
    }

    /// Whether the client wants chunks.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        self.stream
    }

    /// Fields of the body that nobody read.
    #[must_use]
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }

    /// Under which trace it runs, with the gateway's span; of several prompts, the first one's.
    #[must_use]
    pub const fn trace(&self) -> Trace {
        self.trace
    }

    /// Waits for something to happen and appends it. May be dropped while it waits: nothing is lost.
    ///
    /// After the last event there is nothing to wait for.
    pub async fn next(&mut self, out: &mut Vec<Event>) {
        let (prompt, event) = std::future::poll_fn(|context| self.poll(context)).await;
        if !std::mem::replace(&mut self.begun, true) {
            self.assembly.open(out);
        }
        self.take(prompt, event, out);
        for _ in 1..JOINED_MAX {
            if out.last().is_some_and(Event::is_last) {
                break;
            }
            let Some((prompt, event)) = self.ready() else {
                break;
            };
            self.take(prompt, Some(event), out);
        }
        self.meter.observe(out, self.assembly.usage());
    }

    fn take(&mut self, prompt: usize, event: Option<StreamEvent>, out: &mut Vec<Event>) {
        if matches!(event, None | Some(StreamEvent::Ended { .. })) {
            self.sources[prompt] = None;
        }
        self.assembly.feed(prompt, event, out);
        if matches!(out.last(), Some(Event::Failed(_))) {
            // one prompt's failure is the answer's; the others need not go on
            self.sources.fill_with(|| None);
        }
    }

    fn poll(&mut self, context: &mut std::task::Context<'_>) -> Poll<(usize, Option<StreamEvent>)> {
        let count = self.sources.len();
        for prompt in (0..count).map(|step| (self.turn + step) % count) {
            if let Some(source) = &mut self.sources[prompt]
                && let Poll::Ready(event) = source.poll_recv(context)
            {
                self.turn = prompt + 1;
                return Poll::Ready((prompt, event));
            }
        }
        Poll::Pending
    }

    /// What is there already.
    fn ready(&mut self) -> Option<(usize, StreamEvent)> {
        let sources = self.sources.iter_mut().enumerate();
        let mut open = sources.filter_map(|(prompt, source)| Some((prompt, source.as_mut()?)));
        open.find_map(|(prompt, source)| Some((prompt, source.try_recv().ok()?)))
    }
}
