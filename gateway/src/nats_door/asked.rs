//! What the headers of a request say.
//!
//! All are optional. One that asks for what does not exist yet is refused by name, none is dropped in silence.

use std::ops::RangeInclusive;

use nats::Headers;
use uuid::Uuid;

use super::reply::TRACEPARENT;
use crate::{
    doors::{Caller, DEADLINE_DEFAULT},
    error::{ApiError, quote},
    said,
};

const REQUEST_ID: &str = "Thalamus-Request-Id";
const TIMEOUT_MS: &str = "Thalamus-Timeout-Ms";
const PRIORITY: &str = "Thalamus-Priority";
const CONTENT: &str = "Thalamus-Content";
/// Headers that would change how a request runs or is answered, were they known.
const UNSUPPORTED: [&str; 1] = ["Thalamus-Body-Ref"];
const WINDOW: &str = "Thalamus-Window";
const START_SEQ: &str = "Thalamus-Start-Seq";
/// Most messages that a client may leave without acknowledgement: those that a stream may have on their way.
const WINDOW_MAX: u64 = 256;

/// A request's headers.
#[derive(Debug)]
pub(super) struct Asked {
    /// The client's id, or a fresh one.
    pub(super) id: String,
    /// Whether the client chose the id, and so can name it.
    pub(super) own_id: bool,
    /// Most messages of a stream without acknowledgement.
    pub(super) window: Option<u64>,
    /// Of a request that runs already: the first message that the client lacks.
    pub(super) from: Option<u64>,
    /// The rest.
    pub(super) caller: Caller,
}

/// Reads the headers.
///
/// # Errors
/// One is wrong or not supported.
pub(super) fn read(
    headers: &Headers,
    tenant: &str,
    model_token: Option<&str>,
) -> Result<Asked, ApiError> {
    let text = |name: &str| find(headers, name);
    for name in UNSUPPORTED {
        if text(name).is_some() {
            return Err(ApiError::unsupported(name));
        }
    }
    match text(CONTENT) {
        None | Some("json") => {}
        Some(other) => {
            let message = format!("{CONTENT} must be json, not {}", quote(other));
            return Err(ApiError::field(CONTENT, message));
        }
    }
    let id = text(REQUEST_ID).map(request_id).transpose()?;
    let deadline = text(TIMEOUT_MS)
        .map(|value| said::deadline(TIMEOUT_MS, value))
        .transpose()?;
    let priority = text(PRIORITY)
        .map(|value| said::priority(PRIORITY, value))
        .transpose()?;
    let window = text(WINDOW)
        .map(|value| number(WINDOW, value, 1..=WINDOW_MAX))
        .transpose()?;
    let from = text(START_SEQ)
        .map(|value| number(START_SEQ, value, 0..=u64::MAX))
        .transpose()?;
    Ok(Asked {
        window,
        from,
        own_id: id.is_some(),
        id: id.unwrap_or_else(|| Uuid::now_v7().to_string()),
        caller: Caller {
            tenant: tenant.to_owned(),
            deadline: deadline.unwrap_or(DEADLINE_DEFAULT),
            priority: priority.unwrap_or(0),
            trace: said::trace(text(TRACEPARENT)),
            model_token: model_token.map(str::to_owned),
        },
    })
}

fn request_id(text: &str) -> Result<String, ApiError> {
    if said::is_id(text) {
        return Ok(text.to_owned());
    }
    let message = format!(
        "{REQUEST_ID} must be 1 to 64 letters, digits, - or _, not {}",
        quote(text)
    );
    Err(ApiError::field(REQUEST_ID, message))
}

fn number(name: &str, text: &str, range: RangeInclusive<u64>) -> Result<u64, ApiError> {
    let number = text.trim().parse().ok();
    number
        .filter(|number| range.contains(number))
        .ok_or_else(|| {
            let (low, high) = (range.start(), range.end());
            let message = format!(
                "{name} must be a number from {low} to {high}, not {}",
                quote(text)
            );
            ApiError::field(name, message)
        })
}

/// NATS keeps the case of names, but clients do not agree on it.
fn find<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    let exact = headers.get(name);
    let found = exact.or_else(|| {
        let mut all = headers.iter();
        all.find(|(given, _)| given.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    });
    found.map(String::as_str)
}
