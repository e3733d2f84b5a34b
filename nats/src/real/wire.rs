//! Messages between our form and the client library's, and the task that hands ours over.
//!
//! Takes only checked publications. Never reorders: one queue, one task, one connection.

use async_nats::{Client, HeaderMap, HeaderName, HeaderValue, Message};
use tokio::sync::mpsc;

use crate::bus::{Delivery, Headers, Publication};

/// Hands publications over until the last sender is gone, then flushes what was handed over.
pub(crate) async fn write(client: Client, mut queue: mpsc::Receiver<Publication>) {
    while let Some(publication) = queue.recv().await {
        if let Err(error) = send(&client, publication).await {
            tracing::warn!(%error, "a publication was lost");
        }
    }
    if let Err(error) = client.flush().await {
        tracing::debug!(%error, "the connection ended before its last flush");
    }
}

/// Hands one publication over; waits while the library's queue is full.
pub(crate) async fn send(
    client: &Client,
    publication: Publication,
) -> Result<(), async_nats::PublishError> {
    let Publication {
        subject,
        reply,
        headers,
        payload,
    } = publication;
    match (reply, headers_to_wire(&headers)) {
        (None, None) => client.publish(subject, payload).await,
        (Some(reply), None) => client.publish_with_reply(subject, reply, payload).await,
        (None, Some(headers)) => client.publish_with_headers(subject, headers, payload).await,
        (Some(reply), Some(headers)) => {
            client
                .publish_with_reply_and_headers(subject, reply, headers, payload)
                .await
        }
    }
}

/// What arrived, in our form; of a header given several times the first value counts.
pub(crate) fn delivery_of(message: Message) -> Delivery {
    Delivery {
        subject: message.subject.into_string(),
        reply: message.reply.map(|reply| reply.into_string()),
        headers: message
            .headers
            .as_ref()
            .map(headers_of_wire)
            .unwrap_or_default(),
        payload: message.payload,
        status: message.status.map(|status| status.as_u16()),
    }
}

fn headers_to_wire(headers: &Headers) -> Option<HeaderMap> {
    if headers.is_empty() {
        return None;
    }
    let lines = headers.iter().filter_map(|(name, value)| {
        let name = name.parse::<HeaderName>().ok()?;
        Some((name, value.parse::<HeaderValue>().ok()?))
    });
    Some(lines.collect())
}

fn headers_of_wire(headers: &HeaderMap) -> Headers {
    let lines = headers
        .iter()
        .filter_map(|(name, values)| Some((name.to_string(), values.first()?.as_str().to_owned())));
    lines.collect()
}
