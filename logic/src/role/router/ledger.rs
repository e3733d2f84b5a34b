//! What is known of one worker's notices: the last number applied, and the snapshot that heals a gap.
//!
//! A ledger decides what to apply and when to ask; it never touches the index and sends nothing.

use std::collections::BTreeMap;

use bus_schemas::{
    limits::SNAPSHOT_PART_HASHES,
    messages::{Change, Notice, SnapshotPart},
};

use crate::core::Micros;

/// A snapshot that was asked for and did not come is asked for again after this: a lost letter or two.
pub(super) const SNAPSHOT_AGAIN_US: u64 = 1_000_000;
/// Parts of one snapshot: at 8,192 hashes each, a million blocks or 16 million tokens of one worker.
const SNAPSHOT_PARTS_MAX: u32 = 128;

/// One worker's numbers.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Number of the last change applied.
    number: u64,
    /// A snapshot is being waited for; it may be asked for again then.
    again_at: Option<Micros>,
    parts: BTreeMap<u32, Vec<u64>>,
    /// Which snapshot the parts are of.
    parts_number: u64,
}

impl Ledger {
    /// Whether changes up to `number` exist that were not applied.
    pub(super) const fn is_behind(&self, number: u64) -> bool {
        self.number < number
    }

    /// Whether a snapshot was asked for and may still come.
    pub(super) fn is_asking(&self, now: Micros) -> bool {
        self.again_at.is_some_and(|at| at > now)
    }

    /// A snapshot is being asked for.
    pub(super) fn ask(&mut self, now: Micros) {
        self.again_at = Some(now.after(SNAPSHOT_AGAIN_US));
        self.parts.clear();
        self.parts_number = 0;
    }

    /// Changes of a notice that are to be applied now; none if one before it was missed.
    pub(super) fn apply<'a>(&mut self, notice: &'a Notice) -> Option<&'a [Change]> {
        if notice.first > self.number.saturating_add(1) {
            return None;
        }
        let known = self.number.saturating_add(1) - notice.first;
        let known = usize::try_from(known)
            .unwrap_or(usize::MAX)
            .min(notice.changes.len());
        let fresh = &notice.changes[known..];
        self.number = self.number.saturating_add(fresh.len() as u64);
        Some(fresh)
    }

    /// One part of a snapshot: all hashes, once every part is there.
    pub(super) fn add(&mut self, part: SnapshotPart) -> Option<Vec<u64>> {
        let sane = part.part < part.parts
            && part.parts <= SNAPSHOT_PARTS_MAX
            && part.blocks.len() <= SNAPSHOT_PART_HASHES;
        let wanted = self.again_at.is_some() && part.number >= self.number.max(self.parts_number);
        if !sane || !wanted {
            return None;
        }
        if part.number != self.parts_number {
            self.parts.clear();
            self.parts_number = part.number;
        }
        self.parts.insert(part.part, part.blocks);
        if self.parts.len() < part.parts as usize {
            return None;
        }
        self.number = part.number;
        self.again_at = None;
        Some(
            std::mem::take(&mut self.parts)
                .into_values()
                .flatten()
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_applied_once_and_in_order() {
        let mut ledger = Ledger::default();
        assert_eq!(
            ledger.apply(&notice(1, &[10, 11])),
            Some(stored(&[10, 11]).as_slice())
        );
        assert_eq!(ledger.apply(&notice(1, &[10, 11])), Some(&[][..]));
        assert_eq!(
            ledger.apply(&notice(2, &[11, 12])),
            Some(stored(&[12]).as_slice())
        );
        assert!(!ledger.is_behind(3) && ledger.is_behind(4));
        assert_eq!(ledger.apply(&notice(5, &[14])), None);
        assert_eq!(
            ledger.apply(&notice(4, &[13])),
            Some(stored(&[13]).as_slice())
        );
    }

    #[test]
    fn a_snapshot_counts_when_its_last_part_is_there_in_any_order() {
        let mut ledger = Ledger::default();
        ledger.ask(Micros(0));
        assert_eq!(ledger.add(part(7, 1, 2, &[3])), None);
        assert_eq!(ledger.add(part(7, 1, 2, &[3])), None);
        assert_eq!(ledger.add(part(7, 0, 2, &[1, 2])), Some(vec![1, 2, 3]));
        assert_eq!(
            ledger.apply(&notice(7, &[9, 10])),
            Some(stored(&[10]).as_slice())
        );
    }

    #[test]
    fn parts_of_two_snapshots_are_not_mixed() {
        let mut ledger = Ledger::default();
        ledger.ask(Micros(0));
        assert_eq!(ledger.add(part(7, 0, 2, &[1])), None);
        assert_eq!(ledger.add(part(8, 1, 2, &[2])), None);
        assert_eq!(ledger.add(part(7, 1, 2, &[2])), None);
        assert_eq!(ledger.add(part(8, 0, 2, &[4])), Some(vec![4, 2]));
    }

    #[test]
    fn parts_that_are_strange_or_not_asked_for_change_nothing() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.add(part(1, 0, 1, &[1])), None);
        ledger.ask(Micros(0));
        assert_eq!(ledger.add(part(1, 1, 1, &[1])), None);
        assert_eq!(ledger.add(part(1, 0, 0, &[1])), None);
        assert_eq!(ledger.add(part(1, 0, SNAPSHOT_PARTS_MAX + 1, &[1])), None);
        assert_eq!(
            ledger.add(part(1, 0, 1, &vec![1; SNAPSHOT_PART_HASHES + 1])),
            None
        );
        assert_eq!(ledger.add(part(1, 0, 1, &[1])), Some(vec![1]));
    }

    #[test]
    fn a_snapshot_may_be_asked_for_again_after_a_while() {
        let mut ledger = Ledger::default();
        ledger.ask(Micros(0));
        assert!(ledger.is_asking(Micros(SNAPSHOT_AGAIN_US - 1)));
        assert!(!ledger.is_asking(Micros(SNAPSHOT_AGAIN_US)));
    }

    #[test]
    fn numbers_at_the_end_of_their_range_are_survived() {
        let mut ledger = Ledger::default();
        ledger.ask(Micros(0));
        assert_eq!(ledger.add(part(u64::MAX, 0, 1, &[])), Some(vec![]));
        assert!(ledger.apply(&notice(u64::MAX, &[1, 2])).is_some());
        assert_eq!(ledger.apply(&notice(0, &[])), Some(&[][..]));
    }

    fn stored(hashes: &[u64]) -> Vec<Change> {
        hashes.iter().map(|hash| Change::Stored(*hash)).collect()
    }

    fn notice(first: u64, hashes: &[u64]) -> Notice {
        Notice {
            first,
            changes: stored(hashes),
        }
    }

    fn part(number: u64, part: u32, parts: u32, blocks: &[u64]) -> SnapshotPart {
        SnapshotPart {
            number,
            part,
            parts,
            blocks: blocks.to_vec(),
        }
    }
}
