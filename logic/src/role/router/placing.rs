//! One attempt being placed: chosen, booked, asked for, and chosen again when the worker refuses.
//!
//! Idempotent by (request, attempt): a repeated `Admit` repeats the same `Reserve`. Nothing here outlives one
//! lease without the worker's word, and nothing is kept of an attempt that was rejected.

use bus_schemas::{
    Attempt, Meta, NodeRef, Placement, RefuseReason, RequestId, Role,
    limits::{CHOICES_MAX, LEASE_US, PROMPT_TOKENS_MAX},
    messages::{Admit, Intake, Refused, Rejected, Reserve},
};

use super::{
    Decision, Effect, Router,
    bookings::Booking,
    pools::{Kind, RETRY_MS},
    recent::Placed,
    shape::{Shape, tokens_of},
};
use crate::{
    core::Micros,
    fact::{Span, What},
    hash,
    place::{Ask, Choice, Prompt, choose},
};

/// Attempts being placed at once: each waits for one hop.
const PLACINGS_MAX: usize = 1 << 14;
/// Tokens of all attempts being placed: 256 MiB.
const PLACING_TOKENS_MAX: usize = 1 << 26;
/// Workers asked about one attempt before it is rejected.
const TRIES_MAX: u32 = 4;
/// Incarnations that one admission may exclude: far more owners than a request may lose.
pub(super) const AVOID_MAX: usize = 1024;

pub(super) type PlacingKey = (RequestId, Attempt);

/// An attempt whose worker has not answered yet.
#[derive(Debug)]
pub(super) struct Placing {
    gateway: NodeRef,
    admit: Admit,
    span: Span,
    placed: Placed,
    /// Incarnations not to use: the gateway's and those that refused.
    avoid: Vec<NodeRef>,
    /// The last word of a worker.
    refused: Option<RefuseReason>,
    deadline: Micros,
    pub(super) until: Micros,
}

impl Placing {
    pub(super) fn is_at(&self, node: NodeRef) -> bool {
        self.placed.decode == node
    }
}

impl Router {
    pub(super) fn admit(
        &mut self,
        now: Micros,
        meta: Meta,
        mut admit: Admit,
        out: &mut Vec<Effect>,
    ) {
        let key = (meta.request, meta.attempt);
        let me = (Role::Router, self.config.me);
        let span = Span::enter(now, &mut admit.spec, me, meta.attempt);
        if self.placings.contains_key(&key) {
            return self.ask_again(now, key, out);
        }
        if let Some(placed) = self.recent.get(key) {
            let remaining_us = meta.remaining_us;
            return self.reserve(key, remaining_us, placed, admit, out);
        }
        if self.knows_newer(key) {
            self.counters.stale += 1;
            return;
        }
        if let Err(reason) = self.check_admissible(&meta, &admit) {
            let fact = span.fact(now, key.1, What::Refused(reason));
            out.push(Effect::Fact(fact));
            return self.reject(meta.from, key, (reason, RETRY_MS), out);
        }
        self.end_older(key);
        let placing = Placing {
            gateway: meta.from,
            span,
            avoid: admit.avoid.clone(),
            placed: Placed::nowhere(meta.from),
            refused: None,
            deadline: now.after(meta.remaining_us),
            until: now.after(LEASE_US),
            admit,
        };
        self.placing_tokens += tokens_of(&placing.admit);
        self.placings.insert(key, placing);
        self.place(now, key, out);
    }

    fn check_admissible(&self, meta: &Meta, admit: &Admit) -> Result<(), RefuseReason> {
        let spec = &admit.spec;
        let choices = usize::from(spec.choices);
        let sane = spec.request == meta.request
            && !spec.prompt.is_empty()
            && (1..=CHOICES_MAX).contains(&spec.choices)
            && admit.emitted.len() == choices
            && admit.ended.len() < choices
            && admit.avoid.len() <= AVOID_MAX;
        if !sane {
            return Err(RefuseReason::Invalid);
        }
        if spec.prompt.len() > PROMPT_TOKENS_MAX {
            return Err(RefuseReason::TooLarge);
        }
        if self.intake != Intake::Open {
            return Err(RefuseReason::Draining);
        }
        if meta.remaining_us == 0 {
            return Err(RefuseReason::Expired);
        }
        let tokens = self.placing_tokens + tokens_of(admit);
        if self.placings.len() >= PLACINGS_MAX || tokens > PLACING_TOKENS_MAX {
            return Err(RefuseReason::Full);
        }
        Ok(())
    }

