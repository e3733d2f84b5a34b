//! One request at its gateway, from admission to outcome.
//!
//! Attempts only grow. A promise can be bound only if its attempt was admitted after the last owner was
//! bound or lost, because an older one carries fewer of the ids already given to the client.

use bus_schemas::{
    Attempt, EndReason, Meta, NodeRef, Outcome, Placement, RequestSpec,
    limits::{ADMIT_RETRY_US, LEASE_US},
    messages::{Admit, AskTokens},
    spec::{FailReason, IncompleteReason, Item, RefuseReason},
};

use crate::{
    core::Micros,
    fact::{Fact, Span, What},
};

/// An owner that has been silent for this long is asked whether it still has the request.
const ASK_US: u64 = 1_000_000;
/// Longest pause between two admissions of one request: a joined worker is found within this time.
const ADMIT_RETRY_MAX_US: u64 = 4_000_000;

/// Deaths of owners after which a request runs alone, so that a poisonous one does not take the pool along.
const ALONE_AFTER: u32 = 2;

/// No router has answered for this long: there is none. Longer than two leases, so that a restart is survived.
const SILENCE_US: u64 = 5_000_000;
/// What a client is told where nobody gave a better hint.
pub(super) const RETRY_HINT_MS: u32 = 1000;

const _: () = assert!(SILENCE_US > 2 * LEASE_US);
const _: () = assert!(
    ASK_US < LEASE_US,
    "silence is looked into before a lease ends"
);

/// The one bound owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) node: NodeRef,
    pub(super) attempt: Attempt,
    pub(super) placement: Placement,
    /// Number of the next item that counts.
    next: u32,
    ask_at: Micros,
}

/// The last rejection while nothing is bound.
#[derive(Clone, Copy, Debug)]
struct Rejection {
    reason: RefuseReason,
    retry_after_ms: u32,
}

/// What is due for a request.
#[derive(Debug)]
pub(super) enum Due {
    Nothing,
    Deadline(Outcome),
    GiveUp {
        reason: FailReason,
        retry_after_ms: u32,
    },
    Admit,
    Ask(Owner, AskTokens),
}

/// What became of a `Tokens` entry.
#[derive(Debug, PartialEq)]
pub(super) enum Accepted {
    /// New items to deliver.
    Items(Vec<Item>),
    /// Items before these are missing: ask from this number.
    Gap(u32),
    /// Nothing that makes sense.
    Garbage,
}

/// A request without outcome.
#[derive(Debug)]
pub(super) struct Open {
    spec: RequestSpec,
    span: Span,
    deadline: Micros,
    emitted: Vec<Vec<u32>>,
    ended: Vec<bool>,
    attempt: Attempt,
    bindable_from: Attempt,
    owner: Option<Owner>,
    avoid: Vec<NodeRef>,
    deaths: u32,
    unbound_since: Micros,
    retry_us: u64,
    retry_at: Micros,
    rejection: Option<Rejection>,
    pub(super) cached_tokens: u32,
}

/// A request as admin sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenView {
    /// Its id.
    pub request: bus_schemas::RequestId,
    /// Its model.
    pub model: String,
    /// Last attempt admitted.
    pub attempt: Attempt,
    /// Who runs it.
    pub owner: Option<NodeRef>,
    /// Prompt tokens.
    pub prompt_tokens: usize,
    /// Tokens delivered, over all choices.
    pub output_tokens: usize,
    /// Owners that died under it.
    pub deaths: u32,
    /// When it came, on the gateway's clock.
    pub since: Micros,
    /// When it must have ended, on the gateway's clock.
    pub deadline: Micros,
}

impl Open {
    pub(super) fn new(now: Micros, mut spec: RequestSpec, deadline: Micros) -> Self {
        let choices = usize::from(spec.choices.max(1));
        Self {
            span: Span::root(now, &mut spec),
            deadline,
            emitted: vec![Vec::new(); choices],
            ended: vec![false; choices],
            attempt: Attempt(0),
            bindable_from: Attempt(1),
            owner: None,
            avoid: Vec::new(),
            deaths: 0,
            unbound_since: now,
            retry_us: ADMIT_RETRY_US,
            retry_at: now,
            rejection: None,
            cached_tokens: 0,
            spec,
        }
    }

