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
    attach::{Attach, Attached},
    reply::{Lost, Replies, named, traced},
    running::{Claim, Line, Said},
    stream::{Stream, Terms, elsewhere},
};
use crate::{
    answer::Answer,
    assemble::{Event, append},
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
    let body = blake3::hash(&delivery.payload);
    let _claim = match enter(hall, &asked, body, replies).await {
        Ok(Some(claim)) => claim,
        Ok(None) => return None,
        Err(error) => return refuse(named(&asked.id), error).await,
    };
    let Asked {
        id,
        own_id,
        window,
        caller,
        ..
    } = asked;
    let listen = || Line::of(&hall.bus, &id, body, window.is_some());
    // an id that nobody knows cannot be named before the first chunk tells it
    let early = if own_id { Some(listen().await) } else { None };
    let answer = match hall
        .doors
        .generate(kind, delivery.payload.clone(), caller)
        .await
    {
        Ok(answer) => answer,
        Err(error) => return refuse(named(&id), error).await,
    };
    let streams = answer.is_stream();
    let mut line = match early {
        Some(line) => Some(line),
        None if streams => Some(listen().await),
        None => None,
    };
    let first = traced(&id, answer.trace());
    let error = if streams {
        let terms = Terms {
            first,
            window,
            ack_within: hall.config.ack_within,
            kept: hall.kept.clone(),
        };
        let stream = Stream::new(replies.clone(), hall.probes.clone(), terms);
        stream_out(hall, answer, line.as_mut(), stream).await
    } else {
        whole(answer, first, line.as_mut(), replies.clone()).await
    };
    if let Some(line) = line {
        line.close().await;
    }
    error
}

/// Takes the request's id; none if the request runs already and its answer goes to this caller from now on.
async fn enter(
    hall: &Arc<Hall>,
    asked: &Asked,
    body: blake3::Hash,
    replies: &Replies,
) -> Result<Option<Claim>, ApiError> {
    let (to, from) = (replies.subject().to_owned(), asked.from);
    let attach = Attach { body, to, from };
    if asked.own_id && attach.ask(&*hall.bus, &asked.id).await? {
        return Ok(None);
    }
    hall.registry.claim(&asked.id, body).map(Some)
}

async fn whole(
    mut answer: Answer,
    headers: Headers,
    mut line: Option<&mut Line>,
    mut replies: Replies,
) -> Option<ApiError> {
    let mut whole = Whole::new(answer.style());
    let mut events = Vec::new();
    let result = 'collected: loop {
        tokio::select! {
            () = answer.next(&mut events) => {}
            said = said(&mut line) => match said {
                Said::Cancel => break Err(ApiError::cancelled()),
                Said::Ack(_) => {}
                Said::Attach(Attach { to, .. }, reply) => {
                    tell(&line, reply, Attached::Yes);
                    if let Some(old) = replies.lead_to(to) {
                        let _gone = old.error(Headers::new(), &elsewhere(), false).await;
                    }
                }
            }
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

async fn stream_out(
    hall: &Arc<Hall>,
    answer: Answer,
    line: Option<&mut Line>,
    mut stream: Stream,
) -> Option<ApiError> {
    let keep_alive = hall.doors.options().keep_alive.unwrap_or(NEVER);
    // the answer goes into it and is dropped there, so that nothing runs while the end is told
    let result = match follow(answer, line, &mut stream, keep_alive).await {
        Ok(None) => stream.end().await.map(|()| None),
        Ok(Some(error)) => stream.error(&error).await.map(|()| Some(error)),
        Err(Lost::Silent) => {
            let error = ApiError::client_too_slow();
            stream.error(&error).await.map(|()| Some(error))
        }
        Err(Lost::TooLarge) => stream.end().await.and(Err(Lost::TooLarge)),
        Err(lost) => Err(lost),
    };
    result.unwrap_or_else(|lost| match lost {
        Lost::Gone => Some(ApiError::cancelled()),
        Lost::Stuck | Lost::TooLarge | Lost::Silent => Some(ApiError::client_too_slow()),
    })
}

/// Sends chunks until the answer ends, well or with an error.
async fn follow(
    mut answer: Answer,
    mut line: Option<&mut Line>,
    stream: &mut Stream,
    keep_alive: Duration,
) -> Result<Option<ApiError>, Lost> {
    let mut chunks = Chunks::new(answer.style());
    // what waits for room in the caller's window, and what has just come
    let (mut waiting, mut fresh) = (Vec::new(), Vec::new());
    let mut silent_since = Instant::now();
    loop {
        let ended = waiting.last().is_some_and(Event::is_last);
        tokio::select! {
            () = answer.next(&mut fresh), if !ended => {
                fresh.drain(..).for_each(|event| append(&mut waiting, event));
            }
            said = said(&mut line) => match said {
                Said::Cancel => return Ok(Some(ApiError::cancelled())),
                Said::Ack(seq) => stream.acknowledge(seq),
                Said::Attach(Attach { to, from, .. }, reply) => match stream.missed(from) {
                    Some(missed) => {
                        tell(&line, reply, Attached::Yes);
                        stream.attach(to, missed).await?;
                    }
                    None => tell(&line, reply, Attached::Forgotten),
                },
            },
            lost = stream.lost() => return Err(lost),
            () = sleep_until(silent_since + keep_alive), if stream.has_room() => {
                stream.ping().await?;
                silent_since = Instant::now();
            }
        }
        let mut sent = 0;
        for event in &waiting {
            if let Event::Failed(error) = event {
                return Ok(Some(error.clone()));
            }
            if !stream.has_room() {
                break;
            }
            if let Some(chunk) = chunks.chunk(event) {
                stream.chunk(chunk).await?;
                silent_since = Instant::now();
            }
            if event.is_last() {
                return Ok(None);
            }
            sent += 1;
        }
        waiting.drain(..sent);
    }
}

async fn said(line: &mut Option<&mut Line>) -> Said {
    match line {
        Some(line) => line.next().await,
        None => std::future::pending().await,
    }
}

fn tell(line: &Option<&mut Line>, reply: Option<String>, attached: Attached) {
    if let Some(line) = line {
        line.attached(reply, attached);
    }
}

/// Whether the caller of a request that is refused waits for the end of a stream.
fn wants_stream(body: &[u8]) -> bool {
    json::object(body).is_ok_and(|fields| fields.get("stream") == Some(&true.into()))
}