    fn knows_newer(&self, (request, attempt): PlacingKey) -> bool {
        let all = (request, attempt)..=(request, Attempt(u32::MAX));
        self.placings.range(all).next().is_some() || self.recent.knows_newer((request, attempt))
    }

    /// The gateway has given up waiting for the attempts before this one.
    fn end_older(&mut self, (request, attempt): PlacingKey) {
        let all = (request, Attempt(0))..(request, attempt);
        for key in self
            .placings
            .range(all)
            .map(|(key, _)| *key)
            .collect::<Vec<_>>()
        {
            self.close(key);
        }
    }

    pub(super) fn close(&mut self, key: PlacingKey) -> Option<Placing> {
        let placing = self.placings.remove(&key)?;
        self.placing_tokens -= tokens_of(&placing.admit);
        Some(placing)
    }

    /// Chooses for an attempt and asks the chosen worker, or rejects.
    fn place(&mut self, now: Micros, key: PlacingKey, out: &mut Vec<Effect>) {
        let random = self.draw();
        self.count_bookings();
        let Some(placing) = self.placings.get(&key) else {
            return;
        };
        let shape = Shape::of(&placing.admit);
        let majority = self.majority(&placing.admit.spec.model);
        let chosen = majority
            .filter(|_| placing.placed.placement.0 < TRIES_MAX && now < placing.deadline)
            .and_then(|kind| self.choose(placing, &shape, kind, random));
        match chosen {
            Some(choice) => self.book(now, key, choice, &shape, majority, out),
            None => self.give_up(now, key, &shape, majority, out),
        }
    }

    fn choose(&self, placing: &Placing, shape: &Shape, kind: Kind, random: u64) -> Option<Choice> {
        let spec = &placing.admit.spec;
        let block_tokens = kind.1;
        let hashes = hash::sequence_hashes(
            hash::seed_of(spec),
            &shape.shared(&placing.admit),
            block_tokens,
        );
        let ask = Ask {
            prompt: Prompt {
                tokens: shape.tokens,
                output: spec.max_tokens.min(self.config.expected_output),
            },
            blocks_least: shape.blocks(block_tokens),
            overlap: &self.index.walk(&hashes),
            block_tokens,
            local_prefill_max: self.config.local_prefill_max,
            avoid: &placing.avoid,
            alone: placing.admit.alone,
            random,
        };
        choose(self.candidates(&spec.model, kind), &ask)
    }

    fn book(
        &mut self,
        now: Micros,
        key: PlacingKey,
        choice: Choice,
        shape: &Shape,
        majority: Option<Kind>,
        out: &mut Vec<Effect>,
    ) {
        let Some(placing) = self.placings.get_mut(&key) else {
            return;
        };
        let placement = Placement(placing.placed.placement.0 + 1);
        let (decode, prefill) = (choice.decode, choice.prefill);
        placing.placed = Placed {
            gateway: placing.gateway,
            decode,
            prefill,
            placement,
        };
        placing.until = now.after(LEASE_US);
        let placed = What::Placed {
            placement,
            decode,
            prefill,
        };
        out.push(Effect::Fact(placing.span.fact(now, key.1, placed)));
        let cached = choice
            .explained
            .first()
            .map_or(0, |best| best.cached_tokens);
        let booking = Booking {
            decode,
            blocks: shape.blocks(majority.map_or(0, |(_, block_tokens)| block_tokens)),
            prefill: prefill.unwrap_or(decode),
            prompt_tokens: shape.tokens.saturating_sub(cached),
        };
        let decision = Decision {
            request: key.0,
            attempt: key.1,
            placement,
            gateway: placing.gateway,
            decode,
            prefill,
            prompt_tokens: shape.tokens,
            at: now,
            explained: choice.explained,
        };
        self.bookings
            .insert(now, (key.0, key.1, placement), booking);
        self.note_decision(decision);
        self.counters.placed += 1;
        self.ask_again(now, key, out);
    }

