//! Throws everything but good messages at the decoder: it answers with an error or a value, never a panic.
//!
//! Truncations and single bit flips are tried exhaustively on every sample; the rest is drawn at random.

mod samples;

use bus_schemas::{
    DecodeError, Kind, NodeRef,
    envelope::HEADER_BYTES,
    limits,
    messages::{AnyMessage, Bound},
};
use proptest::prelude::*;

#[test]
fn every_truncation_is_refused() {
    for &kind in Kind::ALL {
        let bytes = samples::body(kind).encode(samples::meta());
        for len in 0..bytes.len() {
            let error = AnyMessage::decode(&bytes[..len]).expect_err("a part is not the whole");
            assert!(
                matches!(error, DecodeError::Truncated { .. }),
                "{kind:?} cut to {len}: {error}"
            );
        }
    }
}

#[test]
fn every_flipped_bit_is_refused_or_read_as_something_that_can_be_sent_again() {
    for &kind in Kind::ALL {
        let bytes = samples::body(kind).encode(samples::meta());
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok((meta, body)) = AnyMessage::decode(&flipped) {
                AnyMessage::decode(&body.encode(meta)).expect("what was read can be read again");
            }
        }
    }
}

#[test]
fn what_follows_the_end_is_refused() {
    for &kind in Kind::ALL {
        let mut bytes = samples::body(kind).encode(samples::meta()).to_vec();
        bytes.extend_from_slice(b"more");
        assert_eq!(AnyMessage::decode(&bytes), Err(DecodeError::Trailing(4)));
    }
}

#[test]
fn another_version_is_named() {
    let mut bytes = samples::body(Kind::Bound).encode(samples::meta()).to_vec();
    for version in [0, limits::PROTOCOL_VERSION + 1, u8::MAX] {
        bytes[2] = version;
        assert_eq!(
            AnyMessage::decode(&bytes),
            Err(DecodeError::Version(version))
        );
    }
}

#[test]
fn an_unknown_kind_is_named() {
    let mut bytes = samples::body(Kind::Bound).encode(samples::meta()).to_vec();
    for number in (0..=u8::MAX).filter(|n| Kind::from_u8(*n).is_none()) {
        bytes[3] = number;
        assert_eq!(
            AnyMessage::decode(&bytes),
            Err(DecodeError::UnknownKind(number))
        );
    }
}

#[test]
fn a_kind_is_never_read_as_another() {
    for &got in Kind::ALL.iter().filter(|k| **k != Kind::Bound) {
        let bytes = samples::body(got).encode(samples::meta());
        let want = Kind::Bound;
        assert_eq!(
            bus_schemas::decode::<Bound>(&bytes),
            Err(DecodeError::WrongKind { want, got })
        );
    }
}

#[test]
fn foreign_bytes_are_not_ours() {
    assert_eq!(
        AnyMessage::decode(b"GET / HTTP/1.1\r\n"),
        Err(DecodeError::Magic)
    );
}

#[test]
fn a_sender_without_a_name_is_refused() {
    let mut meta = samples::meta();
    meta.from = NodeRef::NONE;
    let bytes = samples::body(Kind::Bound).encode(meta);
    assert_eq!(
        AnyMessage::decode(&bytes),
        Err(DecodeError::Sender(Kind::Bound))
    );
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = AnyMessage::decode(&bytes);
    }

    #[test]
    fn random_bodies_under_a_good_header_never_panic(
        kind in proptest::sample::select(Kind::ALL),
        body in proptest::collection::vec(any::<u8>(), 0..2048),
    ) {
        let _ = AnyMessage::decode(&framed(kind, &body));
    }

    #[test]
    fn overwritten_stretches_never_panic(
        kind in proptest::sample::select(Kind::ALL),
        at in any::<proptest::sample::Index>(),
        noise in proptest::collection::vec(any::<u8>(), 1..64),
    ) {
        let mut bytes = samples::body(kind).encode(samples::meta()).to_vec();
        let start = HEADER_BYTES + at.index(bytes.len() - HEADER_BYTES);
        for (byte, noise) in bytes[start..].iter_mut().zip(noise) {
            *byte = noise;
        }
        if let Ok((meta, body)) = AnyMessage::decode(&bytes) {
            let _ = body.encode(meta);
        }
    }
}

fn framed(kind: Kind, body: &[u8]) -> Vec<u8> {
    let mut bytes = samples::body(kind).encode(samples::meta())[..4].to_vec();
    let len = u32::try_from(body.len()).expect("test bodies are small");
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}
