//! The frame around every internal message: eight bytes of header, then one rkyv root.
//!
//! Header: magic `TH`, protocol version, kind, payload length (u32, little endian). The root is a
//! [`Letter`] of the kind's own type. A released kind never changes: a new form is a new kind, because
//! old code would read a grown rkyv type as something else. Decoding validates or refuses; it never panics.

use bytes::Bytes;
use rkyv::{
    Archive, Deserialize, Serialize,
    api::high::{HighDeserializer, HighSerializer, HighValidator},
    rancor::Error as RkyvError,
    ser::allocator::ArenaHandle,
    util::AlignedVec,
};

use crate::{
    ids::{Attempt, NodeRef, RequestId},
    limits,
};

/// Bytes before the rkyv root.
pub const HEADER_BYTES: usize = 8;
const MAGIC: [u8; 2] = *b"TH";

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// What a message is. Numbers are part of the wire and never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Kind { $($(#[$doc])* $name = $number,)* }

        impl Kind {
            /// All kinds.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The last token of the subject it travels on.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The kind of this number.
            #[must_use]
            pub const fn from_u8(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }
        }
    };
}

kinds! {
    /// Gateway to router: place this attempt.
    Admit = 1, "admit";
    /// Router to gateway: it cannot be placed.
    Rejected = 2, "rejected";
    /// Router to decode: promise blocks for this request.
    Reserve = 3, "reserve";
    /// Decode to gateway and router: the blocks are promised.
    Promised = 4, "promised";
    /// Decode to router: no.
    Refused = 5, "refused";
    /// Gateway to decode: you own it.
    Bound = 6, "bound";
    /// Gateway to decode: let go.
    Cancel = 7, "cancel";
    /// Decode to gateway: tokens and ends.
    Tokens = 8, "tokens";
    /// Gateway to decode: say again from here; also counts as bound.
    AskTokens = 9, "ask-tokens";
    /// Gateway to decode: the end is recorded, forget it.
    Confirm = 10, "confirm";
    /// Decode to gateway: I do not know that request.
    Unknown = 11, "unknown";
    /// Decode to prefill: compute this prompt under this ticket.
    Prefill = 12, "prefill";
    /// Prefill to decode: no.
    PrefillRefused = 13, "prefill-refused";
    /// Prefill to decode: these blocks are ready.
    Offer = 14, "offer";
    /// Decode to prefill: I have them; were they valid?
    Release = 15, "release";
    /// Prefill to decode: valid or revoked.
    Released = 16, "released";
    /// Either way: this ticket has ended.
    Abort = 17, "abort";
    /// Node to everybody: I live, this is my load.
    Beat = 18, "beat";
    /// Worker to routers: numbered changes of blocks and requests.
    Notice = 19, "notice";
    /// Router to worker: send all you have, I missed a number.
    SnapshotAsk = 20, "snapshot-ask";
    /// Worker to router: one part of it.
    SnapshotPart = 21, "snapshot-part";
    /// Router to gateway: the owner seems to be gone (a hint).
    Orphaned = 22, "orphaned";
    /// Decode to router: the chosen prefill worker refused, who else?
    FindPrefill = 23, "find-prefill";
    /// Router to decode: that one, or do it yourself.
    PrefillFound = 24, "prefill-found";
}

/// Who, about what, and how much time is left. First field of every letter.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Sender.
    pub from: NodeRef,
    /// Addressee; its epoch is 0 where the sender does not know it yet, its node `NONE` for broadcasts.
    pub to: NodeRef,
    /// The request, or 0.
    pub request: RequestId,
    /// The attempt, or 0.
    pub attempt: Attempt,
    /// Time that remains for the request, re-anchored by the receiver to its own clock. 0 where there is none.
    pub remaining_us: u64,
}

impl Meta {
    /// A letter about no request.
    #[must_use]
    pub const fn node(from: NodeRef, to: NodeRef) -> Self {
        Self {
            from,
            to,
            request: RequestId(0),
            attempt: Attempt(0),
            remaining_us: 0,
        }
    }
}

/// A message with its meta: the rkyv root.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Letter<M> {
    /// Who, about what.
    pub meta: Meta,
    /// What.
    pub body: M,
}

