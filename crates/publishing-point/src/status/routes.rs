//! The routes of the status, and their responses.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use percent_encoding::percent_decode_str;

use super::access::{StatusAccess, is_same_origin, may_act_locally};
use super::disk::{Disk, DiskCache};
use super::paths::POINTS;
use super::recordings::{self, Downloads};
use super::response::{JSON, json, refusal, response, text_response};
use super::snapshot::{PointStatus, ServerStatus, Started, Surroundings};
use super::{metrics, page};
use crate::admission::authorization::{Access, AccessDenied, challenge};
use crate::admission::client_limits::{Caller, ClientLimits};
use crate::admission::login_attempts::{LOCKED_OUT, retry_after};
use crate::admission::networks::Networks;
use crate::events::{self, Wanted, record_failed_login};
use crate::http::body::Body;
use crate::http::header_case::write_challenge_names;
use crate::points::bitrate_history as history;
use crate::points::client::Client;
use crate::points::names::is_reserved;
use crate::points::publishing_point::PublishingPoint;
use crate::points::registry::Registry;
use crate::urls::Urls;
use wmhttp::server::access::{RequestLine, Unauthorized};

/// The path of health checks; the name of a point may follow.
const HEALTH: &str = "/healthz";
/// Seconds of history if the request does not specify them.
const DEFAULT_HISTORY_SECONDS: usize = 120;
/// The status that an encoder receives if the operator ends its push (S-15).
const TERMINATED_STATUS: u16 = 403;

/// Serves the status of the server.
pub(crate) struct Status {
    registry: Arc<Registry>,
    access: Arc<Access>,
    started: Started,
    /// Whether the status has a separate address.
    is_separate: bool,
    client_limits: Arc<ClientLimits>,
    urls: Urls,
    disk: DiskCache,
    downloads: Downloads,
}

/// The resource of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Route {
    /// A file of the page by its name; the page itself has an empty name.
    File(String),
    /// The status of the server in JSON.
    Server,
    /// The status of a point in JSON, by its name, or one of its recordings.
    Point(String),
    /// The action that ends the push to a point, by its name.
    Disconnect(String),
    /// The metrics for Prometheus.
    Metrics,
    /// A path under a reserved name that does not exist.
    Unknown,
}

impl Route {
    /// Returns the route of a path; `None` if the path does not belong to the status. The root belongs to it unless it
    /// is a point.
    fn of(method: &Method, path: &str) -> Option<Self> {
        if path == "/" {
            return Some(Self::File(String::new()));
        }
        let path = percent_decode_str(path).decode_utf8_lossy();
        if !is_reserved(&path) {
            return None;
        }
        Some(match path.as_ref() {
            "/status" | "/status/" => Self::File(String::new()),
            "/metrics" => Self::Metrics,
            "/api/v1/status" => Self::Server,
            path => match (path.strip_prefix(POINTS), path.strip_prefix("/status/")) {
                (Some(name), _) => match name.strip_suffix("/disconnect") {
                    Some(name) if method == Method::POST => Self::Disconnect(name.to_owned()),
                    Some(_) | None => Self::Point(name.to_owned()),
                },
                (None, Some(file)) => Self::File(file.to_owned()),
                (None, None) => Self::Unknown,
            },
        })
    }

    /// Returns the methods of the route, as in the header Allow.
    fn method(&self) -> &'static str {
        match self {
            Self::Disconnect(_) => "POST",
            Self::File(_) | Self::Server | Self::Point(_) | Self::Metrics | Self::Unknown => "GET, HEAD",
        }
    }
}

impl Status {
    /// Creates the status of a server that starts now. `is_separate` means that it has a separate address.
    pub(crate) fn new(
        registry: Arc<Registry>,
        access: Arc<Access>,
        client_limits: Arc<ClientLimits>,
        urls: Urls,
        is_separate: bool,
    ) -> Self {
        let started = Started { at: Instant::now(), time: SystemTime::now() };
        let (disk, downloads) = (DiskCache::default(), Downloads::default());
        Self { registry, access, started, is_separate, client_limits, urls, disk, downloads }
    }

