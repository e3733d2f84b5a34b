//! Names of blocks: the hash of a block's tokens, chained over all blocks before it.
//!
//! The scheme is the one that other engines publish (xxh3-64, little endian), so that an index here can
//! read their events. A hash only finds: it never proves that two blocks are the same.

use bus_schemas::RequestSpec;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Seed of the plain chain, and base of every block's seed.
const BASE_SEED: u64 = 1337;
/// Seed under which an adapter's name is hashed.
const ADAPTER_SEED: u64 = 0;
/// Seed under which a salt is hashed.
const SALT_SEED: u64 = 1;
/// Bytes of a token's id.
const ID_BYTES: usize = 4;
/// Blocks of up to this many tokens are hashed without a buffer on the heap.
const STACK_TOKENS: usize = 64;

/// Seed of the block hashes of one adapter and salt; empty means absent.
#[must_use]
pub fn seed(adapter: &str, salt: &str) -> u64 {
    let part = |text: &str, seed| match text {
        "" => 0,
        text => xxh3_64_with_seed(text.as_bytes(), seed),
    };
    BASE_SEED
        .wrapping_add(part(adapter, ADAPTER_SEED))
        .wrapping_add(part(salt, SALT_SEED))
}

/// Seed of a request's blocks: its tenant and salt, told apart by the tenant's length.
#[must_use]
pub fn seed_of(spec: &RequestSpec) -> u64 {
    if spec.tenant.is_empty() && spec.salt.is_empty() {
        return seed("", "");
    }
    let salt = format!("{}:{}{}", spec.tenant.len(), spec.tenant, spec.salt);
    seed("", &salt)
}

/// Hash of one full block's tokens.
#[must_use]
pub fn block_hash(seed: u64, tokens: &[u32]) -> u64 {
    let mut bytes = [0; STACK_TOKENS * ID_BYTES];
    let Some(bytes) = bytes.get_mut(..tokens.len() * ID_BYTES) else {
        let bytes: Vec<u8> = tokens.iter().flat_map(|id| id.to_le_bytes()).collect();
        return xxh3_64_with_seed(&bytes, seed);
    };
    for (bytes, id) in bytes.as_chunks_mut::<ID_BYTES>().0.iter_mut().zip(tokens) {
        *bytes = id.to_le_bytes();
    }
    xxh3_64_with_seed(bytes, seed)
}

/// Sequence hash of a block whose predecessor's sequence hash is `prev`.
#[must_use]
pub fn chain(prev: Option<u64>, block: u64) -> u64 {
    let Some(prev) = prev else { return block };
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&prev.to_le_bytes());
    bytes[8..].copy_from_slice(&block.to_le_bytes());
    xxh3_64_with_seed(&bytes, BASE_SEED)
}

/// Sequence hashes of the full blocks of `tokens`; a partial tail has none. No block size, no blocks.
#[must_use]
pub fn sequence_hashes(seed: u64, tokens: &[u32], block_tokens: u32) -> Vec<u64> {
    if block_tokens == 0 {
        return Vec::new();
    }
    let mut prev = None;
    tokens
        .chunks_exact(block_tokens as usize)
        .map(|block| {
            let hash = chain(prev, block_hash(seed, block));
            prev = Some(hash);
            hash
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use bus_schemas::{RequestId, Sampling, Stops};

    use super::*;

    #[test]
    fn block_hashes_are_those_of_other_engines() {
        let plain = seed("", "");
        assert_eq!(block_hash(plain, &[1, 2, 3, 4]), 14_643_705_804_678_351_452);
        assert_eq!(block_hash(plain, &[5, 6, 7, 8]), 16_777_012_769_546_811_212);
        assert_eq!(block_hash(plain, &[9, 10, 11, 12]), 483_935_686_894_639_516);
    }

    #[test]
    fn sequence_hashes_are_those_of_other_engines() {
        let tokens: Vec<u32> = (1..=12).collect();
        let expected = [
            14_643_705_804_678_351_452,
            4_945_711_292_740_353_085,
            12_583_592_247_330_656_132,
        ];
        assert_eq!(sequence_hashes(seed("", ""), &tokens, 4), expected);
    }

    #[test]
    fn a_salt_changes_the_seed_as_in_other_engines() {
        let salted = seed("", "tenant-a");
        assert_eq!(block_hash(salted, &[1, 2, 3, 4]), 5_738_685_477_468_498_325);
        assert_ne!(seed("tenant-a", ""), salted);
    }

    #[test]
    fn a_partial_tail_is_not_hashed() {
        let tokens: Vec<u32> = (1..=12).collect();
        let hashes = |n: usize| sequence_hashes(seed("", ""), &tokens[..n], 4);
        assert!(hashes(3).is_empty());
        assert_eq!(hashes(7), hashes(4));
        assert!(sequence_hashes(1, &tokens, 0).is_empty());
    }

    #[test]
    fn tenants_and_salts_never_run_together() {
        let of = |tenant, salt| seed_of(&spec(tenant, salt));
        assert_eq!(of("", ""), BASE_SEED);
        let seeds = [
            of("ab", "c"),
            of("a", "bc"),
            of("", "abc"),
            of("abc", ""),
            of("", "2:abc"),
        ];
        for (index, seed) in seeds.iter().enumerate() {
            assert!(
                !seeds[..index].contains(seed),
                "{index} repeats an earlier seed"
            );
        }
    }

    fn spec(tenant: &str, salt: &str) -> RequestSpec {
        RequestSpec {
            request: RequestId(1),
            model: String::new(),
            tenant: tenant.to_owned(),
            salt: salt.to_owned(),
            prompt: vec![1],
            choices: 1,
            sampling: Sampling::default(),
            stops: Stops::default(),
            max_tokens: 1,
            priority: 0,
            trace: bus_schemas::Trace::default(),
        }
    }
}
