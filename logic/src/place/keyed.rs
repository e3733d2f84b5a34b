//! How keys that are hashes already are spread over a table: mixed with a secret.
//!
//! Whoever chooses tokens chooses their hashes, and must not choose where these collide. It never protects what a hash names.

use std::hash::{BuildHasher, Hasher};

/// Keys are hashes already, mixed with a secret: who chooses tokens must not choose where they collide.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keyed(pub(super) u64);

impl BuildHasher for Keyed {
    type Hasher = Mixed;

    fn build_hasher(&self) -> Mixed {
        Mixed(self.0)
    }
}

/// One key's.
#[derive(Debug)]
pub(super) struct Mixed(u64);

impl Hasher for Mixed {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    /// Both halves of a product: one multiplication, and every bit of key and secret counts.
    fn write_u64(&mut self, key: u64) {
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        let factor = (self.0 ^ SPREAD) | 1;
        let product = u128::from(key ^ self.0) * u128::from(factor);
        self.0 = (product >> 64) as u64 ^ product as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
