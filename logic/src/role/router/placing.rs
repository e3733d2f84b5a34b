//! One attempt being placed: chosen, booked, asked for, and chosen again when the worker refuses.
//!
//! Idempotent by (request, attempt): a repeated `Admit` repeats the same `Reserve`. A booking is a guess about
//! load that ends with the worker's own word, or with one lease.

use bus_schemas::{
    Attempt, Meta, NodeRef, Placement, RefuseReason, RequestId,
    limits::LEASE_US,
    messages::{Admit, Intake, Refused, Rejected, Reserve},
};

use super::{DECISIONS_MAX, Decision, Effect, Router};
use crate::{
    core::Micros,
    hash,
    place::{Ask, Candidate, Choice, NodeLoad, Prompt, choose},
};

/// Attempts being placed at once: some kilobytes each, with their prompts.
const PLACINGS_MAX: usize = 1 << 14;
/// Bookings remembered at once: a few hundred bytes each.
const BOOKINGS_MAX: usize = 1 << 16;
/// Workers asked about one attempt before it is rejected.
const TRIES_MAX: u32 = 4;
/// Hint where the queue's drain rate is not known.
const RETRY_MS: (u32, u32) = (50, 30_000);

pub(super) type PlacingKey = (RequestId, Attempt);
pub(super) type BookingKey = (RequestId, Attempt, Placement);

/// An attempt whose worker has not answered yet.
#[derive(Debug)]
pub(super) struct Placing {
    gateway: NodeRef,
    admit: Admit,
    pub(super) decode: NodeRef,
    prefill: Option<NodeRef>,
    placement: Placement,
    tried: Vec<NodeRef>,
    deadline: Micros,
    pub(super) until: Micros,
}

/// Load that was just given to somebody who has not counted it yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Booking {
    pub(super) decode: NodeRef,
    pub(super) prefill: Option<NodeRef>,
    prefill_tokens: u32,
    blocks: u32,
    pub(super) until: Micros,
}

impl Router {
    pub(super) fn admit(&mut self, now: Micros, meta: Meta, admit: Admit, out: &mut Vec<Effect>) {
        let key = (meta.request, meta.attempt);
        if self.placings.contains_key(&key) {
            return self.ask_reserve(now, key, out);
        }
        let refusal = if self.intake != Intake::Open {
            Some(RefuseReason::Draining)
        } else if meta.remaining_us == 0 {
            Some(RefuseReason::Expired)
        } else if admit.spec.prompt.is_empty() || admit.spec.choices == 0 {
            Some(RefuseReason::Invalid)
        } else if self.placings.len() >= PLACINGS_MAX {
            Some(RefuseReason::Full)
        } else {
            None
        };
        if let Some(reason) = refusal {
            return self.reject(meta, reason, RETRY_MS.0, out);
        }
        let placing = Placing {
            gateway: meta.from,
            tried: admit.avoid.clone(),
            admit,
            decode: NodeRef::NONE,
            prefill: None,
            placement: Placement(0),
            deadline: now.after(meta.remaining_us),
            until: now.after(LEASE_US),
        };
        self.placings.insert(key, placing);
        self.place(now, key, out);
    }

    fn reject(
        &mut self,
        meta: Meta,
        reason: RefuseReason,
        retry_after_ms: u32,
        out: &mut Vec<Effect>,
    ) {
        self.counters.rejected += 1;
        self.send(
            meta.from,
            meta,
            Rejected {
                reason,
                retry_after_ms,
            },
            out,
        );
    }

    /// Chooses for an attempt and asks the chosen worker, or rejects.
    fn place(&mut self, now: Micros, key: PlacingKey, out: &mut Vec<Effect>) {
        let Some(placing) = self.placings.get(&key) else {
            return;
        };
        let nodes = self.candidates(&placing.admit.spec.model);
        let random = self.draw();
        let Some(placing) = self.placings.get(&key) else {
            return;
        };
        let chosen = if placing.placement.0 < TRIES_MAX {
            self.choose_for(placing, &nodes, random)
        } else {
            None
        };
        match chosen {
            Some(choice) => self.book(now, key, choice, out),
            None => {
                let (reason, retry) = self.why_not(placing, &nodes);
                let meta = self.placing_meta(now, key, placing.gateway);
                let meta = Meta {
                    from: placing.gateway,
                    ..meta
                };
                self.placings.remove(&key);
                self.reject(meta, reason, retry, out);
            }
        }
    }

