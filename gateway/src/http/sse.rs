//! An answer as server-sent events.
//!
//! It is pulled by the connection: a client that reads slowly gets fewer, larger frames, and one that is gone
//! drops the answer.

use std::{convert::Infallible, pin::Pin, time::Duration};

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use tokio::time::{Instant, Sleep};

use crate::{
    answer::Answer,
    assemble::{Event, append},
    render::Chunks,
};

/// A comment, which clients skip.
const KEEP_ALIVE: &[u8] = b": ka\n\n";
const DONE: &[u8] = b"data: [DONE]\n\n";
/// Frames of one stream come no closer together: nobody reads five hundred of them a second, and each costs a system call on
/// either side. A model that is slower than that never waits, nor does a first token or an end.
const FRAME_GAP: Duration = Duration::from_millis(2);

struct Frames {
    answer: Answer,
    chunks: Chunks,
    /// Not written yet.
    events: Vec<Event>,
    /// When the last frame was written.
    written: Option<Instant>,
    /// Of the last frame: the next one will be of its size.
    frame_bytes: usize,
    silence: Option<Silence>,
    over: bool,
}

/// How long nothing was written. One timer serves a whole stream: it looks at the last frame when it fires.
struct Silence {
    max: Duration,
    since: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Silence {
    fn new(max: Duration) -> Self {
        Self {
            max,
            since: Instant::now(),
            timer: Box::pin(tokio::time::sleep(max)),
        }
    }

    /// Until it has lasted too long.
    async fn last(&mut self) {
        loop {
            let due = self.since + self.max;
            if self.timer.deadline() < due {
                self.timer.as_mut().reset(due);
            }
            self.timer.as_mut().await;
            if Instant::now() >= due {
                return;
            }
        }
    }
}

/// The response; `events` have come already.
pub(super) fn response(
    answer: Answer,
    events: Vec<Event>,
    keep_alive: Option<Duration>,
) -> Response {
    let chunks = Chunks::new(answer.style());
    let frames = Frames {
        answer,
        chunks,
        events,
        written: None,
        frame_bytes: 0,
        silence: keep_alive.map(Silence::new),
        over: false,
    };
    let body = stream::unfold(frames, |mut frames| async {
        let frame = frames.next().await?;
        Some((Ok::<_, Infallible>(frame), frames))
    });
    let headers: [(HeaderName, HeaderValue); 3] = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/event-stream; charset=utf-8"),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (
            HeaderName::from_static("x-accel-buffering"),
            HeaderValue::from_static("no"),
        ),
    ];
    (headers, Body::from_stream(body)).into_response()
}

impl Frames {
    async fn next(&mut self) -> Option<Bytes> {
        let mut frame = Bytes::new();
        // text that is held back makes no frame
        while frame.is_empty() {
            if self.over {
                return None;
            }
            frame = if self.events.is_empty() && !self.more().await {
                Bytes::from_static(KEEP_ALIVE)
            } else {
                self.render()
            };
        }
        let now = Instant::now();
        self.written = Some(now);
        if let Some(silence) = &mut self.silence {
            silence.since = now;
        }
        Some(frame)
    }

    /// Waits for events; false if there were none for too long.
    async fn more(&mut self) -> bool {
        let more = self.answer.next(&mut self.events);
        match &mut self.silence {
            None => more.await,
            Some(silence) => tokio::select! {
                biased;
                () = more => {}
                () = silence.last() => return false,
            },
        }
        if let Some(written) = self.written {
            self.gather(written + FRAME_GAP).await;
        }
        true
    }

    /// Takes what else comes until `due`, or to the end.
    async fn gather(&mut self, due: Instant) {
        let (mut fresh, pause) = (Vec::new(), tokio::time::sleep_until(due));
        tokio::pin!(pause);
        while !self.events.last().is_some_and(Event::is_last) && Instant::now() < due {
            tokio::select! {
                biased;
                () = self.answer.next(&mut fresh) => {}
                () = &mut pause => return,
            }
            for event in fresh.drain(..) {
                append(&mut self.events, event);
            }
        }
    }

    fn render(&mut self) -> Bytes {
        let mut frame = Vec::with_capacity(self.frame_bytes);
        for event in self.events.drain(..) {
            let begin = frame.len();
            frame.extend_from_slice(b"data: ");
            if self.chunks.write(&event, &mut frame) {
                frame.extend_from_slice(b"\n\n");
            } else {
                frame.truncate(begin);
            }
            if matches!(event, Event::Done(_)) {
                frame.extend_from_slice(DONE);
            }
            self.over |= event.is_last();
        }
        self.frame_bytes = frame.len();
        frame.into()
    }
}
