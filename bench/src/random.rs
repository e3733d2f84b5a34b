//! An xorshift generator, so that every run asks for the same. Never for secrets.

/// Words that every program has, so tokenizers trained on programs know them whole.
const WORDS: [&str; 32] = [
    "add", "block", "call", "class", "close", "code", "count", "data", "end", "error", "file",
    "for", "from", "if", "in", "index", "key", "line", "list", "name", "new", "not", "open",
    "path", "read", "return", "self", "set", "size", "text", "value", "with",
];

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

    /// So many common words, each with a space after it.
    pub fn words(&mut self, count: usize) -> String {
        let mut text = String::with_capacity(count * 6);
        for _ in 0..count {
            text.push_str(WORDS[self.below(WORDS.len() as u64) as usize]);
            text.push(' ');
        }
        text
    }
}
