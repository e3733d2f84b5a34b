//! Messages of a stream that were sent, for a caller that asks for them again.
//!
//! Bounded for each stream and for all of them together; past a bound the oldest are forgotten. Never sends.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;

/// Of one stream: some five thousand messages of one token.
const STREAM_BYTES_MAX: usize = 1 << 20;
/// Of all streams of a door.
const DOOR_BYTES_MAX: usize = 64 << 20;

/// What is kept of one stream.
#[derive(Debug)]
pub(super) struct History {
    kept: VecDeque<Bytes>,
    /// Number of the first one.
    first: u64,
    bytes: usize,
    /// Of all streams.
    all: Arc<AtomicUsize>,
}

impl History {
    /// Nothing yet; `all` counts the bytes of every stream of the door.
    pub(super) fn new(all: Arc<AtomicUsize>) -> Self {
        Self {
            kept: VecDeque::new(),
            first: 0,
            bytes: 0,
            all,
        }
    }

    /// One more was sent.
    pub(super) fn push(&mut self, message: Bytes) {
        self.bytes += message.len();
        self.all.fetch_add(message.len(), Ordering::Relaxed);
        self.kept.push_back(message);
        while self.bytes > STREAM_BYTES_MAX || self.all.load(Ordering::Relaxed) > DOOR_BYTES_MAX {
            if !self.forget() {
                return;
            }
        }
    }

    /// Those before `seq` are not asked for any more.
    pub(super) fn forget_before(&mut self, seq: u64) {
        while self.first < seq && self.forget() {}
    }

    /// Those from `seq` on, if they are all kept.
    pub(super) fn since(&self, seq: u64) -> Option<Vec<Bytes>> {
        let skip = usize::try_from(seq.checked_sub(self.first)?).ok()?;
        Some(self.kept.iter().skip(skip).cloned().collect())
    }

    fn forget(&mut self) -> bool {
        let Some(oldest) = self.kept.pop_front() else {
            return false;
        };
        self.first += 1;
        self.bytes -= oldest.len();
        self.all.fetch_sub(oldest.len(), Ordering::Relaxed);
        true
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten_at_the_bound_and_all_is_given_back() {
        let all = Arc::new(AtomicUsize::new(0));
        let mut history = History::new(all.clone());
        let message = Bytes::from(vec![0; STREAM_BYTES_MAX / 4]);
        for _ in 0..6 {
            history.push(message.clone());
        }
        assert_eq!(history.since(1), None);
        assert_eq!(history.since(2).map(|kept| kept.len()), Some(4));
        assert_eq!(history.since(6).map(|kept| kept.len()), Some(0));
        history.forget_before(5);
        assert_eq!(history.since(4), None);
        assert_eq!(all.load(Ordering::Relaxed), message.len());
        drop(history);
        assert_eq!(all.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn other_streams_leave_no_room() {
        let all = Arc::new(AtomicUsize::new(DOOR_BYTES_MAX));
        let mut history = History::new(all.clone());
        history.push(Bytes::from_static(b"x"));
        assert_eq!(history.since(0), None);
        assert_eq!(all.load(Ordering::Relaxed), DOOR_BYTES_MAX);
    }
}
