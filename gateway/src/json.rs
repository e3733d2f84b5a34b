//! Bytes from a client to a JSON object, with bounds on depth and on the number of values.
//!
//! The bounds are checked on the bytes before anything is built, so that a small body cannot make a
//! large tree. Never looks at what the fields mean.

use serde_json::{Map, Value};

use crate::error::ApiError;

/// Deepest nesting of a body.
pub const DEPTH_MAX: usize = 64;
/// Most values in a body: four of the longest prompts as token ids; bounds the tree's memory to some 128 MB.
const VALUES_MAX: usize = 4 << 20;

/// The object that `bytes` hold.
///
/// # Errors
/// Not JSON, not an object, too deep, or too many values.
pub fn object(bytes: &[u8]) -> Result<Map<String, Value>, ApiError> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(ApiError::body("the body is empty; send a JSON object"));
    }
    check_bounds(bytes)?;
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(ApiError::body("the body is JSON but not an object")),
        Err(error) => Err(ApiError::body(format!(
            "the body is not JSON: {} at line {} column {}",
            word(&error),
            error.line(),
            error.column()
        ))),
    }
}

/// What is wrong, without any of the client's bytes.
fn word(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        serde_json::error::Category::Eof => "it ends too early",
        serde_json::error::Category::Syntax
        | serde_json::error::Category::Data
        | serde_json::error::Category::Io => "syntax error",
    }
}

fn check_bounds(bytes: &[u8]) -> Result<(), ApiError> {
    let (mut depth, mut values) = (0usize, 0usize);
    let (mut in_string, mut escaped) = (false, false);
    for byte in bytes {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => (depth, values) = (depth + 1, values + 1),
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' => values += 1,
            _ => {}
        }
        if depth > DEPTH_MAX {
            let message = format!("the body is nested deeper than {DEPTH_MAX} levels");
            return Err(ApiError::body(message));
        }
        if values > VALUES_MAX {
            let message = format!("the body has more than {VALUES_MAX} values");
            return Err(ApiError::body(message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(bytes: &[u8]) -> String {
        object(bytes).expect_err("it must be refused").message
    }

    #[test]
    fn takes_an_object_as_deep_as_the_bound() {
        let deep = DEPTH_MAX - 1;
        let body = format!("{{\"a\":{}{}}}", "[".repeat(deep), "]".repeat(deep));
        assert!(object(body.as_bytes()).is_ok());
        assert!(object(br#"{"a":"[[[[{{{{\"[[[["}"#).is_ok());
    }

    #[test]
    fn refuses_what_is_too_deep_without_recursion() {
        for open in ["[", "{\"a\":"] {
            assert!(problem(open.repeat(1_000_000).as_bytes()).contains("deeper than 64"));
        }
    }

    #[test]
    fn refuses_what_is_too_many() {
        let body = format!("{{\"a\":[{}1]}}", "1,".repeat(VALUES_MAX));
        assert!(problem(body.as_bytes()).contains("values"));
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        assert!(problem(b"").contains("empty"));
        assert!(problem(b"[]").contains("not an object"));
        assert!(problem(b"{\"a\":").contains("ends too early"));
        assert!(problem(b"{\n\"a\":secret}").contains("line 2"));
        assert!(!problem(b"{\n\"a\":secret}").contains("secret"));
        assert!(problem(&[b'{', 0xff, 0xfe]).contains("not JSON"));
    }
}
