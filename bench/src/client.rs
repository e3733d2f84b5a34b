//! The smallest HTTP/1.1 client that can measure: one kept connection, streamed answers, time of the first token.
//!
//! It never reconnects and never accepts an answer it does not understand: a bench must not count failures.

use std::{net::SocketAddr, time::Instant};

use anyhow::{Context, Result, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Room for one read: a burst of events fits.
const READ_BYTES: usize = 64 * 1024;
/// What the last event, or a whole answer, says of its tokens.
const TOKENS: &[u8] = b"\"completion_tokens\":";
/// What the first event with text has.
const TEXT: &[u8] = b"\"text\":";

/// A kept connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    acknowledges_at_once: bool,
}

/// An answer, timed from the moment before its request was written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    /// To the first token; to the end where the answer is not streamed.
    pub first_ms: f64,
    /// To the end.
    pub whole_ms: f64,
    /// Tokens that the server says it made.
    pub tokens: u32,
}

impl Client {
    /// Connects. A server that leaves Nagle's algorithm on waits for acknowledgements, up to 40 ms with an
    /// ordinary client; one that acknowledges at once spares it that.
    ///
    /// # Errors
    /// Nobody listens.
    pub async fn connect(to: SocketAddr, acknowledges_at_once: bool) -> Result<Self> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(READ_BYTES),
            acknowledges_at_once,
        })
    }

    /// Posts a JSON body and reads the answer to its end.
    ///
    /// # Errors
    /// The connection breaks, or the answer is not 200 with a count of tokens.
    pub async fn ask(&mut self, path: &str, body: &str) -> Result<Answer> {
        let length = body.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        );
        let begun = Instant::now();
        let ms = || begun.elapsed().as_secs_f64() * 1e3;
        self.stream.write_all(request.as_bytes()).await?;
        let head = self.head().await?;
        let mut body = Vec::new();
        let mut first_ms = None;
        if let Some(length) = header(&head, "content-length") {
            body = self.exactly(length.parse()?).await?;
        } else {
            loop {
                let chunk = self.chunk().await?;
                if first_ms.is_none() && find(&chunk, TEXT).is_some() {
                    first_ms = Some(ms());
                }
                if chunk.is_empty() {
                    break;
                }
                if find(&chunk, TOKENS).is_some() {
                    body = chunk;
                }
            }
        }
        let whole_ms = ms();
        ensure!(
            head.starts_with("http/1.1 200"),
            "{head}: {}",
            String::from_utf8_lossy(&body)
        );
        let tokens = tokens(&body).context("the answer does not count its tokens")?;
        Ok(Answer {
            first_ms: first_ms.unwrap_or(whole_ms),
            whole_ms,
            tokens,
        })
    }

    /// The head of an answer in lower case.
    async fn head(&mut self) -> Result<String> {
        let head = self.until(b"\r\n\r\n").await?;
        Ok(String::from_utf8_lossy(&head).to_lowercase())
    }

    /// The next chunk; the last one is empty.
    async fn chunk(&mut self) -> Result<Vec<u8>> {
        let size = self.until(b"\r\n").await?;
        let size = usize::from_str_radix(std::str::from_utf8(&size)?.trim(), 16)?;
        let chunk = self.exactly(size).await?;
        let end = self.exactly(2).await?;
        ensure!(end == b"\r\n", "a chunk is longer than it says");
        Ok(chunk)
    }

    async fn until(&mut self, end: &[u8]) -> Result<Vec<u8>> {
        loop {
            if let Some(at) = find(&self.buffer, end) {
                let mut taken = self.exactly(at + end.len()).await?;
                taken.truncate(at);
                return Ok(taken);
            }
            self.more().await?;
        }
    }

    async fn exactly(&mut self, count: usize) -> Result<Vec<u8>> {
        while self.buffer.len() < count {
            self.more().await?;
        }
        Ok(self.buffer.drain(..count).collect())
    }

    async fn more(&mut self) -> Result<()> {
        self.buffer.reserve(READ_BYTES);
        if self.acknowledges_at_once {
            // The kernel forgets it after a while, so it is said before each read.
            self.stream.set_quickack(true)?;
        }
        let read = self.stream.read_buf(&mut self.buffer).await?;
        ensure!(read > 0, "the server closed the connection");
        Ok(())
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .find_map(|l| l.strip_prefix(name)?.strip_prefix(": "))
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|w| w == part)
}

/// The number after the last count of tokens.
fn tokens(body: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, rest) = text.rsplit_once(std::str::from_utf8(TOKENS).ok()?)?;
    let rest = rest.trim_start();
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    rest[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_from_the_last_count() {
        let body = br#"{"usage":{"prompt_tokens":7,"completion_tokens":16,"total_tokens":23}}"#;
        assert_eq!(tokens(body), Some(16));
        assert_eq!(tokens(b"{}"), None);
    }

    #[test]
    fn headers_are_found_by_name() {
        let head = "http/1.1 200 ok\r\ncontent-length: 12\r\nx: y";
        assert_eq!(header(head, "content-length"), Some("12"));
        assert_eq!(header(head, "transfer-encoding"), None);
    }
}
