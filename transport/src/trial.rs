//! A trial of a fabric on this machine, for `thalamus doctor`: real takes between two nodes of this process.
//!
//! It never touches the fabric of a running node, and what it makes is gone when it ends.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    time::{Duration, Instant},
};

use bus_schemas::{Epoch, NodeId, NodeRef, Ticket, messages::SlotRef};
use gpu::{Region, RegionError};

use crate::{
    Checks, Export, Fabric, FabricConfig, FabricError, FabricEvent, FabricKind, Failure, Piece,
    Take, UcxFabric, card::draw_key, proof::pattern, start,
};

/// Blocks of a trial: 16 MiB in all, more than a cache close to a core, and moved in a moment.
const SLOTS: u32 = 256;
const SLOT_BYTES: usize = 64 * 1024;
/// Takes: the first connects and touches the memory, the best of the others counts.
const TAKES: u64 = 4;
/// A lane that has not moved a take's bytes by then does not move them.
const PATIENCE: Duration = Duration::from_secs(10);
const TICKET: Ticket = Ticket([0; 16]);

/// What a trial showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// The transports and devices that UCX chose; for other fabrics what they are.
    pub lanes: String,
    /// Bytes of one take, all of them compared.
    pub bytes: u64,
    /// Of the fastest take.
    pub bytes_per_second: u64,
}

/// Why a fabric is of no use here.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// It does not start.
    #[error(transparent)]
    Start(#[from] FabricError),
    /// There is no memory for a trial.
    #[error(transparent)]
    Memory(#[from] RegionError),
    /// It starts, and does not move blocks.
    #[error("a take failed: {0}")]
    Take(#[from] Failure),
    /// Nothing is heard of a take.
    #[error("a take did not end")]
    Silent(#[from] RecvTimeoutError),
    /// It moves other bytes than it was given.
    #[error("block {0} arrived altered")]
    Altered(u32),
}

/// Moves 16 MiB over a fabric of this kind and compares every byte.
///
/// # Errors
/// [`TrialError`], if blocks do not move or arrive altered.
pub fn try_fabric(kind: &FabricKind) -> Result<Trial, TrialError> {
    let key = draw_key().map_err(|source| FabricError::System {
        what: "draw a random key",
        source,
    })?;
    let block = |slot: u32| {
        let mut block = pattern(&key, SLOT_BYTES);
        block.rotate_left(slot as usize * 8);
        block
    };
    let (owner, _unheard) = config("doctor-owner")?;
    let (reader, events) = config("doctor-reader")?;
    let ours = Arc::clone(&reader.region);
    (0..SLOTS).for_each(|slot| owner.region.write(slot, 0, &block(slot)));
    let (from, to) = (owner.me, reader.me);
    let (owner, _) = open(kind, owner)?;
    let (reader, ucx) = open(kind, reader)?;
    owner.export(Export {
        ticket: TICKET,
        seq: 0,
        audience: to,
        slots: (0..SLOTS).map(slot_ref).collect(),
    });
    reader.know(from, &owner.card());
    let mut best = Duration::MAX;
    for id in 0..TAKES {
        let began = Instant::now();
        reader.take(take(id, from));
        settled(&events, id)?;
        best = best.min(began.elapsed());
    }
    let mut arrived = vec![0; SLOT_BYTES];
    for slot in 0..SLOTS {
        ours.read(slot, 0, &mut arrived);
        if arrived != block(slot) {
            return Err(TrialError::Altered(slot));
        }
    }
    let bytes = u64::from(SLOTS) * SLOT_BYTES as u64;
    Ok(Trial {
        lanes: ucx.map_or_else(|| "memcpy".to_owned(), |ucx| ucx.lanes()),
        bytes,
        bytes_per_second: (bytes as f64 / best.as_secs_f64()) as u64,
    })
}

/// A fabric, and once more as what it is where that tells more.
type Opened = (Arc<dyn Fabric>, Option<Arc<UcxFabric>>);

fn open(kind: &FabricKind, config: FabricConfig) -> Result<Opened, FabricError> {
    if let FabricKind::Ucx(options) = kind {
        let ucx = UcxFabric::start(options, config)?;
        return Ok((Arc::<UcxFabric>::clone(&ucx), Some(ucx)));
    }
    Ok((start(kind.clone(), config)?, None))
}

fn config(name: &str) -> Result<(FabricConfig, Receiver<FabricEvent>), RegionError> {
    let node = NodeId::new(name).expect("a fine name");
    let epoch = Epoch(1);
    let (sender, events) = channel();
    let config = FabricConfig {
        me: NodeRef { node, epoch },
        region: Region::new(SLOTS, SLOT_BYTES)?,
        checks: Checks::Off,
        sink: Arc::new(move |event| drop(sender.send(event))),
    };
    Ok((config, events))
}

fn take(id: u64, owner: NodeRef) -> Take {
    let piece = |slot| Piece {
        from: slot_ref(slot),
        to: slot_ref(slot),
    };
    Take {
        id,
        ticket: TICKET,
        seq: 0,
        owner,
        pieces: (0..SLOTS).map(piece).collect(),
        timeout: PATIENCE,
    }
}

fn settled(events: &Receiver<FabricEvent>, id: u64) -> Result<(), TrialError> {
    loop {
        match events.recv_timeout(PATIENCE * 2)? {
            FabricEvent::Taken { result, .. } => drop(result?),
            FabricEvent::Settled { id: of } if of == id => return Ok(()),
            FabricEvent::Settled { .. } | FabricEvent::Progress { .. } => {}
        }
    }
}

fn slot_ref(slot: u32) -> SlotRef {
    SlotRef {
        slot,
        generation: 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MemNetwork, UcxOptions};

    fn moves_everything(kind: &FabricKind, lanes: &str) {
        let trial = try_fabric(kind).expect("a fabric that works");
        assert_eq!((trial.lanes.as_str(), trial.bytes), (lanes, 16 << 20));
        assert!(trial.bytes_per_second > 0);
    }

    #[test]
    fn memory_and_shared_memory_are_tried() {
        moves_everything(&FabricKind::Memory(MemNetwork::default()), "memcpy");
        let dir = tempfile::tempdir().expect("room for a directory");
        let dir = dir.path().join("fabric");
        moves_everything(&FabricKind::Shm { dir }, "memcpy");
    }

    #[test]
    fn a_trial_of_ucx_names_what_it_chose() {
        if let Err(error) = crate::probe_ucx() {
            return println!("SKIPPED: a trial of UCX: {error}");
        }
        moves_everything(&FabricKind::Ucx(UcxOptions::default()), "tcp/lo");
    }

    #[test]
    fn a_device_that_is_not_there_is_named() {
        if let Err(error) = crate::probe_ucx() {
            return println!("SKIPPED: a trial of UCX: {error}");
        }
        let options = UcxOptions {
            net_devices: "nosuch0".to_owned(),
            ..UcxOptions::default()
        };
        let error = try_fabric(&FabricKind::Ucx(options)).expect_err("no such device");
        assert!(matches!(error, TrialError::Start(FabricError::Ucx(_))));
    }
}
