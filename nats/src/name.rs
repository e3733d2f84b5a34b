//! Names nobody can guess or repeat: connection ids, inboxes, credentials, and a source of jitter.
//!
//! Never a decision: whoever needs a reproducible number does not ask here.

use std::sync::atomic::{AtomicU64, Ordering};

/// Random letters of a connection's name: 128 bits, so that an inbox cannot be guessed.
const ID_BYTES: usize = 16;

/// A fresh random name, 32 hexadecimal digits.
pub(crate) fn random_id() -> String {
    let mut bytes = [0; ID_BYTES];
    getrandom::fill(&mut bytes).expect("the operating system has random bytes");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A random number below `bound`, or zero when that is zero.
pub(crate) fn random_below(bound: u64) -> u64 {
    let random = getrandom::u64().expect("the operating system has random bytes");
    random.checked_rem(bound).unwrap_or(0)
}

/// Subjects below one connection's own prefix.
#[derive(Debug)]
pub(crate) struct Inboxes {
    prefix: String,
    count: AtomicU64,
}

impl Inboxes {
    /// Inboxes below `prefix` and a name of their own.
    pub(crate) fn below(prefix: &str) -> Self {
        Self {
            prefix: format!("{prefix}.{}", random_id()),
            count: AtomicU64::new(0),
        }
    }

    /// What all of them begin with.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The next one.
    pub(crate) fn next(&self) -> String {
        format!(
            "{}.{}",
            self.prefix,
            self.count.fetch_add(1, Ordering::Relaxed)
        )
    }
}
