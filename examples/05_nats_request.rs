//! 5. The same on the bus: a chat as a NATS request, whole and as a stream.
//!
//! Any NATS client can do this; here the bus is in memory, elsewhere it is a nats-server. A stream is numbered messages
//! to the reply subject, and an empty one ends it. It never needs HTTP.
//! Run it with `cargo run -p examples --example 05_nats_request`.

use std::time::Duration;

use anyhow::{Context, ensure};
use bus_schemas::subjects::{self, Operation};
use examples::Cluster;
use nats::{Bus, Publication};
use serde_json::{Value, json};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(30);
/// Messages that may wait for us.
const CAPACITY: usize = 256;

/// Asks a cluster of four over its bus.
///
/// # Errors
/// Something is not as the text above says.
#[tokio::main]
pub async fn main() -> anyhow::Result<()> {
    let cluster = Cluster::start("script/count-5").await?;
    let whole = whole(&*cluster.bus).await?;
    println!("whole:    {whole}");
    let streamed = streamed(&*cluster.bus).await?;
    println!("streamed: {streamed}");
    ensure!(whole == "1 2 3 4 5" && streamed == whole);
    cluster.stop().await;
    Ok(())
}

fn question(stream: bool) -> Publication {
    let body = json!({
        "model": "script/count-5",
        "messages": [{"role": "user", "content": "Count!"}],
        "stream": stream,
    });
    Publication {
        subject: subjects::public(Operation::Chat),
        payload: body.to_string().into(),
        ..Publication::default()
    }
}

/// One request, one answer.
async fn whole(bus: &dyn Bus) -> anyhow::Result<String> {
    let answer = bus.request(question(false), PATIENCE).await?;
    let answer: Value = serde_json::from_slice(&answer.payload)?;
    let text = answer["choices"][0]["message"]["content"].as_str();
    Ok(text.context("an answer has content")?.to_owned())
}

/// One request, an answer in pieces.
async fn streamed(bus: &dyn Bus) -> anyhow::Result<String> {
    let inbox = bus.inbox();
    let mut pieces = bus.subscribe(&inbox, None, CAPACITY).await?;
    bus.publish(Publication {
        reply: Some(inbox.clone()),
        ..question(true)
    })?;
    let mut text = String::new();
    for number in 0.. {
        let piece = timeout(PATIENCE, pieces.next()).await?;
        let piece = piece.context("the bus closed")?;
        if piece.payload.is_empty() {
            break;
        }
        let seq = piece.headers.get("Thalamus-Seq");
        ensure!(seq == Some(&number.to_string()), "message {number} is lost");
        let chunk: Value = serde_json::from_slice(&piece.payload)?;
        text += chunk["choices"][0]["delta"]["content"]
            .as_str()
            .unwrap_or_default();
    }
    Ok(text)
}
