//! 4. A request's whole way: gateway, router, prefill, decode, in one process.
//!
//! The prompt is prefilled by one worker, its blocks cross to another through the fabric, and that one decodes. The
//! client speaks plain HTTP and never learns of it; the metrics tell.
//! Run it with `cargo run -p examples --example 04_one_process_cluster`.

use anyhow::{Context, ensure};
use examples::Cluster;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Asks a cluster of four over HTTP.
///
/// # Errors
/// Something is not as the text above says.
#[tokio::main]
pub async fn main() -> anyhow::Result<()> {
    let cluster = Cluster::start("script/echo").await?;
    let question = json!({
        "model": "script/echo",
        "messages": [{"role": "user", "content": "One prompt, two workers."}],
        "max_tokens": 64,
    });
    let answer = post(&cluster, "/v1/chat/completions", &question).await?;
    let said = answer["choices"][0]["message"]["content"].as_str();
    println!("answer: {}", said.unwrap_or_default());
    println!("usage:  {}", answer["usage"]);
    ensure!(said == Some("One prompt, two workers."), "got {answer}");
    ensure!(answer["choices"][0]["finish_reason"] == "stop");
    cluster.stop().await;
    Ok(())
}

/// One request on a connection of its own.
async fn post(cluster: &Cluster, path: &str, body: &Value) -> anyhow::Result<Value> {
    let body = body.to_string();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: example\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(cluster.http).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await?;
    let (head, body) = response.split_once("\r\n\r\n").context("no HTTP")?;
    ensure!(head.starts_with("HTTP/1.1 200 "), "{response}");
    Ok(serde_json::from_str(body)?)
}
