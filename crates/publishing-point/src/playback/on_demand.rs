//! Players of points that pull their stream: the wait for the stream, and the path of the request.

use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderMap, RETRY_AFTER, VIA};
use http::{HeaderValue, Response, StatusCode};

use super::response::text;
use crate::http::body::Body;
use crate::http::handled::Answer;
use crate::points::publishing_point::PublishingPoint;
use crate::points::source_state::{SourceDemand, SourceUnavailable};
use wmhttp::via::Via;

/// Maximum time that a player waits for a stream that is pulled on demand. Known players give up after 10 s or more, so
/// they still receive the error response.
const SOURCE_WAIT_TIMEOUT: Duration = Duration::from_secs(9);

/// Waits for the stream of a point that pulls it on demand, and keeps it pulled until the result is dropped. At other
/// points the result is immediate.
///
/// # Errors
/// The response to a player whose wait ended without a stream, or whose request has passed this point before.
pub(super) async fn stream(point: &Arc<PublishingPoint>, headers: &HeaderMap) -> Result<Option<SourceDemand>, Answer> {
    let via = Via::from_headers(headers);
    let source = point.source();
    if via.contains(source.via_pseudonym()) {
        return Err(unavailable(point, SourceUnavailable::Loop));
    }
    let on_demand = point.config().source.as_ref().is_some_and(|source| source.on_demand.is_some());
    if !on_demand {
        return Ok(None);
    }
    let demand = source.wait(&via, SOURCE_WAIT_TIMEOUT, || point.header().is_some()).await;
    demand.map(Some).map_err(|error| unavailable(point, error))
}

/// Adds the path of the stream to the response to a client that sent a `Via` header, which is a relay or a proxy.
pub(super) fn set_via(point: &PublishingPoint, has_via: bool, response: &mut Response<Body>) {
    let path = point.relays().via().with_hop(point.source().via_pseudonym());
    if let Some(value) = path.to_value().filter(|_| has_via && response.status().is_success()) {
        response.headers_mut().insert(VIA, value);
    }
}

/// Returns the response to a player without a stream.
fn unavailable(point: &PublishingPoint, error: SourceUnavailable) -> Answer {
    match error {
        SourceUnavailable::Failed { retry_in } => {
            let mut answer =
                text(StatusCode::SERVICE_UNAVAILABLE, "the source of this publishing point is currently unavailable\n");
            // Rounded up, so that a player that returns at that time finds the next attempt done.
            answer.response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry_in.as_secs().saturating_add(1)));
            answer
        }
        SourceUnavailable::TooSlow => {
            text(StatusCode::GATEWAY_TIMEOUT, "the source of this publishing point did not respond in time\n")
        }
        SourceUnavailable::Loop => {
            tracing::warn!(
                point = point.name(),
                "player refused: relay loop, its request has already passed this point. Remove one `source` entry from the loop"
            );
            point.activity().record_error(
                "relay loop: the source of this point pulls from this point. Remove one `source` entry from the loop",
            );
            let why = "relay loop: this request comes from this publishing point itself. Remove one `source` entry from the loop\n";
            text(StatusCode::LOOP_DETECTED, why)
        }
    }
}
