//! Chat and completions on the bus: one message, or a stream of them.
//!
//! A request ends with its answer, a cancel, or the loss of its caller; whichever it is, dropping the answer
//! cancels what still runs.

use std::{sync::Arc, time::Duration};

use nats::{Delivery, Headers};
use tokio::time::{Instant, sleep_until};

use super::{
    Hall,
    asked::{self, Asked},
    probe::Probe,
    reply::{Lost, Replies, Stream, named, traced},
    running::Cancels,
};
use crate::{
    answer::Answer,
    assemble::Event,
    doors::Kind,
    error::ApiError,
    json,
    render::{Chunks, Whole},
};

/// No keep-alive: longer than any request lives.
const NEVER: Duration = Duration::from_secs(86_400);

/// Answers a request; gives the error that it ended with, to be counted.
pub(super) async fn generate(
    hall: &Arc<Hall>,
    kind: Kind,
    delivery: &Delivery,
    token: Option<&str>,
    replies: &Replies,
) -> Option<ApiError> {
    let refuse = |headers: Headers, error: ApiError| async {
        let stream = wants_stream(&delivery.payload);
        let _gone = replies.error(headers, &error, stream).await;
        Some(error)
    };
    let asked = match asked::read(&delivery.headers, &hall.config.tenant, token) {
        Ok(asked) => asked,
        Err(error) => return refuse(Headers::new(), error).await,
    };
    let Asked { id, own_id, caller } = asked;
    let _claim = match hall.registry.claim(&id, &delivery.payload) {
        Ok(claim) => claim,
        Err(error) => return refuse(named(&id), error).await,
    };
    // an id that nobody knows cannot be named before the first chunk tells it
    let early = if own_id {
        Some(Cancels::of(&hall.bus, &id).await)
    } else {
        None
    };
    let answer = match hall
        .doors
        .generate(kind, delivery.payload.clone(), caller)
        .await
    {
        Ok(answer) => answer,
        Err(error) => return refuse(named(&id), error).await,
    };
    let streams = answer.is_stream();
    let mut cancels = match early {
        Some(cancels) => Some(cancels),
        None if streams => Some(Cancels::of(&hall.bus, &id).await),
        None => None,
    };
    let error = if streams {
        stream(hall, answer, &id, cancels.as_mut(), replies).await
    } else {
        whole(answer, &id, cancels.as_mut(), replies).await
    };
    if let Some(cancels) = cancels {
        cancels.close().await;
    }
    error
}

async fn whole(
    mut answer: Answer,
    id: &str,
    mut cancels: Option<&mut Cancels>,
    replies: &Replies,
) -> Option<ApiError> {
    let mut whole = Whole::new(answer.style());
    let headers = traced(id, answer.trace());
    let mut events = Vec::new();
    let result = 'collected: loop {
        tokio::select! {
            () = answer.next(&mut events) => {}
            () = cancelled(&mut cancels) => break Err(ApiError::cancelled()),
        }
        for event in events.drain(..) {
            if let Some(body) = whole.push(event) {
                break 'collected body;
            }
        }
    };
    drop(answer);
    match result {
        Ok(body) => {
            let _gone = replies.whole(headers, body).await;
            None
        }
        Err(error) => {
            let _gone = replies.error(headers, &error, false).await;
            Some(error)
        }
    }
}

async fn stream(
    hall: &Arc<Hall>,
    answer: Answer,
    id: &str,
    cancels: Option<&mut Cancels>,
    replies: &Replies,
) -> Option<ApiError> {
    let probe = hall.probes.watch();
    let mut stream = Stream::new(replies, traced(id, answer.trace()), probe.subject());
    let keep_alive = hall.doors.options().keep_alive.unwrap_or(NEVER);
    // the answer goes into it and is dropped there, so that nothing runs while the end is told
    let result = match follow(answer, cancels, &probe, &mut stream, keep_alive).await {
        Ok(None) => replies.end().await.map(|()| None),
        Ok(Some(error)) => stream.error(&error).await.map(|()| Some(error)),
        Err(Lost::TooLarge) => replies.end().await.and(Err(Lost::TooLarge)),
        Err(lost) => Err(lost),
    };
    result.unwrap_or_else(|lost| match lost {
        Lost::Gone => Some(ApiError::cancelled()),
        Lost::Stuck | Lost::TooLarge => Some(ApiError::client_too_slow()),
    })
}

/// Sends chunks until the answer ends, well or with an error.
async fn follow(
    mut answer: Answer,
    mut cancels: Option<&mut Cancels>,
    probe: &Probe,
    stream: &mut Stream<'_>,
    keep_alive: Duration,
) -> Result<Option<ApiError>, Lost> {
    let mut chunks = Chunks::new(answer.style());
    let mut events = Vec::new();
    let mut silent_since = Instant::now();
    loop {
        tokio::select! {
            () = answer.next(&mut events) => {}
            () = cancelled(&mut cancels) => return Ok(Some(ApiError::cancelled())),
            () = probe.gone() => return Err(Lost::Gone),
            () = sleep_until(silent_since + keep_alive) => {
                stream.ping().await?;
                silent_since = Instant::now();
            }
        }
        for event in events.drain(..) {
            if let Event::Failed(error) = event {
                return Ok(Some(error));
            }
            if let Some(chunk) = chunks.chunk(&event) {
                stream.chunk(chunk).await?;
                silent_since = Instant::now();
            }
            if event.is_last() {
                return Ok(None);
            }
        }
    }
}

async fn cancelled(cancels: &mut Option<&mut Cancels>) {
    match cancels {
        Some(cancels) => cancels.asked().await,
        None => std::future::pending().await,
    }
}

/// Whether the caller of a request that is refused waits for the end of a stream.
fn wants_stream(body: &[u8]) -> bool {
    json::object(body).is_ok_and(|fields| fields.get("stream") == Some(&true.into()))
}
