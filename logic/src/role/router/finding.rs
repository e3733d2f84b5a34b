//! Another prefill worker for an owner whose first one refused.
//!
//! Nothing is remembered of the question but its booking and its decision: the owner asks once and does not
//! wait long. It never chooses another owner. Start at [`Router::find_prefill`].

use bus_schemas::{
    Meta, NodeRef, Placement,
    limits::PROMPT_TOKENS_MAX,
    messages::{FindPrefill, PrefillFound},
};

use super::{Decision, Effect, Router, placing::AVOID_MAX, pools::kind};
use crate::{
    core::Micros,
    place::{Ask, Choice, Prompt, choose_prefill},
};

impl Router {
    pub(super) fn find_prefill(
        &mut self,
        now: Micros,
        meta: &Meta,
        find: &FindPrefill,
        out: &mut Vec<Effect>,
    ) {
        let sane = find.tokens >= 1
            && find.hashes.len() <= PROMPT_TOKENS_MAX
            && find.avoid.len() <= AVOID_MAX;
        if !sane || !self.members.is_live(meta.from) {
            self.counters.stale += 1;
            return;
        }
        let choice = self.another_prefill(meta.from, find);
        let prefill = choice.as_ref().and_then(|choice| choice.prefill);
        let best = choice.as_ref().and_then(|choice| choice.explained.first());
        let cached = best.map_or(0, |best| best.cached_tokens);
        self.bookings.move_prompt(
            (meta.request, meta.attempt, find.placement),
            prefill.unwrap_or(meta.from),
            find.tokens.saturating_sub(cached),
        );
        if let Some(choice) = choice {
            self.note_found(now, meta, find, choice);
        }
        let placement = find.placement;
        let found = PrefillFound { placement, prefill };
        let key = (meta.request, meta.attempt);
        self.send(meta.from, key, meta.remaining_us, found, out);
    }

    fn another_prefill(&mut self, decode: NodeRef, find: &FindPrefill) -> Option<Choice> {
        self.count_bookings();
        let random = self.draw();
        let owner = self.members.get(decode.node)?;
        let pool = kind(owner);
        let block_tokens = pool.1;
        let ask = Ask {
            prompt: Prompt {
                tokens: find.tokens,
                output: find.output.min(self.config.expected_output),
            },
            blocks_least: find.tokens.div_ceil(block_tokens.max(1)),
            overlap: &self.index.walk(&find.hashes),
            block_tokens,
            local_prefill_max: self.config.local_prefill_max,
            avoid: &find.avoid,
            alone: false,
            random,
        };
        choose_prefill(self.candidates(&owner.beat.model, pool), decode, &ask)
    }

    fn note_found(&mut self, now: Micros, meta: &Meta, find: &FindPrefill, choice: Choice) {
        let (request, attempt) = (meta.request, meta.attempt);
        let gateway = self.gateway_of(meta, find.placement);
        self.note_decision(Decision {
            request,
            attempt,
            placement: find.placement,
            gateway,
            decode: choice.decode,
            prefill: choice.prefill,
            prompt_tokens: find.tokens,
            at: now,
            explained: choice.explained,
        });
    }

    /// Whose request it is, as long as its placing is among the last decisions.
    fn gateway_of(&self, meta: &Meta, placement: Placement) -> NodeRef {
        let of_it = |d: &&Decision| {
            (d.request, d.attempt, d.placement) == (meta.request, meta.attempt, placement)
        };
        let placed = self.decisions.iter().rev().find(of_it);
        placed.map_or(NodeRef::NONE, |d| d.gateway)
    }
}
