//! A server that restarts, changes, freezes, is absent, is none, or loses its parent.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use nats::{
    Bus, ConnectError, Link, NatsConfig, PublishError, RequestError,
    server::{NatsServer, ServerSettings, StartError, find},
};

use super::{PATIENCE, connect, link_becomes, message, refused, round_trip, server};
use crate::ledger;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_server_is_found_again_with_all_subscriptions() {
    let Some(mut server) = server(ServerSettings::default()).await else {
        return;
    };
    let (bus, other) = (
        connect(&server.config()).await,
        connect(&server.config()).await,
    );
    let mut plain = bus
        .subscribe("news", None, 16)
        .await
        .expect("a valid subject");
    let mut group = bus
        .subscribe("news", Some("crew"), 16)
        .await
        .expect("a valid subject");
    assert!(bus.flush(PATIENCE).await);
    server.stop();
    link_becomes(&bus, Link::Down).await;
    link_becomes(&other, Link::Down).await;
    assert!(
        !bus.flush(Duration::from_millis(50)).await,
        "nobody took anything"
    );
    other
        .publish(message("later", "queued while down"))
        .expect("there is room");
    server.restart().await.expect("it starts again");
    link_becomes(&bus, Link::Up).await;
    link_becomes(&other, Link::Up).await;
    assert!(bus.flush(PATIENCE).await);
    other
        .publish(message("news", "back"))
        .expect("there is room");
    for subscription in [&mut plain, &mut group] {
        let delivery = tokio::time::timeout(PATIENCE, subscription.next()).await;
        let delivery = delivery
            .expect("a message comes")
            .expect("the subscription goes on");
        assert_eq!(delivery.payload, "back");
    }
    let answer = bus.request(message("nobody", ""), PATIENCE).await.map(drop);
    assert_eq!(answer, Err(RequestError::NoResponders));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_payload_limit_is_learnt_with_the_new_link() {
    let settings = |max| ServerSettings {
        max_payload: Some(max),
        ..Default::default()
    };
    let Some(mut server) = server(settings(1000)).await else {
        return;
    };
    let bus = connect(&server.config()).await;
    assert_eq!(bus.max_payload(), 1000);
    server.stop();
    link_becomes(&bus, Link::Down).await;
    server
        .restart_as(settings(2000))
        .await
        .expect("it starts again");
    link_becomes(&bus, Link::Up).await;
    assert!(bus.flush(PATIENCE).await);
    assert_eq!(bus.max_payload(), 2000);
    let too_large = bus.publish(message("news", &"x".repeat(2001)));
    assert_eq!(
        too_large,
        Err(PublishError::TooLarge {
            bytes: 2001,
            max: 2000
        })
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_server_fills_the_queue_and_never_blocks_a_publisher() {
    let Some(server) = server(ServerSettings::default()).await else {
        return;
    };
    let mut config = server.config();
    config.queue_capacity = 64;
    let bus = connect(&config).await;
    server.pause().expect("it can be frozen");
    let text = "x".repeat(64 * 1024);
    let full = || bus.publish(message("news", &text)) == Err(PublishError::Full);
    // not asynchronous: a publisher that waited would never come back
    let publisher = tokio::task::block_in_place(|| (0..1_000_000).any(|_| full()));
    assert!(publisher, "sockets and queues are bounded");
    assert!(!bus.flush(Duration::from_millis(50)).await);
    server.resume().expect("it can be thawed");
    assert!(bus.flush(PATIENCE).await);
    round_trip(&bus).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_server_is_noticed_by_its_silence() {
    let Some(server) = server(ServerSettings::default()).await else {
        return;
    };
    let mut config = server.config();
    config.ping_interval = Duration::from_millis(50);
    let bus = connect(&config).await;
    server.pause().expect("it can be frozen");
    link_becomes(&bus, Link::Down).await;
    server.resume().expect("it can be thawed");
    link_becomes(&bus, Link::Up).await;
    round_trip(&bus).await;
}

#[tokio::test]
async fn closing_without_a_server_comes_to_an_end() {
    let Some(mut server) = server(ServerSettings::default()).await else {
        return;
    };
    let bus = connect(&server.config()).await;
    let mut subscription = bus
        .subscribe("news", None, 16)
        .await
        .expect("a valid subject");
    server.stop();
    link_becomes(&bus, Link::Down).await;
    tokio::time::timeout(PATIENCE, bus.close())
        .await
        .expect("closing ends");
    assert_eq!(*bus.link().borrow(), Link::Closed);
    assert_eq!(bus.publish(message("news", "")), Err(PublishError::Closed));
    drop(bus);
    server.restart().await.expect("it starts again");
    let end = tokio::time::timeout(PATIENCE, subscription.next()).await;
    assert!(end.expect("the subscription ends").is_none());
}

#[tokio::test]
async fn an_absent_server_is_named_with_what_to_do() {
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let port = port.expect("a free port").port();
    let error = refused(&NatsConfig::new(format!(
        "nats://joe:hidden@127.0.0.1:{port}"
    )))
    .await;
    assert!(matches!(error, ConnectError::NoServer { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains(&format!("nats://127.0.0.1:{port}")), "{text}");
    assert!(
        text.contains("start one") && !text.contains("hidden"),
        "{text}"
    );
    let error = refused(&NatsConfig::new("nats://no such host")).await;
    assert!(matches!(error, ConnectError::Config(_)), "{error}");
}

#[tokio::test]
async fn something_that_is_no_server_fails_in_time() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address");
    let mut config = NatsConfig::new(format!("nats://{address}"));
    config.connect_timeout = Duration::from_millis(100);
    let error = refused(&config).await;
    assert!(matches!(error, ConnectError::Silent { .. }), "{error}");
    drop(listener);
}

#[tokio::test]
async fn a_server_that_cannot_start_shows_its_log() {
    let Some(program) = ledger::need("nats", find()) else {
        return;
    };
    let access = nats::server::Access::Nkey("not an nkey".to_owned());
    let settings = ServerSettings {
        access,
        ..Default::default()
    };
    let error = NatsServer::start_program(program, settings).await.map(drop);
    let error = error.expect_err("the settings are wrong");
    assert!(matches!(error, StartError::Dead { .. }), "{error}");
    assert!(error.to_string().contains("nkey"), "{error}");
}

/// Set in the process that this test starts: it then only holds a server.
const HOLDER: &str = "THALAMUS_TEST_HOLDS_A_SERVER";

#[tokio::test]
async fn a_child_server_dies_with_its_parent() {
    let Some(server) = server(ServerSettings::default()).await else {
        return;
    };
    if std::env::var_os(HOLDER).is_some() {
        let pid = server.pid().expect("it runs");
        writeln!(std::io::stderr(), "\npid {pid}").expect("the parent reads");
        std::future::pending::<()>().await;
    }
    let holder = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "loss::a_child_server_dies_with_its_parent"])
        .env(HOLDER, "1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut holder = holder.expect("it runs again");
    let lines = BufReader::new(holder.stderr.take().expect("it is piped")).lines();
    let pid = lines
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("pid ")?.parse().ok());
    let pid: u32 = pid.expect("it tells its server's pid");
    assert!(runs(pid));
    let folder = folder_of(pid);
    let mode = std::fs::metadata(&folder)
        .expect("its folder")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700, "the credential is in there");
    holder
        .kill()
        .and_then(|()| holder.wait())
        .expect("it can be killed");
    let gone = async {
        while runs(pid) || folder.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone)
        .await
        .expect("the server and its folder go too");
}

/// Where a server's configuration file lies, by its command line.
fn folder_of(pid: u32) -> PathBuf {
    let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).expect("it runs");
    let file = line.split('\0').find(|word| word.ends_with("server.conf"));
    Path::new(file.expect("a configuration file"))
        .parent()
        .expect("in a folder")
        .to_owned()
}

/// True for a process that is there and no zombie.
fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !matches!(
        stat.rsplit(") ")
            .next()
            .and_then(|rest| rest.chars().next()),
        None | Some('Z')
    )
}
