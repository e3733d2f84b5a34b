//! Bytes that make no sense, at the sockets of a fabric: counted, cut off, and nothing else suffers.

#[path = "../../tests/src/ledger.rs"]
pub mod ledger;

use std::{
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, channel},
    },
    time::{Duration, Instant},
};

use bus_schemas::{Epoch, NodeId, NodeRef, Ticket, messages::SlotRef};
use gpu::{Region, region::SPARE_BYTES};
use transport::{
    Checks, Export, Fabric, FabricConfig, FabricEvent, FabricKind, Piece, Take, UcxOptions,
    probe_ucx, start,
};

const PATIENCE: Duration = Duration::from_secs(20);
const TICKET: Ticket = Ticket([3; 16]);

#[test]
fn garbage_at_the_unix_socket_is_counted_and_cut_off() {
    let dir = tempfile::tempdir().expect("room for a directory");
    let place = dir.path().join("fabric");
    let shm = || FabricKind::Shm { dir: place.clone() };
    let (owner, _) = node("owner", shm());
    let socket = socket_in(&place);
    let (reader, events) = node("reader", shm());
    reader.fabric.know(owner.me, &owner.fabric.card());
    let senseless: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\n\r\n",
        &u32::MAX.to_le_bytes(),
        &[0; 64],
        &[1, 0, 0, 0, 9],
        // A question before any greeting.
        &[9, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    ];
    for (count, bytes) in (1..).zip(senseless) {
        let mut stream = UnixStream::connect(&socket).expect("a socket that listens");
        stream.write_all(bytes).expect("room in the socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time");
        assert!(
            !matches!(stream.read(&mut [0; 8]), Ok(1..)),
            "{bytes:?} was answered"
        );
        until(|| owner.fabric.moved().garbage == count);
    }
    takes_well(&owner, &reader, &events);
}

#[test]
fn memory_that_fails_the_read_back_is_refused() {
    let dir = tempfile::tempdir().expect("room for a directory");
    let shm = || FabricKind::Shm {
        dir: dir.path().join("fabric"),
    };
    let (liar, _) = node("liar", shm());
    let (owner, _) = node("owner", shm());
    let (reader, events) = node("reader", shm());
    liar.region.write_spare(&[7; SPARE_BYTES]);
    reader.fabric.know(liar.me, &liar.fabric.card());
    until(|| reader.fabric.unreachable() == [liar.me]);
    // Hearing of it again changes nothing, and others are read from.
    reader.fabric.know(liar.me, &liar.fabric.card());
    reader.fabric.know(owner.me, &owner.fabric.card());
    takes_well(&owner, &reader, &events);
    assert_eq!(reader.fabric.unreachable(), [liar.me]);
}

#[test]
fn garbage_at_the_ucx_port_harms_nobody() {
    if ledger::need("ucx", probe_ucx()).is_none() {
        return;
    }
    let (owner, _) = node("owner", FabricKind::Ucx(UcxOptions::default()));
    let (reader, events) = node("reader", FabricKind::Ucx(UcxOptions::default()));
    let card = owner.fabric.card();
    let at = card
        .windows(10)
        .position(|part| part == b"127.0.0.1:")
        .expect("an address");
    let address = std::str::from_utf8(&card[at..]).expect("text");
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 8], &[]] {
        let mut stream = TcpStream::connect(address).expect("a port that listens");
        stream.write_all(bytes).expect("room in the socket");
    }
    reader.fabric.know(owner.me, &card);
    takes_well(&owner, &reader, &events);
}

#[test]
fn a_directory_that_others_can_enter_is_refused() {
    let dir = tempfile::tempdir().expect("room for a directory");
    let place = dir.path().join("open");
    std::fs::create_dir(&place).expect("a directory");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&place, open).expect("our own directory");
    let (config, _) = config("owner");
    let refused = start(FabricKind::Shm { dir: place }, config);
    assert!(refused.is_err_and(|error| error.to_string().contains("0700")));
}

struct Node {
    me: NodeRef,
    region: Arc<Region>,
    fabric: Arc<dyn Fabric>,
}

fn config(name: &str) -> (FabricConfig, Receiver<FabricEvent>) {
    let node = NodeId::new(name).expect("a fine name");
    let epoch = Epoch(1);
    let (sender, events) = channel();
    let config = FabricConfig {
        me: NodeRef { node, epoch },
        region: Region::new(4, 4096).expect("16 KiB"),
        checks: Checks::default(),
        sink: Arc::new(move |event| drop(sender.send(event))),
    };
    (config, events)
}

fn node(name: &str, kind: FabricKind) -> (Node, Receiver<FabricEvent>) {
    let (config, events) = config(name);
    let (me, region) = (config.me, Arc::clone(&config.region));
    let fabric = start(kind, config).expect("a fabric");
    (Node { me, region, fabric }, events)
}

fn takes_well(owner: &Node, reader: &Node, events: &Receiver<FabricEvent>) {
    let slot = SlotRef {
        slot: 1,
        generation: 1,
    };
    owner.region.write(1, 0, b"well");
    owner.fabric.export(Export {
        ticket: TICKET,
        seq: 0,
        audience: reader.me,
        slots: vec![slot],
    });
    reader.fabric.take(Take {
        id: 1,
        ticket: TICKET,
        seq: 0,
        owner: owner.me,
        pieces: vec![Piece {
            from: slot,
            to: slot,
        }],
        timeout: PATIENCE,
    });
    let mut ends = std::iter::repeat_with(|| events.recv_timeout(PATIENCE).expect("an end"));
    // A slow first connection reports progress.
    let taken = ends.find(|event| !matches!(event, FabricEvent::Progress { .. }));
    let result = Ok(4096);
    assert_eq!(taken, Some(FabricEvent::Taken { id: 1, result }));
    let mut bytes = [0; 4];
    reader.region.read(1, 0, &mut bytes);
    assert_eq!(&bytes, b"well");
}

fn socket_in(dir: &Path) -> std::path::PathBuf {
    let mut entries = std::fs::read_dir(dir).expect("the fabric's directory");
    entries
        .next()
        .expect("one socket")
        .expect("an entry")
        .path()
}

fn until(done: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "that never happened");
        std::thread::sleep(Duration::from_millis(1));
    }
}
