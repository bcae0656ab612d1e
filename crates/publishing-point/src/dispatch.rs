//! Selects the handler of a request. Before that, it checks the limits of every request: networks and failed logins.
//! After that, it counts the result: failed logins and the players of each address.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use http::{Request, Response, StatusCode, header};
use hyper::body::Incoming;

use crate::admission::client_limits::ConnectionPermit;
use crate::admission::login_attempts::{LOCKED_OUT, retry_after};
use crate::admission::networks::Networks;
use crate::events::{self, Wanted, record_failed_login};
use crate::http::body::Body;
use crate::http::connection::{Closed, Connection, Handler};
use crate::http::handled::{Answer, Handled};
use crate::http::header_case::write_challenge_names;
use crate::http::hygiene;
use crate::ingest::handlers::{self as push, is_push};
use crate::ingest::setup::Ingest;
use crate::playback::handlers::Playback;
use crate::playback::response;
use crate::points::client::Client;
use crate::points::registry::Registry;
use crate::status::routes::Status;
use wmhttp::server::Reply;

/// Answers all requests on the server's addresses.
pub(crate) struct Dispatcher {
    pub(crate) registry: Arc<Registry>,
    pub(crate) ingest: Ingest,
    pub(crate) playback: Playback,
    pub(crate) status: Arc<Status>,
}

impl Handler for Dispatcher {
    async fn handle(
        &self,
        connection: &Arc<Connection>,
        mut request: Request<Incoming>,
    ) -> Result<Response<Body>, Closed> {
        let pushes = is_push(&request);
        let path = request.uri().path().to_owned();
        let mut client = Client::of(connection.peer(), request.headers());
        // Credentials for a proxy in front of the server are not a login attempt at this server.
        let has_credentials = request.headers().contains_key(header::AUTHORIZATION);
        let permit = connection.permit();
        let bounds = &self.registry.config().bounds;
        let refusal = match hygiene::check(&mut request) {
            Err((status, reason)) => Some(self.refuse(pushes, status, reason)),
            Ok(()) => {
                // Access to the status is checked by the status handler.
                if !pushes && let Some(response) = self.status.answer(connection.peer(), permit, &request).await {
                    return Ok(response);
                }
                self.refusal(permit, pushes, &path, has_credentials)
            }
        };
        let Answer { mut response, handled } = match refusal {
            Some(refusal) => refusal,
            None if pushes => self.ingest.answer(connection, request).await?,
            None => self.playback.answer(client.clone(), connection, request).await,
        };
        match handled {
            Handled::Plain => {}
            Handled::Refused(refusal) => {
                client.user = refusal.user;
                let wanted = if pushes { Wanted::Push } else { Wanted::Play };
                events::refused(permit, wanted, response.status(), &refusal.reason, &client, &path);
            }
            Handled::Unauthorized { stale, user } => {
                if has_credentials && !stale {
                    record_failed_login(permit, bounds, user.as_deref(), &path);
                }
                write_challenge_names(&mut response).await;
                return Ok(connection.count_challenge(response));
            }
            Handled::Player | Handled::PushAccepted => connection.mark_established(),
        }
        Ok(response)
    }
}

impl Dispatcher {
    /// Returns the refusal of an address that is outside the allowed networks or has made too many failed logins.
    fn refusal(&self, permit: &ConnectionPermit, pushes: bool, path: &str, has_credentials: bool) -> Option<Answer> {
        if !self.is_network_allowed(pushes, path, permit.address()) {
            return Some(self.refuse(pushes, StatusCode::FORBIDDEN, "your address is not in an allowed network"));
        }
        // Requests without credentials cannot guess a password, so players that need none are served on.
        let wait = permit.locked_out(&self.registry.config().bounds, Instant::now()).filter(|_| has_credentials)?;
        let Answer { response, handled } = self.refuse(pushes, StatusCode::TOO_MANY_REQUESTS, LOCKED_OUT);
        Some(Answer::new(handled, retry_after(response, wait)))
    }

    /// Returns whether the address may push, or play, by the networks of the server and of the point.
    fn is_network_allowed(&self, pushes: bool, path: &str, address: IpAddr) -> bool {
        let config = self.registry.config();
        let point = self.registry.point(path).map(|point| point.config());
        let of_server = if pushes { &config.allow_push } else { &config.allow_play };
        let of_point = point.as_deref().map(|point| if pushes { &point.allow_push } else { &point.allow_play });
        Networks::allow(of_server.as_ref(), address) && Networks::allow(of_point.and_then(Option::as_ref), address)
    }

    /// Returns an error response in the form that the client expects: with the headers of the push protocol, or as
    /// plain text.
    fn refuse(&self, pushes: bool, status: StatusCode, reason: &'static str) -> Answer {
        if pushes {
            push::answer(Reply::error(&self.registry.config().policy, status.as_u16(), reason), None)
        } else {
            response::text(status, reason)
        }
    }
}
