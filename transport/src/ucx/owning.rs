//! The owner's side of a lane: it lets readers in, checks what they ask for, and pushes the blocks.
//!
//! It never writes into its region and never names a place in a reader's: each block says which piece of which
//! landing it is, and the reader decides.

use std::time::Instant;

use bus_schemas::{NodeRef, messages::SlotRef};
use ucx_sys::ucp_conn_request_h;

use super::{
    conn::Guest,
    lane::Lane,
    message::{BlockHeader, Control},
    queue::{Queue, Turn, Waiting},
};
use crate::{exports::Offer, proof::pattern};

/// Guests at once: far more than a cluster has workers.
const GUESTS_MAX: usize = 1024;
/// Blocks of one reader being sent: beyond 8 nothing is gained.
const SENDING_MAX: usize = 32;

impl Lane {
    /// Somebody connects: it has a moment to say who it is.
    pub(super) fn admit(&mut self, request: ucp_conn_request_h) {
        if self.guests.len() >= GUESTS_MAX {
            self.shared.counters.dropped();
            return self.worker.reject(request);
        }
        let conn = self.next_conn();
        match self.worker.accept(conn, request) {
            Ok(endpoint) => {
                let guest = Guest {
                    endpoint,
                    reader: None,
                    since: Instant::now(),
                    queue: Queue::default(),
                    sending: 0,
                };
                self.guests.insert(conn, guest);
            }
            Err(error) => tracing::debug!(%error, "a peer was gone before it was let in"),
        }
    }

    /// A guest is who it says, for it has shown the key: it is shown our pattern. False if it has said so before.
    pub(super) fn greeted(&mut self, conn: u64, from: NodeRef, proof: u64) -> bool {
        let Some(guest) = self
            .guests
            .get_mut(&conn)
            .filter(|guest| guest.reader.is_none())
        else {
            return false;
        };
        guest.reader = Some(from);
        let header = BlockHeader {
            landing: proof,
            index: 0,
            generation: 0,
            sum: None,
        };
        let block = pattern(&self.key, self.config.region.slot_bytes());
        if !self.worker.show(&guest.endpoint, header, block) {
            self.part(conn);
        }
        true
    }

    /// A guest is gone, or has to go: what it asked for is forgotten.
    pub(super) fn part(&mut self, conn: u64) {
        if let Some(guest) = self.guests.remove(&conn) {
            self.close(guest.endpoint);
        }
    }

    /// A guest asks for blocks. False if it has not said who it is.
    pub(super) fn asked(
        &mut self,
        conn: u64,
        landing: u64,
        offer: Offer,
        first: u32,
        slots: &[SlotRef],
    ) -> bool {
        let Some((guest, reader)) = self
            .guests
            .get_mut(&conn)
            .and_then(|guest| guest.reader.map(|reader| (guest, reader)))
        else {
            return false;
        };
        let exports = &self.shared.exports;
        let allowed = guest.queue.has_room(slots.len())
            && exports.allows(offer, reader, slots.iter().copied());
        if allowed {
            let sums = exports.sums(offer, slots.iter().copied());
            let blocks = slots.iter().zip(sums).zip(first..);
            guest
                .queue
                .extend(blocks.map(|((slot, sum), index)| Waiting {
                    offer,
                    slot: *slot,
                    header: BlockHeader {
                        landing,
                        index,
                        generation: slot.generation,
                        sum,
                    },
                }));
        }
        if !allowed || slots.is_empty() {
            self.answer(conn, &Control::Answer { landing, allowed });
        }
        true
    }

    /// Sends what waits, as far as each guest's share goes.
    pub(super) fn push(&mut self) {
        let (mut broken, mut denied) = (Vec::new(), Vec::new());
        for (conn, guest) in &mut self.guests {
            let Some(reader) = guest.reader else {
                continue;
            };
            while guest.sending < SENDING_MAX
                && let Some(turn) = guest.queue.next(reader, &self.shared.exports)
            {
                match turn {
                    Turn::Deny(landing) => denied.push((*conn, landing)),
                    Turn::Push(header, slot) => {
                        guest.sending += 1;
                        if !self.worker.push(&guest.endpoint, header, slot) {
                            broken.push(*conn);
                            break;
                        }
                    }
                }
            }
        }
        let allowed = false;
        for (conn, landing) in denied {
            self.answer(conn, &Control::Answer { landing, allowed });
        }
        broken.into_iter().for_each(|conn| self.part(conn));
    }

    /// A block has left, or was not wanted any more.
    pub(super) fn sent(&mut self, conn: u64, well: bool) {
        if let Some(guest) = self.guests.get_mut(&conn) {
            guest.sending -= 1;
        }
        if well {
            self.shared
                .counters
                .sent(self.config.region.slot_bytes() as u64);
        }
    }

    fn answer(&mut self, conn: u64, message: &Control) {
        let guest = self.guests.get(&conn);
        if guest.is_some_and(|guest| !self.worker.tell(&guest.endpoint, message)) {
            self.part(conn);
        }
    }
}
