//! The read-back of a lane: bytes that only its true owner would show, looked at before the first block is taken.
//!
//! A lane that alters or drops what it carries, or leads to other memory than the card says, fails here and by name,
//! instead of in a request. It proves nothing about later: that is what sums are for.

use crate::card::Key;

/// Bytes that an owner shows to whoever has heard its card: no two keys give the same, and no part repeats.
pub(crate) fn pattern(key: &Key, len: usize) -> Vec<u8> {
    let mut words = key.chunks_exact(8).map(|half| {
        let half = half.try_into().expect("eight bytes");
        u64::from_le_bytes(half)
    });
    let (mut state, step) = (words.next().unwrap_or(0), words.next().unwrap_or(0) | 1);
    let word = || {
        state = state.wrapping_add(step);
        let mut bits = (state ^ state >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits ^= bits >> 29;
        bits.to_le_bytes()
    };
    let mut bytes: Vec<u8> = std::iter::repeat_with(word)
        .take(len.div_ceil(8))
        .flatten()
        .collect();
    bytes.truncate(len);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_its_keys_own_and_as_long_as_asked() {
        let (one, other) = (pattern(&[1; 16], 4099), pattern(&[2; 16], 4099));
        assert_eq!((one.len(), other.len()), (4099, 4099));
        assert_eq!(pattern(&[1; 16], 4099), one);
        let same = one.iter().zip(&other).filter(|(one, other)| one == other);
        assert!(same.count() < 64, "they look alike"); // 16 by chance
        let words: std::collections::BTreeSet<&[u8]> = one.chunks_exact(8).collect();
        assert_eq!(words.len(), 512, "a part repeats");
    }
}
