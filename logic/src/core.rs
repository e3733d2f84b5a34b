//! The contract of every decision maker, and time as it sees it.
//!
//! A core owns its state and never looks at the world. Whoever runs it hands in inputs with the time and
//! carries out the effects in the order in which they were appended.

/// Microseconds on the local monotonic clock of whoever runs the core. Never wall time, never another node's time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Micros(pub u64);

impl Micros {
    /// This moment plus `us` microseconds; saturates.
    #[must_use]
    pub const fn after(self, us: u64) -> Self {
        Self(self.0.saturating_add(us))
    }

    /// Microseconds from `earlier` to this moment; 0 if it is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A decision maker.
pub trait Core {
    /// What it is told.
    type Input;
    /// What it wants done.
    type Effect;
    /// What admin, metrics and checkers may see of it.
    type Snapshot;

    /// Takes one input at `now` and appends effects.
    fn handle(&mut self, now: Micros, input: Self::Input, out: &mut Vec<Self::Effect>);

    /// The earliest moment at which it wants to be woken; none if nothing is pending.
    fn deadline(&self) -> Option<Micros>;

    /// Does what was due by `now`. Calling it early or twice changes nothing.
    fn expire(&mut self, now: Micros, out: &mut Vec<Self::Effect>);

    /// Its state, for people and checkers.
    fn snapshot(&self) -> Self::Snapshot;
}