    fn choose_for(&self, placing: &Placing, nodes: &[Candidate], random: u64) -> Option<Choice> {
        let spec = &placing.admit.spec;
        let block_tokens = nodes
            .iter()
            .map(|n| n.load.load.block_tokens)
            .find(|b| *b > 0)?;
        let hashes = hash::sequence_hashes(hash::seed_of(spec), &spec.prompt, block_tokens);
        let overlap = self.index.walk(&hashes);
        let ask = Ask {
            prompt: Prompt {
                tokens: u32::try_from(spec.prompt.len()).unwrap_or(u32::MAX),
                output: spec.max_tokens.min(self.config.expected_output),
            },
            overlap: &overlap,
            block_tokens,
            local_prefill_max: self.config.local_prefill_max,
            avoid: &placing.tried,
            alone: placing.admit.alone,
            random,
        };
        choose(nodes, &ask)
    }

    /// Live workers of a model that take requests and have the pool's card, with what was booked on them.
    pub(super) fn candidates(&self, model: &str) -> Vec<Candidate> {
        let card = self.majority_card(model);
        self.members
            .iter()
            .filter(|m| {
                m.beat.model == model && m.beat.intake == Intake::Open && Some(m.beat.card) == card
            })
            .map(|m| Candidate {
                me: m.me,
                decode: m.beat.roles.has(bus_schemas::Role::Decode),
                prefill: m.beat.roles.has(bus_schemas::Role::Prefill),
                load: self.load_of(m.me, m.beat.load),
                unreachable: m.beat.unreachable.clone(),
            })
            .collect()
    }

    /// The card that most workers of a model have; of equally many the smaller.
    pub(super) fn majority_card(&self, model: &str) -> Option<u64> {
        let mut counts = std::collections::BTreeMap::new();
        for member in self.members.iter().filter(|m| m.beat.model == model) {
            *counts.entry(member.beat.card).or_insert(0) += 1;
        }
        counts
            .into_iter()
            .max_by_key(|(card, n)| (*n, std::cmp::Reverse(*card)))
            .map(|(card, _)| card)
    }

    fn load_of(&self, node: NodeRef, load: bus_schemas::messages::Load) -> NodeLoad {
        let mut total = NodeLoad {
            load,
            booked_tokens: 0,
            booked: 0,
            booked_blocks: 0,
        };
        for booking in self.bookings.values() {
            if booking.prefill.unwrap_or(booking.decode) == node {
                total.booked_tokens += u64::from(booking.prefill_tokens);
            }
            if booking.decode == node {
                total.booked += 1;
                total.booked_blocks += booking.blocks;
            }
        }
        total
    }

