//! An owner in a process of its own, killed or frozen while its blocks are read.
//!
//! The owner is this test binary again, told by the environment what to be. It exports everything to the reader,
//! prints its card, and waits until its input ends.

#![allow(unsafe_code)] // signals to our own children

#[path = "../../../tests/src/ledger.rs"]
pub mod ledger;

use std::{
    fmt::Write as _,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, channel},
    },
    time::{Duration, Instant},
};

use bus_schemas::{Epoch, NodeId, NodeRef, Ticket, messages::SlotRef};
use gpu::Region;
use transport::{
    Checks, Export, Fabric, FabricConfig, FabricEvent, FabricKind, Failure, Piece, Take,
    UcxOptions, probe_ucx, start,
};

const ROLE: &str = "THALAMUS_TEST_OWNER";
const SLOTS: u32 = 200;
const SLOT_BYTES: usize = 256 * 1024;
const TICKET: Ticket = Ticket([5; 16]);
/// Longest that a broken fabric holds a test up.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn over_shm_a_killed_owner_is_lost_and_every_take_settles() {
    killed("shm");
}

#[test]
fn over_ucx_a_killed_owner_is_lost_and_every_take_settles() {
    if has_ucx() {
        killed("ucx");
    }
}

#[test]
fn over_shm_a_frozen_owner_costs_no_more_than_the_timeout() {
    frozen("shm");
}

#[test]
fn over_ucx_a_frozen_owner_costs_no_more_than_the_timeout() {
    if has_ucx() {
        frozen("ucx");
    }
}

#[test]
fn over_shm_bytes_cross_processes() {
    crosses("shm");
}

#[test]
fn over_ucx_bytes_cross_processes() {
    if has_ucx() {
        crosses("ucx");
    }
}

/// Not a test of its own: what the other process runs.
#[test]
fn owner_process() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let (kind, dir) = role.split_once(' ').expect("a kind and a directory");
    let region = region();
    for slot in 0..SLOTS {
        region.write(slot, 0, &vec![slot as u8 + 1; SLOT_BYTES]);
    }
    let config = FabricConfig {
        me: node("owner"),
        region,
        checks: Checks::default(),
        sink: Arc::new(|_| {}),
    };
    let fabric = start(kind_of(kind, Path::new(dir)), config).expect("a fabric");
    fabric.export(Export {
        ticket: TICKET,
        seq: 0,
        audience: node("reader"),
        slots: (0..SLOTS).map(slot).collect(),
    });
    let card = fabric.card().iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("strings take everything");
        hex
    });
    println!("\ncard {card}");
    std::io::stdin()
        .read_to_end(&mut Vec::new())
        .expect("an end");
    // The harness has nothing to add, and a fabric that is gone with its process is what is tested.
    std::process::exit(0);
}

fn crosses(kind: &str) {
    let mut pair = Pair::new(kind);
    pair.take(1, PATIENCE);
    assert_eq!(pair.end(1), Ok(u64::from(SLOTS) * SLOT_BYTES as u64));
    for index in 0..SLOTS {
        let mut bytes = vec![0; SLOT_BYTES];
        pair.region.read(index, 0, &mut bytes);
        assert!(
            bytes.iter().all(|byte| *byte == index as u8 + 1),
            "slot {index}"
        );
    }
    pair.owner.kill().expect("our own child");
}

fn killed(kind: &str) {
    for delay_us in [0, 500, 2_000, 5_000, 10_000, 20_000] {
        let mut pair = Pair::new(kind);
        (0..8).for_each(|id| pair.take(id, PATIENCE));
        std::thread::sleep(Duration::from_micros(delay_us));
        pair.owner.kill().expect("our own child");
        for id in 0..8 {
            let end = pair.end(id);
            let fine = end.is_ok() || matches!(end, Err(Failure::PeerLost | Failure::Unreachable));
            assert!(fine, "after {delay_us} us: {end:?}");
        }
    }
}

fn frozen(kind: &str) {
    for delay_us in [0, 2_000, 10_000] {
        let mut pair = Pair::new(kind);
        pair.take(100, PATIENCE);
        assert!(pair.end(100).is_ok());
        (0..8).for_each(|id| pair.take(id, Duration::from_millis(500)));
        std::thread::sleep(Duration::from_micros(delay_us));
        pair.signal(libc::SIGSTOP);
        let began = Instant::now();
        for id in 0..8 {
            let end = pair.end(id);
            let fine = end.is_ok() || matches!(end, Err(Failure::Deadline | Failure::PeerLost));
            assert!(fine, "after {delay_us} us: {end:?}");
        }
        // The timeout, the second that operations may linger, and a generous margin for a busy machine.
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "{:?}",
            began.elapsed()
        );
        pair.signal(libc::SIGCONT);
        pair.take(200, PATIENCE);
        let end = pair.end(200);
        // Its lane may have been reset; then the next take makes a new one.
        if end.is_err() {
            pair.take(201, PATIENCE);
            assert!(pair.end(201).is_ok(), "after {delay_us} us");
        }
        pair.owner.kill().expect("our own child");
    }
}

