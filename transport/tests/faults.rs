//! The faults that can be injected into a network of one process, as its readers see them.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    time::Duration,
};

use bus_schemas::{Epoch, NodeId, NodeRef, Ticket, messages::SlotRef};
use gpu::Region;
use transport::{
    Checks, Export, Fabric, FabricConfig, FabricEvent, Failure, Faults, MemFabric, MemNetwork,
    Piece, Take,
};

const PATIENCE: Duration = Duration::from_secs(20);
/// Long enough for a take that is not held up to end.
const MOMENT: Duration = Duration::from_millis(60);
const TICKET: Ticket = Ticket([3; 16]);

#[test]
fn a_dropped_take_ends_by_its_timeout() {
    let test = Test::new(Faults {
        dropped: true,
        ..Faults::default()
    });
    test.take(MOMENT);
    assert_eq!(test.next(), Test::taken(Err(Failure::Deadline)));
    assert_eq!(test.next(), FabricEvent::Settled { id: 1 });
}

#[test]
fn a_frozen_owner_goes_on_when_it_thaws() {
    let test = Test::new(Faults {
        frozen: true,
        ..Faults::default()
    });
    test.take(PATIENCE);
    assert_eq!(
        test.events.recv_timeout(MOMENT),
        Err(RecvTimeoutError::Timeout)
    );
    test.network.set_faults(test.owner, Faults::default());
    assert_eq!(test.next(), Test::taken(Ok(4096)));
}

#[test]
fn a_failed_owner_is_lost() {
    let test = Test::new(Faults {
        failed: true,
        ..Faults::default()
    });
    test.take(PATIENCE);
    assert_eq!(test.next(), Test::taken(Err(Failure::PeerLost)));
}

#[test]
fn a_delayed_take_can_be_cancelled_before_it_moves() {
    let test = Test::new(Faults {
        delay: PATIENCE,
        ..Faults::default()
    });
    test.take(PATIENCE * 2);
    test.reader.cancel(1);
    assert_eq!(test.next(), Test::taken(Err(Failure::Cancelled)));
    assert_eq!(test.next(), FabricEvent::Settled { id: 1 });
}

struct Test {
    network: MemNetwork,
    owner: NodeRef,
    reader: Arc<MemFabric>,
    events: Receiver<FabricEvent>,
    _owner: Arc<MemFabric>,
}

impl Test {
    fn new(faults: Faults) -> Self {
        let network = MemNetwork::default();
        let (config, _) = config("owner");
        let owner = config.me;
        let from = MemFabric::start(&network, config).expect("a fabric");
        let (config, events) = self::config("reader");
        let audience = config.me;
        let reader = MemFabric::start(&network, config).expect("a fabric");
        from.export(Export {
            ticket: TICKET,
            seq: 0,
            audience,
            slots: vec![slot()],
        });
        reader.know(owner, &from.card());
        network.set_faults(owner, faults);
        Self {
            network,
            owner,
            reader,
            events,
            _owner: from,
        }
    }

    fn take(&self, timeout: Duration) {
        self.reader.take(Take {
            id: 1,
            ticket: TICKET,
            seq: 0,
            owner: self.owner,
            pieces: vec![Piece {
                from: slot(),
                to: slot(),
            }],
            timeout,
        });
    }

    fn next(&self) -> FabricEvent {
        self.events.recv_timeout(PATIENCE).expect("an event")
    }

    fn taken(result: Result<u64, Failure>) -> FabricEvent {
        FabricEvent::Taken { id: 1, result }
    }
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

fn slot() -> SlotRef {
    SlotRef {
        slot: 1,
        generation: 1,
    }
}
