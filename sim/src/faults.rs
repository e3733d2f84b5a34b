//! What may go wrong on bus and fabric, as one struct of options.
//!
//! Drawn per seed: first which kinds exist, then how often. Crashes and freezes are events of a scenario.

use crate::rng::Rng;

/// Likelihoods in percent, times in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// A letter is lost.
    pub lose_percent: u64,
    /// A letter arrives twice.
    pub repeat_percent: u64,
    /// Longest extra delay of a letter; two letters of one sender may change places.
    pub delay_us_max: u64,
    /// Longest time of a take.
    pub take_us_max: u64,
    /// A take that moved its bytes reports failure.
    pub torn_percent: u64,
}

impl Faults {
    /// Nothing goes wrong; everything takes a little time.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            lose_percent: 0,
            repeat_percent: 0,
            delay_us_max: 1,
            take_us_max: 500,
            torn_percent: 0,
        }
    }

    /// A bad day.
    pub const fn draw(rng: &mut Rng) -> Self {
        let mut faults = Self::none();
        if rng.percent(60) {
            faults.lose_percent = 1 + rng.below(15);
        }
        if rng.percent(60) {
            faults.repeat_percent = 1 + rng.below(20);
        }
        if rng.percent(60) {
            faults.delay_us_max = 1 + rng.below(100_000);
        }
        if rng.percent(40) {
            faults.take_us_max = 1 + rng.below(1_500_000);
        }
        if rng.percent(40) {
            faults.torn_percent = 1 + rng.below(30);
        }
        faults
    }
}
