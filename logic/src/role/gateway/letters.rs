//! What a gateway does with each letter. Anything from a placement that is not bound and can no longer be
//! bound is answered with `Cancel`, also for a request that it does not know.

use bus_schemas::{
    Attempt, Meta, NodeRef, Outcome, Placement, RequestId,
    messages::{AnyMessage, AskTokens, Beat, Bound, Confirm, Promised, Rejected, Stream},
};

use super::{Dest, Effect, Gateway, Outgoing, failure_of, may_pass, open::Accepted};
use crate::{core::Micros, fact::What, member::Observed};

impl Gateway {
    pub(super) fn letter(
        &mut self,
        now: Micros,
        meta: Meta,
        message: AnyMessage,
        out: &mut Vec<Effect>,
    ) {
        let mine = meta.to == self.config.me || meta.to == NodeRef::NONE;
        match message {
            AnyMessage::Beat(beat) => self.heard(now, meta.from, beat, out),
            _ if !mine => self.counters.stale += 1,
            AnyMessage::Promised(promised) => self.promised(now, meta, &promised, out),
            AnyMessage::Tokens(tokens) => {
                for stream in tokens.streams {
                    self.tokens(now, meta.from, stream, out);
                }
            }
            AnyMessage::Rejected(rejected) => self.rejected(now, meta, &rejected, out),
            AnyMessage::Unknown(unknown) => {
                let key = (meta.request, meta.attempt, unknown.placement, meta.from);
                self.cancel_confirmed(now, key, out);
                if self.owns(meta.request, meta.from, meta.attempt, unknown.placement) {
                    self.owner_lost(now, meta.request, out);
                }
            }
            AnyMessage::Orphaned(orphaned) => {
                if self
                    .open
                    .get(&meta.request)
                    .is_some_and(|o| o.is_owned_by(orphaned.owner))
                {
                    out.push(Effect::Probe(orphaned.owner));
                }
            }
            AnyMessage::Admit(_)
            | AnyMessage::Reserve(_)
            | AnyMessage::Refused(_)
            | AnyMessage::Bound(_)
            | AnyMessage::Cancel(_)
            | AnyMessage::AskTokens(_)
            | AnyMessage::Confirm(_)
            | AnyMessage::Prefill(_)
            | AnyMessage::PrefillRefused(_)
            | AnyMessage::FindPrefill(_)
            | AnyMessage::PrefillFound(_)
            | AnyMessage::Offer(_)
            | AnyMessage::Release(_)
            | AnyMessage::Released(_)
            | AnyMessage::Abort(_)
            | AnyMessage::Notice(_)
            | AnyMessage::SnapshotAsk(_)
            | AnyMessage::SnapshotPart(_) => self.counters.stale += 1,
        }
    }

    fn heard(&mut self, now: Micros, from: NodeRef, beat: Beat, out: &mut Vec<Effect>) {
        let has_model = !beat.model.is_empty();
        match self.members.observe(now, from, beat) {
            // this tells the models too
            Observed::Restarted(old) => self.node_lost(now, old, out),
            Observed::Stale => self.counters.stale += 1,
            Observed::New if has_model => self.tell_models(out),
            Observed::New | Observed::Renewed => {}
        }
    }

    fn owns(
        &self,
        request: RequestId,
        from: NodeRef,
        attempt: Attempt,
        placement: Placement,
    ) -> bool {
        self.open
            .get(&request)
            .is_some_and(|o| o.owns(from, attempt, placement))
    }

    fn promised(&mut self, now: Micros, meta: Meta, promised: &Promised, out: &mut Vec<Effect>) {
        let placement = promised.placement;
        let key = (meta.request, meta.attempt, placement, meta.from);
        let Some(open) = self.open.get_mut(&meta.request) else {
            return self.send_cancel(now, key, out);
        };
        if open.can_bind(meta.from, meta.attempt) && !self.cancels.contains_key(&key) {
            open.bind(now, meta.from, meta.attempt, placement);
            out.push(Effect::Fact(open.fact(now, What::Bound(meta.from))));
        } else if !open.owns(meta.from, meta.attempt, placement) {
            return self.send_cancel(now, key, out);
        }
        self.schedule(meta.request);
        self.reply(
            now,
            meta.from,
            meta.request,
            meta.attempt,
            Bound { placement },
            out,
        );
    }

    /// Answers a worker about one of its placements of an open request.
    fn reply(
        &self,
        now: Micros,
        to: NodeRef,
        request: RequestId,
        attempt: Attempt,
        message: impl Into<AnyMessage>,
        out: &mut Vec<Effect>,
    ) {
        let from = self.config.me;
        let meta = self.open.get(&request).map_or(
            Meta {
                from,
                to,
                request,
                attempt,
                remaining_us: 0,
            },
            |open| open.meta(now, from, to, attempt),
        );
        let dest = Dest::Node(to.node);
        out.push(Effect::Send(Outgoing {
            dest,
            meta,
            message: message.into(),
        }));
    }

    fn tokens(&mut self, now: Micros, from: NodeRef, stream: Stream, out: &mut Vec<Effect>) {
        let Stream {
            request,
            attempt,
            placement,
            first,
            items,
            cached_tokens,
            last,
            failed,
        } = stream;
        let key = (request, attempt, placement, from);
        let Some(open) = self.open.get_mut(&request) else {
            return self.send_cancel(now, key, out);
        };
        if !open.owns(from, attempt, placement) {
            // A promise that can still be bound is repeated by its worker, and asked for what was missed.
            if !open.can_bind(from, attempt) {
                self.send_cancel(now, key, out);
            }
            return;
        }
        let silent = !open.has_output();
        match open.accept(now, first, items) {
            Accepted::Garbage => {
                self.counters.stale += 1;
                self.send_cancel(now, key, out);
                return self.owner_lost(now, request, out);
            }
            Accepted::Gap(from_item) => {
                self.counters.gaps += 1;
                let ask = AskTokens {
                    placement,
                    from: from_item,
                };
                return self.reply(now, from, request, attempt, ask, out);
            }
            Accepted::Items(items) => {
                open.cached_tokens = open.cached_tokens.max(cached_tokens);
                let cached_tokens = open.cached_tokens;
                if silent && open.has_output() {
                    out.push(Effect::Fact(open.fact(now, What::FirstToken)));
                }
                if !items.is_empty() {
                    out.push(Effect::Deliver {
                        request,
                        items,
                        cached_tokens,
                    });
                }
            }
        }
        if open.all_ended() {
            self.reply(now, from, request, attempt, Confirm { placement }, out);
            self.end(now, request, Outcome::Completed, None, out);
        } else if failed || last {
            self.send_cancel(now, key, out);
            self.owner_lost(now, request, out);
        }
    }

    fn rejected(&mut self, now: Micros, meta: Meta, rejected: &Rejected, out: &mut Vec<Effect>) {
        let (reason, ms) = (rejected.reason, rejected.retry_after_ms);
        let Some(open) = self.open.get_mut(&meta.request) else {
            return;
        };
        if !open.rejected(now, meta.attempt, reason, ms) {
            self.counters.stale += 1;
        } else if !may_pass(reason) && !open.has_output() {
            self.end(
                now,
                meta.request,
                Outcome::Failed(failure_of(reason)),
                None,
                out,
            );
        } else {
            self.schedule(meta.request);
        }
    }
}