    /// Answers a request on the server's main address; `None` if the request is for a point, or if the status has a
    /// separate address.
    pub(crate) async fn answer<B>(
        &self,
        peer: SocketAddr,
        caller: &Caller,
        request: &Request<B>,
    ) -> Option<Response<Body>> {
        let path = request.uri().path();
        let is_point = path == "/" && self.registry.point(path).is_some();
        // Load balancers send health checks to the address of the players.
        if let Some(response) = self.health(request) {
            return Some(response);
        }
        if self.is_separate || is_point {
            return None;
        }
        self.answer_own(peer, caller, request).await
    }

    /// Answers a request on the separate address of the status.
    pub(super) async fn answer_own<B>(
        &self,
        peer: SocketAddr,
        caller: &Caller,
        request: &Request<B>,
    ) -> Option<Response<Body>> {
        if let Some(response) = self.health(request) {
            return Some(response);
        }
        let route = Route::of(request.method(), request.uri().path())?;
        let access = self.registry.config().status;
        // Access to actions is checked separately, unless the status is switched off.
        let acts = access != StatusAccess::Off && matches!(route, Route::Disconnect(_));
        if !acts && !access.allows(peer, request.headers()) {
            // At the root, which players may request too, a client without access must not learn that there is a
            // status.
            return (request.uri().path() != "/").then(|| {
                refusal(
                    StatusCode::FORBIDDEN,
                    "this client may not see the status of this server; the server's setting `status` decides which clients may",
                )
            });
        }
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        if is_read == matches!(route, Route::Disconnect(_)) {
            let mut response = refusal(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(route.method()));
            return Some(response);
        }
        let seconds = seconds(request.uri().query().unwrap_or_default());
        Some(match route {
            Route::File(name) => match page::file(&name) {
                Some(file) => response(StatusCode::OK, file.content_type, file.bytes),
                None => refusal(StatusCode::NOT_FOUND, "no such file"),
            },
            Route::Server => json(StatusCode::OK, &self.server(seconds).await),
            Route::Metrics => match metrics::text(self.server(0).await) {
                Ok(text) => response(StatusCode::OK, metrics::CONTENT_TYPE, text),
                Err(_) => refusal(StatusCode::INTERNAL_SERVER_ERROR, "internal error: cannot format the metrics"),
            },
            Route::Point(name) => match self.registry.point_named(&name) {
                Some(point) => {
                    let disk = self.disk.of(std::slice::from_ref(&point)).await;
                    json(StatusCode::OK, &PointStatus::of(&point, &self.surroundings(&disk), seconds))
                }
                None => self.recording(peer, caller, request, &name).await,
            },
            Route::Disconnect(name) => match self.may_operate(peer, caller, request, &name) {
                Ok(user) => self.disconnect(&name, user.as_deref()),
                Err(refusal) => with_challenge_names(*refusal).await,
            },
            Route::Unknown => refusal(StatusCode::NOT_FOUND, "no such status page"),
        })
    }

    /// Answers a health check; `None` for other requests. Everybody may send one, because the response contains only
    /// what a player can find out.
    fn health<B>(&self, request: &Request<B>) -> Option<Response<Body>> {
        let path = percent_decode_str(request.uri().path()).decode_utf8_lossy();
        let rest = path.strip_prefix(HEALTH)?;
        let point = match rest {
            "" | "/" => None,
            _ => Some(rest.strip_prefix('/')?),
        };
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = refusal(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return Some(response);
        }
        let health = self.registry.health(point);
        let mut response = text_response(health.status(), health.text());
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        Some(response)
    }

    /// Returns the status of the server with `seconds` of history.
    async fn server(&self, seconds: usize) -> ServerStatus {
        let disk = self.disk.of(&self.registry.points()).await;
        ServerStatus::of(
            &self.registry,
            self.started,
            self.client_limits.failed_logins(),
            &self.surroundings(&disk),
            seconds,
        )
    }

    /// Returns the information for a snapshot that does not come from the points.
    fn surroundings<'a>(&'a self, disk: &'a Disk) -> Surroundings<'a> {
        Surroundings { disk, urls: &self.urls }
    }

