//! Model cards over the bus: workers hand out the image part by part, gateways fetch and check it.
//!
//! A request carries an offset in decimal; a reply is the image's length (u64, little endian) and the part. What
//! comes is used only if its hash is the one of the beats.

use std::{sync::Arc, time::Duration};

use bus_schemas::subjects::Subjects;
use bytes::{BufMut, Bytes, BytesMut};
use engine::card::{CardFetch, CardFiles, part};
use nats::{Bus, Publication, SubscribeError};

/// Workers of a pool share the asking.
const GROUP: &str = "thalamus-card";
/// Requests for parts that may wait.
const WAITING: usize = 256;
/// One part must come within this time.
const PART_TIMEOUT: Duration = Duration::from_secs(2);

/// Answers requests for a card until the bus closes.
pub(super) async fn serve(
    bus: Arc<dyn Bus>,
    subjects: Subjects,
    card: CardFiles,
) -> Result<(), SubscribeError> {
    let subject = subjects.card(card.hash());
    let mut requests = bus.subscribe(&subject, Some(GROUP), WAITING).await?;
    let image = card.image();
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            let Some(subject) = request.reply else {
                continue;
            };
            let offset = std::str::from_utf8(&request.payload)
                .ok()
                .and_then(|t| t.parse().ok());
            let mut payload = BytesMut::new();
            payload.put_u64_le(image.len() as u64);
            payload.put_slice(part(&image, offset.unwrap_or(u64::MAX)));
            let reply = Publication {
                subject,
                payload: payload.freeze(),
                ..Publication::default()
            };
            if let Err(error) = bus.publish(reply) {
                tracing::debug!(%error, "a part of a model card was not sent");
            }
        }
    });
    Ok(())
}

/// Fetches the card of that hash.
///
/// # Errors
/// Nobody answers, or what comes is not the card.
pub(super) async fn fetch(
    bus: &Arc<dyn Bus>,
    subjects: &Subjects,
    name: &str,
    hash: u64,
) -> anyhow::Result<CardFiles> {
    let ask = async |offset: u64| -> anyhow::Result<(u64, Bytes)> {
        let payload = Bytes::from(offset.to_string());
        let publication = Publication {
            subject: subjects.card(hash),
            payload,
            ..Publication::default()
        };
        let answer = bus.request(publication, PART_TIMEOUT).await?;
        let Some((total, _)) = answer.payload.split_first_chunk() else {
            anyhow::bail!("a part of the card is truncated");
        };
        Ok((u64::from_le_bytes(*total), answer.payload.slice(8..)))
    };
    let (total, first) = ask(0).await?;
    let mut fetch = CardFetch::new(hash, total)?;
    fetch.add(0, &first);
    while let Some(offset) = fetch.wanted() {
        let (_, bytes) = ask(offset).await?;
        anyhow::ensure!(!bytes.is_empty(), "the card ends before its length");
        fetch.add(offset, &bytes);
    }
    Ok(fetch.finish(name)?)
}
