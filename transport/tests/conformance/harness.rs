//! Nodes of a test: a region, a fabric of the kind under test, and a log of its events.

use std::{
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

use bus_schemas::{Epoch, NodeId, NodeRef, Ticket, messages::SlotRef};
use gpu::Region;
use transport::{
    Checks, Export, Fabric, FabricConfig, FabricEvent, FabricKind, Failure, MemNetwork, Piece,
    Take, UcxOptions, probe_ucx, start,
};

/// Longest that any scenario waits for an event. A bound for broken code, not an expectation.
const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const SLOTS: u32 = 64;
pub(crate) const SLOT_BYTES: usize = 64 * 1024;
pub(crate) const TICKET: Ticket = Ticket([9; 16]);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Memory,
    Shm,
    Ucx,
}

/// Where the nodes of one scenario meet.
pub(crate) struct Cluster {
    kind: Kind,
    network: MemNetwork,
    dir: tempfile::TempDir,
}

impl Cluster {
    /// None, said loudly, where the kind cannot run here.
    pub(crate) fn new(kind: Kind) -> Option<Self> {
        if kind == Kind::Ucx {
            crate::ledger::need("ucx", probe_ucx())?;
        }
        let network = MemNetwork::default();
        let dir = tempfile::tempdir().expect("room for a directory");
        Some(Self { kind, network, dir })
    }

    fn kind(&self) -> FabricKind {
        match self.kind {
            Kind::Memory => FabricKind::Memory(self.network.clone()),
            Kind::Shm => FabricKind::Shm {
                dir: self.dir.path().join("fabric"),
            },
            Kind::Ucx => FabricKind::Ucx(UcxOptions::default()),
        }
    }

    pub(crate) fn node(&self, name: &str) -> Node {
        self.node_of(name, 1, SLOTS, SLOT_BYTES)
    }

    pub(crate) fn node_of(&self, name: &str, epoch: u64, slots: u32, slot_bytes: usize) -> Node {
        let node = NodeId::new(name).expect("a fine name");
        let epoch = Epoch(epoch);
        let me = NodeRef { node, epoch };
        let region = Region::new(slots, slot_bytes).expect("a few MiB");
        let log = Arc::new(Log::default());
        let events = Arc::clone(&log);
        let config = FabricConfig {
            me,
            region: Arc::clone(&region),
            checks: Checks::default(),
            sink: Arc::new(move |event| events.push(event)),
        };
        let fabric = start(self.kind(), config).expect("a fabric");
        Node {
            me,
            region,
            fabric,
            log,
        }
    }

    /// An owner whose blocks are filled and a reader that knows it.
    pub(crate) fn pair(&self) -> (Node, Node) {
        let (owner, reader) = (self.node("owner"), self.node("reader"));
        owner.fill(1);
        reader.know(&owner);
        (owner, reader)
    }
}

#[derive(Default)]
pub(crate) struct Log {
    events: Mutex<Vec<FabricEvent>>,
    changed: Condvar,
}

impl Log {
    fn push(&self, event: FabricEvent) {
        self.events.lock().expect("no panic").push(event);
        self.changed.notify_all();
    }

    /// Waits for an event.
    fn wait(&self, wanted: impl Fn(&FabricEvent) -> bool) -> FabricEvent {
        let end = Instant::now() + PATIENCE;
        let mut events = self.events.lock().expect("no panic");
        loop {
            if let Some(event) = events.iter().find(|event| wanted(event)) {
                return event.clone();
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no such event; there were {events:?}");
            events = self.changed.wait_timeout(events, left).expect("no panic").0;
        }
    }
}

pub(crate) struct Node {
    pub(crate) me: NodeRef,
    pub(crate) region: Arc<Region>,
    pub(crate) fabric: Arc<dyn Fabric>,
    log: Arc<Log>,
}

impl Node {
    /// Every slot gets bytes of its own.
    pub(crate) fn fill(&self, salt: u32) {
        for slot in 0..self.region.slots() {
            self.region
                .write(slot, 0, &pattern(slot, salt, self.region.slot_bytes()));
        }
    }

    pub(crate) fn slot(&self, slot: u32) -> Vec<u8> {
        let mut bytes = vec![0; self.region.slot_bytes()];
        self.region.read(slot, 0, &mut bytes);
        bytes
    }

    pub(crate) fn know(&self, peer: &Node) {
        self.fabric.know(peer.me, &peer.fabric.card());
    }

    /// Exports slots, each in its first generation.
    pub(crate) fn export(&self, seq: u32, audience: &Node, slots: impl IntoIterator<Item = u32>) {
        self.fabric.export(Export {
            ticket: TICKET,
            seq,
            audience: audience.me,
            slots: slots.into_iter().map(|slot| slot_ref(slot, 1)).collect(),
        });
    }

    /// The single end of a take, after it has settled.
    pub(crate) fn outcome(&self, id: u64) -> Result<u64, Failure> {
        let taken = self.taken(id);
        self.log.wait(|event| *event == FabricEvent::Settled { id });
        self.assert_ended_once(id);
        taken
    }

    /// The end of a take, which may not have settled yet.
    pub(crate) fn taken(&self, id: u64) -> Result<u64, Failure> {
        let is_end =
            |event: &FabricEvent| matches!(event, FabricEvent::Taken { id: of, .. } if *of == id);
        match self.log.wait(is_end) {
            FabricEvent::Taken { result, .. } => result,
            other => panic!("waited for an end, got {other:?}"),
        }
    }

    pub(crate) fn assert_ended_once(&self, id: u64) {
        let events = self.log.events.lock().expect("no panic");
        let mine: Vec<bool> = events
            .iter()
            .filter_map(|event| match event {
                FabricEvent::Taken { id: of, .. } => (*of == id).then_some(true),
                FabricEvent::Settled { id: of } => (*of == id).then_some(false),
                FabricEvent::Progress { .. } => None,
            })
            .collect();
        assert_eq!(
            mine,
            [true, false],
            "take {id} must be taken once, then settled once"
        );
    }

    pub(crate) fn is_untouched(&self) -> bool {
        (0..self.region.slots()).all(|slot| self.slot(slot).iter().all(|byte| *byte == 0))
    }
}

/// A take of `slots`, given as (theirs, ours).
pub(crate) fn take(id: u64, owner: &Node, seq: u32, slots: &[(u32, u32)]) -> Take {
    let piece = |(from, to): &(u32, u32)| Piece {
        from: slot_ref(*from, 1),
        to: slot_ref(*to, 1),
    };
    Take {
        id,
        ticket: TICKET,
        seq,
        owner: owner.me,
        pieces: slots.iter().map(piece).collect(),
        timeout: PATIENCE / 2,
    }
}

pub(crate) fn slot_ref(slot: u32, generation: u32) -> SlotRef {
    SlotRef { slot, generation }
}

pub(crate) fn pattern(slot: u32, salt: u32, len: usize) -> Vec<u8> {
    let mut state = u64::from(slot) << 32 | u64::from(salt) | 1 << 63;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(salt.into());
        (state >> 33) as u8
    };
    (0..len).map(|_| next()).collect()
}
