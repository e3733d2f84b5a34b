//! What a worker's core needs to know of a tokenizer: the bytes of a token, and which ids end a text.
//!
//! This module never tokenises; the real implementation is the engine's tokenizer, behind this trait.

use std::fmt::Debug;

/// Ids to bytes, without context.
pub trait Vocabulary: Debug + Send + Sync {
    /// Number of ids; every valid id is smaller.
    fn len(&self) -> u32;
    /// Whether there is no id at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Appends the bytes that `id` stands for in running text; nothing for special tokens.
    fn append_bytes(&self, id: u32, out: &mut Vec<u8>);
    /// Ids with which the model ends a text.
    fn end_ids(&self) -> &[u32];
}
