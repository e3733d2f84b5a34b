//! The card of a fabric: how peers reach it and what its region looks like. Opaque to everybody else.
//!
//! Cards travel in beats over the authenticated bus. Each names a random key that a caller must show, so that a
//! process that never heard the card cannot speak to the fabric. A card never names an address of memory.

use std::{io, net::SocketAddr};

use bus_schemas::NodeRef;

use crate::codec::{Reader, Writer};

/// Longest card: it rides in every beat.
pub(crate) const CARD_BYTES_MAX: usize = 512;
/// First byte of a card; raised when the fabric's protocol changes.
const CARD_VERSION: u8 = 1;

/// Proof that its bearer heard the card.
pub(crate) type Key = [u8; 16];

/// How to reach a fabric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Card {
    pub(crate) node: NodeRef,
    pub(crate) slots: u32,
    pub(crate) slot_bytes: u64,
    pub(crate) lane: Lane,
}

/// By which way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Same process: by name.
    Memory,
    /// Same host: a Unix socket.
    Shm {
        host: Vec<u8>,
        key: Key,
        path: Vec<u8>,
    },
    /// Anywhere: where a UCX worker listens.
    Ucx { key: Key, socket: SocketAddr },
}

impl Card {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.u8(CARD_VERSION).node(self.node);
        out.u32(self.slots).u64(self.slot_bytes);
        match &self.lane {
            Lane::Memory => out.u8(0),
            Lane::Shm { host, key, path } => out.u8(1).bytes(host).raw(key).bytes(path),
            Lane::Ucx { key, socket } => out.u8(2).raw(key).bytes(socket.to_string().as_bytes()),
        };
        out.0
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader(bytes.get(..bytes.len().min(CARD_BYTES_MAX + 1))?);
        if bytes.len() > CARD_BYTES_MAX || from.u8()? != CARD_VERSION {
            return None;
        }
        let (node, slots, slot_bytes) = (from.node()?, from.u32()?, from.u64()?);
        let lane = match from.u8()? {
            0 => Lane::Memory,
            1 => Lane::Shm {
                host: from.bytes()?.to_vec(),
                key: from.array()?,
                path: from.bytes()?.to_vec(),
            },
            2 => Lane::Ucx {
                key: from.array()?,
                socket: std::str::from_utf8(from.bytes()?).ok()?.parse().ok()?,
            },
            _ => return None,
        };
        from.end(Self {
            node,
            slots,
            slot_bytes,
            lane,
        })
    }
}

/// A fresh key.
pub(crate) fn draw_key() -> io::Result<Key> {
    let mut key = Key::default();
    getrandom::fill(&mut key).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use bus_schemas::{Epoch, NodeId};
    use proptest::prelude::*;

    use super::*;

    fn card(lane: Lane) -> Card {
        let node = NodeId::new("decode-0").expect("a fine name");
        let epoch = Epoch(1 << 50);
        Card {
            node: NodeRef { node, epoch },
            slots: 9,
            slot_bytes: 4096,
            lane,
        }
    }

    #[test]
    fn cards_come_back_and_truncated_ones_do_not() {
        let path = vec![b'p'; 100];
        let (key, host) = ([3; 16], vec![b'h'; 36]);
        let socket = "[fe80::1:2:3:4]:65535".parse().expect("a fine address");
        let lanes = [
            Lane::Memory,
            Lane::Shm { host, key, path },
            Lane::Ucx { key, socket },
        ];
        for card in lanes.map(card) {
            let bytes = card.encode();
            assert!(bytes.len() <= CARD_BYTES_MAX);
            assert_eq!(Card::decode(&bytes), Some(card));
            assert!((0..bytes.len()).all(|len| Card::decode(&bytes[..len]).is_none()));
            assert_eq!(Card::decode(&[&bytes[..], &[0]].concat()), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            if let Some(card) = Card::decode(&bytes) {
                prop_assert_eq!(Card::decode(&card.encode()), Some(card));
            }
        }
    }
}