    pub(super) const fn attempt(&self) -> Attempt {
        self.attempt
    }

    pub(super) const fn fact(&self, now: Micros, what: What) -> Fact {
        self.span.fact(now, self.attempt, what)
    }

    pub(super) const fn owner(&self) -> Option<Owner> {
        self.owner
    }

    pub(super) fn is_owned_by(&self, node: NodeRef) -> bool {
        self.owner.is_some_and(|o| o.node == node)
    }

    pub(super) fn all_ended(&self) -> bool {
        self.ended.iter().all(|e| *e)
    }

    pub(super) fn meta(&self, now: Micros, from: NodeRef, to: NodeRef, attempt: Attempt) -> Meta {
        let remaining_us = self.deadline.since(now);
        Meta {
            from,
            to,
            request: self.spec.request,
            attempt,
            remaining_us,
        }
    }

    /// Numbers the next attempt and arms its timer.
    pub(super) fn next_attempt(&mut self, now: Micros) -> Admit {
        self.attempt = Attempt(self.attempt.0 + 1);
        self.retry_at = now.after(self.retry_us);
        self.retry_us = (self.retry_us * 2).min(ADMIT_RETRY_MAX_US);
        let ended = (0u16..)
            .zip(&self.ended)
            .filter(|(_, e)| **e)
            .map(|(i, _)| i)
            .collect();
        Admit {
            spec: self.spec.clone(),
            emitted: self.emitted.clone(),
            ended,
            avoid: self.avoid.clone(),
            alone: self.deaths >= ALONE_AFTER,
        }
    }

    /// Whether that placement is the owner.
    pub(super) fn owns(&self, from: NodeRef, attempt: Attempt, placement: Placement) -> bool {
        self.owner
            .is_some_and(|o| o.node == from && o.attempt == attempt && o.placement == placement)
    }

    /// Whether a promise under that attempt could be bound now.
    pub(super) fn can_bind(&self, from: NodeRef, attempt: Attempt) -> bool {
        self.owner.is_none()
            && attempt >= self.bindable_from
            && attempt <= self.attempt
            && !self.avoid.contains(&from)
    }

    /// Makes that placement the owner.
    pub(super) fn bind(
        &mut self,
        now: Micros,
        node: NodeRef,
        attempt: Attempt,
        placement: Placement,
    ) {
        debug_assert!(
            self.can_bind(node, attempt),
            "only a bindable promise is bound"
        );
        self.owner = Some(Owner {
            node,
            attempt,
            placement,
            next: 0,
            ask_at: now.after(ASK_US),
        });
        self.bindable_from = Attempt(self.attempt.0 + 1);
        self.rejection = None;
    }

    /// Forgets the owner and returns how many have died.
    pub(super) fn lose_owner(&mut self, now: Micros) -> u32 {
        if let Some(owner) = self.owner.take() {
            self.avoid.push(owner.node);
            self.deaths += 1;
        }
        self.bindable_from = Attempt(self.attempt.0 + 1);
        self.retry_us = ADMIT_RETRY_US;
        self.unbound_since = now;
        self.deaths
    }

    /// Notes a rejection of the present attempt; false if it is an old one.
    pub(super) fn rejected(
        &mut self,
        now: Micros,
        attempt: Attempt,
        reason: RefuseReason,
        ms: u32,
    ) -> bool {
        if self.owner.is_some() || attempt != self.attempt {
            return false;
        }
        self.rejection = Some(Rejection {
            reason,
            retry_after_ms: ms,
        });
        self.retry_at = now.after(u64::from(ms.clamp(20, 1000)) * 1000);
        true
    }

    /// Whether the client has seen anything: then a full cluster is waited for, not reported.
    pub(super) fn has_output(&self) -> bool {
        self.emitted.iter().any(|e| !e.is_empty())
    }

