//! The header of a safetensors file: eight bytes of length, JSON, then the elements without a hole.
//!
//! The parser trusts nothing: every offset, size and product is checked, and no input makes it panic or
//! allocate more than a small multiple of the bytes that are really there.

use std::{collections::BTreeMap, fmt, ops::Range, path::Path};

use serde::{
    Deserialize,
    de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor},
};

use super::{CheckpointError, Dtype};

/// Longest header that the format's reference implementation accepts.
const HEADER_BYTES_MAX: u64 = 100_000_000;
/// Bytes of the length before the header.
const LENGTH_BYTES: usize = 8;

/// What a header says of one tensor, after all checks; the range counts from the start of the file.
#[derive(Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) range: Range<usize>,
}

/// Reads and checks the header of `file`, the whole content of the file at `path`.
pub(super) fn parse(path: &Path, file: &[u8]) -> Result<BTreeMap<String, Entry>, CheckpointError> {
    let json = header_bytes(path, file)?;
    let start = LENGTH_BYTES + json.len();
    let raw: Raw = serde_json::from_slice(json).map_err(|e| damaged(path, e.to_string()))?;
    let space = (file.len() - start) as u64;
    let mut tensors = BTreeMap::new();
    for (name, said) in raw.0 {
        let [from, to] = said.data_offsets;
        if to > space {
            return Err(CheckpointError::Truncated {
                path: path.into(),
                expected: to.saturating_add(start as u64),
                found: file.len() as u64,
            });
        }
        let entry = said
            .check(start)
            .map_err(|problem| damaged(path, format!("tensor {name} {problem} ({from}..{to})")))?;
        tensors.insert(name, entry);
    }
    check_cover(path, &tensors, start..file.len())?;
    Ok(tensors)
}

fn header_bytes<'a>(path: &Path, file: &'a [u8]) -> Result<&'a [u8], CheckpointError> {
    let truncated = |expected| CheckpointError::Truncated {
        path: path.into(),
        expected,
        found: file.len() as u64,
    };
    let (length, rest) = file
        .split_first_chunk::<LENGTH_BYTES>()
        .ok_or_else(|| truncated(LENGTH_BYTES as u64))?;
    let length = u64::from_le_bytes(*length);
    if length > HEADER_BYTES_MAX {
        return Err(damaged(
            path,
            format!("its length is {length}, the format allows {HEADER_BYTES_MAX}"),
        ));
    }
    rest.get(..length as usize)
        .ok_or_else(|| truncated(LENGTH_BYTES as u64 + length))
}

/// Tensors must cover the elements exactly: no overlap, no hole, nothing left over.
fn check_cover(
    path: &Path,
    tensors: &BTreeMap<String, Entry>,
    space: Range<usize>,
) -> Result<(), CheckpointError> {
    let mut ranges: Vec<_> = tensors.iter().map(|(n, e)| (&e.range, n)).collect();
    ranges.sort_by_key(|(range, _)| (range.start, range.end));
    let mut end = space.start;
    for (range, name) in ranges {
        if range.start != end {
            let what = if range.start < end {
                "overlaps the one before it"
            } else {
                "leaves a hole before it"
            };
            let problem = format!(
                "tensor {name} {what}: it starts at byte {}, expected {end}",
                range.start
            );
            return Err(damaged(path, problem));
        }
        end = range.end;
    }
    if end != space.end {
        let problem = format!("its tensors end at byte {end}, the file at {}", space.end);
        return Err(damaged(path, problem));
    }
    Ok(())
}

fn damaged(path: &Path, problem: String) -> CheckpointError {
    CheckpointError::Header {
        path: path.into(),
        problem,
    }
}

