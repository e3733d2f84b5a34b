//! Sums over blocks: the owner's, told with its answer or with the block, against the bytes that arrived.
//!
//! A sum proves that what a reader has is what the owner had when it exported the block. It never keeps a wicked owner
//! from lying: it finds broken memory, lanes and programs.

use bus_schemas::messages::SlotRef;
use gpu::Region;

/// Which blocks get a sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checks {
    /// None.
    Off,
    /// One in so many; zero is none. Chance decides for each life of a block, so every place of a region, take and
    /// window has its turn.
    Sample(u32),
    /// Every one: costs the owner a pass over each block, and the reader one more while the block is in its cache.
    All,
}

/// In production one block in so many: enough to find what breaks again and again, too few to be seen in a profile.
const SAMPLE: u32 = 64;

impl Default for Checks {
    /// All in builds with debug assertions, else a sample.
    fn default() -> Self {
        if cfg!(debug_assertions) {
            Self::All
        } else {
            Self::Sample(SAMPLE)
        }
    }
}

impl Checks {
    /// Whether this block gets a sum, in this generation.
    pub(crate) fn picks(self, block: SlotRef) -> bool {
        match self {
            Self::Off | Self::Sample(0) => false,
            Self::Sample(n) => scattered(block).is_multiple_of(u64::from(n)),
            Self::All => true,
        }
    }
}

/// A number that looks drawn by chance, and is the same for the same block and generation: the mix of splitmix64.
fn scattered(block: SlotRef) -> u64 {
    let mut bits = u64::from(block.generation) << 32 | u64::from(block.slot);
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

/// The sum of a whole block.
pub(crate) fn sum(region: &Region, slot: u32) -> u32 {
    let mut running = Running::default();
    // SAFETY: a whole slot of a region that is held. Its owner keeps an exported slot unwritten, and a reader the one it
    // fills; whoever breaks that gets a sum of some bytes, which is what sums are there to find.
    let bytes = unsafe { std::slice::from_raw_parts(region.slot(slot), region.slot_bytes()) };
    running.add(bytes);
    running.value()
}

/// A sum in the making.
#[derive(Clone, Debug, Default)]
pub(crate) struct Running(crc32fast::Hasher);

impl Running {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn value(&self) -> u32 {
        self.0.clone().finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picked(checks: Checks, blocks: impl Iterator<Item = (u32, u32)>) -> usize {
        let slots = blocks.map(|(slot, generation)| SlotRef { slot, generation });
        slots.filter(|slot| checks.picks(*slot)).count()
    }

    #[test]
    fn off_picks_none_and_all_picks_all() {
        let blocks = || (0..128).map(|slot| (slot, 1));
        for (checks, expected) in [
            (Checks::Off, 0),
            (Checks::Sample(0), 0),
            (Checks::Sample(1), 128),
            (Checks::All, 128),
        ] {
            assert_eq!(picked(checks, blocks()), expected, "{checks:?}");
        }
    }

    #[test]
    fn a_sample_picks_about_one_in_so_many_of_any_stride_and_of_any_slot() {
        let about = |count: usize| (800..1200).contains(&count); // of 64,000, one in 64; five deviations
        for stride in [1, 32, 64, 4096] {
            let slots = (0..64_000_u32).map(|n| (n.wrapping_mul(stride), 1));
            assert!(about(picked(Checks::Sample(64), slots)), "stride {stride}");
        }
        let lives = (0..64_000).map(|generation| (7, generation));
        assert!(about(picked(Checks::Sample(64), lives)), "lives of a slot");
    }

    #[test]
    fn a_sum_is_of_the_whole_block_and_of_nothing_else() {
        let region = Region::new(3, 4096).expect("12 KiB");
        region.write(1, 0, &[7; 4096]);
        let before = sum(&region, 1);
        region.write(0, 4095, b"x");
        region.write(2, 0, b"x");
        assert_eq!(sum(&region, 1), before);
        region.write(1, 4095, b"x");
        assert_ne!(sum(&region, 1), before);
    }
}
