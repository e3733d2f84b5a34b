//! What the HTTP door holds at once, and for how long: connections, heads, bodies, answers; and that its bounds are
//! one client's and not the others'.

use std::{net::SocketAddr, time::Duration};

use gateway::{
    Doors, Options,
    http::{HttpConfig, Times, probe},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::support::{Client, Double, http};

const CHAT: &str = "/v1/chat/completions";
/// Long beside a step of a test, short for a person.
const SOON: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(10);

fn chat() -> Value {
    json!({"messages": [{"role": "user", "content": "hi"}]})
}

async fn door(core: &std::sync::Arc<Double>, config: HttpConfig) -> Client {
    Client::with(core, Options::default(), config).await
}

fn hurried() -> HttpConfig {
    let times = Times {
        head: SOON,
        idle: SOON,
        stuck: SOON,
    };
    HttpConfig {
        times,
        body_grace: SOON,
        ..HttpConfig::default()
    }
}

/// What a server says until it closes.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await;
    read.expect("it closes").expect("it closes well");
    bytes
}

#[tokio::test]
async fn a_head_that_trickles_is_not_waited_for_and_nobody_else_waits() {
    let client = door(&Double::saying("x"), hurried()).await;
    let mut loris = TcpStream::connect(client.addr).await.expect("it listens");
    loris
        .write_all(b"POST /v1/completions HTTP/1.1\r\nhost:")
        .await
        .expect("it reads");
    let (mut told, mut telling) = loris.into_split();
    let trickle = tokio::spawn(async move {
        while telling.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert_eq!(client.post(CHAT, &chat()).await.status, 200);
    let mut head = [0; 1024];
    let read = timeout(PATIENCE, told.read(&mut head)).await;
    let read = read.expect("it is told in time").expect("it is told");
    let reply = http::parse(&head[..read]);
    assert_eq!(reply.error().0, 408);
    assert_eq!(reply.error().2, "header_timeout");
    assert_eq!(reply.header("x-should-retry"), Some("true"));
    assert_eq!(client.post(CHAT, &chat()).await.status, 200);
    timeout(PATIENCE, trickle)
        .await
        .expect("it is closed")
        .expect("no panic");
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let client = door(&Double::saying("x"), hurried()).await;
    let mut silent = TcpStream::connect(client.addr).await.expect("it listens");
    assert_eq!(http::parse(&rest(&mut silent).await).status, 408);
}

#[tokio::test]
async fn a_kept_connection_serves_again_and_is_closed_when_it_is_idle() {
    let client = door(&Double::saying("x"), hurried()).await;
    let mut kept = TcpStream::connect(client.addr).await.expect("it listens");
    let ask = b"GET /health HTTP/1.1\r\nhost: test\r\n\r\n";
    for _ in 0..2 {
        kept.write_all(ask).await.expect("it is open");
        let mut answer = [0; 1024];
        let read = kept.read(&mut answer).await.expect("it answers");
        assert!(answer[..read].starts_with(b"HTTP/1.1 200"));
        tokio::time::sleep(SOON / 3).await;
    }
    assert_eq!(rest(&mut kept).await, b"", "idle is no error");
}

#[tokio::test]
async fn an_answer_that_takes_its_time_is_not_idle() {
    let core = Double::playing(|spec| {
        let mut steps = vec![crate::support::Step::Wait(SOON * 3)];
        steps.extend(crate::support::say(spec, "late"));
        steps
    });
    let client = door(&core, hurried()).await;
    let reply = client.post(CHAT, &chat()).await;
    assert_eq!(
        reply.json()["choices"][0]["message"]["content"],
        json!("late")
    );
}

#[tokio::test]
async fn a_body_that_stalls_or_trickles_is_not_waited_for() {
    let core = Double::saying("x");
    let client = door(&core, hurried()).await;
    let body = chat().to_string();
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    for pause in [PATIENCE, Duration::from_millis(50)] {
        let mut slow = TcpStream::connect(client.addr).await.expect("it listens");
        slow.write_all(head.as_bytes()).await.expect("it reads");
        let (mut told, mut telling) = slow.into_split();
        let bytes = body.clone().into_bytes();
        let trickle = tokio::spawn(async move {
            for byte in bytes {
                if telling.write_all(&[byte]).await.is_err() {
                    return;
                }
                tokio::time::sleep(pause).await;
            }
        });
        assert_eq!(client.post(CHAT, &chat()).await.status, 200);
        let mut answer = [0; 1024];
        let read = timeout(PATIENCE, told.read(&mut answer)).await;
        let read = read.expect("it is told in time").expect("it is told");
        let reply = http::parse(&answer[..read]);
        assert_eq!(reply.error().0, 408, "{pause:?}");
        assert_eq!(reply.error().2, "body_timeout", "{pause:?}");
        trickle.abort();
    }
    assert_eq!(core.seen().len(), 2, "those that were slow never ran");
}

#[tokio::test]
async fn a_body_at_a_good_pace_may_take_longer_than_a_stall() {
    let config = HttpConfig {
        body_grace: SOON,
        ..HttpConfig::default()
    };
    let client = door(&Double::saying("x"), config).await;
    let text = "x".repeat(64 * 1024);
    let body = json!({"messages": [{"role": "user", "content": "hi"}], "metadata": {"t": text}});
    let body = body.to_string().into_bytes();
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut steady = TcpStream::connect(client.addr).await.expect("it listens");
    steady.write_all(head.as_bytes()).await.expect("it reads");
    for part in body.chunks(body.len().div_ceil(10)) {
        tokio::time::sleep(SOON / 5).await;
        steady.write_all(part).await.expect("it reads on");
    }
    assert_eq!(http::parse(&rest(&mut steady).await).status, 200);
}

#[tokio::test]
async fn bodies_together_have_a_bound_and_leave_it_when_they_are_done() {
    let core = Double::saying("x");
    let config = HttpConfig {
        bodies_bytes_max: 2000,
        ..HttpConfig::default()
    };
    let client = door(&core, config).await;
    let mut held = TcpStream::connect(client.addr).await.expect("it listens");
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: test\r\ncontent-length: 1999\r\n\r\n");
    held.write_all(head.as_bytes()).await.expect("it reads");
    held.write_all(&[b' '; 1980]).await.expect("it reads");
    let refused = async || {
        let reply = client.post(CHAT, &chat()).await;
        (reply.status == 503).then_some(reply)
    };
    let reply = eventually(refused).await;
    assert_eq!(reply.error().2, "overloaded");
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert_eq!(client.get("/health").await.status, 200);
    drop(held);
    let served = async || (client.post(CHAT, &chat()).await.status == 200).then_some(());
    eventually(served).await;
    for _ in 0..50 {
        assert_eq!(client.post(CHAT, &chat()).await.status, 200);
    }
}

#[tokio::test]
async fn one_connection_too_many_is_told_so_and_the_probe_still_answers() {
    let core = Double::hanging_after("x");
    let config = HttpConfig {
        connections_max: 2,
        ..HttpConfig::default()
    };
    let client = door(&core, config).await;
    let doors = Doors::new(core.clone(), Options::default());
    let probe = probe(SocketAddr::from(([127, 0, 0, 1], 0)), doors)
        .await
        .expect("the probe's door opens");
    let body = json!({"messages": [{"role": "user", "content": "hi"}], "stream": true});
    let body = body.to_string();
    let mut stream = client.open("POST", CHAT, body.as_bytes()).await;
    let idle = TcpStream::connect(client.addr).await.expect("it listens");
    let mut begun = [0; 64];
    stream.read_exact(&mut begun).await.expect("it streams");
    let reply = client.get("/health").await;
    assert_eq!(reply.error().0, 503);
    assert_eq!(reply.error().2, "too_many_connections");
    assert_eq!(reply.header("retry-after"), Some("1"));
    let probes = client.at(probe.addr);
    for path in ["/health", "/live", "/ready", "/version"] {
        assert_eq!(probes.get(path).await.status, 200, "{path}");
    }
    let metrics = probes.get("/metrics").await;
    let refused = "thalamus_http_connections_refused_total{door=\"http\"}";
    assert!(metrics.text().contains(refused), "{}", metrics.text());
    assert_eq!(probes.post(CHAT, &chat()).await.status, 404);
    assert!(core.seen().len() == 1, "the open stream goes on");
    drop(idle);
    let served = async || (client.get("/health").await.status == 200).then_some(());
    eventually(served).await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_loses_its_answer() {
    let text: &'static str = Box::leak("long ".repeat(400_000).into_boxed_str());
    let core = Double::playing(move |_| {
        let bytes = text.as_bytes().chunks(20_000).zip(0_u32..);
        let mut steps: Vec<_> = bytes
            .map(|(part, at)| {
                let records = part.iter().zip(at * 20_000..);
                let items =
                    records.map(|(byte, at)| crate::support::core::record(0, at, (*byte).into()));
                crate::support::Step::Send(crate::support::items(items.collect()))
            })
            .collect();
        steps.push(crate::support::Step::Hang);
        steps
    });
    let config = HttpConfig {
        times: Times {
            stuck: SOON,
            ..Times::default()
        },
        ..HttpConfig::default()
    };
    let client = door(&core, config).await;
    let body = json!({"messages": [{"role": "user", "content": "hi"}], "stream": true,
        "logprobs": true, "top_logprobs": 2});
    let stuck = client.open("POST", CHAT, body.to_string().as_bytes()).await;
    core.cancelled(1).await;
    drop(stuck);
}

#[tokio::test]
async fn the_probe_needs_a_port_of_its_own() {
    let client = Client::of(&Double::saying("x")).await;
    let doors = Doors::new(Double::saying("x"), Options::default());
    let error = probe(client.addr, doors).await.expect_err("it is taken");
    assert!(error.to_string().contains(&client.addr.to_string()));
}

/// Asks again until there is an answer that counts.
async fn eventually<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, asking).await.expect("in time")
}
