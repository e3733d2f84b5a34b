//! The owner's thread: welcomes readers, hands them the sealed region, answers whether they may read, and takes sums.
//!
//! It never copies a block and never trusts a guest: what makes no sense closes that guest's link and is counted.

use std::{
    os::{fd::AsRawFd, unix::net::UnixListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bus_schemas::NodeRef;
use gpu::Region;

use super::{
    link::{Broken, Link},
    message::Message,
    socket,
};
use crate::{
    card::Key,
    counters::Counters,
    exports::Exports,
    wake::{Doorbell, Spin, interest, sleep},
};

/// Links at once: far more than nodes on one host; beyond it newcomers are hung up on.
const GUESTS_MAX: usize = 1024;
/// A guest that has not said who it is by then is a stranger.
const GREETING: Duration = Duration::from_secs(4);
/// Back-stop of the sleep, in case a wakeup was lost.
const SLEEP: Duration = Duration::from_secs(1);

/// State of the thread.
pub(super) struct Owner {
    pub(super) me: NodeRef,
    pub(super) key: Key,
    pub(super) region: Arc<Region>,
    pub(super) listener: UnixListener,
    pub(super) exports: Arc<Exports>,
    pub(super) counters: Arc<Counters>,
    pub(super) bell: Arc<Doorbell>,
    pub(super) stopped: Arc<AtomicBool>,
    pub(super) guests: Vec<Guest>,
}

/// One reader.
pub(super) struct Guest {
    link: Link,
    since: Instant,
    reader: Option<NodeRef>,
}

impl Owner {
    pub(super) fn run(mut self) {
        let mut spin = Spin::default();
        while !self.stopped.load(Ordering::Acquire) {
            let mut fds = vec![
                interest(self.bell.fd(), false),
                interest(self.listener.as_raw_fd(), false),
            ];
            fds.extend(self.guests.iter().map(|guest| guest.link.interest()));
            let limit = if self.exports.sum_next() {
                Duration::ZERO
            } else {
                spin.limit(SLEEP)
            };
            sleep(&mut fds, limit);
            if fds.iter().any(|fd| fd.revents != 0) {
                spin.busy();
            }
            self.bell.hush();
            self.serve(&fds[2..]);
            if fds[1].revents != 0 {
                self.admit();
            }
        }
    }

    fn admit(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            if self.guests.len() >= GUESTS_MAX
                || !socket::is_ours(&stream)
                || stream.set_nonblocking(true).is_err()
            {
                self.counters.dropped();
                continue;
            }
            self.guests.push(Guest {
                link: Link::new(stream),
                since: Instant::now(),
                reader: None,
            });
        }
    }

    /// Serves the guests of whom something was heard; those that break a rule leave.
    fn serve(&mut self, heard: &[libc::pollfd]) {
        let mut guests = std::mem::take(&mut self.guests);
        let mut heard = heard.iter();
        guests.retain_mut(|guest| {
            let heard = heard.next().is_some_and(|fd| fd.revents != 0);
            let end = if heard {
                self.attend(guest).err()
            } else {
                None
            };
            if end == Some(Broken::Garbage) {
                self.counters.dropped();
            }
            let stranger = guest.reader.is_none() && guest.since.elapsed() > GREETING;
            end.is_none() && !stranger
        });
        self.guests = guests;
    }

    fn attend(&self, guest: &mut Guest) -> Result<(), Broken> {
        guest.link.flush()?;
        if guest.link.receive()?.is_some() {
            return Err(Broken::Garbage);
        }
        for message in guest.link.messages()? {
            match (guest.reader, message) {
                (None, Message::Hello { key, from, to }) => self.welcome(guest, key, from, to)?,
                (
                    Some(reader),
                    Message::Check {
                        take,
                        ticket,
                        seq,
                        slots,
                    },
                ) => {
                    let (offer, slots) = ((ticket, seq), slots.into_iter());
                    let allowed = self.exports.allows(offer, reader, slots.clone());
                    let sums = if allowed {
                        self.exports.sums(offer, slots)
                    } else {
                        Vec::new()
                    };
                    guest.link.send(&Message::Answer {
                        take,
                        allowed,
                        sums,
                    })?;
                }
                (None | Some(_), _) => return Err(Broken::Garbage),
            }
        }
        Ok(())
    }

    fn welcome(
        &self,
        guest: &mut Guest,
        key: Key,
        from: NodeRef,
        to: NodeRef,
    ) -> Result<(), Broken> {
        if to != self.me || key != self.key {
            return Err(Broken::Garbage);
        }
        guest.reader = Some(from);
        let welcome = Message::Welcome {
            slots: self.region.slots(),
            slot_bytes: self.region.slot_bytes() as u64,
        };
        guest.link.send_file(&welcome, self.region.file())
    }
}
