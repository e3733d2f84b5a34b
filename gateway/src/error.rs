//! The one error that a client sees, whatever door it came through: class, code, what to do.
//!
//! It never carries a path, a node's name or an inner chain of errors. How a class looks on HTTP and
//! on NATS is decided here and nowhere else.

use bus_schemas::{FailReason, RefuseReason};
use serde_json::json;

use crate::backend::SubmitError;

/// Longest pause that a client is asked to make: the OpenAI SDKs ignore a longer one.
const RETRY_AFTER_S_MAX: u32 = 120;
/// Longest text of a client's own that an error repeats, in characters.
const QUOTE_CHARS_MAX: usize = 64;

/// What kind of failure it is; fixes status, type and whether a retry makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The request is wrong.
    Invalid,
    /// No key, or a wrong one.
    Unauthenticated,
    /// The key does not allow it.
    Forbidden,
    /// No such route, model or request.
    NotFound,
    /// The route exists, but not with this method.
    Method,
    /// The body did not arrive in time.
    Slow,
    /// It clashes with a request that runs.
    Conflict,
    /// The body is larger than allowed.
    TooLarge,
    /// The headers are larger than allowed.
    Headers,
    /// The client or an operator cancelled it.
    Cancelled,
    /// Try again later.
    Unavailable,
    /// The deadline passed.
    Deadline,
    /// A worker was lost on the way.
    Gateway,
    /// Our own fault.
    Internal,
}

impl Class {
    /// HTTP status, also used as NATS service error code.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Method => 405,
            Self::Slow => 408,
            Self::Conflict => 409,
            Self::TooLarge => 413,
            Self::Headers => 431,
            Self::Cancelled => 499,
            Self::Internal => 500,
            Self::Gateway => 502,
            Self::Unavailable => 503,
            Self::Deadline => 504,
        }
    }

    const fn kind(self) -> &'static str {
        match self {
            Self::Invalid | Self::Method | Self::Slow => "invalid_request_error",
            Self::Unauthenticated => "authentication_error",
            Self::Forbidden => "permission_error",
            Self::NotFound => "not_found_error",
            Self::Conflict => "conflict_error",
            Self::TooLarge | Self::Headers => "request_too_large",
            Self::Cancelled => "cancelled_error",
            Self::Unavailable | Self::Gateway | Self::Internal => "server_error",
            Self::Deadline => "timeout_error",
        }
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub const fn retryable(self) -> bool {
        matches!(
            self,
            Self::Slow | Self::Internal | Self::Gateway | Self::Unavailable | Self::Deadline
        )
    }
}

/// An error as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// What kind.
    pub class: Class,
    /// Machine-readable, finer than the class.
    pub code: &'static str,
    /// One or two sentences that say what to do.
    pub message: String,
    /// The field that is wrong.
    pub param: Option<String>,
    /// When to try again.
    pub retry_after_ms: Option<u32>,
}

