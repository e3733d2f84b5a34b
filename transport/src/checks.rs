//! Sums over blocks: the owner's, told with its answer or with the block, against the bytes that arrived.
//!
//! A sum proves that what a reader has is what the owner had when it first served that export. It never keeps a wicked
//! owner from lying: it finds broken memory, lanes and programs.

use gpu::Region;

/// Which blocks get a sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checks {
    /// None.
    Off,
    /// One in so many, counted over all that this owner serves; zero is none.
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
    /// Whether the `count`-th block served gets a sum.
    pub(crate) fn picks(self, count: u64) -> bool {
        match self {
            Self::Off | Self::Sample(0) => false,
            Self::Sample(n) => count.is_multiple_of(u64::from(n)),
            Self::All => true,
        }
    }
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

    #[test]
    fn a_sample_picks_one_in_so_many() {
        let picked = |checks: Checks| (0..128).filter(|count| checks.picks(*count)).count();
        let cases = [
            (Checks::Off, 0),
            (Checks::Sample(0), 0),
            (Checks::Sample(64), 2),
            (Checks::All, 128),
        ];
        for (checks, expected) in cases {
            assert_eq!(picked(checks), expected, "{checks:?}");
        }
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
