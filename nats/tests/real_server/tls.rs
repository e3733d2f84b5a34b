//! TLS with a certificate authority made on the spot by the openssl command.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use nats::{
    ConnectError, TlsFiles,
    server::{NatsServer, ServerSettings, ServerTls, find},
};

use super::{connect, refused, round_trip, server};
use crate::ledger;

/// A certificate and its key.
#[derive(Clone)]
struct Pair {
    cert: PathBuf,
    key: PathBuf,
}

fn openssl(arguments: &[&str]) -> Option<()> {
    let output = Command::new("openssl").args(arguments).output().ok()?;
    output.status.success().then_some(())
}

/// A pair for `name`, signed by `issuer` or by itself.
fn certify(folder: &Path, name: &str, issuer: Option<&Pair>) -> Option<Pair> {
    let path = |ending: &str| folder.join(format!("{name}.{ending}"));
    let pair = Pair {
        cert: path("pem"),
        key: path("key"),
    };
    let (cert, key) = (pair.cert.to_str()?, pair.key.to_str()?);
    let curve = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ];
    let subject = format!("/CN={name}");
    let mut arguments = vec![
        "req", "-x509", "-subj", &subject, "-keyout", key, "-out", cert,
    ];
    arguments.extend(curve);
    if let Some(issuer) = issuer {
        arguments.extend(["-CA", issuer.cert.to_str()?, "-CAkey", issuer.key.to_str()?]);
        arguments.extend(["-addext", "subjectAltName=IP:127.0.0.1"]);
        arguments.extend(["-addext", "basicConstraints=critical,CA:FALSE"]);
    }
    openssl(&arguments).map(|()| pair)
}

/// An authority, a server's pair and a client's, or none, said aloud, without openssl.
fn certificates(folder: &Path) -> Option<[Pair; 3]> {
    let pairs = certify(folder, "authority", None).and_then(|authority| {
        let server = certify(folder, "server", Some(&authority))?;
        let client = certify(folder, "client", Some(&authority))?;
        Some([authority, server, client])
    });
    let why = "it makes no certificates: install Debian's `openssl`, version 3";
    ledger::need("openssl", pairs.ok_or(why))
}

fn settings(server: &Pair, client_ca: Option<&Pair>) -> ServerSettings {
    let (cert, key) = (server.cert.clone(), server.key.clone());
    let client_ca = client_ca.map(|pair| pair.cert.clone());
    ServerSettings {
        tls: Some(ServerTls {
            cert,
            key,
            client_ca,
            first: false,
        }),
        ..Default::default()
    }
}

#[tokio::test]
async fn tls_trusts_the_given_authority_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some([authority, pair, _]) = certificates(folder.path()) else {
        return;
    };
    let Some(server) = server(settings(&pair, None)).await else {
        return;
    };
    let mut config = server.config();
    config.tls = Some(TlsFiles {
        ca: Some(authority.cert),
        ..Default::default()
    });
    round_trip(&*connect(&config).await).await;

    let stranger = certify(folder.path(), "stranger", None).expect("openssl works");
    config.tls = Some(TlsFiles {
        ca: Some(stranger.cert),
        ..Default::default()
    });
    let error = refused(&config).await;
    assert!(matches!(error, ConnectError::Tls { .. }), "{error:?}");
    assert!(error.to_string().contains(&server.url()), "{error}");

    let missing = folder.path().join("missing.pem");
    config.tls = Some(TlsFiles {
        ca: Some(missing),
        ..Default::default()
    });
    let error = refused(&config).await;
    assert!(matches!(&error, ConnectError::File { path, .. } if path.ends_with("missing.pem")));
}

#[tokio::test]
async fn a_server_may_ask_for_our_certificate() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some([authority, pair, client]) = certificates(folder.path()) else {
        return;
    };
    let Some(server) = server(settings(&pair, Some(&authority))).await else {
        return;
    };
    let mut config = server.config();
    let ca = Some(authority.cert);
    config.tls = Some(TlsFiles {
        ca: ca.clone(),
        cert: Some(client.cert),
        key: Some(client.key),
    });
    round_trip(&*connect(&config).await).await;
    config.tls = Some(TlsFiles {
        ca,
        ..Default::default()
    });
    let error = refused(&config).await;
    assert!(matches!(error, ConnectError::Tls { .. }), "{error:?}");
}

#[tokio::test]
async fn demanding_tls_of_a_plain_server_fails() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some([authority, ..]) = certificates(folder.path()) else {
        return;
    };
    let Some(server) = server(ServerSettings::default()).await else {
        return;
    };
    let mut config = server.config();
    config.tls = Some(TlsFiles {
        ca: Some(authority.cert),
        ..Default::default()
    });
    let error = refused(&config).await;
    assert!(matches!(error, ConnectError::Tls { .. }), "{error:?}");
}

#[tokio::test]
async fn tls_may_come_before_the_first_line() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some([authority, pair, _]) = certificates(folder.path()) else {
        return;
    };
    let Some(program) = ledger::need("nats", find()) else {
        return;
    };
    let mut settings = settings(&pair, None);
    settings.tls.iter_mut().for_each(|tls| tls.first = true);
    let server = match NatsServer::start_program(program, settings).await {
        Ok(server) => server,
        // a server before 2.10 refuses the setting, and its error must be shown
        Err(error) => return assert!(error.to_string().contains("handshake_first"), "{error}"),
    };
    let mut config = server.config();
    config.tls = Some(TlsFiles {
        ca: Some(authority.cert),
        ..Default::default()
    });
    config.tls_first = true;
    round_trip(&*connect(&config).await).await;
    config.tls_first = false;
    config.connect_timeout = Duration::from_millis(300);
    let error = refused(&config).await;
    assert!(!matches!(error, ConnectError::NoServer { .. }), "{error:?}");
}
