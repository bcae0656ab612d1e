//! Which part of the server answers a request; what is asked of every request before, and counted of every answer
//! after: networks, wrong passwords, players of one address.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Request, Response, StatusCode, header};
use hyper::body::Incoming;

use crate::admission::login_attempts::{LOCKED_OUT, record_failed_login, retry_after};
use crate::admission::networks::Networks;
use crate::http::body::Body;
use crate::http::connection::{Closed, Connection, Handler};
use crate::http::handled::{Answer, Handled};
use crate::ingest::handlers::{self as push, is_push};
use crate::ingest::setup::Ingest;
use crate::playback::handlers::{self as play, Playback};
use crate::points::client::Client;
use crate::points::registry::Registry;
use crate::status::routes::Status;
use wmhttp::server::Reply;

/// When a player is to come again if its address has too many players.
const PLAYERS_RETRY: Duration = Duration::from_secs(30);

/// All that answers requests on the server's addresses.
pub(crate) struct Dispatcher {
    pub(crate) registry: Arc<Registry>,
    pub(crate) ingest: Ingest,
    pub(crate) playback: Playback,
    pub(crate) status: Arc<Status>,
}

impl Handler for Dispatcher {
    async fn handle(&self, connection: &Arc<Connection>, request: Request<Incoming>) -> Result<Response<Body>, Closed> {
        let bounds = &self.registry.config().bounds;
        let visit = connection.visit();
        let pushes = is_push(&request);
        // Who may see the status is a question of its own.
        if !pushes && let Some(response) = self.status.answer(connection.peer(), visit, &request).await {
            return Ok(response);
        }
        if !self.is_network_allowed(pushes, request.uri().path(), visit.address()) {
            tracing::debug!(address = %visit.address(), pushes, "an address outside the allowed networks is refused");
            return Ok(self.refuse(pushes, StatusCode::FORBIDDEN, "your address is in none of the allowed networks"));
        }
        // Credentials for a proxy before the server are no guess at this one's passwords.
        let has_credentials = request.headers().contains_key(header::AUTHORIZATION);
        if let Some(wait) = visit.locked_out(bounds, Instant::now()).filter(|_| has_credentials) {
            return Ok(retry_after(self.refuse(pushes, StatusCode::TOO_MANY_REQUESTS, LOCKED_OUT), wait));
        }
        let Answer { response, handled } = if pushes {
            self.ingest.answer(connection, request).await?
        } else {
            let client = Client::of(connection.peer(), request.headers());
            self.playback.answer(client, connection.scheme(), request).await
        };
        match handled {
            Handled::Plain => {}
            Handled::Unauthorized { stale } => {
                if has_credentials && !stale {
                    record_failed_login(visit, bounds);
                }
                return Ok(connection.asked(response));
            }
            Handled::Player if visit.play(bounds) => connection.mark_established(),
            Handled::Player => {
                let text = "too many players of your address are there";
                return Ok(retry_after(self.refuse(false, StatusCode::SERVICE_UNAVAILABLE, text), PLAYERS_RETRY));
            }
            Handled::PushAccepted => connection.mark_established(),
        }
        Ok(response)
    }
}

impl Dispatcher {
    /// Whether the address may push, or play, by the server's networks and the point's.
    fn is_network_allowed(&self, pushes: bool, path: &str, address: IpAddr) -> bool {
        let config = self.registry.config();
        let point = self.registry.point(path).map(|point| point.config());
        let of_server = if pushes { &config.allow_push } else { &config.allow_play };
        let of_point = point.as_deref().map(|point| if pushes { &point.allow_push } else { &point.allow_play });
        Networks::allow(of_server.as_ref(), address) && Networks::allow(of_point.and_then(Option::as_ref), address)
    }

    fn refuse(&self, pushes: bool, status: StatusCode, text: &'static str) -> Response<Body> {
        if pushes {
            push::answer(Reply::error(&self.registry.config().policy, status.as_u16(), text)).response
        } else {
            play::text(status, text)
        }
    }
}
