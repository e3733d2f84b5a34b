//! A stream of numbered messages to one caller at a time: asks whether it listens, waits for its acknowledgements, and
//! can go on to another caller.
//!
//! Never reads the answer that it carries.

use std::{
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use bytes::Bytes;
use nats::Headers;
use tokio::time::Instant;

use super::{
    history::History,
    probe::{Probe, Probes},
    reply::{Lost, Replies},
};
use crate::error::{ApiError, Class};

const SEQ: &str = "Thalamus-Seq";
/// Between two messages that ask whether anybody still listens.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// The same, in messages.
const PROBE_CHUNKS: u32 = 64;

/// How a stream is to be sent.
pub(super) struct Terms {
    /// Headers of the first message.
    pub(super) first: Headers,
    /// Most messages without acknowledgement; none is no limit.
    pub(super) window: Option<u64>,
    /// How long a caller with a window may acknowledge nothing.
    pub(super) ack_within: Duration,
    /// Bytes that all streams of the door keep.
    pub(super) kept: Arc<AtomicUsize>,
}

/// A stream.
pub(super) struct Stream {
    replies: Replies,
    probes: Arc<Probes>,
    /// Where the server tells that nobody listens.
    probe: Probe,
    terms: Terms,
    /// A caller's first message is still to come.
    fresh: bool,
    /// Number of the next message.
    seq: u64,
    /// Those before it were acknowledged.
    acked: u64,
    /// When the last acknowledgement came, or the first message without one went.
    waiting_since: Instant,
    probed: Option<(Instant, u32)>,
    history: History,
}

impl Stream {
    pub(super) fn new(replies: Replies, probes: Arc<Probes>, terms: Terms) -> Self {
        Self {
            replies,
            probe: probes.watch(),
            probes,
            history: History::new(terms.kept.clone()),
            terms,
            fresh: true,
            seq: 0,
            acked: 0,
            waiting_since: Instant::now(),
            probed: None,
        }
    }

    /// One chunk.
    pub(super) async fn chunk(&mut self, body: Vec<u8>) -> Result<(), Lost> {
        let due = match &mut self.probed {
            None => true,
            Some((at, chunks)) => {
                *chunks += 1;
                at.elapsed() >= PROBE_EVERY || *chunks >= PROBE_CHUNKS
            }
        };
        self.message(body.into(), due).await
    }

    /// Shows that the request lives, and asks whether the caller does.
    pub(super) async fn ping(&mut self) -> Result<(), Lost> {
        self.message(Bytes::from_static(br#"{"type":"ping"}"#), true)
            .await
    }

    /// The last chunk of a stream that failed, and the end.
    pub(super) async fn error(&mut self, error: &ApiError) -> Result<(), Lost> {
        let headers = self.headers(self.seq);
        self.replies.error(headers, error, true).await
    }

    /// The empty message after the last one.
    pub(super) async fn end(&self) -> Result<(), Lost> {
        self.replies.end().await
    }

    /// Waits until the caller is gone, as the server says, or has acknowledged nothing for too long.
    pub(super) async fn lost(&self) -> Lost {
        let silent = async {
            if self.terms.window.is_none() || self.acked == self.seq {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep_until(self.waiting_since + self.terms.ack_within).await;
        };
        tokio::select! {
            () = self.probe.gone() => Lost::Gone,
            () = silent => Lost::Silent,
        }
    }

    /// Whether one more message may go.
    pub(super) fn has_room(&self) -> bool {
        let without = self.seq - self.acked;
        self.terms.window.is_none_or(|window| without < window)
    }

    /// The caller has all up to `seq`.
    pub(super) fn acknowledge(&mut self, seq: u64) {
        let acked = seq.saturating_add(1).min(self.seq);
        if acked > self.acked {
            self.acked = acked;
            self.waiting_since = Instant::now();
            self.history.forget_before(acked);
        }
    }

    /// What a caller that asks from `seq` on is still to get; none if that is not kept.
    pub(super) fn missed(&self, seq: Option<u64>) -> Option<(u64, Vec<Bytes>)> {
        let from = seq.unwrap_or(self.acked).min(self.seq);
        Some((from, self.history.since(from)?))
    }

    /// Goes on to another caller, which gets what it `missed` first; the old one is told.
    pub(super) async fn attach(
        &mut self,
        to: String,
        (from, missed): (u64, Vec<Bytes>),
    ) -> Result<(), Lost> {
        self.probe = self.probes.watch();
        (self.fresh, self.probed) = (true, Some((Instant::now(), 0)));
        (self.acked, self.waiting_since) = (from, Instant::now());
        if let Some(old) = self.replies.lead_to(to) {
            let _gone = old.error(Headers::new(), &elsewhere(), true).await;
        }
        for (message, seq) in missed.into_iter().zip(from..) {
            let reply = self.fresh.then(|| self.probe.subject());
            let headers = self.headers(seq);
            self.replies.send(headers, message, reply).await?;
        }
        Ok(())
    }

    async fn message(&mut self, body: Bytes, probe: bool) -> Result<(), Lost> {
        let headers = self.headers(self.seq);
        let reply = probe.then(|| self.probe.subject());
        if probe {
            self.probed = Some((Instant::now(), 0));
        }
        if self.acked == self.seq {
            self.waiting_since = Instant::now();
        }
        self.seq += 1;
        self.history.push(body.clone());
        self.replies.send(headers, body, reply).await
    }

    fn headers(&mut self, seq: u64) -> Headers {
        let mut headers = Headers::from([(SEQ.to_owned(), seq.to_string())]);
        if std::mem::take(&mut self.fresh) {
            headers.extend(self.terms.first.clone());
        }
        headers
    }
}

/// What a caller is told whose answer goes to another one.
pub(super) fn elsewhere() -> ApiError {
    let message = "the same request was sent again; its answer goes there";
    ApiError::new(Class::Conflict, "attached_elsewhere", message)
}