impl ApiError {
    /// An error of a class, with a code.
    #[must_use]
    pub fn new(class: Class, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            class,
            code,
            message: message.into(),
            param: None,
            retry_after_ms: None,
        }
    }

    /// A field that is wrong.
    #[must_use]
    pub fn field(param: &str, message: impl Into<String>) -> Self {
        let error = Self::new(Class::Invalid, "invalid_value", message);
        Self {
            param: Some(param.to_owned()),
            ..error
        }
    }

    /// A field that asks for what does not exist yet.
    #[must_use]
    pub fn unsupported(param: &str) -> Self {
        let message = format!("{param} is not supported yet; leave it out");
        Self {
            code: "unsupported_parameter",
            ..Self::field(param, message)
        }
    }

    /// The body is not what it should be.
    #[must_use]
    pub fn body(message: impl Into<String>) -> Self {
        Self::new(Class::Invalid, "invalid_json", message)
    }

    /// No model of that name.
    #[must_use]
    pub fn unknown_model(name: &str) -> Self {
        let name = quote(name);
        let message = format!("the model {name} does not exist; GET /v1/models lists what does");
        let error = Self::new(Class::NotFound, "model_not_found", message);
        Self {
            param: Some("model".into()),
            ..error
        }
    }

    /// Prompt and output do not fit the context.
    #[must_use]
    pub fn context(message: impl Into<String>, param: &str) -> Self {
        Self {
            code: "context_length_exceeded",
            ..Self::field(param, message)
        }
    }

    /// The client or an operator ended it.
    #[must_use]
    pub fn cancelled() -> Self {
        Self::new(Class::Cancelled, "cancelled", "the request was cancelled")
    }

    /// The client took nothing for too long.
    #[must_use]
    pub fn client_too_slow() -> Self {
        let message = "the stream was ended because the client did not take it fast enough";
        Self::new(Class::Cancelled, "client_too_slow", message)
    }

    /// The deadline passed.
    #[must_use]
    pub fn deadline() -> Self {
        let message = "the request's deadline passed; allow more time or ask for fewer tokens";
        Self::new(Class::Deadline, "deadline_exceeded", message)
    }

    /// Something broke here; the reason is in the log.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(
            Class::Internal,
            "internal",
            "the server failed; the request may be tried again",
        )
    }

    /// A request that ended without a usable answer.
    #[must_use]
    pub fn failed(reason: FailReason, model: &str, retry_after_ms: Option<u32>) -> Self {
        match reason {
            FailReason::Overloaded => Self::overloaded(retry_after_ms),
            FailReason::NoCapacity => Self::no_capacity(retry_after_ms),
            FailReason::Draining => Self::draining(retry_after_ms),
            FailReason::Deadline => Self::deadline(),
            FailReason::WorkerLost => Self::new(
                Class::Gateway,
                "worker_lost",
                "the workers that ran the request were lost; try it again",
            ),
            FailReason::TooLarge => Self::too_large_for_memory(),
            FailReason::Engine => Self::internal(),
            FailReason::UnknownModel => Self::unknown_model(model),
        }
    }

    /// A submission that was not taken.
    #[must_use]
    pub fn submit(error: SubmitError, model: &str) -> Self {
        let SubmitError::Refused {
            reason,
            retry_after_ms,
        } = error;
        Self::refused(reason, model, retry_after_ms)
    }

    /// A request that was refused.
    #[must_use]
    pub fn refused(reason: RefuseReason, model: &str, retry_after_ms: u32) -> Self {
        let retry = Some(retry_after_ms);
        match reason {
            RefuseReason::UnknownModel => Self::unknown_model(model),
            RefuseReason::Full => Self::overloaded(retry),
            RefuseReason::TooLarge => Self::too_large_for_memory(),
            RefuseReason::Draining => Self::draining(retry),
            RefuseReason::Expired => Self::deadline(),
            RefuseReason::NoCapacity => Self::no_capacity(retry),
            RefuseReason::Ended | RefuseReason::Stale | RefuseReason::Invalid => Self::internal(),
        }
    }

    /// Everything is full.
    #[must_use]
    pub fn overloaded(retry_after_ms: Option<u32>) -> Self {
        let message = "the server is full; try again later";
        Self::unavailable("overloaded", message, retry_after_ms)
    }

    /// The server takes nothing new.
    #[must_use]
    pub fn draining(retry_after_ms: Option<u32>) -> Self {
        let message = "the server is stopping and takes no new requests; try again";
        Self::unavailable("draining", message, retry_after_ms)
    }

    fn no_capacity(retry_after_ms: Option<u32>) -> Self {
        let message = "no worker serves the model now; try again later";
        Self::unavailable("no_capacity", message, retry_after_ms)
    }

    fn unavailable(code: &'static str, message: &str, retry_after_ms: Option<u32>) -> Self {
        // without a hint, a second keeps a retrying client from spinning
        let retry_after_ms = Some(retry_after_ms.unwrap_or(1000));
        Self {
            retry_after_ms,
            ..Self::new(Class::Unavailable, code, message)
        }
    }

    fn too_large_for_memory() -> Self {
        let message = "the prompt with max_tokens and n needs more KV memory than any worker has; \
                       shorten the prompt, or ask for fewer tokens or choices";
        Self::new(Class::Invalid, "context_length_exceeded", message)
    }

    /// When to try again, in whole seconds from 1 to 120.
    #[must_use]
    pub fn retry_after_s(&self) -> Option<u32> {
        Some(
            self.retry_after_ms?
                .div_ceil(1000)
                .clamp(1, RETRY_AFTER_S_MAX),
        )
    }

    /// The OpenAI error object, also the `data:` of a broken stream.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let error = json!({
            "message": self.message,
            "type": self.class.kind(),
            "param": self.param,
            "code": self.code,
        });
        json!({ "error": error }).to_string().into_bytes()
    }
}

/// A client's own words, short enough and on one line.
#[must_use]
pub fn quote(text: &str) -> String {
    let mut short: String = text.chars().take(QUOTE_CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_whole_seconds_within_bounds() {
        for (ms, seconds) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (u32::MAX, 120)] {
            assert_eq!(
                ApiError::overloaded(Some(ms)).retry_after_s(),
                Some(seconds)
            );
        }
        assert_eq!(ApiError::deadline().retry_after_s(), None);
    }

    #[test]
    fn quotes_are_short_and_on_one_line() {
        assert_eq!(quote("a\nb"), "\"a\\nb\"");
        assert!(quote(&"x".repeat(10_000)).chars().count() < 70);
    }

    #[test]
    fn bodies_have_the_openai_shape() {
        let body = ApiError::field("n", "n must be 1").to_json();
        assert_eq!(
            String::from_utf8(body).expect("JSON is UTF-8"),
            r#"{"error":{"message":"n must be 1","type":"invalid_request_error","param":"n","code":"invalid_value"}}"#
        );
    }
}
