//! The price of a choice: own wait, a miss that costs more under pressure, harm to others, memory, transfer.
//!
//! All terms are milliseconds of time to the first token; those of pace are weighed by the ratio of the
//! two targets. Floats live only here, and are rounded once, by [`Cost::total_us`]. PLACEMENT section 5.

use bus_schemas::messages::{Load, Pass};

/// Price of a miss without pressure (l0): it delays whoever comes after, and evicts.
const MISS_BASE: f64 = 4.0;
/// Rise of that price with each request that waits on the pool's mean node (l1).
const MISS_PER_WAITING: f64 = 4.0;
/// Target of the time to the first token (T).
const TTFT_MS: f64 = 2000.0;
/// Target of the time between tokens (D).
const ITL_MS: f64 = 50.0;
/// Fill of a pool from which on more blocks cost.
const MEMORY_KNEE: f64 = 0.9;
/// What filling the whole pool above the knee would cost, in targets.
const MEMORY_WEIGHT: f64 = 20.0;
/// A worker that has measured nothing: 70B on four H200 (PLACEMENT section 3), in microseconds.
const PASS_DEFAULT: Pass = Pass {
    a: 7620.0,
    c: 34.4,
    d: 10.9,
    e: 40.7,
};
/// Handshake of a remote prefill.
const REMOTE_MS: f64 = 0.5;
/// Moving one token's keys and values: 320 KB at 40 GB/s, of which 15 % is not hidden behind the prefill.
const MOVE_MS: f64 = 0.008 * 0.15;

/// A prompt as placement sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// Tokens to have keys and values before the next is drawn.
    pub tokens: u32,
    /// Output expected, in tokens.
    pub output: u32,
}

/// A node's load, with what was booked on it since it spoke.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NodeLoad {
    /// As it said.
    pub load: Load,
    /// Prompt tokens booked on it.
    pub booked_tokens: u64,
    /// Requests booked on it.
    pub booked: u32,
    /// Blocks booked on it.
    pub booked_blocks: u32,
}

/// The terms of a price in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Prefill that is queued before it.
    pub wait: f64,
    /// Its own uncached prompt, priced.
    pub miss: f64,
    /// Its own pace, and what it does to the others' pace.
    pub pace: f64,
    /// Decoding rows that stand still while it is prefilled beside them.
    pub stall: f64,
    /// Memory above the knee.
    pub memory: f64,
    /// Moving the blocks.
    pub transfer: f64,
}

impl Cost {
    /// The sum in microseconds: what is compared.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "rounded once"
    )]
    pub fn total_us(&self) -> u64 {
        let sum = self.wait + self.miss + self.pace + self.stall + self.memory + self.transfer;
        (sum * 1000.0).round() as u64
    }
}

#[expect(clippy::cast_precision_loss, reason = "a price")]
impl NodeLoad {
    /// Rows in its batch, soon or now.
    #[must_use]
    pub fn rows(&self) -> u64 {
        u64::from(self.load.running) + self.waiting()
    }

    /// Requests that wait on it.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        u64::from(self.load.waiting) + u64::from(self.booked)
    }

    /// Prompt tokens that it has to compute.
    #[must_use]
    pub const fn queued_tokens(&self) -> u64 {
        self.load
            .queued_prefill_tokens
            .saturating_add(self.booked_tokens)
    }

    /// Milliseconds of prefill that are queued on it.
    #[must_use]
    pub fn queued_ms(&self) -> f64 {
        self.queued_tokens() as f64 * self.pass().e / 1000.0
    }

    /// Terms of prefilling `uncached` tokens here, where `waiting` requests wait on the pool's mean node.
    #[must_use]
    pub fn prefill(&self, uncached: u32, waiting: f64) -> Cost {
        Cost {
            wait: self.queued_ms(),
            miss: self.prefill_ms(uncached) * (1.0 + MISS_BASE + MISS_PER_WAITING * waiting),
            ..Cost::default()
        }
    }

    /// Terms of decoding here, with `new_blocks` more of its memory in use.
    #[must_use]
    pub fn decode(&self, prompt: Prompt, new_blocks: u32) -> Cost {
        let pass = self.pass();
        let rows = self.rows() as f64;
        let tokens = f64::from(prompt.tokens);
        let context = self.load.context_tokens as f64 + tokens;
        let step_us = pass.a + pass.c * (rows + 1.0) + pass.d * context / 1000.0;
        let harm_us = rows * (pass.c + pass.d * tokens / 1000.0);
        let total = f64::from(self.load.blocks_total.max(1));
        let used = total - f64::from(self.load.blocks_free)
            + f64::from(self.booked_blocks)
            + f64::from(new_blocks);
        Cost {
            pace: (step_us + harm_us) / 1000.0 * TTFT_MS / ITL_MS,
            memory: MEMORY_WEIGHT * TTFT_MS * (used / total - MEMORY_KNEE).max(0.0),
            ..Cost::default()
        }
    }

    /// What prefilling `uncached` tokens here costs those who decode here, over an output of `output` tokens.
    #[must_use]
    pub fn stall(&self, uncached: u32, output: u32) -> f64 {
        let output_ms = f64::from(output.max(1)) * ITL_MS;
        self.rows() as f64 * self.prefill_ms(uncached) / output_ms * TTFT_MS
    }

    fn prefill_ms(&self, tokens: u32) -> f64 {
        let pass = self.pass();
        (pass.a + f64::from(tokens) * pass.e) / 1000.0
    }

    fn pass(&self) -> Constants {
        let own = self.load.pass;
        let or = |own: f32, default: f32| {
            f64::from(if own.is_finite() && own > 0.0 {
                own
            } else {
                default
            })
        };
        Constants {
            a: or(own.a, PASS_DEFAULT.a),
            c: or(own.c, PASS_DEFAULT.c),
            d: or(own.d, PASS_DEFAULT.d),
            e: or(own.e, PASS_DEFAULT.e),
        }
    }
}

