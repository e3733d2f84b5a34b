//! The fabric between hosts, by UCX: the owner pushes blocks as active messages, the reader says where each lands.
//!
//! One thread owns every UCX object; the fabric's methods only leave commands for it. No one-sided access is used,
//! and nobody outside can name an address of this process's memory. Start reading at `lane`, then `arrivals`.

mod arrivals;
mod callbacks;
mod conn;
mod context;
mod error;
mod landings;
mod lane;
mod message;
mod owning;
mod printed;
mod queue;
mod reaching;
mod reading;
mod settings;
mod sockaddr;
mod worker;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
};

use bus_schemas::{NodeRef, Ticket};

pub use error::UcxError;
pub use settings::UcxOptions;

use crate::{
    Export, Fabric, FabricConfig, FabricError, Failure, Moved, Take, UcxVersion,
    card::{Card, Lane as CardLane, draw_key},
    exports::Exports,
    peers::Unreachable,
    wake::Doorbell,
};
use context::Context;
use lane::{Address, Command, Lane, Shared};
use worker::Worker;

/// A fabric over UCX.
pub struct UcxFabric {
    card: Card,
    shared: Shared,
    commands: Sender<Command>,
    thread: Option<JoinHandle<()>>,
}

/// Opens the library, if that was not done yet, and tells its version.
pub(crate) fn version() -> Result<UcxVersion, UcxError> {
    let (_, version) = ucx_sys::open()?;
    Ok(UcxVersion {
        major: version.major,
        minor: version.minor,
        release: version.release,
    })
}

impl UcxFabric {
    /// Opens UCX on a thread of its own.
    ///
    /// # Errors
    /// [`FabricError`] if UCX is missing, does not fit, or refuses a setting, lane or device.
    pub fn start(options: &UcxOptions, config: FabricConfig) -> Result<Arc<Self>, FabricError> {
        let system = |what| move |source| FabricError::System { what, source };
        let shared = Shared {
            bell: Arc::new(Doorbell::new().map_err(system("make a doorbell"))?),
            stopped: Arc::default(),
            exports: Exports::new(&config.region, config.checks),
            counters: Arc::default(),
            unreachable: Unreachable::default(),
            lanes: Arc::default(),
        };
        let key = draw_key().map_err(system("draw a random key"))?;
        let (commands, inbox) = channel();
        let (ready, started) = channel();
        let setup = (options.clone(), config.clone(), shared.clone());
        let thread = std::thread::Builder::new()
            .name("fabric-ucx".to_owned())
            .spawn(move || serve(setup, key, &ready, &inbox))
            .map_err(system("start the fabric's thread"))?;
        let socket = started.recv().unwrap_or_else(|_| {
            let gone = std::io::Error::other("it ended at once");
            Err(system("start the fabric's thread")(gone))
        })?;
        let card = Card {
            node: config.me,
            slots: config.region.slots(),
            slot_bytes: config.region.slot_bytes() as u64,
            lane: CardLane::Ucx { key, socket },
        };
        Ok(Arc::new(Self {
            card,
            shared,
            commands,
            thread: Some(thread),
        }))
    }

    /// The transports and devices that UCX chose for the owner that let us in last.
    pub(crate) fn lanes(&self) -> String {
        self.shared.lanes.lock().expect("no holder panics").clone()
    }

    fn send(&self, command: Command) {
        if self.commands.send(command).is_err() {
            tracing::error!("the UCX fabric's thread is gone");
        }
        self.shared.bell.ring();
    }

    /// What a peer's card says, or why it is of no use here.
    fn address(&self, peer: NodeRef, card: &[u8]) -> Result<Address, Failure> {
        let Some(card) = Card::decode(card).filter(|card| card.node == peer) else {
            self.shared.counters.dropped();
            return Err(Failure::Unreachable);
        };
        let CardLane::Ucx { key, socket } = card.lane else {
            return Err(Failure::Unreachable);
        };
        if card.slot_bytes != self.card.slot_bytes {
            return Err(Failure::LayoutMismatch);
        }
        Ok(Address { key, socket })
    }
}

/// The thread: everything of UCX is made, used and unmade here.
fn serve(
    (options, config, shared): (UcxOptions, FabricConfig, Shared),
    key: [u8; 16],
    ready: &Sender<Result<SocketAddr, FabricError>>,
    inbox: &Receiver<Command>,
) {
    let opened = Context::new(&options, &config.region)
        .and_then(|context| Worker::new(context, options.listen))
        .and_then(|worker| Ok((worker.address()?, worker.events()?, worker)));
    let (address, events, worker) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            drop(ready.send(Err(error.into())));
            return;
        }
    };
    let lane = Lane::new(config, key, shared, worker);
    if ready.send(Ok(address)).is_ok() {
        lane.run(inbox, events);
    }
}

impl Fabric for UcxFabric {
    fn card(&self) -> Vec<u8> {
        self.card.encode()
    }

    fn know(&self, peer: NodeRef, card: &[u8]) {
        self.send(Command::Know(peer, self.address(peer, card)));
    }

    fn forget(&self, peer: NodeRef) {
        self.send(Command::Forget(peer));
    }

    fn unreachable(&self) -> Vec<NodeRef> {
        self.shared.unreachable.list()
    }

    fn export(&self, export: Export) {
        if self.shared.exports.grant(export) {
            self.shared.bell.ring();
        }
    }

    fn revoke(&self, ticket: Ticket) {
        self.shared.exports.revoke(ticket);
    }

    fn take(&self, take: Take) {
        self.send(Command::Take(take));
    }

    fn cancel(&self, id: u64) {
        self.send(Command::Cancel(id));
    }

    fn moved(&self) -> Moved {
        self.shared.counters.moved()
    }
}

