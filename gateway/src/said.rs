//! What a client says beside the body: its deadline, its priority, its trace, its own id.
//!
//! The same words on HTTP (`x-thalamus-...`) and on NATS (`Thalamus-...`); here is what they mean.

use std::time::Duration;

use bus_schemas::Trace;

use crate::{
    doors::DEADLINE_MAX,
    error::{ApiError, quote},
};

/// Longest id that a client may give its request.
const ID_BYTES_MAX: usize = 64;

/// A deadline in milliseconds.
///
/// # Errors
/// Not a number from one to an hour.
pub(crate) fn deadline(name: &str, text: &str) -> Result<Duration, ApiError> {
    let longest = DEADLINE_MAX.as_millis();
    let millis = text.trim().parse::<u64>().ok().map(Duration::from_millis);
    millis
        .filter(|time| !time.is_zero() && *time <= DEADLINE_MAX)
        .ok_or_else(|| {
            let text = quote(text);
            ApiError::field(
                name,
                format!("{name} must be 1 to {longest} milliseconds, not {text}"),
            )
        })
}

/// A priority by name.
///
/// # Errors
/// Not a name, or one that is not for clients.
pub(crate) fn priority(name: &str, text: &str) -> Result<i8, ApiError> {
    match text.trim() {
        "interactive" => Ok(1),
        "default" => Ok(0),
        "bulk" => Ok(-1),
        other => {
            let other = quote(other);
            let message = format!("{name} must be interactive, default or bulk, not {other}");
            Err(ApiError::field(name, message))
        }
    }
}

/// Whether a client's id may be used: a word of letters, digits, `_` and `-`.
pub(crate) fn is_id(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    !text.is_empty() && text.len() <= ID_BYTES_MAX && text.bytes().all(letter)
}

/// A trace context; a broken one is none, for it is no reason to fail a request.
pub(crate) fn trace(text: Option<&str>) -> Trace {
    text.and_then(Trace::parse).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_from_a_millisecond_to_an_hour() {
        assert_eq!(deadline("d", " 250 "), Ok(Duration::from_millis(250)));
        assert_eq!(deadline("d", "3600000"), Ok(DEADLINE_MAX));
        for bad in [
            "",
            "0",
            "-1",
            "1.5",
            "1s",
            "3600001",
            "99999999999999999999",
        ] {
            assert!(deadline("d", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn priorities_have_names_and_the_highest_is_not_for_clients() {
        assert_eq!(priority("p", "bulk"), Ok(-1));
        assert!(priority("p", "system").is_err());
    }

    #[test]
    fn ids_are_one_subject_token() {
        assert!(is_id("a-B_9"));
        for bad in ["", "a.b", "a b", "a*", ">", "é", &"x".repeat(65)] {
            assert!(!is_id(bad), "{bad}");
        }
    }

    #[test]
    fn broken_trace_contexts_are_left_out() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(trace(Some(good)).to_string(), good);
        assert_eq!(trace(Some("00-x")), Trace::default());
        assert_eq!(trace(None), Trace::default());
    }
}