/// A pass model that is safe to compute with, in microseconds.
struct Constants {
    a: f64,
    c: f64,
    d: f64,
    e: f64,
}

/// What moving `tokens` from a prefill node leaves exposed, in milliseconds.
pub(super) fn transfer(tokens: u32) -> f64 {
    REMOTE_MS + MOVE_MS * f64::from(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_terms_are_those_of_the_formula() {
        let node = node(Load {
            running: 3,
            waiting: 1,
            context_tokens: 9000,
            queued_prefill_tokens: 500,
            blocks_total: 100,
            blocks_free: 20,
            pass: Pass {
                a: 1000.0,
                c: 10.0,
                d: 100.0,
                e: 50.0,
            },
            ..Load::default()
        });
        // Q = 500 * 0.05; P = 1 + 100 * 0.05 = 6, times 1 + 4 + 4 * 2.
        let prefill = node.prefill(100, 2.0);
        near(prefill.wait, 25.0);
        near(prefill.miss, 78.0);
        // step(5, 10,000) = 1 + 0.05 + 1; harm = 4 * (0.01 + 0.1); times 2000 / 50. Memory: 95 of 100 used.
        let decode = node.decode(
            Prompt {
                tokens: 1000,
                output: 60,
            },
            15,
        );
        near(decode.pace, (2.05 + 0.44) * 40.0);
        near(decode.memory, 20.0 * 2000.0 * 0.05);
        // 4 rows stand still for 6 ms, spread over 60 tokens of 50 ms.
        near(node.stall(100, 60), 4.0 * 6.0 / 3000.0 * 2000.0);
    }

    #[test]
    fn bookings_count_as_load() {
        let idle = node(Load {
            blocks_total: 10,
            blocks_free: 10,
            ..Load::default()
        });
        let booked = NodeLoad {
            booked: 2,
            booked_tokens: 1000,
            booked_blocks: 9,
            ..idle
        };
        let prompt = Prompt {
            tokens: 16,
            output: 16,
        };
        assert!(booked.prefill(16, 0.0).wait > idle.prefill(16, 0.0).wait);
        assert!(booked.decode(prompt, 1).pace > idle.decode(prompt, 1).pace);
        assert!(booked.decode(prompt, 1).memory > idle.decode(prompt, 1).memory);
    }

    #[test]
    fn constants_that_make_no_sense_are_replaced() {
        let default = node(Load::default());
        for e in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            let pass = Pass {
                a: e,
                c: e,
                d: e,
                e,
            };
            let strange = node(Load {
                pass,
                ..Load::default()
            });
            let cost = strange.prefill(1000, 1.0);
            assert_eq!(cost, default.prefill(1000, 1.0));
            assert!(cost.total_us() > 0);
        }
    }

    fn node(load: Load) -> NodeLoad {
        NodeLoad {
            load,
            booked_tokens: 0,
            booked: 0,
            booked_blocks: 0,
        }
    }

    fn near(got: f64, expected: f64) {
        assert!((got - expected).abs() < 0.001, "{got} is not {expected}");
    }
}
