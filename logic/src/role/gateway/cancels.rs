//! Cancels on their way: repeated until the worker says that it does not know the placement.
//!
//! A cancel is never given up while its worker lives and the request could still run there.

use bus_schemas::{
    Attempt, Meta, NodeRef, Placement, RequestId,
    limits::{DEADLINE_MAX_US, REPEAT_US},
    messages::Cancel,
};

use super::{Dest, Effect, Gateway, Outgoing};
use crate::core::Micros;

/// One `Cancel` that has not been confirmed yet.
pub(super) type CancelKey = (RequestId, Attempt, Placement, NodeRef);

#[derive(Clone, Copy, Debug)]
pub(super) struct CancelRow {
    pub(super) again_at: Micros,
    forget_at: Micros,
    /// When the owner of a request that ended was told; none for placements that were never bound.
    since: Option<Micros>,
}

impl Gateway {
    /// Sends `Cancel` and keeps sending it until the worker says that it does not know the placement.
    pub(super) fn send_cancel(&mut self, now: Micros, key: CancelKey, out: &mut Vec<Effect>) {
        let row = self.cancels.entry(key).or_insert(CancelRow {
            again_at: now,
            forget_at: now.after(DEADLINE_MAX_US),
            since: None,
        });
        row.again_at = now.after(REPEAT_US);
        let (request, attempt, placement, node) = key;
        let meta = Meta {
            from: self.config.me,
            to: node,
            request,
            attempt,
            remaining_us: REPEAT_US,
        };
        let message = Cancel { placement }.into();
        out.push(Effect::Send(Outgoing {
            dest: Dest::Node(node.node),
            meta,
            message,
        }));
    }

    /// Tells the owner of a request that has ended, and notes how long it takes to let go.
    pub(super) fn cancel_owner(&mut self, now: Micros, key: CancelKey, out: &mut Vec<Effect>) {
        self.send_cancel(now, key, out);
        if let Some(row) = self.cancels.get_mut(&key) {
            row.since.get_or_insert(now);
        }
    }

    /// The holder does not know the placement (any more): what it held is free.
    pub(super) fn cancel_confirmed(&mut self, now: Micros, key: CancelKey, out: &mut Vec<Effect>) {
        let row = self.cancels.remove(&key);
        if let Some(since) = row.and_then(|row| row.since) {
            let after_us = now.since(since);
            out.push(Effect::LetGo { after_us });
        }
    }

    pub(super) fn expire_cancels(&mut self, now: Micros, out: &mut Vec<Effect>) {
        self.cancels.retain(|_, row| row.forget_at > now);
        let due: Vec<CancelKey> = self
            .cancels
            .iter()
            .filter(|(_, r)| r.again_at <= now)
            .map(|(k, _)| *k)
            .collect();
        for key in due {
            self.send_cancel(now, key, out);
        }
    }
}
