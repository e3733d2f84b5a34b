//! Whether a step plan makes sense, before anything is written.
//!
//! It looks at everything that would otherwise index out of bounds or divide by zero. It cannot know whether
//! a block holds what the worker's core believes; that is the pool's business.

use gpu::Region;
use logic::batch::{Draw, Row, StepPlan};

use super::KvLayout;

/// What a plan is checked against.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) layout: KvLayout,
    pub(super) vocab: usize,
    pub(super) context: usize,
}

impl Bounds {
    /// Says what is wrong with the plan, if anything is.
    pub(super) fn check(&self, plan: &StepPlan, kv: &Region) -> Result<(), String> {
        if kv.slot_bytes() != self.layout.block_bytes() {
            return Err(format!(
                "the region's slots have {} bytes, a block of this model has {}",
                kv.slot_bytes(),
                self.layout.block_bytes()
            ));
        }
        if plan.rows.is_empty() && plan.copies.is_empty() {
            return Err("it has neither rows nor copies".into());
        }
        let slots = kv.slots();
        if let Some((from, to)) = plan.copies.iter().find(|(a, b)| *a.max(b) >= slots) {
            return Err(format!("copy {from} -> {to} names a slot beyond {slots}"));
        }
        for (index, row) in plan.rows.iter().enumerate() {
            self.check_row(row, slots)
                .map_err(|problem| format!("row {index} {problem}"))?;
        }
        Ok(())
    }

    fn check_row(&self, row: &Row, slots: u32) -> Result<(), String> {
        if row.tokens.is_empty() {
            return Err("has no tokens".into());
        }
        let end = row.start as usize + row.tokens.len();
        if end > self.context {
            return Err(format!(
                "ends at position {end}, the context at {}",
                self.context
            ));
        }
        let needed = end.div_ceil(self.layout.block_tokens);
        if row.blocks.len() < needed {
            return Err(format!(
                "has {} blocks and needs {needed}",
                row.blocks.len()
            ));
        }
        if let Some(slot) = row.blocks.iter().find(|slot| **slot >= slots) {
            return Err(format!("names slot {slot} of {slots}"));
        }
        self.check_ids("runs", &row.tokens)?;
        row.draws.iter().try_for_each(|draw| self.check_draw(draw))
    }

    fn check_draw(&self, draw: &Draw) -> Result<(), String> {
        let s = &draw.sampling;
        let sane = s.temperature.is_finite()
            && s.temperature >= 0.0
            && s.top_p > 0.0
            && s.min_p >= 0.0
            && s.min_p <= 1.0
            && s.frequency_penalty.is_finite()
            && s.presence_penalty.is_finite()
            && s.repetition_penalty.is_finite()
            && s.repetition_penalty > 0.0
            && s.logit_bias.iter().all(|(_, bias)| bias.is_finite());
        if !sane {
            return Err(format!("draws with parameters out of range: {s:?}"));
        }
        for (id, _) in &s.logit_bias {
            self.check_ids("biases", &[*id])?;
        }
        match &draw.history {
            Some(history) => {
                self.check_ids("remembers", &history.prompt)?;
                self.check_ids("remembers", &history.output)?;
            }
            None if s.needs_history() => return Err("draws with penalties but no history".into()),
            None => {}
        }
        self.check_bans(&draw.banned)
    }

    /// Something must be left to draw. Bans of ids that do not exist are kept by themselves.
    fn check_bans(&self, banned: &[u32]) -> Result<(), String> {
        if banned.len() < self.vocab {
            return Ok(());
        }
        let mut distinct: Vec<u32> = banned.to_vec();
        distinct.retain(|id| (*id as usize) < self.vocab);
        distinct.sort_unstable();
        distinct.dedup();
        if distinct.len() < self.vocab {
            Ok(())
        } else {
            Err("bans every id".into())
        }
    }

    fn check_ids(&self, what: &str, ids: &[u32]) -> Result<(), String> {
        match ids.iter().find(|id| **id as usize >= self.vocab) {
            None => Ok(()),
            Some(id) => Err(format!("{what} id {id}, the vocabulary has {}", self.vocab)),
        }
    }
}
