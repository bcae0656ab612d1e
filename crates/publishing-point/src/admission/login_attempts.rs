//! The response to an address with too many failed logins.

use std::time::Duration;

use http::Response;
use http::header::{self, HeaderValue};

/// The response body for an address whose credentials are not checked for a while.
pub(crate) const LOCKED_OUT: &str =
    "too many failed logins from your address; try again after the number of seconds in the Retry-After header";

/// Sets the Retry-After header.
pub(crate) fn retry_after<B>(mut response: Response<B>, wait: Duration) -> Response<B> {
    // Rounded up, so that a client that returns at the earliest time is admitted.
    let seconds = HeaderValue::from(wait.as_secs().saturating_add(1));
    response.headers_mut().insert(header::RETRY_AFTER, seconds);
    response
}