    /// No worker takes it: says so, and why.
    fn give_up(
        &mut self,
        now: Micros,
        key: PlacingKey,
        shape: &Shape,
        majority: Option<Kind>,
        out: &mut Vec<Effect>,
    ) {
        let Some(placing) = self.close(key) else {
            return;
        };
        let blocks_least = shape.blocks(majority.map_or(0, |(_, block_tokens)| block_tokens));
        let (reason, retry_ms) = self.why_not(now, &placing.admit.spec.model, blocks_least);
        let reason = match placing.refused {
            _ if placing.deadline <= now => RefuseReason::Expired,
            Some(word) if reason == RefuseReason::Full => word,
            Some(_) | None => reason,
        };
        let fact = placing.span.fact(now, key.1, What::Refused(reason));
        out.push(Effect::Fact(fact));
        self.reject(placing.gateway, key, (reason, retry_ms), out);
    }

    fn reject(
        &mut self,
        gateway: NodeRef,
        key: PlacingKey,
        (reason, retry_after_ms): (RefuseReason, u32),
        out: &mut Vec<Effect>,
    ) {
        self.counters.rejected += 1;
        self.send(
            gateway,
            key,
            0,
            Rejected {
                reason,
                retry_after_ms,
            },
            out,
        );
    }

    /// Sends the present `Reserve` of an attempt, for the first time or again.
    fn ask_again(&self, now: Micros, key: PlacingKey, out: &mut Vec<Effect>) {
        let Some(placing) = self.placings.get(&key) else {
            return;
        };
        let remaining_us = placing.deadline.since(now);
        self.reserve(
            key,
            remaining_us,
            placing.placed,
            placing.admit.clone(),
            out,
        );
    }

    fn reserve(
        &self,
        key: PlacingKey,
        remaining_us: u64,
        placed: Placed,
        admit: Admit,
        out: &mut Vec<Effect>,
    ) {
        let Placed {
            gateway,
            decode,
            prefill,
            placement,
        } = placed;
        let reserve = Reserve {
            placement,
            gateway,
            prefill,
            admit,
        };
        self.send(decode, key, remaining_us, reserve, out);
    }

    /// The worker promised: the gateway goes on with it, and this attempt needs no router any more.
    pub(super) fn promised(&mut self, meta: &Meta, placement: Placement) {
        let key = (meta.request, meta.attempt);
        let answers = |p: &Placing| p.placed.placement == placement && p.is_at(meta.from);
        if self.placings.get(&key).is_some_and(answers)
            && let Some(placing) = self.close(key)
        {
            self.recent.insert(key, placing.placed);
        }
    }

    pub(super) fn refused(
        &mut self,
        now: Micros,
        meta: &Meta,
        refused: &Refused,
        out: &mut Vec<Effect>,
    ) {
        let key = (meta.request, meta.attempt);
        let answers = |p: &Placing| {
            p.placed.placement == refused.placement && p.placed.decode.node == meta.from.node
        };
        let Some(placing) = self.placings.get_mut(&key).filter(|p| answers(p)) else {
            self.counters.stale += 1;
            return;
        };
        placing.refused = Some(refused.reason);
        self.counters.refused += 1;
        match refused.reason {
            RefuseReason::Invalid | RefuseReason::Expired => {
                self.bookings.remove((key.0, key.1, refused.placement));
                if let Some(placing) = self.close(key) {
                    self.reject(placing.gateway, key, (refused.reason, 0), out);
                }
            }
            RefuseReason::Full
            | RefuseReason::TooLarge
            | RefuseReason::Draining
            | RefuseReason::UnknownModel
            | RefuseReason::Ended
            | RefuseReason::Stale
            | RefuseReason::NoCapacity => self.place_again(now, key, out),
        }
    }

    /// The chosen worker will not do: the next one.
    pub(super) fn place_again(&mut self, now: Micros, key: PlacingKey, out: &mut Vec<Effect>) {
        let Some(placing) = self.placings.get_mut(&key) else {
            return;
        };
        placing.avoid.push(placing.placed.decode);
        let placement = placing.placed.placement;
        self.bookings.remove((key.0, key.1, placement));
        self.place(now, key, out);
    }
}
