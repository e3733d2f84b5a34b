//! Headers on the wire: which are valid, and how many bytes they take.
//!
//! Never encodes them; that is the client library's work. The size counts because a server's
//! payload limit covers headers and body together.

use crate::bus::Headers;

/// `NATS/1.0` with its line end, and the empty line after the last header.
const FRAME_BYTES: usize = "NATS/1.0\r\n\r\n".len();
/// The colon, the space and the line end of each header.
const LINE_BYTES: usize = ": \r\n".len();

/// True if every name is one printable ASCII word without a colon and every value one line.
pub(crate) fn are_valid(headers: &Headers) -> bool {
    headers.iter().all(|(name, value)| {
        let word = name
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b':');
        word && !name.is_empty() && !value.contains(['\r', '\n'])
    })
}

/// Bytes that the headers take; none at all when there are no headers.
pub(crate) fn wire_bytes(headers: &Headers) -> usize {
    if headers.is_empty() {
        return 0;
    }
    let lines = headers
        .iter()
        .map(|(name, value)| name.len() + value.len() + LINE_BYTES);
    FRAME_BYTES + lines.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, value: &str) -> Headers {
        Headers::from([(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn refuses_what_would_break_the_frame() {
        assert!(are_valid(&one("Thalamus-Seq", "7 of é")));
        for (name, value) in [
            ("", "a"),
            ("a b", "a"),
            ("a:", "a"),
            ("a", "x\r\nb: c"),
            ("é", "a"),
        ] {
            assert!(!are_valid(&one(name, value)), "{name:?} {value:?}");
        }
    }

    #[test]
    fn counts_the_bytes_of_the_wire() {
        assert_eq!(wire_bytes(&Headers::new()), 0);
        assert_eq!(wire_bytes(&one("A", "b")), "NATS/1.0\r\nA: b\r\n\r\n".len());
    }
}
