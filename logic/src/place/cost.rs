//! The cost of a choice in units of the targets: own wait, priced miss, harm to others, pressure on memory.
//!
//! Floats live only here and are compared, never stored as state. Formula and constants: PLACEMENT section 5.

use bus_schemas::messages::{Load, Pass};

/// Price of a miss without pressure, and its rise with the mean number of waiting requests.
const MISS: (f64, f64) = (2.0, 3.0);
/// Targets: time to the first token, time between tokens, in milliseconds.
const TTFT_MS: f64 = 2000.0;
const ITL_MS: f64 = 50.0;
/// Fill of a pool from which on more blocks cost, and how much the whole pool costs then.
const PRESSURE: (f64, f64) = (0.9, 20.0);
/// What a worker that has not measured anything is taken for (70B on four H200, PLACEMENT section 3), in microseconds.
const PASS: Pass = Pass {
    a: 7620.0,
    c: 34.4,
    d: 10.9,
    e: 40.7,
};
/// A hop and a handshake of a remote prefill, and each block's transfer, in milliseconds: what is left exposed.
const REMOTE_MS: (f64, f64) = (0.5, 0.01);

/// A prompt as placement sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// Its tokens.
    pub tokens: u32,
    /// Output expected, in tokens.
    pub output: u32,
}

/// A node's load with what was booked on it since.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NodeLoad {
    /// As it said.
    pub load: Load,
    /// Booked prompt tokens that it has not counted yet.
    pub booked_tokens: u64,
    /// Booked requests.
    pub booked: u32,
    /// Booked blocks.
    pub booked_blocks: u32,
}

/// The terms of a cost, each in units of its target.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Prefill queued before it.
    pub wait: f64,
    /// Its own uncached prompt, priced.
    pub miss: f64,
    /// Its own pace, and what it does to the others' pace.
    pub pace: f64,
    /// Decodes stalled by prefilling here.
    pub stall: f64,
    /// Memory.
    pub pressure: f64,
    /// Moving the blocks.
    pub transfer: f64,
}

impl Cost {
    /// Their sum.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.wait + self.miss + self.pace + self.stall + self.pressure + self.transfer
    }
}

impl NodeLoad {
    fn pass(&self) -> Pass {
        if self.load.pass.e > 0.0 {
            self.load.pass
        } else {
            PASS
        }
    }

    /// Milliseconds of prefill queued here.
    #[expect(clippy::cast_precision_loss, reason = "a cost")]
    fn queued_ms(&self) -> f64 {
        let tokens = self.load.queued_prefill_tokens + self.booked_tokens;
        tokens as f64 * f64::from(self.pass().e) / 1000.0
    }

    /// Milliseconds to prefill `tokens` here.
    fn prefill_ms(&self, tokens: u32) -> f64 {
        (f64::from(self.pass().a) + f64::from(tokens) * f64::from(self.pass().e)) / 1000.0
    }

    /// Terms of prefilling `uncached` tokens here; `pressure` is the mean number of waiting requests of the pool.
    #[must_use]
    pub fn prefill(&self, uncached: u32, pressure: f64) -> Cost {
        let own = self.prefill_ms(uncached);
        Cost {
            wait: self.queued_ms() / TTFT_MS,
            miss: own * (1.0 + MISS.0 + MISS.1 * pressure) / TTFT_MS,
            ..Cost::default()
        }
    }

    /// Terms of decoding here with `new_blocks` more.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a cost")]
    pub fn decode(&self, prompt: Prompt, new_blocks: u32) -> Cost {
        let pass = self.pass();
        let batch = f64::from(self.load.running + self.load.waiting + self.booked);
        let context = self.load.context_tokens as f64 + f64::from(prompt.tokens);
        let (a, c, d) = (f64::from(pass.a), f64::from(pass.c), f64::from(pass.d));
        let step = (a + c * (batch + 1.0) + d * context / 1000.0) / 1000.0;
        let harm = batch * (c + d * f64::from(prompt.tokens) / 1000.0) / 1000.0;
        let total = f64::from(self.load.blocks_total.max(1));
        let used = total - f64::from(self.load.blocks_free)
            + f64::from(self.booked_blocks)
            + f64::from(new_blocks);
        Cost {
            pace: (step + harm) / ITL_MS,
            pressure: PRESSURE.1 * (used - PRESSURE.0 * total).max(0.0) / total,
            ..Cost::default()
        }
    }

    /// Decodes here that wait while `uncached` tokens are prefilled.
    #[must_use]
    pub fn stall(&self, uncached: u32, output: u32) -> f64 {
        let batch = f64::from(self.load.running + self.booked);
        batch * self.prefill_ms(uncached) / (f64::from(output.max(1)) * ITL_MS)
    }
}

/// What moving `blocks` from a prefill node leaves exposed.
#[must_use]
pub(super) fn transfer(blocks: u32) -> f64 {
    (REMOTE_MS.0 + REMOTE_MS.1 * f64::from(blocks)) / TTFT_MS
}