    /// Answers a download of a recording; `path` follows the prefix of the points.
    async fn recording<B>(
        &self,
        peer: SocketAddr,
        caller: &Caller,
        request: &Request<B>,
        path: &str,
    ) -> Response<Body> {
        let named = recordings::names(path).and_then(|(name, file)| Some((self.registry.point_named(name)?, file)));
        let Some((point, file)) = named else {
            return refusal(StatusCode::NOT_FOUND, "no such publishing point");
        };
        match self.may_read(peer, caller, request, &point) {
            Ok(user) => {
                if request.method() == Method::GET {
                    tracing::info!(point = point.name(), file, address = %peer, user, "recording requested");
                }
                self.downloads.answer(&point, file, request.method()).await
            }
            Err(refusal) => with_challenge_names(*refusal).await,
        }
    }

    /// Returns the user if the client may act at the point of this name; the value is `None` for a client on this
    /// machine.
    ///
    /// # Errors
    /// The refusal.
    fn may_operate<B>(
        &self,
        peer: SocketAddr,
        caller: &Caller,
        request: &Request<B>,
        name: &str,
    ) -> Result<Option<String>, Box<Response<Body>>> {
        let headers = request.headers();
        if may_act_locally(peer, headers) {
            return Ok(None);
        }
        let forbidden = || {
            let text = "only clients on the server's machine and users with the right `operate` may do this, and only from \
                        the server's own page";
            Box::new(refusal(StatusCode::FORBIDDEN, text))
        };
        if !is_same_origin(headers) {
            return Err(forbidden());
        }
        let authenticate = |line: RequestLine<'_>| self.operator(headers, line, name).map(Some);
        self.authenticated(peer, caller, request, ("no right to operate", name), authenticate).map_err(|refusal| {
            match refusal {
                Some(refusal) => refusal,
                None => forbidden(),
            }
        })
    }

    /// Returns the user if the client may download the recordings of a point; the value is `None` if no authentication
    /// is required.
    ///
    /// # Errors
    /// The refusal.
    fn may_read<B>(
        &self,
        peer: SocketAddr,
        caller: &Caller,
        request: &Request<B>,
        point: &PublishingPoint,
    ) -> Result<Option<String>, Box<Response<Body>>> {
        let (config, server_config) = (point.config(), self.registry.config());
        let networks = [&server_config.allow_play, &config.allow_play];
        if !networks.into_iter().all(|networks| Networks::allow(networks.as_ref(), peer.ip())) {
            return Err(Box::new(refusal(StatusCode::FORBIDDEN, "your address is not in an allowed network")));
        }
        let authenticate = |line: RequestLine<'_>| self.access.player(request.headers(), line, &config.read);
        self.authenticated(peer, caller, request, ("no right to read", point.name()), authenticate).map_err(|refusal| {
            let text = "this user may not play this publishing point, nor its recordings";
            refusal.unwrap_or_else(|| Box::new(self::refusal(StatusCode::FORBIDDEN, text)))
        })
    }

