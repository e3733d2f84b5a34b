//! What crosses the wire inside a Thalamus cluster: identities, subjects, the envelope, messages, limits.
//!
//! This crate never decides, never does IO and never reads a clock. Every byte that one node sends to
//! another is described here and nowhere else; a released message kind never changes its layout.
//!
//! Start reading at [`envelope`] (header, `Letter`, encode, decode), then [`messages`].

#![allow(missing_docs)] // rkyv derives public archived types that cannot carry docs; ours are documented all the same

pub mod envelope;
pub mod ids;
pub mod limits;
pub mod messages;
pub mod spec;
pub mod subjects;
pub mod trace;

pub use envelope::{DecodeError, Kind, Letter, Message, Meta, decode, encode, peek};
pub use ids::{
    Attempt, Epoch, IdError, NodeId, NodeRef, Placement, RequestId, Role, Roles, Ticket,
};
pub use spec::{
    ChoiceEnd, EndReason, FailReason, IncompleteReason, Item, Outcome, Record, RefuseReason,
    RequestSpec, Sampling, Stops,
};
pub use trace::Trace;
