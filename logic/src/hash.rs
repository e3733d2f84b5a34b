//! Hashes of blocks and of the chains that they form, as routers, workers and foreign engines speak of them.
//!
//! A hash only finds: 64 bits can be collided on purpose, so whoever uses a hit compares the tokens, the
//! tenant and the parent. Scheme and vectors: PLACEMENT section 8.

use bus_schemas::RequestSpec;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Seed of every chain step, and of blocks without adapter and salt.
const SEED: u64 = 1337;

/// Seed of a block's hash: adapter and salt each count only when not empty.
#[must_use]
pub fn seed(adapter: &str, salt: &str) -> u64 {
    let part = |text: &str, seed| {
        if text.is_empty() {
            0
        } else {
            xxh3_64_with_seed(text.as_bytes(), seed)
        }
    };
    SEED.wrapping_add(part(adapter, 0))
        .wrapping_add(part(salt, 1))
}

/// Seed of a request's blocks. Tenant and salt are kept apart by a byte that neither may contain.
#[must_use]
pub fn seed_of(spec: &RequestSpec) -> u64 {
    if spec.tenant.is_empty() {
        seed("", &spec.salt)
    } else {
        seed("", &format!("{}\0{}", spec.tenant, spec.salt))
    }
}

/// Hash of one full block of token ids.
#[must_use]
pub fn block_hash(seed: u64, tokens: &[u32]) -> u64 {
    let bytes: Vec<u8> = tokens.iter().flat_map(|t| t.to_le_bytes()).collect();
    xxh3_64_with_seed(&bytes, seed)
}

/// Sequence hash of a block whose predecessor's sequence hash is `parent`.
#[must_use]
pub fn chain(parent: Option<u64>, block: u64) -> u64 {
    let Some(parent) = parent else { return block };
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&parent.to_le_bytes());
    bytes[8..].copy_from_slice(&block.to_le_bytes());
    xxh3_64_with_seed(&bytes, SEED)
}

/// Sequence hashes of all full blocks of `tokens`; a partial tail is never hashed.
#[must_use]
pub fn sequence_hashes(seed: u64, tokens: &[u32], block_tokens: u32) -> Vec<u64> {
    let mut parent = None;
    tokens
        .chunks_exact(block_tokens as usize)
        .map(|block| {
            let hash = chain(parent, block_hash(seed, block));
            parent = Some(hash);
            hash
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_hashes_agree_with_the_published_vectors() {
        let plain = seed("", "");
        assert_eq!(block_hash(plain, &[1, 2, 3, 4]), 14_643_705_804_678_351_452);
        assert_eq!(block_hash(plain, &[5, 6, 7, 8]), 16_777_012_769_546_811_212);
        assert_eq!(block_hash(plain, &[9, 10, 11, 12]), 483_935_686_894_639_516);
        assert_eq!(
            block_hash(seed("", "tenant-a"), &[1, 2, 3, 4]),
            5_738_685_477_468_498_325
        );
    }

    #[test]
    fn sequence_hashes_agree_with_the_published_vectors() {
        let tokens: Vec<u32> = (1..=14).collect();
        let hashes = sequence_hashes(seed("", ""), &tokens, 4);
        let [first, second, third] = hashes.as_slice() else {
            panic!("three full blocks")
        };
        assert_eq!(*first, 14_643_705_804_678_351_452);
        assert_eq!(*second, 4_945_711_292_740_353_085);
        assert_eq!(*third, 12_583_592_247_330_656_132);
    }

    #[test]
    fn tenant_and_salt_cannot_be_mistaken_for_each_other() {
        let spec = |tenant: &str, salt: &str| RequestSpec {
            request: bus_schemas::RequestId(0),
            model: String::new(),
            tenant: tenant.into(),
            salt: salt.into(),
            prompt: vec![1],
            choices: 1,
            sampling: bus_schemas::Sampling::greedy(),
            stops: bus_schemas::Stops::default(),
            max_tokens: 1,
            priority: 0,
        };
        let seeds = [
            ("", ""),
            ("a", ""),
            ("", "a"),
            ("a", "b"),
            ("ab", ""),
            ("", "ab"),
        ];
        let mut seeds: Vec<u64> = seeds.iter().map(|(t, s)| seed_of(&spec(t, s))).collect();
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), 6);
        assert_eq!(seed_of(&spec("", "")), 1337);
    }
}
