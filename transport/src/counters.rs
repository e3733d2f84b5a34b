//! Counters of a fabric, raised by its threads and read by anybody.
//!
//! They never decide anything: metrics and tests look at them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::Moved;

/// What a fabric has done since its start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    takes: AtomicU64,
    failures: AtomicU64,
    garbage: AtomicU64,
}

impl Counters {
    pub(crate) fn received(&self, bytes: u64) {
        self.bytes_in.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn sent(&self, bytes: u64) {
        self.bytes_out.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn ended(&self, well: bool) {
        let counter = if well { &self.takes } else { &self.failures };
        counter.fetch_add(1, Relaxed);
    }

    /// Counts a message that made no sense.
    pub(crate) fn dropped(&self) {
        self.garbage.fetch_add(1, Relaxed);
    }

    pub(crate) fn moved(&self) -> Moved {
        Moved {
            bytes_in: self.bytes_in.load(Relaxed),
            bytes_out: self.bytes_out.load(Relaxed),
            takes: self.takes.load(Relaxed),
            failures: self.failures.load(Relaxed),
            garbage: self.garbage.load(Relaxed),
        }
    }
}