struct Pair {
    owner: Child,
    region: Arc<Region>,
    fabric: Arc<dyn Fabric>,
    events: Mutex<Receiver<FabricEvent>>,
    seen: Vec<FabricEvent>,
    _dir: tempfile::TempDir,
}

impl Pair {
    fn new(kind: &str) -> Self {
        let dir = tempfile::tempdir().expect("room for a directory");
        let place = dir.path().join("fabric");
        let region = region();
        let (sender, events) = channel();
        let config = FabricConfig {
            me: node("reader"),
            region: Arc::clone(&region),
            checks: Checks::default(),
            sink: Arc::new(move |event| drop(sender.send(event))),
        };
        let fabric = start(kind_of(kind, &place), config).expect("a fabric");
        let (owner, card) = spawn(kind, &place);
        fabric.know(node("owner"), &card);
        Self {
            owner,
            region,
            fabric,
            events: Mutex::new(events),
            seen: Vec::new(),
            _dir: dir,
        }
    }

    /// Takes every block.
    fn take(&self, id: u64, timeout: Duration) {
        let pieces = (0..SLOTS).map(|index| Piece {
            from: slot(index),
            to: slot(index),
        });
        self.fabric.take(Take {
            id,
            ticket: TICKET,
            seq: 0,
            owner: node("owner"),
            pieces: pieces.collect(),
            timeout,
        });
    }

    /// How a take ended, once it has settled; each of the two happened once.
    fn end(&mut self, id: u64) -> Result<u64, Failure> {
        let settled = FabricEvent::Settled { id };
        let deadline = Instant::now() + PATIENCE;
        while !self.seen.contains(&settled) {
            let left = deadline.saturating_duration_since(Instant::now());
            let events = self.events.lock().expect("no panic");
            let event = events.recv_timeout(left).expect("every take settles");
            self.seen.push(event);
        }
        let ends: Vec<Result<u64, Failure>> = self
            .seen
            .iter()
            .filter_map(|event| match event {
                FabricEvent::Taken { id: of, result } => (*of == id).then_some(*result),
                FabricEvent::Progress { .. } | FabricEvent::Settled { .. } => None,
            })
            .collect();
        assert_eq!(ends.len(), 1, "take {id} must end once");
        assert_eq!(
            self.seen.iter().filter(|event| **event == settled).count(),
            1
        );
        ends[0]
    }

    fn signal(&self, signal: libc::c_int) {
        let pid = libc::pid_t::try_from(self.owner.id()).expect("a process id");
        // SAFETY: a signal to our own child, which has not been waited for.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        drop(self.owner.kill());
        drop(self.owner.wait());
    }
}

fn spawn(kind: &str, dir: &Path) -> (Child, Vec<u8>) {
    let own = std::env::current_exe().expect("this binary");
    let mut owner = Command::new(own)
        .args(["--exact", "owner_process", "--nocapture"])
        .env(ROLE, format!("{kind} {}", dir.display()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let out = BufReader::new(owner.stdout.take().expect("it is piped"));
    let hex = out
        .lines()
        .find_map(|line| line.ok()?.strip_prefix("card ").map(str::to_owned))
        .expect("a card");
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
    let card = (0..hex.len()).step_by(2).map(byte).collect();
    (owner, card)
}

fn kind_of(kind: &str, dir: &Path) -> FabricKind {
    match kind {
        "shm" => FabricKind::Shm {
            dir: PathBuf::from(dir),
        },
        "ucx" => FabricKind::Ucx(UcxOptions::default()),
        other => panic!("no fabric is called {other}"),
    }
}

fn region() -> Arc<Region> {
    Region::new(SLOTS, SLOT_BYTES).expect("50 MiB")
}

fn node(name: &str) -> NodeRef {
    let node = NodeId::new(name).expect("a fine name");
    let epoch = Epoch(1);
    NodeRef { node, epoch }
}

fn slot(slot: u32) -> SlotRef {
    SlotRef {
        slot,
        generation: 1,
    }
}

fn has_ucx() -> bool {
    ledger::need("ucx", probe_ucx()).is_some()
}