    /// Takes the items of the owner that are new, in order.
    pub(super) fn accept(&mut self, now: Micros, first: u32, items: Vec<Item>) -> Accepted {
        let Some(owner) = self.owner.as_mut() else {
            return Accepted::Garbage;
        };
        owner.ask_at = now.after(ASK_US);
        if first > owner.next {
            return Accepted::Gap(owner.next);
        }
        let known = usize::try_from(owner.next - first).unwrap_or(usize::MAX);
        let mut fresh = Vec::new();
        for item in items.into_iter().skip(known) {
            if !self.record(&item) {
                return Accepted::Garbage;
            }
            fresh.push(item);
        }
        if let Some(owner) = self.owner.as_mut() {
            owner.next += u32::try_from(fresh.len()).unwrap_or(0);
        }
        Accepted::Items(fresh)
    }

    /// Writes one item into the record; false if it does not continue what was delivered.
    fn record(&mut self, item: &Item) -> bool {
        match item {
            Item::Token(record) => {
                let choice = usize::from(record.choice);
                let continues = self.ended.get(choice) == Some(&false)
                    && self.emitted[choice].len() == record.index as usize
                    && record.index < self.spec.max_tokens;
                if continues {
                    self.emitted[choice].push(record.id);
                }
                continues
            }
            Item::End(end) => {
                let strings = self.spec.stops.strings.len();
                let known = match end.reason {
                    EndReason::StopString(i) => usize::from(i) < strings,
                    EndReason::StopId(_) | EndReason::Length => true,
                };
                match self.ended.get_mut(usize::from(end.choice)) {
                    Some(ended) if !*ended && known => {
                        *ended = true;
                        true
                    }
                    Some(_) | None => false,
                }
            }
        }
    }

    /// When the request wants to be looked at.
    pub(super) fn wake_at(&self) -> Micros {
        let timer = self.owner.map_or(self.retry_at, |o| o.ask_at);
        timer.min(self.deadline)
    }

    /// What is due at `now`.
    pub(super) fn due(&mut self, now: Micros, patience_us: u64) -> Due {
        if now >= self.deadline {
            let outcome = if self.has_output() {
                Outcome::Incomplete(IncompleteReason::Deadline)
            } else {
                Outcome::Failed(FailReason::Deadline)
            };
            return Due::Deadline(outcome);
        }
        if let Some(owner) = self.owner.as_mut() {
            if owner.ask_at > now {
                return Due::Nothing;
            }
            owner.ask_at = now.after(ASK_US);
            let ask = AskTokens {
                placement: owner.placement,
                from: owner.next,
            };
            return Due::Ask(*owner, ask);
        }
        match self.retry_at {
            at if at > now => Due::Nothing,
            _ if self.has_output() && self.deaths < ALONE_AFTER => Due::Admit,
            _ => self.patience(now.since(self.unbound_since), patience_us),
        }
    }

    /// Whether a client that has seen nothing yet, or whose request must run alone, is told to come back after `waited` without an owner.
    fn patience(&self, waited: u64, patience_us: u64) -> Due {
        let (reason, retry_after_ms) = match self.rejection {
            Some(r) if waited >= patience_us => (super::failure_of(r.reason), r.retry_after_ms),
            None if waited >= patience_us.max(SILENCE_US) => {
                (FailReason::NoCapacity, RETRY_HINT_MS)
            }
            Some(_) | None => return Due::Admit,
        };
        let reason = if self.deaths >= ALONE_AFTER {
            FailReason::WorkerLost
        } else {
            reason
        };
        Due::GiveUp {
            reason,
            retry_after_ms,
        }
    }

    pub(super) fn view(&self) -> OpenView {
        OpenView {
            request: self.spec.request,
            model: self.spec.model.clone(),
            attempt: self.attempt,
            owner: self.owner.map(|o| o.node),
            prompt_tokens: self.spec.prompt.len(),
            output_tokens: self.emitted.iter().map(Vec::len).sum(),
            deaths: self.deaths,
            since: self.span.since,
            deadline: self.deadline,
        }
    }
}
