//! The prefill side: prompts computed under a ticket, offered as they are ready, kept until released.
//!
//! The holder of the ticket alone may read, and only while it lives; what it read counts only if the
//! release is answered `valid`. An ended ticket is remembered with its answers, so that no repeat opens it again.

mod ended;

use std::{collections::BTreeMap, sync::Arc};

use bus_schemas::{
    Attempt, Meta, NodeRef, Record, RefuseReason, RequestId, RequestSpec, Role, Sampling, Ticket,
    limits::{CHOICES_MAX, PROMPT_TOKENS_MAX, REPEAT_US, TICKET_US},
    messages::{Intake, Offer, Prefill, PrefillRefused, SlotRef},
};

pub(super) use self::ended::EndedTicket;
use super::{Dest, Effect, Worker, sequence::Sequence};
use crate::{
    batch::Drawn,
    core::Micros,
    fact::{Fact, Span, What},
    hash,
};

/// One offer that was made.
#[derive(Debug)]
struct Offered {
    first_block: u32,
    blocks: Vec<SlotRef>,
    tokens: u32,
    last: bool,
    released: bool,
    repeat_at: Micros,
}

/// A prompt that is computed for somebody else.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) audience: NodeRef,
    pub(super) request: RequestId,
    attempt: Attempt,
    pub(super) spec: Arc<RequestSpec>,
    /// Of the spec: every draw holds it.
    pub(super) sampling: Arc<Sampling>,
    pub(super) prompt: Arc<[u32]>,
    pub(super) seq: Sequence,
    pub(super) spare: Vec<SlotRef>,
    /// Choices whose first token is drawn here, with the number of tokens they already have.
    pub(super) draws: Vec<(u16, u32)>,
    pub(super) span: Span,
    deadline: Micros,
    expires_at: Micros,
    from_block: usize,
    offered: usize,
    offers: Vec<Offered>,
    first_tokens: Vec<Record>,
    pub(super) cached_tokens: u32,
    answers: BTreeMap<(u32, u64), bool>,
    /// The engine could not run it.
    pub(super) computed: bool,
}

impl Source {
    fn wake_at(&self) -> Micros {
        let repeat = self
            .offers
            .iter()
            .filter(|o| !o.released)
            .map(|o| o.repeat_at)
            .min();
        let end = self.expires_at.min(self.deadline);
        repeat.map_or(end, |at| at.min(end))
    }

    const fn fact(&self, now: Micros, what: What) -> Fact {
        self.span.fact(now, self.attempt, what)
    }

    fn all_released(&self) -> bool {
        self.offers.last().is_some_and(|o| o.last) && self.offers.iter().all(|o| o.released)
    }
}

impl Worker {
    pub(super) fn prefill(
        &mut self,
        now: Micros,
        meta: Meta,
        mut prefill: Prefill,
        out: &mut Vec<Effect>,
    ) {
        let ticket = prefill.ticket;
        if let Some(source) = self.sources.get(&ticket) {
            if source.audience == meta.from {
                self.acknowledge(now, ticket, out);
            }
            return;
        }
        let me = (Role::Prefill, self.config.me);
        let span = Span::enter(now, &mut prefill.spec, me, meta.attempt);
        let refusal = match self.check_prefill(&meta, &prefill) {
            Ok(()) => self.open_source(span, &meta, prefill).err(),
            Err(reason) => Some(reason),
        };
        match refusal {
            Some(reason) => {
                self.counters.refused += 1;
                let fact = span.fact(now, meta.attempt, What::Refused(reason));
                out.push(Effect::Fact(fact));
                let reply = Meta {
                    from: self.config.me,
                    to: meta.from,
                    ..meta
                };
                let refused = PrefillRefused { ticket, reason };
                self.send(Dest::Node(meta.from.node), reply, refused, out);
            }
            None => {
                if let Some(source) = self.sources.get(&ticket) {
                    let started = What::PrefillStarted(source.seq.pending());
                    out.push(Effect::Fact(source.fact(now, started)));
                }
                self.acknowledge(now, ticket, out);
                self.offer_ready(now, ticket, out);
                self.schedule_source(ticket);
            }
        }
    }