    fn draw(&mut self) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.random >> 33
    }

    fn book(&mut self, now: Micros, key: PlacingKey, choice: Choice, out: &mut Vec<Effect>) {
        let Some(placing) = self.placings.get_mut(&key) else {
            return;
        };
        placing.placement = Placement(placing.placement.0 + 1);
        placing.decode = choice.decode;
        placing.prefill = choice.prefill;
        placing.until = now.after(LEASE_US);
        let best = choice
            .explained
            .iter()
            .find(|e| e.decode == choice.decode && e.prefill == choice.prefill);
        let prompt = u32::try_from(placing.admit.spec.prompt.len()).unwrap_or(u32::MAX);
        let cached = best.map_or(0, |e| e.cached_tokens);
        let booking = Booking {
            decode: choice.decode,
            prefill: choice.prefill,
            prefill_tokens: prompt.saturating_sub(cached),
            blocks: prompt / 16,
            until: now.after(LEASE_US),
        };
        let decision = Decision {
            request: key.0,
            attempt: key.1,
            placement: placing.placement,
            gateway: placing.gateway,
            decode: choice.decode,
            prefill: choice.prefill,
            prompt_tokens: prompt,
            at: now,
            explained: choice.explained,
        };
        if self.bookings.len() < BOOKINGS_MAX {
            self.bookings
                .insert((key.0, key.1, placing.placement), booking);
        }
        if self.decisions.len() >= DECISIONS_MAX {
            self.decisions.pop_front();
        }
        self.decisions.push_back(decision);
        self.counters.placed += 1;
        self.ask_reserve(now, key, out);
    }

    fn placing_meta(&self, now: Micros, key: PlacingKey, to: NodeRef) -> Meta {
        let remaining_us = self.placings.get(&key).map_or(0, |p| p.deadline.since(now));
        Meta {
            from: self.config.me,
            to,
            request: key.0,
            attempt: key.1,
            remaining_us,
        }
    }

    fn ask_reserve(&self, now: Micros, key: PlacingKey, out: &mut Vec<Effect>) {
        let Some(placing) = self.placings.get(&key) else {
            return;
        };
        let reserve = Reserve {
            placement: placing.placement,
            gateway: placing.gateway,
            prefill: placing.prefill,
            admit: placing.admit.clone(),
        };
        let meta = self.placing_meta(now, key, placing.decode);
        self.send(placing.decode, meta, reserve, out);
    }

    pub(super) fn promised(&mut self, meta: &Meta, placement: Placement) {
        let key = (meta.request, meta.attempt);
        if self
            .placings
            .get(&key)
            .is_some_and(|p| p.placement == placement && p.decode == meta.from)
        {
            self.placings.remove(&key);
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
        self.bookings.remove(&(key.0, key.1, refused.placement));
        let current = self
            .placings
            .get(&key)
            .is_some_and(|p| p.placement == refused.placement && p.decode.node == meta.from.node);
        if !current {
            self.counters.stale += 1;
            return;
        }
        self.counters.refused += 1;
        match refused.reason {
            RefuseReason::TooLarge | RefuseReason::Invalid => {
                let gateway = self
                    .placings
                    .remove(&key)
                    .map_or(NodeRef::NONE, |p| p.gateway);
                let meta = Meta {
                    from: gateway,
                    ..*meta
                };
                self.reject(meta, refused.reason, 0, out);
            }
            RefuseReason::Full
            | RefuseReason::Draining
            | RefuseReason::UnknownModel
            | RefuseReason::Expired
            | RefuseReason::Ended
            | RefuseReason::Stale
            | RefuseReason::NoCapacity => self.place_again(now, key, out),
        }
    }

    /// The chosen worker will not do: the next one.
    pub(super) fn place_again(&mut self, now: Micros, key: PlacingKey, out: &mut Vec<Effect>) {
        if let Some(placing) = self.placings.get_mut(&key) {
            placing.tried.push(placing.decode);
            self.place(now, key, out);
        }
    }

    /// Why an attempt cannot be placed, and when to try again.
    fn why_not(&self, placing: &Placing, nodes: &[Candidate]) -> (RefuseReason, u32) {
        let model = &placing.admit.spec.model;
        let known = self.members.iter().any(|m| m.beat.model == *model);
        let decodes: Vec<&Candidate> = nodes.iter().filter(|n| n.decode).collect();
        let prompt = u32::try_from(placing.admit.spec.prompt.len()).unwrap_or(u32::MAX);
        let fits = |n: &&Candidate| {
            let load = &n.load.load;
            u64::from(prompt) <= u64::from(load.blocks_total) * u64::from(load.block_tokens)
        };
        if !known {
            (RefuseReason::NoCapacity, RETRY_MS.0 * 10)
        } else if decodes.is_empty() {
            (RefuseReason::NoCapacity, RETRY_MS.0)
        } else if !decodes.iter().any(fits) {
            (RefuseReason::TooLarge, 0)
        } else {
            (RefuseReason::Full, retry_hint(&decodes))
        }
    }
}

/// Milliseconds until the least busy node has worked off its prefill queue.
fn retry_hint(nodes: &[&Candidate]) -> u32 {
    let least = nodes
        .iter()
        .map(|n| {
            let load = &n.load.load;
            #[expect(clippy::cast_precision_loss, reason = "a hint")]
            let tokens = load.queued_prefill_tokens as f32;
            tokens * load.pass.e / 1000.0
        })
        .fold(f32::MAX, f32::min);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a hint, clamped"
    )]
    let ms = least as u32;
    ms.clamp(RETRY_MS.0, RETRY_MS.1)
}
