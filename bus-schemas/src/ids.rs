//! Identities: nodes and their epochs, requests and their attempts, tickets.
//!
//! Ids are types, never bare integers, so that one cannot be passed for another. Nothing here draws
//! randomness or reads a clock: whoever makes an id hands in what it is made of.

use std::{fmt, str::FromStr};

use rkyv::{Archive, Deserialize, Serialize};

/// Longest node name in bytes: it has to fit one subject token and one line of a table.
pub const NODE_NAME_MAX: usize = 32;

/// Why a text is not an id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum IdError {
    /// The name is empty or longer than [`NODE_NAME_MAX`].
    #[error("node name {0:?} must have 1 to 32 characters")]
    Length(String),
    /// The name has a character that a subject token may not have.
    #[error("node name {0:?} may only use a-z, 0-9 and '-'")]
    Character(String),
    /// The text is not a request id.
    #[error("request id {0:?} is not a UUID")]
    Request(String),
    /// The text is not a role.
    #[error("unknown role {0:?}; roles are gateway, router, prefill, decode, worker")]
    Role(String),
}

/// Name of one member of the cluster: a gateway, a router or a worker. Zero-padded ASCII.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId([u8; NODE_NAME_MAX]);

impl NodeId {
    /// Nobody: the addressee of a message that is not for one node.
    pub const NONE: Self = Self([0; NODE_NAME_MAX]);

    /// Makes an id of a name of 1 to 32 characters from `a-z`, `0-9` and `-`.
    ///
    /// # Errors
    /// [`IdError::Length`] or [`IdError::Character`].
    pub fn new(name: &str) -> Result<Self, IdError> {
        if name.is_empty() || name.len() > NODE_NAME_MAX {
            return Err(IdError::Length(name.to_owned()));
        }
        if !name.bytes().all(is_name_byte) {
            return Err(IdError::Character(name.to_owned()));
        }
        let mut bytes = [0; NODE_NAME_MAX];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        Ok(Self(bytes))
    }

    /// Whether the bytes are a name that [`NodeId::new`] would make. Ids off the wire may not be.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let len = self.len();
        len > 0
            && self.0[..len].iter().all(|b| is_name_byte(*b))
            && self.0[len..].iter().all(|b| *b == 0)
    }

    fn len(&self) -> usize {
        self.0.iter().position(|b| *b == 0).unwrap_or(NODE_NAME_MAX)
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
}

impl fmt::Display for NodeId {
    /// Writes the name; a byte that no valid name has is written as `_`, so that the text is always one subject token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in &self.0[..self.len()] {
            let shown = if is_name_byte(*byte) {
                char::from(*byte)
            } else {
                '_'
            };
            fmt::Write::write_char(f, shown)?;
        }
        if self.len() == 0 {
            f.write_str("_none")
        } else {
            Ok(())
        }
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for NodeId {
    type Err = IdError;
    fn from_str(name: &str) -> Result<Self, IdError> {
        Self::new(name)
    }
}

/// Incarnation of a node: microseconds since the Unix epoch when its role started. Only ever compared, never used as time.
#[derive(
    Archive,
    Serialize,
    Deserialize,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    Default,
)]
pub struct Epoch(pub u64);

/// One incarnation of one node.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeRef {
    /// Which node.
    pub node: NodeId,
    /// Which incarnation of it.
    pub epoch: Epoch,
}

impl NodeRef {
    /// Nobody.
    pub const NONE: Self = Self {
        node: NodeId::NONE,
        epoch: Epoch(0),
    };
}

impl fmt::Debug for NodeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.node, self.epoch.0)
    }
}

/// A request, from admission to its outcome: a UUID version 7, made by the gateway.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u128);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&uuid::Uuid::from_u128(self.0), f)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for RequestId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        uuid::Uuid::parse_str(text)
            .map(|id| Self(id.as_u128()))
            .map_err(|_| IdError::Request(text.to_owned()))
    }
}

/// n-th try of a request, counted from 1 by the gateway alone.
#[derive(
    Archive,
    Serialize,
    Deserialize,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    Default,
)]
pub struct Attempt(pub u32);

/// n-th placement within one attempt by one router, counted from 1.
#[derive(
    Archive,
    Serialize,
    Deserialize,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    Default,
)]
pub struct Placement(pub u32);

/// The unguessable right to take the blocks that one prefill offers. Made by the decode worker.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub [u8; 16]);

impl fmt::Debug for Ticket {
    /// Shows four of the sixteen bytes: enough to tell tickets apart in a log, not enough to use one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ticket:{:02x}{:02x}{:02x}{:02x}",
            self.0[0], self.0[1], self.0[2], self.0[3]
        )
    }
}

/// What a node does in the cluster.
#[derive(
    Archive, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug,
)]
pub enum Role {
    /// HTTP and public NATS subjects; owns the record of each request it admitted.
    Gateway,
    /// Places requests.
    Router,
    /// Computes prompts and offers their blocks.
    Prefill,
    /// Owns running requests.
    Decode,
}

impl Role {
    /// Every role, in start order.
    pub const ALL: [Self; 4] = [Self::Gateway, Self::Router, Self::Prefill, Self::Decode];

    /// The word used in subjects, on the command line and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Router => "router",
            Self::Prefill => "prefill",
            Self::Decode => "decode",
        }
    }
}

/// A set of roles, as one byte.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Roles(pub u8);

impl Roles {
    /// Both halves of a worker.
    pub const WORKER: Self = Self(1 << Role::Prefill as u8 | 1 << Role::Decode as u8);

    /// The set of one role.
    #[must_use]
    pub const fn only(role: Role) -> Self {
        Self(1 << role as u8)
    }

    /// Whether `role` is in the set.
    #[must_use]
    pub const fn has(self, role: Role) -> bool {
        self.0 & 1 << role as u8 != 0
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::WORKER {
            return f.write_str("worker");
        }
        let names: Vec<_> = Role::ALL
            .into_iter()
            .filter(|r| self.has(*r))
            .map(Role::as_str)
            .collect();
        f.write_str(&names.join("+"))
    }
}

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Roles {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        match text {
            "gateway" => Ok(Self::only(Role::Gateway)),
            "router" => Ok(Self::only(Role::Router)),
            "prefill" => Ok(Self::only(Role::Prefill)),
            "decode" => Ok(Self::only(Role::Decode)),
            "worker" => Ok(Self::WORKER),
            other => Err(IdError::Role(other.to_owned())),
        }
    }
}
