//! Before every route: an id for the request, bounds on its headers, browsers' questions, and the key.
//!
//! Decides who enters and as whose; never looks at a body.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, header},
    middleware::Next,
    response::Response,
};
use uuid::Uuid;

use super::{Shop, cors, reply, vitals};
use crate::{
    error::{ApiError, Class},
    keys::TENANT_DEFAULT,
};

/// Largest headers, names and values together.
const HEADER_BYTES_MAX: usize = 32 * 1024;
/// Longest id of a client that is given back.
const REQUEST_ID_BYTES_MAX: usize = 128;
const REQUEST_ID: &str = "x-request-id";

/// Whose request it is.
#[derive(Clone, Debug)]
pub(super) struct Tenant(pub(super) String);

/// Wraps every route.
pub(super) async fn guard(
    State(shop): State<Arc<Shop>>,
    mut request: Request,
    next: Next,
) -> Response {
    let id = request_id(request.headers());
    let origin = cors::allowed(&shop.config.cors_origins, request.headers());
    let mut response = match enter(&shop, &mut request) {
        Ok(None) => next.run(request).await,
        Ok(Some(answered)) => answered,
        Err(error) => reply::error(&error),
    };
    response.headers_mut().insert(REQUEST_ID, id);
    cors::mark(origin, &mut response);
    response
}

/// Lets a request in, or answers it.
fn enter(shop: &Shop, request: &mut Request) -> Result<Option<Response>, ApiError> {
    let headers = request.headers();
    let bytes: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    if bytes > HEADER_BYTES_MAX {
        let message = format!("the headers are larger than {HEADER_BYTES_MAX} bytes");
        return Err(ApiError::new(Class::Headers, "headers_too_large", message));
    }
    if let Some(answer) = cors::preflight(&shop.config.cors_origins, request.method(), headers) {
        return Ok(Some(answer));
    }
    let tenant = tenant(shop, request)?;
    request.extensions_mut().insert(Tenant(tenant));
    Ok(None)
}

fn tenant(shop: &Shop, request: &Request) -> Result<String, ApiError> {
    let Some(keys) = &shop.keys else {
        return Ok(TENANT_DEFAULT.to_owned());
    };
    // probes and scrapers have no key
    if vitals::PATHS.contains(&request.uri().path()) {
        return Ok(TENANT_DEFAULT.to_owned());
    }
    let refused = |message| ApiError::new(Class::Unauthenticated, "invalid_api_key", message);
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .ok_or_else(|| {
            refused("an API key is needed; send it as the header Authorization: Bearer th_...")
        })?;
    let key = given.to_str().ok().and_then(bearer).ok_or_else(|| {
        refused("the Authorization header must be: Bearer, a space, and an API key")
    })?;
    let tenant = keys.tenant(key);
    Ok(tenant
        .ok_or_else(|| refused("the API key is not known here; check it, or ask for a new one"))?
        .to_owned())
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, key) = value.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

/// The client's own id if it may stand in a header again, or a fresh one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let given = headers.get(REQUEST_ID).filter(|id| {
        let printable = id.as_bytes().iter().all(u8::is_ascii_graphic);
        printable && (1..=REQUEST_ID_BYTES_MAX).contains(&id.len())
    });
    given.cloned().unwrap_or_else(|| {
        let id = format!("req_{}", Uuid::now_v7().simple());
        HeaderValue::try_from(id).expect("a UUID is printable")
    })
}
