//! One connection between two fabrics of a host: frames in, frames out, never blocking.
//!
//! A link breaks at the first byte that makes no sense and at every bound; it is never repaired, only replaced.

use std::{
    io::{ErrorKind, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use super::{
    message::{FRAME_BYTES_MAX, Message},
    socket,
};
use crate::wake;

/// Bytes read at a time: small takes fit, and no peer holds the thread for long.
const READ_BYTES: usize = 64 * 1024;
/// Frames waiting for a peer that does not read: some of the largest; then it counts as frozen.
const OUTBOUND_BYTES_MAX: usize = 4 * FRAME_BYTES_MAX;

/// Why a link is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// The other end is gone, or does not read.
    HungUp,
    /// It said something that makes no sense.
    Garbage,
    /// It handed over other memory than its own.
    Untrue,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Link {
    stream: UnixStream,
    inbound: Vec<u8>,
    outbound: Vec<u8>,
}

impl Link {
    /// Takes over a connected, non-blocking stream.
    pub(super) fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            inbound: Vec::new(),
            outbound: Vec::new(),
        }
    }

    /// What to wait for.
    pub(super) fn interest(&self) -> libc::pollfd {
        wake::interest(self.stream.as_raw_fd(), !self.outbound.is_empty())
    }

    /// Sends a frame, or keeps it until the socket has room.
    pub(super) fn send(&mut self, message: &Message) -> Result<(), Broken> {
        self.outbound.extend_from_slice(&message.encode());
        self.flush()?;
        if self.outbound.len() > OUTBOUND_BYTES_MAX {
            return Err(Broken::HungUp);
        }
        Ok(())
    }

    /// Sends a frame and a file as the first thing on this link.
    pub(super) fn send_file(
        &mut self,
        message: &Message,
        file: &impl AsRawFd,
    ) -> Result<(), Broken> {
        socket::send_with_file(&self.stream, &message.encode(), file.as_raw_fd())
            .map_err(|_| Broken::HungUp)
    }

    /// Writes what waits.
    pub(super) fn flush(&mut self) -> Result<(), Broken> {
        while !self.outbound.is_empty() {
            match self.stream.write(&self.outbound) {
                Ok(0) => return Err(Broken::HungUp),
                Ok(sent) => drop(self.outbound.drain(..sent)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Broken::HungUp),
            }
        }
        Ok(())
    }

    /// Reads what is there, at most one helping, and the file that came with it.
    pub(super) fn receive(&mut self) -> Result<Option<OwnedFd>, Broken> {
        let start = self.inbound.len();
        self.inbound.resize(start + READ_BYTES, 0);
        let received = socket::receive(&self.stream, &mut self.inbound[start..]);
        let got = received.as_ref().map_or(0, |(got, _)| *got);
        self.inbound.truncate(start + got);
        match received {
            Ok((0, _)) => Err(Broken::HungUp),
            Ok((_, file)) => Ok(file),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(None),
            Err(_) => Err(Broken::HungUp),
        }
    }

    /// All whole frames that have arrived.
    pub(super) fn messages(&mut self) -> Result<Vec<Message>, Broken> {
        let mut messages = Vec::new();
        let mut used = 0;
        while let Some((message, len)) =
            Message::split(&self.inbound[used..]).map_err(|_| Broken::Garbage)?
        {
            messages.push(message);
            used += len;
        }
        self.inbound.drain(..used);
        Ok(messages)
    }
}