    fn check_prefill(&self, meta: &Meta, prefill: &Prefill) -> Result<(), RefuseReason> {
        let spec = &prefill.spec;
        let vocabulary = self.config.vocabulary.len();
        let known = |ids: &[u32]| ids.iter().all(|id| *id < vocabulary);
        if self.ended_tickets.contains_key(&prefill.ticket) {
            return Err(RefuseReason::Ended);
        }
        if !self.config.roles.has(Role::Prefill) || spec.model != self.config.model {
            return Err(RefuseReason::UnknownModel);
        }
        if self.intake == Intake::Draining {
            return Err(RefuseReason::Draining);
        }
        if meta.remaining_us == 0 {
            return Err(RefuseReason::Expired);
        }
        let longest = prefill.emitted.iter().map(Vec::len).max().unwrap_or(0) + spec.prompt.len();
        let sane = (1..=PROMPT_TOKENS_MAX).contains(&spec.prompt.len())
            && (1..=CHOICES_MAX).contains(&spec.choices)
            && prefill.emitted.len() == usize::from(spec.choices)
            && known(&spec.prompt)
            && prefill.emitted.iter().all(|e| known(e))
            && (prefill.from_block as usize)
                < spec
                    .prompt
                    .len()
                    .div_ceil(self.config.block_tokens as usize)
                    .max(1)
                    + longest / self.config.block_tokens as usize;
        if !sane {
            return Err(RefuseReason::Invalid);
        }
        if longest >= self.config.context_tokens as usize {
            return Err(RefuseReason::TooLarge);
        }
        if self.is_kept_apart() || self.sources.len() >= self.config.jobs_max {
            return Err(RefuseReason::Full);
        }
        Ok(())
    }

    /// Reserves all blocks of the prompt before its first chunk.
    fn open_source(
        &mut self,
        span: Span,
        meta: &Meta,
        prefill: Prefill,
    ) -> Result<(), RefuseReason> {
        let now = span.since;
        let Prefill {
            ticket,
            spec,
            emitted,
            ended,
            from_block,
        } = prefill;
        let alive: Vec<u16> = (0..spec.choices).filter(|c| !ended.contains(c)).collect();
        let mut ids = spec.prompt.clone();
        let mut draws = Vec::new();
        match alive.as_slice() {
            [only] => {
                let output = &emitted[usize::from(*only)];
                draws.push((*only, u32::try_from(output.len()).unwrap_or(u32::MAX)));
                ids.extend_from_slice(output);
            }
            several => draws.extend(
                several
                    .iter()
                    .filter(|c| emitted[usize::from(**c)].is_empty())
                    .map(|c| (*c, 0)),
            ),
        }
        let mut seq = Sequence::new(hash::seed_of(&spec), self.config.block_tokens, ids);
        let positions = seq.len();
        if seq.lacking(positions) > self.config.slots as usize {
            return Err(RefuseReason::TooLarge);
        }
        let cached_tokens = seq.attach_cached(&mut self.pool, positions);
        let Some(spare) = self.pool.reserve(seq.lacking(positions)) else {
            seq.release(&mut self.pool);
            return Err(RefuseReason::Full);
        };
        let prompt: Arc<[u32]> = spec.prompt.as_slice().into();
        let prompt_len = u32::try_from(prompt.len()).unwrap_or(u32::MAX);
        self.counters.cached_tokens += u64::from(cached_tokens);
        let source = Source {
            audience: meta.from,
            request: meta.request,
            attempt: meta.attempt,
            prompt,
            sampling: Arc::new(spec.sampling.clone()),
            spec: Arc::new(spec),
            seq,
            spare,
            draws,
            span,
            deadline: now.after(meta.remaining_us),
            expires_at: now.after(TICKET_US),
            from_block: from_block as usize,
            offered: from_block as usize,
            offers: Vec::new(),
            first_tokens: Vec::new(),
            cached_tokens: cached_tokens.min(prompt_len),
            answers: BTreeMap::new(),
            computed: false,
        };
        self.sources.insert(ticket, source);
        Ok(())
    }

