//! Whether a plan can be run, before anything is written.
//!
//! It cannot know whether a block holds what the plan's author believes; reading the cells tells that.

use gpu::Region;
use logic::batch::{Row, StepPlan};

use super::cell::Layout;

/// What a plan is checked against.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) layout: Layout,
    pub(super) vocab_size: u32,
    pub(super) context_tokens: u32,
}

impl Bounds {
    /// Says what is wrong with the plan, if anything is.
    pub(super) fn check(&self, plan: &StepPlan, kv: &Region) -> Result<(), String> {
        let (found, wanted) = (kv.slot_bytes(), self.layout.block_bytes);
        if found != wanted {
            return Err(format!(
                "the region's slots have {found} bytes, a block has {wanted}"
            ));
        }
        if plan.rows.is_empty() && plan.copies.is_empty() {
            return Err("it has neither rows nor copies".into());
        }
        let slots = kv.slots();
        if let Some((from, to)) = plan.copies.iter().find(|(from, to)| *from.max(to) >= slots) {
            return Err(format!("copy {from} -> {to} names a slot beyond {slots}"));
        }
        let row = |(index, row)| {
            self.check_row(row, slots)
                .map_err(|problem| format!("row {index} {problem}"))
        };
        plan.rows.iter().enumerate().try_for_each(row)
    }

    fn check_row(&self, row: &Row, slots: u32) -> Result<(), String> {
        if row.tokens.is_empty() {
            return Err("has no tokens".into());
        }
        let end = row.start as usize + row.tokens.len();
        if end > self.context_tokens as usize {
            return Err(format!(
                "ends at position {end}, the context at {}",
                self.context_tokens
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
        if let Some(id) = row.tokens.iter().find(|id| **id >= self.vocab_size) {
            return Err(format!(
                "runs id {id}, the vocabulary has {}",
                self.vocab_size
            ));
        }
        if let Some(draw) = row.draws.iter().find(|draw| draw.position as usize != end) {
            return Err(format!(
                "draws position {}, it ends at {end}",
                draw.position
            ));
        }
        if row.draws.iter().any(|draw| self.bans_all(&draw.banned)) {
            return Err("bans every id".into());
        }
        Ok(())
    }

    fn bans_all(&self, banned: &[u32]) -> bool {
        let enough = banned.len() >= self.vocab_size as usize;
        enough && (0..self.vocab_size).all(|id| banned.contains(&id))
    }
}
