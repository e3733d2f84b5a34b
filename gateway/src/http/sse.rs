//! An answer as server-sent events.
//!
//! It is pulled by the connection: a client that reads slowly gets fewer, larger frames, and one that is gone
//! drops the answer.

use std::{convert::Infallible, future::Future, time::Duration};

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream;

use crate::{answer::Answer, assemble::Event, render::Chunks};

/// A comment, which clients skip.
const KEEP_ALIVE: &[u8] = b": ka\n\n";
const DONE: &[u8] = b"data: [DONE]\n\n";

struct Frames {
    answer: Answer,
    chunks: Chunks,
    /// Not written yet.
    events: Vec<Event>,
    keep_alive: Option<Duration>,
    over: bool,
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
        keep_alive,
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
        while !self.over {
            if self.events.is_empty()
                && !within(self.keep_alive, self.answer.next(&mut self.events)).await
            {
                return Some(Bytes::from_static(KEEP_ALIVE));
            }
            let frame = self.render();
            // text that is held back makes no frame
            if !frame.is_empty() {
                return Some(frame);
            }
        }
        None
    }

    fn render(&mut self) -> Bytes {
        let mut frame = BytesMut::new();
        for event in self.events.drain(..) {
            if let Some(chunk) = self.chunks.chunk(&event) {
                frame.put_slice(b"data: ");
                frame.put_slice(&chunk);
                frame.put_slice(b"\n\n");
            }
            if matches!(event, Event::Done(_)) {
                frame.put_slice(DONE);
            }
            self.over |= event.is_last();
        }
        frame.freeze()
    }
}

/// Whether `work` was done in time.
async fn within(time: Option<Duration>, work: impl Future<Output = ()>) -> bool {
    match time {
        Some(time) => tokio::time::timeout(time, work).await.is_ok(),
        None => {
            work.await;
            true
        }
    }
}
