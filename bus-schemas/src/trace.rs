//! W3C trace context: by which one request is followed through all nodes and through its client's systems.
//!
//! It names spans and never makes ids by chance: a request that brings no context is its own trace. Nothing
//! is decided by it.

use std::fmt;

use rkyv::{Archive, Deserialize, Serialize};

use crate::ids::RequestId;

/// Length of a `traceparent` of version 00.
const TEXT_BYTES: usize = 55;
/// Bit of the flags that says that the caller records this trace.
const SAMPLED: u8 = 1;

/// A trace, and the span in it that caused what carries this.
#[derive(Archive, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// The trace; 0 is none.
    pub id: u128,
    /// The sender's span, the parent of whatever is done about it; 0 is none.
    pub span: u64,
    /// W3C trace flags.
    pub flags: u8,
}

impl Trace {
    /// The trace of a request that brought none: its own id.
    #[must_use]
    pub const fn of(request: RequestId) -> Self {
        Self {
            id: request.0,
            span: 0,
            flags: 0,
        }
    }

    /// Reads a `traceparent` header of version 00; none if it is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let shape = |(at, byte): (usize, u8)| match at {
            2 | 35 | 52 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        };
        if text.len() != TEXT_BYTES || !text.bytes().enumerate().all(shape) || &text[..2] != "00" {
            return None;
        }
        let trace = Self {
            id: u128::from_str_radix(&text[3..35], 16).ok()?,
            span: u64::from_str_radix(&text[36..52], 16).ok()?,
            flags: u8::from_str_radix(&text[53..], 16).ok()?,
        };
        (trace.id != 0 && trace.span != 0).then_some(trace)
    }

    /// The same trace as the gateway hands it on, and back to the client: its span is the request's own.
    ///
    /// Sixty-two of the lower bits of a UUID version 7 are random, so no table of spans is needed.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the random half of the id")]
    pub const fn entered(self, request: RequestId) -> Self {
        let given = if self.id == 0 {
            Self::of(request)
        } else {
            self
        };
        Self {
            span: request.0 as u64,
            ..given
        }
    }

    /// Whether the caller records it.
    #[must_use]
    pub const fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }
}

impl fmt::Display for Trace {
    /// Writes a `traceparent` of version 00.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, span, flags } = self;
        write!(f, "00-{id:032x}-{span:016x}-{flags:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_read_and_written() {
        let trace = Trace::parse(GOOD).expect("a valid one");
        assert_eq!((trace.span, trace.flags), (0x00f0_67aa_0ba9_02b7, 1));
        assert_eq!(trace.to_string(), GOOD);
        assert!(trace.is_sampled());
    }

    #[test]
    fn what_is_none_is_left_out() {
        let zeros = "00000000000000000000000000000000";
        for bad in [
            "",
            "00-x",
            &GOOD.to_uppercase(),
            &GOOD.replace('-', "_"),
            &GOOD.replace("00-4", "ff-4"),
            &GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", zeros),
            &GOOD.replace("00f067aa0ba902b7", &zeros[..16]),
        ] {
            assert_eq!(Trace::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_request_without_context_is_its_own_trace() {
        let request = RequestId(0x0190_a1b2_c3d4_7e5f_8a9b_0c1d_2e3f_4a5b);
        let entered = Trace::default().entered(request);
        assert_eq!(
            entered.to_string(),
            "00-0190a1b2c3d47e5f8a9b0c1d2e3f4a5b-8a9b0c1d2e3f4a5b-00"
        );
        let theirs = Trace::parse(GOOD).expect("a valid one").entered(request);
        assert_eq!(
            (theirs.id, theirs.span),
            (0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, entered.span)
        );
    }
}
