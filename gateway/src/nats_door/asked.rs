//! What the headers of a request say.
//!
//! All are optional. One that asks for what does not exist yet is refused by name, none is dropped in silence.

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
const UNSUPPORTED: [&str; 2] = ["Thalamus-Window", "Thalamus-Body-Ref"];

/// A request's headers.
#[derive(Debug)]
pub(super) struct Asked {
    /// The client's id, or a fresh one.
    pub(super) id: String,
    /// Whether the client chose the id, and so can name it.
    pub(super) own_id: bool,
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
    Ok(Asked {
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
