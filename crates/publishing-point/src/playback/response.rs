//! The responses to players.

use http::header::{self, HeaderValue};
use http::{Response, StatusCode, Version};

use crate::http::body::Body;
use crate::http::handled::{Answer, Handled, Refusal};

/// Name of the server in responses: that of the server in a Windows encoder. With this name, `$M` packets are not
/// required, which known players do not accept.
const SERVER: &str = "Rex/9.0.0.2980";

/// Returns a refusal with this text as its body. The connection closes.
pub(crate) fn text(status: StatusCode, text: &'static str) -> Answer {
    Answer::new(Handled::Refused(Refusal::new(text)), plain_text(status, text))
}

/// Returns a response with this text as its body.
pub(super) fn plain_text(status: StatusCode, text: &'static str) -> Response<Body> {
    response(status, Some("text/plain; charset=utf-8"), Body::full(text))
}

/// Returns a response in HTTP/1.0: players read until the server closes, and some do not support chunked bodies.
pub(super) fn response(status: StatusCode, content_type: Option<&'static str>, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.version_mut() = Version::HTTP_10;
    let headers = response.headers_mut();
    headers.insert(header::SERVER, HeaderValue::from_static(SERVER));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    if let Some(content_type) = content_type {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
