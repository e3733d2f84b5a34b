//! 1. What a block of KV memory is called.
//!
//! A prompt is cut into blocks of 16 tokens, and each block gets a name that covers all tokens up to its end. So two
//! prompts share exactly the names of their common beginning. It never touches memory: names come from ids alone.
//! Run it with `cargo run -p examples --example 01_hash_blocks`.

use bus_schemas::limits::BLOCK_TOKENS;
use engine::text::TextModel;
use logic::hash;

const QUESTION: &str = "You are a patient teacher. Explain to a child why the sky is blue.";
const VARIANT: &str = "You are a patient teacher. Explain to a child why the sea is blue.";

/// Names the blocks of two prompts and compares them.
///
/// # Errors
/// Something is not as the text above says.
pub fn main() -> anyhow::Result<()> {
    let model = TextModel::byte_level("script/example");
    let names = |prompt: &str, salt: &str| -> anyhow::Result<Vec<u64>> {
        let ids = model.encode(prompt, false)?;
        let seed = hash::seed("", salt);
        Ok(hash::sequence_hashes(seed, &ids, BLOCK_TOKENS))
    };
    let first = names(QUESTION, "")?;
    let second = names(VARIANT, "")?;
    for (index, (a, b)) in first.iter().zip(&second).enumerate() {
        let verdict = if a == b { "shared" } else { "differs" };
        println!("block {index}: {a:016x} {b:016x} {verdict}");
    }

    let shared = first.iter().zip(&second).take_while(|(a, b)| a == b);
    anyhow::ensure!(shared.count() == 3, "the prompts part in the fourth block");
    let salted = names(QUESTION, "another tenant")?;
    anyhow::ensure!(salted[0] != first[0], "a salt keeps tenants apart");
    Ok(())
}
