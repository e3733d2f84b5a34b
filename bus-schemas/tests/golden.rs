//! Pins the bytes of every message kind: what one build sends, every later build reads.
//!
//! Once a kind is released a difference here is a broken wire, never a file to be refreshed. For kinds that
//! no release has, `BLESS=1 cargo test -p bus-schemas` writes the files anew. Start reading at `samples`.

mod samples;

use std::{collections::BTreeSet, fs, path::PathBuf};

use bus_schemas::{Kind, messages::AnyMessage};

#[test]
fn every_kind_encodes_to_its_pinned_bytes() {
    for &kind in Kind::ALL {
        let hex = to_hex(&samples::body(kind).encode(samples::meta()));
        let path = golden_path(kind);
        if std::env::var_os("BLESS").is_some() {
            fs::write(&path, &hex).expect("the golden folder is writable when blessing");
        }
        let pinned = fs::read_to_string(&path)
            .unwrap_or_else(|e| panic!("{}: {e}; bless a new kind with BLESS=1", path.display()));
        assert_eq!(
            hex, pinned,
            "{kind:?} changed its bytes: a released kind never does"
        );
    }
}

#[test]
fn pinned_bytes_decode_to_the_sample() {
    for &kind in Kind::ALL {
        let pinned = fs::read_to_string(golden_path(kind)).expect("every kind has a golden file");
        let (meta, body) =
            AnyMessage::decode(&from_hex(&pinned)).expect("golden bytes are a valid message");
        assert_eq!(
            (meta, body),
            (samples::meta(), samples::body(kind)),
            "{kind:?}"
        );
    }
}

#[test]
fn no_golden_file_is_without_its_kind() {
    let want: BTreeSet<_> = Kind::ALL.iter().map(|&k| golden_path(k)).collect();
    let have: BTreeSet<_> = fs::read_dir(golden_dir())
        .expect("the golden folder is in the repository")
        .map(|entry| entry.expect("a readable folder").path())
        .collect();
    assert_eq!(have, want);
}

#[test]
fn every_sample_has_the_kind_it_stands_for() {
    for &kind in Kind::ALL {
        assert_eq!(samples::body(kind).kind(), kind);
        assert_eq!(Kind::from_u8(kind as u8), Some(kind));
    }
}

#[test]
fn kinds_have_distinct_subject_tokens() {
    let tokens: BTreeSet<_> = Kind::ALL.iter().map(|k| k.as_str()).collect();
    assert_eq!(tokens.len(), Kind::ALL.len());
    assert!(tokens.iter().all(|t| !t.contains(['.', '*', '>', ' '])));
}

fn golden_dir() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"))
}

fn golden_path(kind: Kind) -> PathBuf {
    golden_dir().join(format!("{}.hex", kind.as_str()))
}

/// Sixteen bytes a line: a change shows where it is.
fn to_hex(bytes: &[u8]) -> String {
    bytes
        .chunks(16)
        .map(|line| {
            let pairs: Vec<_> = line.iter().map(|b| format!("{b:02x}")).collect();
            pairs.join(" ") + "\n"
        })
        .collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    text.split_whitespace()
        .map(|pair| u8::from_str_radix(pair, 16).expect("golden files hold pairs of hex digits"))
        .collect()
}
