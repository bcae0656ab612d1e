//! What is asked of every request before, and seen of every answer after: networks, passwords guessed at, players
//! of one address.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{self, HeaderValue};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;

use super::body::Body;
use super::connection::{Closed, Connection};
use crate::admission::client_limits::Caller;
use crate::admission::limits::ServerLimits;
use crate::admission::networks::Networks;
use crate::points::activity::Client;
use crate::points::registry::Registry;
use crate::{ingest, playback, status};
use wmhttp::server::Reply;

/// When a player is to come again where there are too many of its address.
const PLAYERS_RETRY: Duration = Duration::from_secs(30);
/// What one is told who is not asked for a password any more.
pub(crate) const LOCKED_OUT: &str =
    "too many wrong passwords came from your address; try again when Retry-After is over";

/// Answers a request.
///
/// # Errors
/// [`Closed`] where the protocol wants the connection closed without an answer.
pub(crate) async fn answer(
    registry: &Arc<Registry>,
    connection: &Arc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Closed> {
    let bounds = &registry.config().bounds;
    let visit = connection.visit();
    let pushes = ingest::handlers::is_push(&request);
    // Who may see that is a question of its own.
    if !pushes && let Some(response) = status::answer(registry, connection.peer(), visit, &request).await {
        return Ok(response);
    }
    if !is_network_allowed(registry, pushes, request.uri().path(), visit.address()) {
        tracing::debug!(address = %visit.address(), pushes, "an address outside the allowed networks is refused");
        return Ok(refuse(registry, pushes, StatusCode::FORBIDDEN, "your address is in none of the allowed networks"));
    }
    // That of a proxy before the server is no guess at this one's passwords.
    let has_credentials = request.headers().contains_key(header::AUTHORIZATION);
    if let Some(wait) = visit.locked_out(bounds, Instant::now()).filter(|_| has_credentials) {
        return Ok(retry_after(refuse(registry, pushes, StatusCode::TOO_MANY_REQUESTS, LOCKED_OUT), wait));
    }
    let response = if pushes {
        ingest::handlers::answer(registry, connection, request).await?
    } else {
        let client = Client::of(connection.peer(), request.headers());
        status::set_client_from_request(
            client,
            playback::handlers::answer(registry, connection.scheme(), request).await,
        )
    };
    if response.status() == StatusCode::UNAUTHORIZED {
        if has_credentials {
            record_failed_login(visit, bounds, response.headers());
        }
        return Ok(connection.asked(response));
    }
    // No body but a player's is of unknown length.
    let plays = response.body().size_hint().exact().is_none();
    if plays && !visit.play(bounds) {
        let text = "too many players of your address are there";
        return Ok(retry_after(refuse(registry, false, StatusCode::SERVICE_UNAVAILABLE, text), PLAYERS_RETRY));
    }
    if plays || (pushes && response.status() == StatusCode::NO_CONTENT) {
        connection.mark_established();
    }
    Ok(response)
}

/// Whether the address may push, or play, by the server's networks and the point's.
fn is_network_allowed(registry: &Registry, pushes: bool, path: &str, address: IpAddr) -> bool {
    let config = registry.config();
    let point = registry.point(path).map(|point| point.config());
    let of_server = if pushes { &config.allow_push } else { &config.allow_play };
    let of_point = point.as_deref().map(|point| if pushes { &point.allow_push } else { &point.allow_play });
    is_allowed(of_server.as_ref(), address) && is_allowed(of_point.and_then(Option::as_ref), address)
}

/// Whether the address is in the networks; all are where none are named.
pub(crate) fn is_allowed(networks: Option<&Networks>, address: IpAddr) -> bool {
    networks.is_none_or(|networks| networks.has(address))
}

/// Remembers a wrong password, which was answered with these headers.
pub(crate) fn record_failed_login(caller: &Caller, bounds: &ServerLimits, answer: &HeaderMap) {
    if !is_stale_nonce(answer) && caller.guessed(bounds, Instant::now()) {
        tracing::warn!(address = %caller.address(), "too many wrong passwords: the address is not asked for a while");
    }
}

/// Whether the password was right, and only the nonce too old.
fn is_stale_nonce(headers: &HeaderMap) -> bool {
    let challenges = headers.get_all(header::WWW_AUTHENTICATE);
    challenges.iter().any(|challenge| challenge.to_str().is_ok_and(|text| text.contains("stale=true")))
}

fn refuse(registry: &Registry, pushes: bool, status: StatusCode, text: &'static str) -> Response<Body> {
    if pushes {
        ingest::handlers::response(Reply::error(&registry.config().policy, status.as_u16(), text))
    } else {
        playback::handlers::text(status, text)
    }
}

/// Tells when to come again.
pub(crate) fn retry_after(mut response: Response<Body>, wait: Duration) -> Response<Body> {
    // Rounded up: who comes as early as told is let in.
    let seconds = HeaderValue::from(wait.as_secs().saturating_add(1));
    response.headers_mut().insert(header::RETRY_AFTER, seconds);
    response
}
