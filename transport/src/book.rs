//! The book of takes: every take that was opened ends with exactly one `Taken` and then exactly one `Settled`.
//!
//! A take is *running* until it ends, and stays in the book until its last operation has come back.
//! The book never moves bytes and reads no clock; a fabric's thread owns it and tells it what happened.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use bus_schemas::{NodeRef, limits::TICKET_GRACE_US};

use crate::{EventSink, FabricEvent, Failure, Take, counters::Counters};

/// Takes open at once: far more than a worker has requests, and small enough to walk.
pub(crate) const TAKES_MAX: usize = 4096;
/// Blocks of one take: a prompt of a million tokens in blocks of sixteen.
pub(crate) const PIECES_MAX: usize = 1 << 16;
/// An owner does not reuse blocks for so long after it revoked them, so neither after a take began.
const KEPT: Duration = Duration::from_micros(TICKET_GRACE_US);
/// Between two progress reports of one take.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// Takes and what is known of them.
pub(crate) struct Book {
    rows: BTreeMap<u64, Row>,
    deadlines: BTreeSet<(Instant, u64)>,
    sink: EventSink,
    counters: Arc<Counters>,
}

struct Row {
    owner: NodeRef,
    deadline: Instant,
    bytes: u64,
    outstanding: u32,
    ended: bool,
    opened: Instant,
    moved: Instant,
    reported: Instant,
}

impl Book {
    pub(crate) fn new(sink: EventSink, counters: Arc<Counters>) -> Self {
        Self {
            rows: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            sink,
            counters,
        }
    }

    /// Opens a take. False if it may not start: over the bounds (it has then ended), or its id is in use.
    pub(crate) fn open(&mut self, take: &Take, slots: u32, now: Instant) -> bool {
        if self.rows.contains_key(&take.id) {
            tracing::error!(take = take.id, "a take was started twice");
            return false;
        }
        let refusal = if self.rows.len() >= TAKES_MAX || take.pieces.len() > PIECES_MAX {
            Some(Failure::Overload)
        } else if take.pieces.iter().any(|piece| piece.to.slot >= slots) {
            Some(Failure::Protocol)
        } else {
            None
        };
        let deadline = now + take.timeout;
        let row = Row {
            owner: take.owner,
            deadline,
            bytes: 0,
            outstanding: 0,
            ended: false,
            opened: now,
            moved: now,
            reported: now,
        };
        self.rows.insert(take.id, row);
        self.deadlines.insert((deadline, take.id));
        if let Some(failure) = refusal {
            self.end(take.id, Err(failure));
        }
        refusal.is_none()
    }

    /// Whether the take has not settled.
    pub(crate) fn is_open(&self, id: u64) -> bool {
        self.rows.contains_key(&id)
    }

    /// Whom to blame for a corrupt block: the owner of a running take, as long as it keeps even what it revoked.
    /// A reader that slept longer may have read what lies there by now.
    pub(crate) fn blamed(&self, id: u64, now: Instant) -> Option<NodeRef> {
        let row = self.rows.get(&id).filter(|row| !row.ended)?;
        (now.duration_since(row.opened) < KEPT).then_some(row.owner)
    }

    /// An operation that writes into the take's slots has begun.
    pub(crate) fn begin(&mut self, id: u64) {
        if let Some(row) = self.rows.get_mut(&id) {
            row.outstanding += 1;
        }
    }

    /// An operation of the take came back.
    pub(crate) fn finish(&mut self, id: u64) {
        let Some(row) = self.rows.get_mut(&id) else {
            return;
        };
        debug_assert!(row.outstanding > 0, "an operation came back twice");
        row.outstanding -= 1;
        self.settle_if_quiet(id);
    }

    /// Bytes arrived.
    pub(crate) fn landed(&mut self, id: u64, bytes: u64, now: Instant) {
        let Some(row) = self.rows.get_mut(&id).filter(|row| !row.ended) else {
            return;
        };
        row.bytes += bytes;
        row.moved = now;
        self.counters.received(bytes);
        if now.duration_since(row.reported) >= PROGRESS_EVERY {
            row.reported = now;
            let bytes = row.bytes;
            (self.sink)(FabricEvent::Progress { id, bytes });
        }
    }

    /// Ends a take unless it has ended: with the bytes that landed, or a failure.
    pub(crate) fn end(&mut self, id: u64, result: Result<(), Failure>) {
        let Some(row) = self.rows.get_mut(&id).filter(|row| !row.ended) else {
            return;
        };
        debug_assert!(
            result.is_err() || row.outstanding == 0,
            "done with operations outstanding"
        );
        row.ended = true;
        self.deadlines.remove(&(row.deadline, id));
        let result = result.map(|()| row.bytes);
        self.counters.ended(result.is_ok());
        (self.sink)(FabricEvent::Taken { id, result });
        self.settle_if_quiet(id);
    }

