//! The responses of the status page and its API.

use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use serde::Serialize;
use serde_json::json;

use super::page;
use crate::http::body::Body;

/// The content type of the API.
pub(super) const JSON: &str = "application/json";

/// Returns an error response with a JSON object that contains the text.
pub(super) fn refusal(status: StatusCode, text: &str) -> Response<Body> {
    json(status, &json!({ "error": text }))
}

/// Returns a response in plain text.
pub(super) fn text_response(status: StatusCode, text: &'static str) -> Response<Body> {
    response(status, "text/plain; charset=utf-8", text)
}

/// Returns a response in JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(bytes) => response(status, JSON, bytes),
        // Only maps with keys that are not text fail, and there are none.
        Err(_) => response(StatusCode::INTERNAL_SERVER_ERROR, JSON, "{}"),
    }
}

/// Returns a response with the headers of all status responses, which keep browsers from storing or embedding it.
pub(super) fn response(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<bytes::Bytes>,
) -> Response<Body> {
    let mut response = Response::new(Body::full(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, content_type),
        (header::SERVER, concat!("asf-publishing-point/", env!("CARGO_PKG_VERSION"))),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, page::CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
