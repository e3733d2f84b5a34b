//! HTTPS with a certificate that is only for tests (`tls/`).

use std::{path::Path, sync::Arc, time::Duration};

use gateway::{
    Options,
    http::{HttpConfig, TlsFiles},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::support::{Client, Double};

async fn door() -> (Client, TlsConnector) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/doors/tls");
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_file(&cert).expect("a certificate");
    roots.add(root).expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tls = Some(TlsFiles { cert, key });
    let config = HttpConfig {
        tls,
        ..HttpConfig::default()
    };
    let door = Client::with(&Double::saying("Hey"), Options::default(), config).await;
    (door, TlsConnector::from(Arc::new(client)))
}

#[tokio::test]
async fn streams_run_over_tls_and_silent_clients_hold_up_nobody() {
    let (door, connector) = door().await;
    // two that never shake hands
    let _silent = [
        TcpStream::connect(door.addr).await.expect("it listens"),
        TcpStream::connect(door.addr).await.expect("it listens"),
    ];
    let plain = TcpStream::connect(door.addr).await.expect("it listens");
    let name = ServerName::try_from("127.0.0.1").expect("an address");
    let mut stream = connector.connect(name, plain).await.expect("a handshake");
    let body = r#"{"messages":[{"role":"user","content":"hi"}],"stream":true}"#;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: t\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("it reads");
    stream.write_all(body.as_bytes()).await.expect("it reads");
    let mut text = String::new();
    let read = stream.read_to_string(&mut text);
    let read = tokio::time::timeout(Duration::from_secs(10), read).await;
    // a server may close without the last TLS word; what matters came before
    drop(read.expect("an answer in time"));
    assert!(text.contains("data: [DONE]"), "{text}");
}

#[tokio::test]
async fn plain_http_on_a_tls_port_gets_no_answer_and_the_door_lives() {
    let (door, connector) = door().await;
    let mut plain = TcpStream::connect(door.addr).await.expect("it listens");
    plain
        .write_all(b"GET /health HTTP/1.1\r\n\r\n")
        .await
        .expect("it reads");
    let mut answer = Vec::new();
    // a reset is as good as an end
    drop(plain.read_to_end(&mut answer).await);
    assert!(!answer.starts_with(b"HTTP"));
    let plain = TcpStream::connect(door.addr).await.expect("it listens");
    let name = ServerName::try_from("127.0.0.1").expect("an address");
    assert!(connector.connect(name, plain).await.is_ok());
}
