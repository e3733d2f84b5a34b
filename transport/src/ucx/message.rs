//! What two UCX fabrics say to each other: short control messages, and the header of a pushed block.
//!
//! Sizes are bounded so that every control message travels eagerly. No message names an address of memory.

use bus_schemas::{NodeRef, Ticket, messages::SlotRef};

use crate::{
    card::Key,
    codec::{Reader, Writer},
};

/// Version of these messages.
const VERSION: u8 = 3;
/// Blocks asked for and not yet here, of one take: beyond 8 nothing is gained, 32 hide a slow owner's turn.
pub(super) const WINDOW: usize = 32;
/// Longest control message: a full window of slots, and its other fields.
pub(super) const CONTROL_BYTES_MAX: usize = 512;
/// Bytes of a block's header.
pub(super) const HEADER_BYTES: usize = 24;

const _: () = assert!(WINDOW * 8 + 64 < CONTROL_BYTES_MAX);

/// A control message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Control {
    /// Reader to owner, first of all: who it is, whom it wants, proof that it heard the card, and the landing at which
    /// it waits for a block of the owner's pattern. That block is the welcome.
    Hello {
        key: Key,
        from: NodeRef,
        to: NodeRef,
        proof: u64,
    },
    /// Reader to owner: push me these blocks of an offer, and call them `first` and so on of this landing.
    Ask {
        landing: u64,
        offer: (Ticket, u32),
        first: u32,
        slots: Vec<SlotRef>,
    },
    /// Owner to reader: I will not; or, to a question about no blocks, you may.
    Answer { landing: u64, allowed: bool },
}

impl Control {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        match self {
            Self::Hello {
                key,
                from,
                to,
                proof,
            } => {
                out.u8(0).u8(VERSION).raw(key);
                out.node(*from).node(*to).u64(*proof)
            }
            Self::Ask {
                landing,
                offer: (ticket, seq),
                first,
                slots,
            } => {
                out.u8(2).u64(*landing).ticket(*ticket);
                out.u32(*seq).u32(*first).slots(slots.iter().copied())
            }
            Self::Answer { landing, allowed } => out.u8(3).u64(*landing).u8(u8::from(*allowed)),
        };
        debug_assert!(out.0.len() <= CONTROL_BYTES_MAX);
        out.0
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader(bytes);
        let message = match from.u8()? {
            0 if from.u8()? == VERSION => Self::Hello {
                key: from.array()?,
                from: from.node()?,
                to: from.node()?,
                proof: from.u64()?,
            },
            2 => Self::Ask {
                landing: from.u64()?,
                offer: (from.ticket()?, from.u32()?),
                first: from.u32()?,
                slots: from.slots().filter(|slots| slots.len() <= WINDOW)?,
            },
            3 => Self::Answer {
                landing: from.u64()?,
                allowed: match from.u8()? {
                    0 => false,
                    1 => true,
                    _ => return None,
                },
            },
            _ => return None,
        };
        from.end(message)
    }
}

/// What a pushed block says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockHeader {
    pub(super) landing: u64,
    pub(super) index: u32,
    pub(super) generation: u32,
    /// What it sums up to at its owner, if that was looked at.
    pub(super) sum: Option<u32>,
}

impl BlockHeader {
    pub(super) fn encode(self) -> [u8; HEADER_BYTES] {
        let mut out = Writer::default();
        out.u64(self.landing).u32(self.index);
        out.u32(self.generation).sum(self.sum);
        out.0
            .try_into()
            .expect("the fields above are HEADER_BYTES long")
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader(bytes);
        let header = Self {
            landing: from.u64()?,
            index: from.u32()?,
            generation: from.u32()?,
            sum: from.sum()?,
        };
        from.end(header)
    }
}

#[cfg(test)]
mod tests {
    use bus_schemas::{Epoch, NodeId};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_longest_messages_come_back_and_fit() {
        let node = NodeId::new(&"n".repeat(32)).expect("a fine name");
        let epoch = Epoch(u64::MAX);
        let node = NodeRef { node, epoch };
        let slot = SlotRef {
            slot: 1,
            generation: 2,
        };
        let messages = [
            Control::Hello {
                key: [1; 16],
                from: node,
                to: node,
                proof: u64::MAX,
            },
            Control::Ask {
                landing: 6,
                offer: (Ticket([2; 16]), 1),
                first: 0,
                slots: vec![slot; WINDOW],
            },
            Control::Answer {
                landing: 6,
                allowed: false,
            },
        ];
        for message in messages {
            let bytes = message.encode();
            assert!(bytes.len() <= CONTROL_BYTES_MAX);
            assert!((0..bytes.len()).all(|len| Control::decode(&bytes[..len]).is_none()));
            assert_eq!(Control::decode(&bytes), Some(message));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Some(message) = Control::decode(&bytes) {
                prop_assert_eq!(message.encode(), bytes.clone());
            }
            if let Some(header) = BlockHeader::decode(&bytes) {
                prop_assert_eq!(&header.encode()[..], &bytes[..]);
            }
        }
    }
}