impl Drop for UcxFabric {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        self.shared.bell.ring();
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
            && thread.join().is_err()
        {
            tracing::error!("the UCX fabric's thread panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use bus_schemas::{Epoch, NodeId};
    use gpu::Region;

    use super::*;
    use crate::Checks;
    use arrivals::Note;
    use message::{BlockHeader, Control};

    const PATIENCE: Duration = Duration::from_secs(20);

    fn config(name: &str) -> FabricConfig {
        let node = NodeId::new(name).expect("a fine name");
        let epoch = Epoch(1);
        FabricConfig {
            me: NodeRef { node, epoch },
            region: Region::new(4, 64 * 1024).expect("256 KiB"),
            sink: Arc::new(|_| {}),
            checks: Checks::All,
        }
    }

    /// Lets a stranger, which speaks UCX but not our protocol, say something to a fabric.
    fn stranger_says(say: impl Fn(&Worker, &worker::Endpoint) -> bool) {
        if let Err(error) = version() {
            return println!("SKIPPED: a stranger over UCX: {error}");
        }
        let options = UcxOptions::default();
        let victim = config("victim");
        let region = Arc::clone(&victim.region);
        let fabric = UcxFabric::start(&options, victim).expect("a fabric");
        let CardLane::Ucx { socket, .. } = fabric.card.lane.clone() else {
            panic!("a UCX fabric has a UCX card");
        };
        let own = config("stranger").region;
        let context = Context::new(&options, &own).expect("a context");
        let worker = Worker::new(context, options.listen).expect("a worker");
        let endpoint = worker.connect(1, socket).expect("an endpoint");
        assert!(say(&worker, &endpoint));
        let end = Instant::now() + PATIENCE;
        while fabric.moved().garbage == 0 {
            assert!(Instant::now() < end, "nothing was noticed");
            worker.progress();
        }
        let mut bytes = vec![0; region.slot_bytes()];
        for slot in 0..region.slots() {
            region.read(slot, 0, &mut bytes);
            assert!(
                bytes.iter().all(|byte| *byte == 0),
                "slot {slot} was written"
            );
        }
        worker.close(endpoint);
        worker.retire();
    }

    /// Lets a fabric greet an owner that shows it this instead of its pattern, and takes a block from it.
    fn an_owner_shows(shown: Option<Vec<u8>>) {
        if let Err(error) = version() {
            return println!("SKIPPED: an owner over UCX: {error}");
        }
        let options = UcxOptions::default();
        let own = config("liar");
        let context = Context::new(&options, &own.region).expect("a context");
        let worker = Worker::new(context, options.listen).expect("a worker");
        let card = Card {
            node: own.me,
            slots: own.region.slots(),
            slot_bytes: own.region.slot_bytes() as u64,
            lane: CardLane::Ucx {
                key: [7; 16],
                socket: worker.address().expect("an address"),
            },
        };
        let reader = UcxFabric::start(&options, config("reader")).expect("a fabric");
        reader.know(own.me, &card.encode());
        let end = Instant::now() + PATIENCE;
        let mut endpoint = None;
        while reader.unreachable() != [own.me] {
            assert!(Instant::now() < end, "the lane was not refused");
            worker.progress();
            match worker.arrivals().next() {
                Some(Note::Knock(request)) => endpoint = worker.accept(1, request).ok(),
                Some(Note::Control { bytes, .. }) => {
                    let Some(Control::Hello { proof, .. }) = Control::decode(&bytes) else {
                        panic!("it asks a lane that has proved nothing");
                    };
                    let header = BlockHeader {
                        landing: proof,
                        index: 0,
                        generation: 0,
                        sum: None,
                    };
                    let endpoint = endpoint.as_ref().expect("who greets has knocked");
                    if let Some(shown) = &shown {
                        assert!(worker.show(endpoint, header, shown.clone()));
                    }
                }
                Some(_) | None => {}
            }
        }
        assert_eq!(reader.lanes(), "");
        endpoint.map(|endpoint| worker.close(endpoint));
        worker.retire();
    }

    #[test]
    fn a_lane_that_alters_one_byte_is_refused() {
        let mut shown = crate::proof::pattern(&[7; 16], 64 * 1024);
        shown[40_000] ^= 1;
        an_owner_shows(Some(shown));
    }

    #[test]
    fn a_lane_that_carries_half_a_block_is_refused() {
        an_owner_shows(Some(crate::proof::pattern(&[7; 16], 32 * 1024)));
    }

    #[test]
    fn a_lane_that_drops_what_it_is_given_is_refused() {
        an_owner_shows(None);
    }

    #[test]
    fn a_stranger_without_the_key_is_cut_off() {
        let from = config("stranger").me;
        let to = config("victim").me;
        stranger_says(|worker, endpoint| {
            let hello = Control::Hello {
                key: [0; 16],
                from,
                to,
                proof: 1,
            };
            worker.tell(endpoint, &hello)
        });
    }

    #[test]
    fn a_question_before_any_greeting_is_garbage() {
        stranger_says(|worker, endpoint| {
            let question = Control::Ask {
                landing: 1,
                offer: (Ticket([0; 16]), 0),
                first: 0,
                slots: Vec::new(),
            };
            worker.tell(endpoint, &question)
        });
    }

    #[test]
    fn a_block_that_nobody_asked_for_lands_nowhere() {
        stranger_says(|worker, endpoint| {
            let header = BlockHeader {
                landing: 0,
                index: 0,
                generation: 1,
                sum: None,
            };
            let answer = Control::Answer {
                landing: 0,
                allowed: true,
            };
            worker.push(endpoint, header, 0) && worker.tell(endpoint, &answer)
        });
    }
}
