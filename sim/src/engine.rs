//! An engine in virtual time whose next token depends on every block it reads.
//!
//! Each position's state is a hash over the state before it and its token, kept in the block; a draw reads the
//! states of all positions. A wrong, missing or torn block therefore shows as a wrong token. It never
//! looks at the sequence's ids beyond those in the plan.

use std::collections::BTreeMap;

use logic::batch::{Drawn, StepPlan, StepResult};

use crate::rng::mix;

/// Ids of the simulated vocabulary.
pub const VOCABULARY: u32 = 1000;
/// Id that ends a text; drawn rarely.
pub const END: u32 = 999;

/// Memory of one worker: the states in each slot, by offset.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    slots: BTreeMap<u32, Vec<u64>>,
}

impl Memory {
    /// The bytes of a slot.
    #[must_use]
    pub fn read(&self, slot: u32) -> Vec<u64> {
        self.slots.get(&slot).cloned().unwrap_or_default()
    }

    /// Overwrites a slot.
    pub fn write(&mut self, slot: u32, states: Vec<u64>) {
        self.slots.insert(slot, states);
    }
}

/// Runs a plan on a memory.
pub fn run(plan: &StepPlan, memory: &mut Memory, block_tokens: usize) -> StepResult {
    for (from, to) in &plan.copies {
        let states = memory.read(*from);
        memory.write(*to, states);
    }
    let mut rows = Vec::new();
    for row in &plan.rows {
        for (position, token) in (row.start as usize..).zip(&row.tokens) {
            let before = position
                .checked_sub(1)
                .map_or(0, |p| state(memory, &row.blocks, p, block_tokens));
            let slot = row.blocks[position / block_tokens];
            let mut states = memory.read(slot);
            states.resize(block_tokens, 0);
            states[position % block_tokens] = step(before, *token);
            memory.write(slot, states);
        }
        let len = row.start as usize + row.tokens.len();
        let all = (0..len).map(|p| state(memory, &row.blocks, p, block_tokens));
        let digest = all.fold(0, |digest, state| mix(digest ^ state));
        rows.push(
            row.draws
                .iter()
                .map(|d| Drawn {
                    id: draw(digest, d.sampling.seed, d.choice),
                    logprob: 0.0,
                    top: Vec::new(),
                })
                .collect(),
        );
    }
    StepResult {
        number: plan.number,
        rows,
        elapsed_us: 0,
    }
}

fn state(memory: &Memory, blocks: &[u32], position: usize, block_tokens: usize) -> u64 {
    let slot = blocks[position / block_tokens];
    memory
        .slots
        .get(&slot)
        .and_then(|s| s.get(position % block_tokens))
        .copied()
        .unwrap_or(0)
}

const fn step(before: u64, token: u32) -> u64 {
    mix(before ^ (token as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

const fn draw(digest: u64, seed: u64, choice: u16) -> u32 {
    let drawn = mix(digest ^ seed ^ ((choice as u64) << 48));
    (drawn % VOCABULARY as u64) as u32
}

/// The tokens that must come out: until the end id or `max`.
#[must_use]
pub fn expected(prompt: &[u32], seed: u64, choice: u16, max: u32) -> Vec<u32> {
    let mut states = Vec::new();
    let mut before = 0;
    for token in prompt {
        before = step(before, *token);
        states.push(before);
    }
    let mut output = Vec::new();
    while output.len() < max as usize {
        let digest = states.iter().fold(0, |digest, state| mix(digest ^ state));
        let token = draw(digest, seed, choice);
        output.push(token);
        if token == END {
            break;
        }
        before = step(before, token);
        states.push(before);
    }
    output
}
