//! Time as production cores see it: microseconds since the process began, and epochs.
//!
//! The monotonic clock is the only one that decides anything; wall time is read once, for the epoch.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bus_schemas::Epoch;
use logic::Micros;

/// A monotonic clock with a common zero for all shells of a process.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    zero: Instant,
}

impl Clock {
    /// A clock that begins now.
    #[must_use]
    pub fn start() -> Self {
        Self {
            zero: Instant::now(),
        }
    }

    /// This moment.
    #[must_use]
    pub fn now(&self) -> Micros {
        Micros(u64::try_from(self.zero.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// The moment `at` on tokio's clock; now if it has passed.
    #[must_use]
    pub fn instant(&self, at: Micros) -> tokio::time::Instant {
        let wait = std::time::Duration::from_micros(at.since(self.now()));
        tokio::time::Instant::now() + wait
    }
}

/// A fresh epoch: microseconds of wall time, which grows from restart to restart.
#[must_use]
pub fn fresh_epoch() -> Epoch {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Epoch(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}