/// A type that is the body of exactly one kind.
pub trait Message: Sized {
    /// Its kind.
    const KIND: Kind;
}

/// Why bytes are not the message that was asked for.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DecodeError {
    /// Shorter than a header, or than the header says.
    #[error("message is truncated: {have} of {want} bytes")]
    Truncated {
        /// Bytes at hand.
        have: usize,
        /// Bytes needed.
        want: usize,
    },
    /// Bytes after the end.
    #[error("message has {0} bytes after its end")]
    Trailing(usize),
    /// Does not begin with `TH`.
    #[error("not a thalamus message")]
    Magic,
    /// Another protocol version.
    #[error("protocol version {0} is not spoken here (this build reads {oldest} to {newest})", oldest = limits::PROTOCOL_OLDEST, newest = limits::PROTOCOL_VERSION)]
    Version(u8),
    /// No such kind.
    #[error("unknown message kind {0}")]
    UnknownKind(u8),
    /// A known kind, but not this one.
    #[error("expected {want:?}, got {got:?}")]
    WrongKind {
        /// Asked for.
        want: Kind,
        /// Found.
        got: Kind,
    },
    /// The root does not validate.
    #[error("body of {0:?} is malformed")]
    Malformed(Kind),
    /// The sender's name is not a node name.
    #[error("sender of {0:?} has no valid name")]
    Sender(Kind),
}

/// Serialises a letter with its header.
///
/// # Panics
/// Never in practice: serialising plain owned data into memory cannot fail, and no letter reaches 4 GiB.
#[must_use]
pub fn encode<M>(letter: &Letter<M>) -> Bytes
where
    M: Message,
    Letter<M>: for<'a> Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, RkyvError>>,
{
    let body = rkyv::to_bytes::<RkyvError>(letter).expect("plain data serialises into memory");
    let len = u32::try_from(body.len()).expect("a letter is bounded far below 4 GiB");
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.push(limits::PROTOCOL_VERSION);
    bytes.push(M::KIND as u8);
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(&body);
    Bytes::from(bytes)
}

/// Reads the header alone: what the message is.
///
/// # Errors
/// Everything of [`DecodeError`] that a header can have wrong.
pub fn peek(bytes: &[u8]) -> Result<Kind, DecodeError> {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
        return Err(DecodeError::Truncated {
            have: bytes.len(),
            want: HEADER_BYTES,
        });
    };
    let [m0, m1, version, kind, len @ ..] = *header;
    if [m0, m1] != MAGIC {
        return Err(DecodeError::Magic);
    }
    if !(limits::PROTOCOL_OLDEST..=limits::PROTOCOL_VERSION).contains(&version) {
        return Err(DecodeError::Version(version));
    }
    let kind = Kind::from_u8(kind).ok_or(DecodeError::UnknownKind(kind))?;
    let have = bytes.len() - HEADER_BYTES;
    let want = u32::from_le_bytes(len) as usize;
    if have < want {
        return Err(DecodeError::Truncated { have, want });
    }
    if have > want {
        return Err(DecodeError::Trailing(have - want));
    }
    Ok(kind)
}

/// Validates and deserialises a letter.
///
/// # Errors
/// Any [`DecodeError`]; the bytes may be anything at all.
pub fn decode<M>(bytes: &[u8]) -> Result<Letter<M>, DecodeError>
where
    M: Message + Archive,
    Letter<M>: Archive,
    <Letter<M> as Archive>::Archived: for<'a> rkyv::bytecheck::CheckBytes<HighValidator<'a, RkyvError>>
        + Deserialize<Letter<M>, HighDeserializer<RkyvError>>,
{
    let kind = peek(bytes)?;
    if kind != M::KIND {
        return Err(DecodeError::WrongKind {
            want: M::KIND,
            got: kind,
        });
    }
    let letter: Letter<M> = rkyv::from_bytes::<Letter<M>, RkyvError>(&bytes[HEADER_BYTES..])
        .map_err(|_| DecodeError::Malformed(kind))?;
    if letter.meta.from.node.is_valid() {
        Ok(letter)
    } else {
        Err(DecodeError::Sender(kind))
    }
}
