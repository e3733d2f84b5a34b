//! What a worker tells others unasked: beats, numbered notices, snapshots; and how it stops taking work.
//!
//! Numbers of notices have no gaps, and every beat carries the last one, so that a router notices a loss.

use bus_schemas::{
    Meta, NodeRef,
    limits::{BEAT_US, SNAPSHOT_PART_HASHES},
    messages::{Beat, Change, Intake, Load, Notice, SnapshotPart},
};

use super::{
    Dest, Effect, Worker,
    job::{ChoiceState, JobId},
};
use crate::{core::Micros, kv};

/// Between two notices: changes of one step travel together.
const NOTICE_US: u64 = 5_000;
/// Changes of one notice: some 64 KiB, far under every server's payload limit.
const CHANGES_MAX: usize = 2048;

impl Worker {
    pub(super) fn beat(&mut self, now: Micros, out: &mut Vec<Effect>) {
        self.beat_at = now.after(BEAT_US);
        debug_assert_eq!(self.audit(true).fault, None, "every block has one owner");
        self.collect_changes();
        self.send_notices(now, out);
        let beat = Beat {
            roles: self.config.roles,
            model: self.config.model.clone(),
            card: self.config.card,
            intake: self.offered(),
            notice: self.notice_number,
            load: self.load(),
            fabric: self.config.fabric.clone(),
            unreachable: self.unreachable.clone(),
            admin: self.config.admin.clone(),
        };
        let meta = Meta::node(self.config.me, NodeRef::NONE);
        self.send(Dest::Beats, meta, beat, out);
        out.extend(self.members.suspects(now).into_iter().map(Effect::Probe));
    }

    /// What routers are told: a worker whose one request is kept apart takes no other, however idle it looks.
    fn offered(&self) -> Intake {
        match self.intake {
            Intake::Open if self.is_kept_apart() => Intake::Cordoned,
            intake => intake,
        }
    }

    pub(super) fn load(&self) -> Load {
        let (mut running, mut waiting, mut context_tokens, mut queued) = (0, 0, 0, 0);
        for job in self.jobs.values() {
            for choice in job.alive() {
                let c = &job.choices[choice];
                match c.state {
                    ChoiceState::Ready if c.seq.pending() <= 1 => running += 1,
                    ChoiceState::Ready | ChoiceState::Blocked | ChoiceState::Preempted => {
                        waiting += 1
                    }
                    ChoiceState::Ended => {}
                }
                context_tokens += u64::from(c.seq.len());
                if c.state == ChoiceState::Ready {
                    queued += u64::from(c.seq.pending().saturating_sub(1));
                }
            }
        }
        queued += self
            .sources
            .values()
            .map(|s| u64::from(s.seq.pending()))
            .sum::<u64>();
        waiting +=
            u32::try_from(self.sources.values().filter(|s| !s.computed).count()).unwrap_or(0);
        let counts = self.pool.counts();
        Load {
            running,
            waiting,
            context_tokens,
            queued_prefill_tokens: queued,
            blocks_total: counts.total,
            blocks_free: counts.free + counts.cached,
            blocks_cached: counts.cached,
            blocks_quarantined: counts.quarantined,
            block_tokens: self.config.block_tokens,
            pass: self.pass,
        }
    }

    fn collect_changes(&mut self) {
        self.changes.extend(
            self.pool
                .take_changes()
                .into_iter()
                .map(|change| match change {
                    kv::Change::Stored(hash) => Change::Stored(hash),
                    kv::Change::Removed(hash) => Change::Removed(hash),
                }),
        );
    }

    pub(super) fn flush_notices(&mut self, now: Micros, out: &mut Vec<Effect>) {
        self.collect_changes();
        if self.notice_at <= now {
            self.send_notices(now, out);
        }
    }

    fn send_notices(&mut self, now: Micros, out: &mut Vec<Effect>) {
        if self.changes.is_empty() {
            return;
        }
        self.notice_at = now.after(NOTICE_US);
        let changes = std::mem::take(&mut self.changes);
        for part in changes.chunks(CHANGES_MAX) {
            let first = self.notice_number + 1;
            self.notice_number += part.len() as u64;
            let meta = Meta::node(self.config.me, NodeRef::NONE);
            self.send(
                Dest::Notices,
                meta,
                Notice {
                    first,
                    changes: part.to_vec(),
                },
                out,
            );
        }
    }

    pub(super) fn send_snapshot(&mut self, now: Micros, to: NodeRef, out: &mut Vec<Effect>) {
        self.collect_changes();
        self.send_notices(now, out);
        let blocks = self.pool.indexed_hashes();
        let parts: Vec<&[u64]> = if blocks.is_empty() {
            vec![&[]]
        } else {
            blocks.chunks(SNAPSHOT_PART_HASHES).collect()
        };
        let count = u32::try_from(parts.len()).unwrap_or(u32::MAX);
        for (part, blocks) in (0u32..).zip(parts) {
            let snapshot = SnapshotPart {
                number: self.notice_number,
                part,
                parts: count,
                blocks: blocks.to_vec(),
            };
            self.send(
                Dest::Node(to.node),
                Meta::node(self.config.me, to),
                snapshot,
                out,
            );
        }
    }

    pub(super) fn cordon(&mut self, now: Micros, on: bool, out: &mut Vec<Effect>) {
        self.intake = match (self.intake, on) {
            (Intake::Draining, _) => Intake::Draining,
            (Intake::Open | Intake::Cordoned, true) => Intake::Cordoned,
            (Intake::Open | Intake::Cordoned, false) => Intake::Open,
        };
        self.beat(now, out);
    }

    pub(super) fn drain(&mut self, now: Micros, within_us: u64, out: &mut Vec<Effect>) {
        self.intake = Intake::Draining;
        let until = now.after(within_us);
        self.drain_until = Some(self.drain_until.map_or(until, |at| at.min(until)));
        self.beat(now, out);
        self.expire_drain(now, out);
    }

    /// The drain's time is over: what still runs is handed back to go on elsewhere.
    pub(super) fn expire_drain(&mut self, now: Micros, out: &mut Vec<Effect>) {
        if self.drain_until.is_none_or(|at| at > now) {
            return;
        }
        self.drain_until = None;
        for id in self.jobs.keys().copied().collect::<Vec<JobId>>() {
            self.hand_back(now, id, out);
        }
        for ticket in self.sources.keys().copied().collect::<Vec<_>>() {
            self.fail_source(now, ticket, out);
        }
    }

    pub(super) fn report_drained(&mut self, out: &mut Vec<Effect>) {
        let idle = self.jobs.is_empty() && self.sources.is_empty() && self.running.is_none();
        if self.intake == Intake::Draining && idle && !self.drained {
            self.drained = true;
            out.push(Effect::Drained);
        }
    }
}
