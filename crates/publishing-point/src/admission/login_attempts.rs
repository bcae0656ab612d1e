//! The answer to an address that made too many failed log-ins.

use std::time::Duration;

use http::Response;
use http::header::{self, HeaderValue};

/// The answer to an address whose credentials are not looked at for a while.
pub(crate) const LOCKED_OUT: &str =
    "too many wrong passwords came from your address; try again when Retry-After is over";

/// Says when to come again.
pub(crate) fn retry_after<B>(mut response: Response<B>, wait: Duration) -> Response<B> {
    // Rounded up: a client that comes as early as it may is admitted.
    let seconds = HeaderValue::from(wait.as_secs().saturating_add(1));
    response.headers_mut().insert(header::RETRY_AFTER, seconds);
    response
}
