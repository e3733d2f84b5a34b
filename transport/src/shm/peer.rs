//! An owner as a reader sees it: where it listens, and how far the link to it has come.
//!
//! It never copies; it ends in a map of the owner's region or in the reason why there is none.

use std::{path::PathBuf, sync::Arc, time::Instant};

use bus_schemas::NodeRef;

use super::{
    link::{Broken, Link},
    mapping::Mapping,
    message::Message,
    socket,
};
use crate::{Failure, card::Key};

/// What a card says about an owner on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) path: PathBuf,
    pub(super) key: Key,
    pub(super) slots: u32,
    pub(super) slot_bytes: usize,
}

/// One owner.
#[derive(Debug)]
pub(super) struct Peer {
    /// Or why it cannot be used.
    pub(super) address: Result<Address, Failure>,
    pub(super) state: State,
    /// When the link came to its present state.
    pub(super) since: Instant,
}

/// How far the link has come.
#[derive(Debug)]
pub(super) enum State {
    /// No link.
    Down,
    /// We have said who we are.
    Greeting(Link),
    /// Welcomed, and its region is mapped.
    Up(Link, Arc<Mapping>),
}

/// Whether a take may be copied, and what its first blocks must sum up to.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) take: u64,
    pub(super) allowed: bool,
    pub(super) sums: Vec<Option<u32>>,
}

/// What was heard at once.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) welcomed: bool,
    /// Takes that may or may not be copied.
    pub(super) answers: Vec<Answer>,
}

impl Peer {
    pub(super) fn new(address: Result<Address, Failure>) -> Self {
        Self {
            address,
            state: State::Down,
            since: Instant::now(),
        }
    }

    pub(super) fn link(&self) -> Option<&Link> {
        match &self.state {
            State::Down => None,
            State::Greeting(link) | State::Up(link, _) => Some(link),
        }
    }

    pub(super) fn is_greeting(&self) -> bool {
        matches!(self.state, State::Greeting(_))
    }

    /// Makes a link if there is none. False if that cannot be.
    pub(super) fn connect(&mut self, me: NodeRef, peer: NodeRef) -> bool {
        let (State::Down, Ok(address)) = (&self.state, &self.address) else {
            return self.address.is_ok();
        };
        let greeting = || {
            let stream = socket::connect(&address.path).ok()?;
            let mut link = socket::is_ours(&stream).then(|| Link::new(stream))?;
            let hello = Message::Hello {
                key: address.key,
                from: me,
                to: peer,
            };
            link.send(&hello).ok().map(|()| link)
        };
        let Some(link) = greeting() else {
            return false;
        };
        self.state = State::Greeting(link);
        self.since = Instant::now();
        true
    }

    /// Reads what the owner says.
    pub(super) fn hear(&mut self) -> Result<Heard, Broken> {
        let (State::Greeting(link) | State::Up(link, _)) = &mut self.state else {
            return Ok(Heard::default());
        };
        link.flush()?;
        let mut file = link.receive()?;
        let mut heard = Heard::default();
        for message in link.messages()? {
            let up = heard.welcomed || matches!(self.state, State::Up(..));
            match message {
                Message::Welcome { slots, slot_bytes } if !up => {
                    let file = file.take().ok_or(Broken::Garbage)?;
                    self.welcome(file, slots, slot_bytes)?;
                    heard.welcomed = true;
                }
                Message::Answer {
                    take,
                    allowed,
                    sums,
                } if up => heard.answers.push(Answer {
                    take,
                    allowed,
                    sums,
                }),
                Message::Welcome { .. }
                | Message::Answer { .. }
                | Message::Hello { .. }
                | Message::Check { .. } => return Err(Broken::Garbage),
            }
        }
        Ok(heard)
    }

    fn welcome(
        &mut self,
        file: std::os::fd::OwnedFd,
        slots: u32,
        slot_bytes: u64,
    ) -> Result<(), Broken> {
        let address = self.address.as_ref().map_err(|_| Broken::Garbage)?;
        if slots != address.slots || slot_bytes != address.slot_bytes as u64 {
            return Err(Broken::Garbage);
        }
        let mapping = Mapping::new(file, slots, address.slot_bytes).map_err(|error| {
            tracing::warn!(%error, path = ?address.path, "a peer's region is not mapped");
            Broken::Garbage
        })?;
        if !mapping.is_of(&address.key) {
            return Err(Broken::Untrue);
        }
        if let State::Greeting(link) = std::mem::replace(&mut self.state, State::Down) {
            self.state = State::Up(link, Arc::new(mapping));
        }
        Ok(())
    }
}