/// One tensor as the JSON has it.
#[derive(Deserialize)]
struct Said {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

impl Said {
    /// Whether shape, format and offsets agree. The offsets are known to lie inside the file.
    fn check(self, start: usize) -> Result<Entry, String> {
        let [from, to] = self.data_offsets;
        let held = to.checked_sub(from).ok_or("ends before it starts")?;
        let dtype = Dtype::named(self.dtype);
        let count = self
            .shape
            .iter()
            .try_fold(1u64, |n, d| n.checked_mul(*d))
            .ok_or_else(|| format!("has an impossible shape {:?}", self.shape))?;
        if let Some(size) = dtype.size()
            && count.checked_mul(size) != Some(held)
        {
            let shape = &self.shape;
            return Err(format!(
                "holds {held} bytes, which is not {shape:?} of {dtype}"
            ));
        }
        Ok(Entry {
            dtype,
            shape: self.shape.iter().map(|d| *d as usize).collect(),
            range: start + from as usize..start + to as usize,
        })
    }
}

/// The JSON object; a name that occurs twice is an error, `__metadata__` is skipped.
struct Raw(BTreeMap<String, Said>);

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut tensors = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                map.next_value::<IgnoredAny>()?;
            } else if tensors.insert(name.clone(), map.next_value()?).is_some() {
                return Err(A::Error::custom(format!("tensor {name} occurs twice")));
            }
        }
        Ok(Raw(tensors))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(json: &str, data: usize) -> Vec<u8> {
        let mut out = (json.len() as u64).to_le_bytes().to_vec();
        out.extend_from_slice(json.as_bytes());
        out.resize(out.len() + data, 0);
        out
    }

    fn refusal(json: &str, data: usize) -> String {
        parse(Path::new("w.safetensors"), &file(json, data))
            .expect_err("must be refused")
            .to_string()
    }

    fn check(json: &str, data: usize, says: &str) {
        let found = refusal(json, data);
        assert!(found.contains(says), "{found:?} does not say {says:?}");
    }

    const GOOD: &str = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},"b":{"dtype":"F32","shape":[],"data_offsets":[12,16]}}"#;

    #[test]
    fn good_header_gives_ranges_of_the_file() {
        let bytes = file(GOOD, 16);
        let tensors = parse(Path::new("w"), &bytes).expect("a good header");
        let start = bytes.len() - 16;
        assert_eq!(tensors["a"].range, start..start + 12);
        assert_eq!(tensors["a"].shape, [2, 3]);
        assert_eq!(tensors["b"].dtype, Dtype::F32);
    }

    #[test]
    fn lies_are_named() {
        check(GOOD, 15, "truncated");
        check(GOOD, 17, "tensors end at byte");
        check("[]", 0, "an object of tensors");
        check("{", 0, "damaged header");
        let one = |shape: &str, from: u64, to: u64| {
            format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":[{from},{to}]}}}}"#)
        };
        check(&one("[2]", 4, 0), 8, "ends before it starts");
        check(&one("[2]", 0, 4), 4, "not [2] of F32");
        check(&one("[2]", 4, 12), 12, "hole");
        check(&one("[9223372036854775807,4]", 0, 8), 8, "impossible shape");
        check(&one("[4611686018427387904]", 0, 0), 0, "not [46");
        check(&one("[2]", 0, u64::MAX), 8, "truncated");
        check(&one("[-2]", 0, 8), 8, "damaged header");
        let two = r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}"#;
        check(two, 6, "overlaps");
        let twice = r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#;
        check(twice, 1, "occurs twice");
    }

    #[test]
    fn huge_length_is_refused_without_allocating() {
        let mut bytes = file(GOOD, 16);
        bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        let found = parse(Path::new("w"), &bytes)
            .expect_err("absurd")
            .to_string();
        assert!(found.contains("18446744073709551615"), "{found}");
    }

    #[test]
    fn every_truncation_is_refused() {
        let bytes = file(GOOD, 16);
        for n in 0..bytes.len() {
            assert!(parse(Path::new("w"), &bytes[..n]).is_err(), "{n} bytes");
        }
    }

    proptest! {
        #[test]
        fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(Path::new("w"), &bytes);
        }

        #[test]
        fn flipped_bytes_never_panic_and_ranges_stay_inside(at in 0usize..200, to in any::<u8>()) {
            let mut bytes = file(GOOD, 16);
            let at = at % bytes.len();
            bytes[at] = to;
            if let Ok(tensors) = parse(Path::new("w"), &bytes) {
                prop_assert!(tensors.values().all(|e| e.range.end <= bytes.len()));
            }
        }

        #[test]
        fn random_numbers_never_panic(
            shape in proptest::collection::vec(any::<u64>(), 0..4),
            from in any::<u64>(), to in any::<u64>(), data in 0usize..64,
        ) {
            let json = format!(r#"{{"a":{{"dtype":"BF16","shape":{shape:?},"data_offsets":[{from},{to}]}}}}"#);
            let _ = parse(Path::new("w"), &file(&json, data));
        }
    }
}
