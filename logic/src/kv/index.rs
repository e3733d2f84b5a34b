//! Which sealed block is found under which sequence hash, and which follows which.
//!
//! Two rules keep a hit honest although hashes can be collided on purpose. A block is indexed only under
//! an indexed parent, so whoever walks from the first block compares all tokens that its values depend on.
//! And a block is never indexed while its name, or its parent's, is held by blocks that differ.

use std::collections::{BTreeMap, BTreeSet};

use super::Seal;

/// Sealed blocks by name, as a forest.
#[derive(Clone, Debug, Default)]
pub(super) struct PrefixIndex {
    by_hash: BTreeMap<u64, u32>,
    /// By slot: what is indexed, its indexed parent and how many follow it.
    links: Vec<Option<Link>>,
    /// (parent, child), both indexed.
    edges: BTreeSet<(u32, u32)>,
    /// Sealed slots that are not indexed, by hash; whether their name is held by another that differs.
    hidden: BTreeMap<(u64, u32), bool>,
}

/// Where an indexed block is in the forest.
#[derive(Clone, Copy, Debug, Default)]
struct Link {
    parent: Option<u32>,
    children: u32,
}

impl PrefixIndex {
    pub(super) fn get(&self, hash: u64) -> Option<u32> {
        self.by_hash.get(&hash).copied()
    }

    pub(super) fn contains(&self, slot: u32) -> bool {
        self.link(slot).is_some()
    }

    /// All names, each after its parent's and before its parent's next child's: whoever hears them one after another
    /// hears sequences.
    pub(super) fn hashes<'a>(&self, seals: impl Fn(u32) -> Option<&'a Seal>) -> Vec<u64> {
        let roots = self.by_hash.values().rev().copied();
        let mut ahead: Vec<u32> = roots.filter(|slot| self.parent(*slot).is_none()).collect();
        let mut hashes = Vec::with_capacity(self.len());
        while let Some(slot) = ahead.pop() {
            hashes.extend(seals(slot).map(|seal| seal.hash));
            ahead.extend(self.children(slot));
        }
        hashes
    }

    pub(super) fn len(&self) -> usize {
        self.by_hash.len()
    }

    pub(super) fn parent(&self, slot: u32) -> Option<u32> {
        self.link(slot).and_then(|link| link.parent)
    }

    pub(super) fn children(&self, slot: u32) -> impl Iterator<Item = u32> {
        self.edges
            .range((slot, 0)..=(slot, u32::MAX))
            .map(|(_, child)| *child)
    }

    pub(super) fn has_children(&self, slot: u32) -> bool {
        self.link(slot).is_some_and(|link| link.children > 0)
    }

    pub(super) fn is_hidden(&self, hash: u64, slot: u32) -> bool {
        self.hidden.contains_key(&(hash, slot))
    }

    pub(super) fn hidden_len(&self) -> usize {
        self.hidden.len()
    }

    /// Indexes a block that was just sealed and returns its parent's slot, or hides it and returns nothing.
    pub(super) fn admit<'a>(
        &mut self,
        slot: u32,
        seal: &Seal,
        seals: impl Fn(u32) -> Option<&'a Seal>,
    ) -> Option<Option<u32>> {
        let differs = |other: u32| seals(other) != Some(seal);
        let clashes = self.holders(seal.hash).any(differs)
            || self.is_clashing(seal.hash)
            || seal.parent.is_some_and(|parent| self.is_clashing(parent));
        let parent = match seal.parent {
            None => Some(None),
            Some(parent) => self.get(parent).map(Some),
        };
        match parent {
            Some(parent) if !clashes && self.get(seal.hash).is_none() => {
                self.by_hash.insert(seal.hash, slot);
                self.enter(slot, parent);
                Some(parent)
            }
            Some(_) | None => {
                self.hidden.insert((seal.hash, slot), clashes);
                None
            }
        }
    }

    /// Takes a block out and returns the slot of its parent. It is hidden until [`Self::forget_hidden`].
    pub(super) fn remove(&mut self, slot: u32, seal: &Seal) -> Option<u32> {
        self.by_hash.remove(&seal.hash);
        let parent = self.leave(slot);
        self.hidden.insert((seal.hash, slot), false);
        parent
    }

    /// The block of a hidden slot is no longer sealed.
    pub(super) fn forget_hidden(&mut self, hash: u64, slot: u32) {
        self.hidden.remove(&(hash, slot));
    }

    fn link(&self, slot: u32) -> Option<&Link> {
        self.links.get(slot as usize)?.as_ref()
    }

    fn link_mut(&mut self, slot: u32) -> Option<&mut Link> {
        self.links.get_mut(slot as usize)?.as_mut()
    }

    fn enter(&mut self, slot: u32, parent: Option<u32>) {
        let at = slot as usize;
        if at >= self.links.len() {
            self.links.resize(at + 1, None);
        }
        self.links[at] = Some(Link {
            parent,
            children: 0,
        });
        if let Some(parent) = parent {
            self.edges.insert((parent, slot));
            if let Some(link) = self.link_mut(parent) {
                link.children += 1;
            }
        }
    }

    fn leave(&mut self, slot: u32) -> Option<u32> {
        let parent = self.links.get_mut(slot as usize)?.take()?.parent?;
        self.edges.remove(&(parent, slot));
        if let Some(link) = self.link_mut(parent) {
            link.children -= 1;
        }
        Some(parent)
    }

    /// All sealed blocks of that name.
    fn holders(&self, hash: u64) -> impl Iterator<Item = u32> {
        let hidden = self
            .hidden
            .range((hash, 0)..=(hash, u32::MAX))
            .map(|((_, slot), _)| *slot);
        self.get(hash).into_iter().chain(hidden)
    }

    fn is_clashing(&self, hash: u64) -> bool {
        self.hidden
            .range((hash, 0)..=(hash, u32::MAX))
            .any(|(_, clashes)| *clashes)
    }
}
