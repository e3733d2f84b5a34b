//! Every bound of the wire protocol, with its reason. Bounds of one core's own state stand beside that core.

/// Protocol version that this build speaks.
pub const PROTOCOL_VERSION: u8 = 1;
/// Oldest protocol version that this build still reads (N-1 once there is an N).
pub const PROTOCOL_OLDEST: u8 = 1;

/// Tokens in a block unless configured otherwise: the peers' unit of hashing, so that indexes agree.
pub const BLOCK_TOKENS: u32 = 16;
/// Choices of one request: the OpenAI API's own bound.
pub const CHOICES_MAX: u16 = 128;
/// Stop strings of one request.
pub const STOP_STRINGS_MAX: usize = 16;
/// Bytes of one stop string: the decode worker scans a window of this size at each token.
pub const STOP_STRING_BYTES_MAX: usize = 256;
/// Alternatives reported beside each token.
pub const TOP_LOGPROBS_MAX: u8 = 20;
/// Longest prompt in tokens that any node looks at, whatever a model's card says: bounds a message.
pub const PROMPT_TOKENS_MAX: usize = 1 << 20;

/// Default time a request may take, in microseconds (10 minutes).
pub const DEADLINE_DEFAULT_US: u64 = 600_000_000;
/// Longest time a request may ask for, in microseconds (1 hour).
pub const DEADLINE_MAX_US: u64 = 3_600_000_000;

/// Between two beats of a node.
pub const BEAT_US: u64 = 250_000;
/// A node that has not been heard for this long is gone.
pub const LEASE_US: u64 = 1_500_000;
/// A take that makes no progress for this long is given up for local prefill.
pub const TAKE_STALL_US: u64 = 1_000_000;
/// Life of a ticket unless renewed by the decode worker's beats.
pub const TICKET_US: u64 = 3_000_000;
/// After a ticket ended, before its owner reuses the blocks: longer than the longest read.
pub const TICKET_GRACE_US: u64 = 2_000_000;
/// A frozen fabric peer fails its transfers after this long.
pub const FABRIC_FROZEN_US: u64 = 4_000_000;
/// First pause before an unanswered admission is repeated; doubles each time.
pub const ADMIT_RETRY_US: u64 = 500_000;
/// Between repeats of an unanswered `Promised`, offer, release, prefill, or last `Tokens`.
pub const REPEAT_US: u64 = 250_000;
/// How long a draining node lets its requests run.
pub const DRAIN_US: u64 = 30_000_000;
/// Owners of one request that may die before it fails.
pub const MIGRATIONS_MAX: u32 = 3;

/// Hashes in one part of a snapshot: 64 KiB, far under every server's payload limit.
pub const SNAPSHOT_PART_HASHES: usize = 8192;
/// Bytes in one part of a model card's file.
pub const CARD_PART_BYTES: usize = 128 * 1024;
/// Largest file that a card may name (tokenizers reach some 20 MB).
pub const CARD_FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

const _: () = assert!(
    BEAT_US * 4 < LEASE_US,
    "a lease must survive several lost beats"
);
const _: () = assert!(
    TICKET_US > LEASE_US,
    "beats renew tickets, so one must outlive a lease"
);
const _: () = assert!(
    REPEAT_US * 2 < LEASE_US,
    "a repeat must come within a lease"
);
const _: () = assert!(DEADLINE_DEFAULT_US <= DEADLINE_MAX_US);
const _: () = assert!(PROTOCOL_OLDEST <= PROTOCOL_VERSION);
