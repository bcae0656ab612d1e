//! Failed log-ins: what is remembered of them, and the answer to an address that made too many.

use std::time::{Duration, Instant};

use http::Response;
use http::header::{self, HeaderValue};

use super::client_limits::Caller;
use super::limits::ServerLimits;

/// The answer to an address whose credentials are not looked at for a while.
pub(crate) const LOCKED_OUT: &str =
    "too many wrong passwords came from your address; try again when Retry-After is over";

/// Remembers wrong credentials.
pub(crate) fn record_failed_login(caller: &Caller, bounds: &ServerLimits) {
    if caller.guessed(bounds, Instant::now()) {
        tracing::warn!(address = %caller.address(), "too many wrong passwords: the address is not asked for a while");
    }
}

/// Says when to come again.
pub(crate) fn retry_after<B>(mut response: Response<B>, wait: Duration) -> Response<B> {
    // Rounded up: a client that comes as early as it may is admitted.
    let seconds = HeaderValue::from(wait.as_secs().saturating_add(1));
    response.headers_mut().insert(header::RETRY_AFTER, seconds);
    response
}
