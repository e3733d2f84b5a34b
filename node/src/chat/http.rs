//! As much of an HTTP/1.1 client as `chat` needs: one request a connection, plain or chunked answers.
//!
//! It never speaks TLS: between machines, a proxy or a tunnel does.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

use anyhow::anyhow;
use serde_json::Value;

use crate::exit::Failure;

/// A gateway that is there accepts at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The first token of a long prompt on a busy cluster may take this long, a next one never does.
const READ_TIMEOUT: Duration = Duration::from_secs(300);
/// Longest line of a head or of a chunk's size.
const LINE_BYTES_MAX: u64 = 64 * 1024;
/// Header lines that we read before we give up.
const HEADERS_MAX: usize = 100;

/// Where the gateway is, and the key that it wants.
pub(super) struct Gateway {
    url: String,
    /// `host:port`, to connect to.
    address: String,
    /// What comes before the paths of the API.
    base: String,
    key: Option<String>,
}

/// An answer, its body not yet read.
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) body: Box<dyn BufRead>,
}

impl Gateway {
    pub(super) fn new(url: &str, key: Option<String>) -> Result<Self, String> {
        let Some(rest) = url.strip_prefix("http://") else {
            return Err(format!(
                "{url:?} is not http://HOST:PORT; TLS is not spoken here"
            ));
        };
        let (authority, base) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        if authority.is_empty() || url.contains(char::is_whitespace) {
            return Err(format!("{url:?} is not http://HOST:PORT"));
        }
        let has_port = authority
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        Ok(Self {
            url: url.to_owned(),
            address: if has_port {
                authority.to_owned()
            } else {
                format!("{authority}:80")
            },
            base: base.trim_end_matches('/').to_owned(),
            key,
        })
    }

    pub(super) fn get(&self, path: &str) -> Result<Response, Failure> {
        self.send("GET", path, "")
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Response, Failure> {
        self.send("POST", path, &body.to_string())
    }

    fn send(&self, method: &str, path: &str, body: &str) -> Result<Response, Failure> {
        let mut stream = self.connect()?;
        let key = self.key.as_ref();
        let key = key.map_or_else(String::new, |key| {
            format!("Authorization: Bearer {key}\r\n")
        });
        let request = format!(
            "{method} {}{path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{key}\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.base,
            self.address,
            body.len()
        );
        let what = format!("{} does not answer", self.url);
        stream
            .write_all(request.as_bytes())
            .map_err(|error| io_failure(&what, &error))?;
        read_response(BufReader::new(stream)).map_err(|error| io_failure(&what, &error))
    }

    fn connect(&self) -> Result<TcpStream, Failure> {
        let unreachable = |error: &dyn std::fmt::Display| {
            Failure::Unreachable(format!(
                "no gateway at {}: {error}; start one with `thalamus up`, or give --url",
                self.url
            ))
        };
        let addresses = self
            .address
            .to_socket_addrs()
            .map_err(|error| unreachable(&error))?;
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in addresses {
            match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                Ok(stream) => {
                    let set = stream.set_read_timeout(Some(READ_TIMEOUT));
                    set.and_then(|()| stream.set_nodelay(true))
                        .map_err(|error| unreachable(&error))?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(unreachable(&last))
    }
}

/// A failure of a connection that was there: a timeout has an exit code of its own.
pub(super) fn io_failure(what: &str, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            Failure::Timeout(format!("{what} within {} s", READ_TIMEOUT.as_secs()))
        }
        _ => Failure::Failed(anyhow!("{what}: {error}")),
    }
}

fn read_response(mut stream: impl BufRead + 'static) -> io::Result<Response> {
    let status_line = read_line(&mut stream)?;
    let status = status_line
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1))
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| invalid("that is not HTTP"))?;
    let mut chunked = false;
    let mut length = None;
    for _ in 0..HEADERS_MAX {
        let line = read_line(&mut stream)?;
        if line.is_empty() {
            let body: Box<dyn BufRead> = match length {
                _ if chunked => Box::new(BufReader::new(Chunked::new(stream))),
                Some(length) => Box::new(stream.take(length)),
                None => Box::new(stream),
            };
            return Ok(Response { status, body });
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        match name.to_ascii_lowercase().as_str() {
            "transfer-encoding" => chunked = value.trim().eq_ignore_ascii_case("chunked"),
            "content-length" => length = value.trim().parse().ok(),
            _ => {}
        }
    }
    Err(invalid("too many headers"))
}

fn read_line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    stream.by_ref().take(LINE_BYTES_MAX).read_line(&mut line)?;
    match line.strip_suffix('\n') {
        Some(line) => Ok(line.trim_end_matches('\r').to_owned()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The bytes of a chunked body.
struct Chunked<R> {
    stream: R,
    left: u64,
    state: ChunkState,
}

#[derive(PartialEq, Eq)]
enum ChunkState {
    First,
    Between,
    End,
}

impl<R: BufRead> Chunked<R> {
    fn new(stream: R) -> Self {
        Self {
            stream,
            left: 0,
            state: ChunkState::First,
        }
    }

    /// Reads the size of the next chunk; zero is the end.
    fn next_chunk(&mut self) -> io::Result<()> {
        if self.state == ChunkState::Between {
            read_line(&mut self.stream)?;
        }
        let line = read_line(&mut self.stream)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        self.left = u64::from_str_radix(size, 16).map_err(|_| invalid("a chunk without a size"))?;
        self.state = if self.left == 0 {
            ChunkState::End
        } else {
            ChunkState::Between
        };
        Ok(())
    }
}

impl<R: BufRead> Read for Chunked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && self.state != ChunkState::End {
            self.next_chunk()?;
        }
        let read = self.stream.by_ref().take(self.left).read(buffer)?;
        if read == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_cannot_be_are_refused() {
        for url in [
            "",
            "localhost:8080",
            "https://a",
            "http://",
            "http:///v1",
            "http://a b",
        ] {
            assert!(Gateway::new(url, None).is_err(), "{url:?}");
        }
    }

    #[test]
    fn urls_may_leave_out_the_port_and_have_a_path() {
        for (url, address, base) in [
            ("http://a", "a:80", ""),
            ("http://a:81/", "a:81", ""),
            ("http://[::1]:8080/x/", "[::1]:8080", "/x"),
            ("http://[::1]", "[::1]:80", ""),
        ] {
            let gateway = Gateway::new(url, None).expect(url);
            assert_eq!(
                (gateway.address.as_str(), gateway.base.as_str()),
                (address, base)
            );
        }
    }

    #[test]
    fn garbage_is_an_error_and_no_panic() {
        for text in [
            "",
            "SSH-2.0-x\r\n",
            "HTTP/1.1 many OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b",
        ] {
            assert!(
                read_response(io::Cursor::new(text.to_owned())).is_err(),
                "{text:?}"
            );
        }
    }

    #[test]
    fn chunks_without_size_or_end_are_errors() {
        for body in [
            "x\r\n",
            "5\r\nabc",
            "ffffffffffffffffff\r\n",
            "3\r\nabc\r\n",
        ] {
            let mut out = Vec::new();
            let mut chunked = Chunked::new(io::Cursor::new(body));
            assert!(chunked.read_to_end(&mut out).is_err(), "{body:?}");
        }
    }
}
