//! Philox 4x32 with ten rounds: random numbers as a pure function of a key and a counter.
//!
//! J. K. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). No state, no order of use.

const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
/// Added to the key each round: golden ratio and sqrt(3) - 1 in 32 bits.
const WEYL: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];
const ROUNDS: usize = 10;

/// Four random words for a key and a counter.
#[must_use]
pub(super) fn philox(mut key: [u32; 2], mut counter: [u32; 4]) -> [u32; 4] {
    for round in 0..ROUNDS {
        if round > 0 {
            key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
        }
        let [a, b, c, d] = counter;
        let first = u64::from(a) * u64::from(MULTIPLIERS[0]);
        let second = u64::from(c) * u64::from(MULTIPLIERS[1]);
        counter = [
            (second >> 32) as u32 ^ b ^ key[0],
            second as u32,
            (first >> 32) as u32 ^ d ^ key[1],
            first as u32,
        ];
    }
    counter
}

/// A number in [0, 1) for the token at `position` of `choice`, with all 53 bits that an f64 has.
#[must_use]
pub(super) fn uniform(seed: u64, choice: u16, position: u32) -> f64 {
    let key = [seed as u32, (seed >> 32) as u32];
    let [low, high, ..] = philox(key, [position, u32::from(choice), 0, 0]);
    let bits = u64::from(high) << 32 | u64::from(low);
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers_of_the_authors() {
        let zero = philox([0; 2], [0; 4]);
        assert_eq!(zero, [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        let ones = philox([u32::MAX; 2], [u32::MAX; 4]);
        assert_eq!(ones, [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        let pi = philox(
            [0xa409_3822, 0x299f_31d0],
            [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
        );
        assert_eq!(pi, [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
    }

    #[test]
    fn seed_choice_and_position_each_matter() {
        let base = uniform(7, 0, 0);
        for other in [
            uniform(8, 0, 0),
            uniform(7, 1, 0),
            uniform(7, 0, 1),
            uniform(7 << 32, 0, 0),
        ] {
            assert!(base != other && (0.0..1.0).contains(&other));
        }
        let mean = (0..10_000).map(|p| uniform(3, 0, p)).sum::<f64>() / 1e4;
        assert!((mean - 0.5).abs() < 0.01, "{mean}");
    }
}
