//! An HTTP client by hand: what it sends and sees is exactly what is on the wire.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use gateway::{
    Doors, Options,
    http::{HttpConfig, Running, serve},
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::Double;

/// No answer takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client of one door.
pub(crate) struct Client {
    pub(crate) addr: SocketAddr,
    pub(crate) headers: Vec<(String, String)>,
    door: Option<Running>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Client {
    /// A door over `core`, on a free port.
    pub(crate) async fn of(core: &Arc<Double>) -> Self {
        Self::with(core, Options::default(), HttpConfig::default()).await
    }

    /// The same with settings; the port is free whatever they say.
    pub(crate) async fn with(core: &Arc<Double>, options: Options, config: HttpConfig) -> Self {
        let config = HttpConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            ..config
        };
        let doors = Doors::new(core.clone(), options);
        let door = serve(config, doors).await.expect("the door opens");
        Self {
            addr: door.addr,
            headers: Vec::new(),
            door: Some(door),
        }
    }

    /// A client of what listens at `addr`, without a door of its own.
    pub(crate) fn at(&self, addr: SocketAddr) -> Self {
        Self {
            addr,
            headers: self.headers.clone(),
            door: None,
        }
    }

    /// The same, sending one more header.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Closes the door.
    pub(crate) async fn stop(self, within: Duration) -> bool {
        self.door.expect("its own door").stop(within).await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, b"").await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, body.to_string().as_bytes()).await
    }

    pub(crate) async fn send(&self, method: &str, path: &str, body: &[u8]) -> Reply {
        let mut stream = self.open(method, path, body).await;
        let mut bytes = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await;
        read.expect("an answer in time").expect("a whole answer");
        parse(&bytes)
    }

    /// Sends, and leaves the answer on the line.
    pub(crate) async fn open(&self, method: &str, path: &str, body: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.addr).await.expect("it listens");
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n");
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("content-length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).await.expect("it reads");
        // a refused body need not be read to its end
        let _refused = stream.write_all(body).await;
        stream
    }
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter();
        all.find(|(given, _)| given == name)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.text()))
    }

    /// The objects of an event stream; `[DONE]` is null.
    pub(crate) fn events(&self) -> Vec<Value> {
        let events = self.text().split("\n\n").filter(|event| !event.is_empty());
        let data = events.filter_map(|event| match event.strip_prefix("data: ") {
            Some("[DONE]") => Some(Value::Null),
            Some(data) => Some(serde_json::from_str(data).expect("JSON")),
            None if event.starts_with(':') => None,
            None => panic!("not an event: {event:?}"),
        });
        data.collect()
    }

    /// Status, type, code and parameter of an error.
    pub(crate) fn error(&self) -> (u16, String, String, Value) {
        let error = &self.json()["error"];
        let text = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
        assert!(!text("message").is_empty(), "an error says what to do");
        (
            self.status,
            text("type"),
            text("code"),
            error["param"].clone(),
        )
    }
}

pub(crate) fn parse(bytes: &[u8]) -> Reply {
    let split = bytes
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .expect("a head");
    let head = std::str::from_utf8(&bytes[..split]).expect("ASCII");
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let headers: Vec<(String, String)> = lines
        .map(|line| line.split_once(": ").expect("a header"))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let chunked = headers
        .iter()
        .any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let body = &bytes[split + 4..];
    let body = if chunked {
        unchunk(body)
    } else {
        body.to_vec()
    };
    Reply {
        status: status.expect("a status"),
        headers,
        body,
    }
}

fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(line) = bytes.windows(2).position(|w| w == b"\r\n") {
        let size = std::str::from_utf8(&bytes[..line]).expect("ASCII");
        let size = usize::from_str_radix(size, 16).expect("a size");
        if size == 0 {
            break;
        }
        whole.extend_from_slice(&bytes[line + 2..line + 2 + size]);
        bytes = &bytes[line + 4 + size..];
    }
    whole
}
