//! An xorshift generator, so that every run asks for the same. Never for secrets.

/// Its state.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A sequence of its own for each `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `end`.
    pub const fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// So many letters: one token each to the byte-level tokenizer, and safe within JSON.
    pub fn letters(&mut self, count: usize) -> String {
        (0..count)
            .map(|_| (b'a' + self.below(26) as u8) as char)
            .collect()
    }
}