    /// Authenticates the client with `authenticate`, and counts failed logins. `denied` is logged for a user without
    /// the right: the reason, and the name of the point.
    ///
    /// # Errors
    /// The refusal; `None` if the user does not have the right.
    fn authenticated<B>(
        &self,
        peer: SocketAddr,
        caller: &Caller,
        request: &Request<B>,
        denied: (&str, &str),
        authenticate: impl FnOnce(RequestLine<'_>) -> Result<Option<String>, AccessDenied>,
    ) -> Result<Option<String>, Option<Box<Response<Body>>>> {
        let headers = request.headers();
        let bounds = &self.registry.config().bounds;
        let has_credentials = headers.contains_key(header::AUTHORIZATION);
        if let Some(wait) = caller.locked_out(bounds, Instant::now()).filter(|_| has_credentials) {
            return Err(Some(Box::new(retry_after(refusal(StatusCode::TOO_MANY_REQUESTS, LOCKED_OUT), wait))));
        }
        let target = request.uri().to_string();
        match authenticate(RequestLine { method: request.method().as_str(), target: &target }) {
            Ok(user) => Ok(user),
            Err(AccessDenied::NoRight(user)) => {
                let client = Client { user, ..Client::of(peer, headers) };
                let (reason, point) = denied;
                events::refused(caller, Wanted::Operate, StatusCode::FORBIDDEN, reason, &client, point);
                Err(None)
            }
            Err(AccessDenied::NoRandomness) => {
                let text = "internal error: no random numbers available for an authentication challenge";
                Err(Some(Box::new(refusal(StatusCode::INTERNAL_SERVER_ERROR, text))))
            }
            Err(AccessDenied::Unauthenticated(Unauthorized { challenges, stale, user })) => {
                let text = "Authentication required";
                let mut response = refusal(StatusCode::UNAUTHORIZED, text);
                challenge(&mut response, &challenges);
                // A challenge costs a nonce, so there is one per connection.
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                if has_credentials && !stale {
                    record_failed_login(caller, bounds, user.as_deref(), request.uri().path());
                }
                Err(Some(Box::new(response)))
            }
        }
    }

    /// Ends the push to a point. `user` is logged.
    fn disconnect(&self, name: &str, user: Option<&str>) -> Response<Body> {
        let Some(point) = self.registry.point_named(name) else {
            return refusal(StatusCode::NOT_FOUND, "no such publishing point");
        };
        if !self.registry.disconnect_pusher(name, TERMINATED_STATUS) {
            return refusal(StatusCode::CONFLICT, "no active stream at this publishing point");
        }
        tracing::info!(point = point.name(), user, "push ended by request");
        point.activity().record_error("the push was ended by an operator");
        let mut response = response(StatusCode::NO_CONTENT, JSON, "");
        response.headers_mut().remove(header::CONTENT_TYPE);
        response
    }

    /// Returns the user if it may act at the point of this name.
    ///
    /// # Errors
    /// Why the client is rejected.
    fn operator(&self, headers: &HeaderMap, line: RequestLine<'_>, point: &str) -> Result<String, AccessDenied> {
        let point = self.registry.point_named(point).ok_or(AccessDenied::NoRight(None))?;
        self.access.operator(headers, line, &point.config().operate)
    }
}

/// Returns the value of the parameter `history`.
fn seconds(query: &str) -> usize {
    let values = url::form_urlencoded::parse(query.as_bytes());
    let value = values.filter(|(name, _)| name == "history").find_map(|(_, value)| value.parse::<usize>().ok());
    value.unwrap_or(DEFAULT_HISTORY_SECONDS).min(history::HISTORY_SECONDS)
}

/// Makes hyper write the names of the challenges with the spelling that all clients accept.
async fn with_challenge_names(mut refusal: Response<Body>) -> Response<Body> {
    write_challenge_names(&mut refusal).await;
    refusal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_server_are_not_points() {
        for (path, route) in [
            ("/", Some(Route::File(String::new()))),
            ("/status/", Some(Route::File(String::new()))),
            ("/status/page.js", Some(Route::File("page.js".to_owned()))),
            ("/metrics", Some(Route::Metrics)),
            ("/api/v1/status", Some(Route::Server)),
            ("/api/v1/points/live/gr%C3%BCn%20x", Some(Route::Point("live/grün x".to_owned()))),
            ("/api/v1/points/live/disconnect", Some(Route::Point("live/disconnect".to_owned()))),
            ("/api/v2", Some(Route::Unknown)),
            ("/%61pi", Some(Route::Unknown)),
            ("/concert", None),
            ("/apis", None),
            ("/live/api", None),
            ("//", None),
        ] {
            assert_eq!(Route::of(&Method::GET, path), route, "{path}");
        }
        let route = Route::of(&Method::POST, "/api/v1/points/live/eins/disconnect");
        assert_eq!(route, Some(Route::Disconnect("live/eins".to_owned())));
    }

    #[test]
    fn the_requested_history_is_bounded() {
        for (query, expected) in
            [("", 120), ("history=7", 7), ("x=1&history=0", 0), ("history=9999", 300), ("history=x", 120)]
        {
            assert_eq!(seconds(query), expected, "{query}");
        }
    }
}
