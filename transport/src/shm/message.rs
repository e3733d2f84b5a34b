//! What two fabrics of one host say over their socket: frames of a bounded length and their fields.
//!
//! A reader greets and asks, an owner welcomes and answers. Bytes of blocks never come this way.

use bus_schemas::{NodeRef, Ticket, messages::SlotRef};

use crate::{
    book::PIECES_MAX,
    card::Key,
    codec::{Reader, Writer},
};

/// Version of these messages.
const VERSION: u8 = 2;
/// Longest frame: a question about the largest take, and its other fields.
pub(super) const FRAME_BYTES_MAX: usize = 8 * PIECES_MAX + 256;
/// Bytes of a frame's length.
const PREFIX: usize = 4;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// Reader to owner, first of all: who it is, whom it wants, and proof that it heard the card.
    Hello {
        key: Key,
        from: NodeRef,
        to: NodeRef,
    },
    /// Owner to reader, with the memory file: what is in it.
    Welcome { slots: u32, slot_bytes: u64 },
    /// Reader to owner, before it copies: may I read these?
    Check {
        take: u64,
        ticket: Ticket,
        seq: u32,
        slots: Vec<SlotRef>,
    },
    /// Owner to reader: yes or no, and what some of the blocks sum up to.
    Answer {
        take: u64,
        allowed: bool,
        sums: Vec<Option<u32>>,
    },
}

impl Message {
    /// The frame, with its length in front.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Writer(vec![0; PREFIX]);
        match self {
            Self::Hello { key, from, to } => {
                out.u8(0).u8(VERSION).raw(key).node(*from).node(*to);
            }
            Self::Welcome { slots, slot_bytes } => {
                out.u8(1).u32(*slots).u64(*slot_bytes);
            }
            Self::Check {
                take,
                ticket,
                seq,
                slots,
            } => {
                out.u8(2).u64(*take).ticket(*ticket).u32(*seq);
                out.slots(slots.iter().copied());
            }
            Self::Answer {
                take,
                allowed,
                sums,
            } => {
                out.u8(3).u64(*take).u8(u8::from(*allowed)).sums(sums);
            }
        }
        let mut frame = out.0;
        let len = u32::try_from(frame.len() - PREFIX).expect("takes are bounded by PIECES_MAX");
        frame[..PREFIX].copy_from_slice(&len.to_le_bytes());
        frame
    }

    /// Takes a whole frame off the front: `Ok(None)` if more bytes are needed.
    pub(super) fn split(bytes: &[u8]) -> Result<Option<(Self, usize)>, Senseless> {
        let Some(prefix) = Reader(bytes).u32() else {
            return Ok(None);
        };
        let len = prefix as usize;
        if len == 0 || len > FRAME_BYTES_MAX {
            return Err(Senseless);
        }
        let Some(body) = bytes.get(PREFIX..PREFIX + len) else {
            return Ok(None);
        };
        let message = Self::decode(Reader(body)).ok_or(Senseless)?;
        Ok(Some((message, PREFIX + len)))
    }

    fn decode(mut from: Reader<'_>) -> Option<Self> {
        let message = match from.u8()? {
            0 if from.u8()? == VERSION => Self::Hello {
                key: from.array()?,
                from: from.node()?,
                to: from.node()?,
            },
            1 => Self::Welcome {
                slots: from.u32()?,
                slot_bytes: from.u64()?,
            },
            2 => Self::Check {
                take: from.u64()?,
                ticket: from.ticket()?,
                seq: from.u32()?,
                slots: from.slots()?,
            },
            3 => Self::Answer {
                take: from.u64()?,
                allowed: match from.u8()? {
                    0 => false,
                    1 => true,
                    _ => return None,
                },
                sums: from.sums()?,
            },
            _ => return None,
        };
        from.end(message)
    }
}

/// Bytes that are no frame of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Senseless;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_come_back_whole() {
        let slot = SlotRef {
            slot: 4,
            generation: 9,
        };
        let messages = [
            Message::Welcome {
                slots: 3,
                slot_bytes: 1 << 40,
            },
            Message::Check {
                take: 7,
                ticket: Ticket([5; 16]),
                seq: 1,
                slots: vec![slot; 3],
            },
            Message::Answer {
                take: 7,
                allowed: true,
                sums: vec![None, Some(0), Some(u32::MAX)],
            },
        ];
        for message in messages {
            let frame = message.encode();
            assert_eq!(Message::split(&frame), Ok(Some((message, frame.len()))));
            assert!((0..frame.len()).all(|len| Message::split(&frame[..len]) == Ok(None)));
        }
    }

    #[test]
    fn a_frame_longer_than_any_of_ours_is_senseless_at_once() {
        let huge = u32::MAX.to_le_bytes();
        assert_eq!(Message::split(&huge), Err(Senseless));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let framed = [&(bytes.len() as u32).to_le_bytes()[..], &bytes].concat();
            if let Ok(Some((message, len))) = Message::split(&framed) {
                prop_assert_eq!(message.encode(), &framed[..len]);
            }
        }
    }
}