    /// Running takes whose time is over.
    pub(crate) fn expired(&self, now: Instant) -> Vec<u64> {
        let due = self.deadlines.iter().take_while(|(at, _)| *at <= now);
        due.map(|(_, id)| *id).collect()
    }

    /// When the next take expires.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Running takes of one owner.
    pub(crate) fn running_of(&self, owner: NodeRef) -> Vec<u64> {
        let running = self.rows.iter().filter(|(_, row)| !row.ended);
        running
            .filter(|(_, row)| row.owner == owner)
            .map(|(id, _)| *id)
            .collect()
    }

    /// All running takes.
    pub(crate) fn running(&self) -> Vec<u64> {
        self.deadlines.iter().map(|(_, id)| *id).collect()
    }

    /// Whether no take is open.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn settle_if_quiet(&mut self, id: u64) {
        let quiet = |row: &Row| row.ended && row.outstanding == 0;
        if self.rows.get(&id).is_some_and(quiet) {
            self.rows.remove(&id);
            (self.sink)(FabricEvent::Settled { id });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use bus_schemas::Ticket;
    use proptest::prelude::*;

    use super::*;

    type Seen = Arc<Mutex<Vec<FabricEvent>>>;

    fn book() -> (Book, Seen) {
        let seen = Seen::default();
        let log = Arc::clone(&seen);
        let sink: EventSink = Arc::new(move |event| log.lock().expect("no panic").push(event));
        (Book::new(sink, Arc::default()), seen)
    }

    fn take(id: u64) -> Take {
        Take {
            id,
            ticket: Ticket([0; 16]),
            seq: 0,
            owner: NodeRef::NONE,
            pieces: Vec::new(),
            timeout: Duration::from_secs(1),
        }
    }

    #[test]
    fn an_owner_is_blamed_while_it_keeps_what_it_revoked_and_the_take_runs() {
        let (mut book, _) = book();
        let now = Instant::now();
        assert!(book.open(&take(1), 1, now));
        assert_eq!(book.blamed(1, now), Some(NodeRef::NONE));
        assert_eq!(book.blamed(1, now + KEPT), None, "a reader that slept");
        book.begin(1);
        book.end(1, Err(Failure::Cancelled));
        assert_eq!(book.blamed(1, now), None, "a take that was given up");
    }

    #[test]
    fn a_cancelled_take_settles_when_its_operations_are_back() {
        let (mut book, seen) = book();
        assert!(book.open(&take(7), 1, Instant::now()));
        book.begin(7);
        book.end(7, Err(Failure::Cancelled));
        let taken = FabricEvent::Taken {
            id: 7,
            result: Err(Failure::Cancelled),
        };
        assert_eq!(*seen.lock().expect("no panic"), vec![taken.clone()]);
        book.finish(7);
        let settled = FabricEvent::Settled { id: 7 };
        assert_eq!(*seen.lock().expect("no panic"), vec![taken, settled]);
    }

    #[test]
    fn the_book_refuses_beyond_its_bound() {
        let (mut book, seen) = book();
        let now = Instant::now();
        assert!((0..TAKES_MAX as u64).all(|id| book.open(&take(id), 1, now)));
        assert!(!book.open(&take(1 << 40), 1, now));
        let seen = seen.lock().expect("no panic");
        let overload = FabricEvent::Taken {
            id: 1 << 40,
            result: Err(Failure::Overload),
        };
        assert_eq!(*seen, vec![overload, FabricEvent::Settled { id: 1 << 40 }]);
    }

    proptest! {
        #[test]
        fn every_take_ends_once_and_then_settles_once(steps in prop::collection::vec((0..4_u8, 0..3_u64), 0..60)) {
            let (mut book, seen) = book();
            let now = Instant::now();
            let mut outstanding = [0_u32; 3];
            for (step, id) in steps {
                let slot = &mut outstanding[id as usize];
                match step {
                    0 if *slot == 0 => drop(book.open(&take(id), 1, now)),
                    1 if book.running().contains(&id) => {
                        book.begin(id);
                        *slot += 1;
                    }
                    2 if *slot > 0 => {
                        *slot -= 1;
                        book.finish(id);
                    }
                    _ => book.end(id, Err(Failure::PeerLost)),
                }
            }
            for id in 0..3 {
                book.end(id, Err(Failure::Cancelled));
                (0..outstanding[id as usize]).for_each(|_| book.finish(id));
            }
            prop_assert!(book.is_empty());
            for id in 0..3 {
                let seen = seen.lock().expect("no panic");
                let mine = seen.iter().filter(|e| !matches!(e, FabricEvent::Progress { .. }));
                let kinds: Vec<bool> = mine
                    .filter_map(|event| match event {
                        FabricEvent::Taken { id: of, .. } => (*of == id).then_some(true),
                        FabricEvent::Settled { id: of } => (*of == id).then_some(false),
                        FabricEvent::Progress { .. } => None,
                    })
                    .collect();
                prop_assert!(kinds.chunks(2).all(|pair| pair == [true, false]));
            }
        }
    }
}