    fn source_meta(&self, now: Micros, source: &Source) -> Meta {
        Meta {
            from: self.config.me,
            to: source.audience,
            request: source.request,
            attempt: source.attempt,
            remaining_us: source.deadline.since(now),
        }
    }

    /// An offer without blocks: the ticket is known here. It is not counted and needs no release.
    fn acknowledge(&self, now: Micros, ticket: Ticket, out: &mut Vec<Effect>) {
        let Some(source) = self.sources.get(&ticket) else {
            return;
        };
        let offer = Offer {
            ticket,
            seq: 0,
            first_block: 0,
            blocks: Vec::new(),
            tokens: 0,
            cached_tokens: source.cached_tokens,
            first_tokens: Vec::new(),
            last: false,
        };
        let meta = self.source_meta(now, source);
        self.send(Dest::Node(source.audience.node), meta, offer, out);
    }

    /// The engine has run the prompt to its end and drawn the first tokens.
    pub(super) fn source_computed(
        &mut self,
        now: Micros,
        ticket: Ticket,
        drawn: Vec<Drawn>,
        out: &mut Vec<Effect>,
    ) {
        let Some(source) = self.sources.get_mut(&ticket) else {
            return;
        };
        source.computed = true;
        out.push(Effect::Fact(source.fact(now, What::PrefillEnded)));
        source.first_tokens = source
            .draws
            .iter()
            .zip(drawn)
            .map(|(&(choice, index), d)| Record {
                choice,
                index,
                id: d.id,
                logprob: d.logprob,
                top: d.top,
            })
            .collect();
        self.offer_ready(now, ticket, out);
    }

    /// Offers the blocks that are complete and not offered yet; with the prompt's end also the unsealed tail.
    pub(super) fn offer_ready(&mut self, now: Micros, ticket: Ticket, out: &mut Vec<Effect>) {
        let block = self.config.block_tokens;
        let Some(source) = self.sources.get_mut(&ticket) else {
            return;
        };
        let last = source.computed;
        let ready = if last {
            source.seq.table.len()
        } else {
            source.seq.sealed()
        };
        if ready <= source.offered.max(source.from_block) {
            return;
        }
        let tokens = if last {
            source.seq.len()
        } else {
            u32::try_from(ready).unwrap_or(0) * block
        };
        let blocks = source.seq.table[source.offered..ready].to_vec();
        let first_block = u32::try_from(source.offered).unwrap_or(u32::MAX);
        source.offered = ready;
        let seq = u32::try_from(source.offers.len()).unwrap_or(u32::MAX);
        let audience = source.audience;
        source.offers.push(Offered {
            first_block,
            blocks: blocks.clone(),
            tokens,
            last,
            released: false,
            repeat_at: now,
        });
        self.counters.blocks_offered += blocks.len() as u64;
        out.push(Effect::Export {
            ticket,
            seq,
            audience,
            slots: blocks,
        });
        self.send_offers(now, ticket, out);
    }

    /// Sends every unreleased offer whose time has come.
    fn send_offers(&mut self, now: Micros, ticket: Ticket, out: &mut Vec<Effect>) {
        let Some(source) = self.sources.get_mut(&ticket) else {
            return;
        };
        let mut letters = Vec::new();
        for (seq, offered) in (0u32..).zip(&mut source.offers) {
            if offered.released || offered.repeat_at > now {
                continue;
            }
            offered.repeat_at = now.after(REPEAT_US);
            letters.push(Offer {
                ticket,
                seq,
                first_block: offered.first_block,
                blocks: offered.blocks.clone(),
                tokens: offered.tokens,
                cached_tokens: source.cached_tokens,
                first_tokens: if offered.last {
                    source.first_tokens.clone()
                } else {
                    Vec::new()
                },
                last: offered.last,
            });
        }
        let (meta, dest) = match self.sources.get(&ticket) {
            Some(source) => (
                self.source_meta(now, source),
                Dest::Node(source.audience.node),
            ),
            None => return,
        };
        for offer in letters {
            self.send(dest, meta, offer, out);
        }
        self.schedule_source(ticket);
    }
}
