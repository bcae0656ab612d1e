//! Handlers of the pull protocol's requests ([MS-WMSP] 3.2), and of requests of browsers and players without that
//! protocol.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use tokio::time::timeout;

use super::on_demand;
use super::player_log::{self, PlayerLog};
use super::request::{PlayerRequest, client_id, without_asx};
use super::response::{plain_text, response, text};
use super::sessions::{self, PlayerSessions, SessionState};
use super::stream::{OutputFormat, PlayRequest, PlayerStream};
use super::{asx, framing};
use crate::admission::authorization::{Access, AccessDenied, challenge};
use crate::admission::login_attempts::retry_after;
use crate::http::body::Body;
use crate::http::connection::Connection;
use crate::http::handled::{Answer, Handled, Refusal};
use crate::http::open_socket::OpenSocket;
use crate::points::client::Client;
use crate::points::registry::Registry;
use asf::Header;
use wmhttp::server::PointLookup;
use wmhttp::server::access::{RequestLine, Unauthorized};

/// Content type of the response to a Describe.
const HEADER_CONTENT_TYPE: &str = "application/vnd.ms.wms-hdr.asfv1";
/// Content type of the response to a Play.
const STREAM_CONTENT_TYPE: &str = "application/x-mms-framed";
/// A header with the supported methods in the response to OPTIONS.
const PUBLIC_HEADER: HeaderName = HeaderName::from_static("public");
/// Content type of a stream without framing.
const ASF_CONTENT_TYPE: &str = "video/x-ms-asf";
/// The supported methods.
const METHODS: &str = "OPTIONS, GET, HEAD, POST";

/// The response to a player if its address has too many players.
const TOO_MANY_PLAYERS_FROM_ADDRESS: &str = "too many players from your address";
/// Retry-After of that response.
const TOO_MANY_PLAYERS_RETRY: Duration = Duration::from_secs(30);
/// Maximum time to receive the body of a player's log, which is at most 64 KiB.
const LOG_TIMEOUT: Duration = Duration::from_secs(10);

/// The part of the server that serves players.
pub(crate) struct Playback {
    registry: Arc<Registry>,
    access: Arc<Access>,
    sessions: PlayerSessions,
    /// Players of all points.
    playing: Arc<AtomicUsize>,
}

/// Why a player gets no stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PlayError {
    /// There is no such point.
    UnknownPoint,
    /// The point has no stream.
    NotPushed,
    /// The server has no room for another player.
    TooManyPlayers,
}

impl Playback {
    /// Returns the part of a server with these points and users.
    pub(crate) fn new(registry: Arc<Registry>, access: Arc<Access>) -> Self {
        Self { registry, access, sessions: PlayerSessions::default(), playing: Arc::default() }
    }

    /// Answers a request of `client` that is not a push.
    pub(crate) async fn answer(
        &self,
        mut client: Client,
        connection: &Connection,
        request: Request<Incoming>,
    ) -> Answer {
        let path = request.uri().path().to_owned();
        let kind = PlayerRequest::of(request.method(), &path, request.uri().query(), request.headers());
        // A redirected player need not authenticate here.
        if let (PlayerRequest::Describe | PlayerRequest::Play { .. }, Some(PointLookup::Moved(url))) =
            (&kind, self.registry.point(&path).and_then(|point| point.redirect()))
        {
            return redirect_to(&url);
        }
        let id = client_id(request.headers());
        match authorize(self, &kind, &request) {
            Ok(user) => client.user = user,
            Err(error) => return access_denied(error),
        }
        let plays = matches!(kind, PlayerRequest::Play { .. }) && request.method() != Method::HEAD;
        // The address is counted only after the authorization, so that unauthorized requests do not use up its limit.
        if plays && !connection.permit().count_as_player(&self.registry.config().bounds) {
            let Answer { response, handled } = text(StatusCode::SERVICE_UNAVAILABLE, TOO_MANY_PLAYERS_FROM_ADDRESS);
            return Answer::new(handled, retry_after(response, TOO_MANY_PLAYERS_RETRY));
        }
        let needs_stream = plays || matches!(kind, PlayerRequest::Describe);
        let point = self.registry.point(&path).filter(|_| needs_stream && !self.is_full());
        // Keep the source active until the player is counted.
        let _demand = match &point {
            Some(point) => match on_demand::stream(point, request.headers()).await {
                Ok(demand) => demand,
                Err(answer) => return answer,
            },
            None => None,
        };
        let by_relay = request.headers().contains_key(header::VIA);
        let mut answer = self.answer_to(kind, &path, id, client, connection, request).await;
        if let Some(point) = point {
            on_demand::set_via(&point, by_relay, &mut answer.response);
        }
        answer
    }

    /// Answers a request of an authorized client.
    async fn answer_to(
        &self,
        kind: PlayerRequest,
        path: &str,
        id: Option<u32>,
        client: Client,
        connection: &Connection,
        request: Request<Incoming>,
    ) -> Answer {
        let socket = connection.socket();
        match kind {
            PlayerRequest::Describe => describe(self, path, id),
            PlayerRequest::Play { play_request, .. } if play_request.format == OutputFormat::Plain => {
                play_plain(self, path, &play_request, request.method(), client, socket)
            }
            PlayerRequest::Play { play_request, chunked } => {
                let mut answer = play(self, path, &play_request, id, client, socket);
                if chunked && request.version() == Version::HTTP_11 {
                    *answer.response.version_mut() = Version::HTTP_11;
                }
                answer
            }
            PlayerRequest::Options => options(request.version()).into(),
            PlayerRequest::Asx => asx(self, &request, connection.scheme()),
            PlayerRequest::Log { line } => log(path, id, line, request.into_body()).await,
            PlayerRequest::Event => response(StatusCode::OK, None, Body::empty()).into(),
            PlayerRequest::Stop | PlayerRequest::KeepAlive | PlayerRequest::Select(_) => in_session(self, id, kind),
            PlayerRequest::Invalid(why) => text(StatusCode::BAD_REQUEST, why),
            PlayerRequest::UnsupportedMethod => {
                let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed\n");
                answer.response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(METHODS));
                answer
            }
        }
    }

    /// Returns whether the server has its maximum number of players. Players that join at the same moment may slightly
    /// exceed it.
    fn is_full(&self) -> bool {
        self.playing.load(Ordering::Relaxed) >= self.registry.config().max_players
    }

    /// Returns the stream of a new player at the point of `path`.
    ///
    /// # Errors
    /// Why there is no stream.
    fn begin_stream(&self, path: &str, play_request: &PlayRequest) -> Result<PlayerStream, PlayError> {
        let point = self.registry.point(path).ok_or(PlayError::UnknownPoint)?;
        if self.is_full() {
            point.activity().record_error("player refused: the server's player limit is reached");
            return Err(PlayError::TooManyPlayers);
        }
        let joined = point.join(&self.playing).ok_or(PlayError::NotPushed)?;
        Ok(PlayerStream::new(joined, play_request, &point.config()))
    }
}

/// Returns the user who may play, if authentication is required. OPTIONS is about the server, not about a point. A
/// point that does not exist is handled later.
fn authorize(
    playback: &Playback,
    kind: &PlayerRequest,
    request: &Request<Incoming>,
) -> Result<Option<String>, AccessDenied> {
    let path = request.uri().path();
    let Some(point) = playback.registry.point(path).filter(|_| *kind != PlayerRequest::Options) else {
        return Ok(None);
    };
    let target = request.uri().to_string();
    let line = RequestLine { method: request.method().as_str(), target: &target };
    playback.access.player(request.headers(), line, &point.config().read)
}

/// Returns a session for a Describe or a Play: that of `client` if it exists, otherwise a new one (3.2.5.1).
///
/// # Errors
/// If the session of `client` already has a stream.
fn session(playback: &Playback, client: Option<u32>) -> Result<Session, SessionError> {
    let now = Instant::now();
    match client.map(|id| (id, playback.sessions.look_up(id, now))) {
        Some((_, SessionState::Streaming(_))) => Err(SessionError::AlreadyStreaming),
        Some((id, SessionState::Idle)) => Ok(Session { id, reset: false }),
        known @ (Some((_, SessionState::Unknown)) | None) => match playback.sessions.begin(now) {
            Some(id) => Ok(Session { id, reset: known.is_some() }),
            None => Err(SessionError::NoRandomness),
        },
    }
}

/// Why a player gets no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SessionError {
    /// The session already has a stream.
    AlreadyStreaming,
    /// The system provides no random numbers for a client-id.
    NoRandomness,
}

/// Answers a player that gets no session.
fn session_error(error: SessionError) -> Answer {
    match error {
        SessionError::AlreadyStreaming => {
            text(StatusCode::BAD_REQUEST, "the session with this client-id already has a stream\n")
        }
        SessionError::NoRandomness => {
            text(StatusCode::INTERNAL_SERVER_ERROR, "internal error: no random numbers available for a session\n")
        }
    }
}

/// The session of a request.
struct Session {
    id: u32,
    /// Whether the session is new although the player sent the client-id of another one.
    reset: bool,
}

impl Session {
    /// Sets the response headers with the player's session.
    fn write_headers(&self, response: &mut Response<Body>) {
        let reset = if self.reset { ",xResetStrm=1" } else { "" };
        let idle = sessions::SESSION_IDLE_TIMEOUT.as_millis();
        let pragma = format!("no-cache,client-id={}{reset},features=\"broadcast\",timeout={idle}", self.id);
        if let Ok(pragma) = HeaderValue::from_str(&pragma) {
            response.headers_mut().insert(header::PRAGMA, pragma);
        }
    }
}

/// Answers a Describe with the header of the stream.
fn describe(playback: &Playback, path: &str, client: Option<u32>) -> Answer {
    let header = match header_of(playback, path) {
        Ok(header) => header,
        Err(error) => return play_error(error),
    };
    let session = match session(playback, client) {
        Ok(session) => session,
        Err(error) => return session_error(error),
    };
    let mut response = response(StatusCode::OK, Some(HEADER_CONTENT_TYPE), Body::full(framing::header(header.bytes())));
    session.write_headers(&mut response);
    response.into()
}

/// Returns the header of the stream at the point of `path`.
fn header_of(playback: &Playback, path: &str) -> Result<Arc<Header>, PlayError> {
    playback.registry.point(path).ok_or(PlayError::UnknownPoint)?.header().ok_or(PlayError::NotPushed)
}

/// Answers a Play with the stream.
fn play(
    playback: &Playback,
    path: &str,
    play_request: &PlayRequest,
    id: Option<u32>,
    client: Client,
    socket: &Arc<OpenSocket>,
) -> Answer {
    let mut play = match playback.begin_stream(path, play_request) {
        Ok(play) => play,
        Err(error) => return play_error(error),
    };
    let session = match session(playback, id) {
        Ok(session) => session,
        Err(error) => return session_error(error),
    };
    // Another Play of this session may have been handled meanwhile.
    if !playback.sessions.stream(session.id, play.control(), Instant::now()) {
        return session_error(SessionError::AlreadyStreaming);
    }
    play.set_client(client, socket);
    let mut response = response(StatusCode::OK, Some(STREAM_CONTENT_TYPE), Body::UntilClose(Box::new(play)));
    session.write_headers(&mut response);
    Answer::new(Handled::Player, response)
}

/// Answers with the stream as an endless file; for HEAD only with its type.
fn play_plain(
    playback: &Playback,
    path: &str,
    play_request: &PlayRequest,
    method: &Method,
    client: Client,
    socket: &Arc<OpenSocket>,
) -> Answer {
    if method == Method::HEAD {
        return match header_of(playback, path) {
            Ok(_) => response(StatusCode::OK, Some(ASF_CONTENT_TYPE), Body::empty()).into(),
            Err(error) => play_error(error),
        };
    }
    match playback.begin_stream(path, play_request) {
        Ok(mut play) => {
            play.set_client(client, socket);
            let body = Body::UntilClose(Box::new(play));
            Answer::new(Handled::Player, response(StatusCode::OK, Some(ASF_CONTENT_TYPE), body))
        }
        Err(error) => play_error(error),
    }
}

/// Answers a request that is valid only in an existing session (3.2.5.1).
fn in_session(playback: &Playback, client: Option<u32>, kind: PlayerRequest) -> Answer {
    let Some(id) = client else {
        return text(StatusCode::BAD_REQUEST, "this request requires the client-id of a session\n");
    };
    match (playback.sessions.look_up(id, Instant::now()), kind) {
        (SessionState::Unknown, _) => return text(StatusCode::BAD_REQUEST, "no session has this client-id\n"),
        (SessionState::Streaming(control), PlayerRequest::Stop) => control.stop(),
        (SessionState::Streaming(control), PlayerRequest::Select(selection)) => control.select(selection),
        (SessionState::Streaming(_) | SessionState::Idle, _) => {}
    }
    let mut response = response(StatusCode::OK, None, Body::empty());
    Session { id, reset: false }.write_headers(&mut response);
    response.into()
}

/// Answers OPTIONS. The connection stays open only after this response, because players send OPTIONS to keep it alive
/// (pipelined KeepAlive).
fn options(version: Version) -> Response<Body> {
    let mut response = response(StatusCode::OK, None, Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::ALLOW, HeaderValue::from_static(METHODS));
    headers.insert(PUBLIC_HEADER, HeaderValue::from_static(METHODS));
    if version == Version::HTTP_11 {
        headers.remove(header::CONNECTION);
        *response.version_mut() = version;
    }
    response
}

/// Answers with a playlist for the point, if it exists.
fn asx(playback: &Playback, request: &Request<Incoming>, scheme: &str) -> Answer {
    let path = request.uri().path();
    let exists = |path| playback.registry.point(path).is_some();
    if !exists(path) && !without_asx(path).is_some_and(exists) {
        return play_error(PlayError::UnknownPoint);
    }
    let (content_type, text) = asx::file(&playback.registry.config().policy, &asx::url_of(request, scheme));
    response(StatusCode::OK, Some(content_type), Body::full(text)).into()
}

/// Logs a player's report. It needs no session, because it may arrive after the session and has no effect on it.
async fn log(path: &str, client: Option<u32>, line: Option<String>, body: Incoming) -> Answer {
    let log = match line {
        Some(line) => PlayerLog::of_line(&line),
        None => match timeout(LOG_TIMEOUT, player_log::read(body)).await {
            Ok(Some(text)) => PlayerLog::of_xml(&text),
            Ok(None) | Err(_) => {
                return text(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "the player log is incomplete, arrived too slowly, or is larger than 64 KiB\n",
                );
            }
        },
    };
    log.log(path, client);
    response(StatusCode::NO_CONTENT, None, Body::empty()).into()
}

/// Answers a player that gets no stream.
fn play_error(error: PlayError) -> Answer {
    match error {
        PlayError::UnknownPoint => text(StatusCode::NOT_FOUND, "no such publishing point\n"),
        PlayError::NotPushed => text(StatusCode::SERVICE_UNAVAILABLE, "this publishing point has no active stream\n"),
        PlayError::TooManyPlayers => {
            text(StatusCode::SERVICE_UNAVAILABLE, "the player limit of this server is reached\n")
        }
    }
}

/// Answers a player that is not authenticated or has no right.
fn access_denied(error: AccessDenied) -> Answer {
    match error {
        AccessDenied::Unauthenticated(Unauthorized { challenges, stale, user }) => {
            let mut response = plain_text(StatusCode::UNAUTHORIZED, "Authentication required\n");
            challenge(&mut response, &challenges);
            Answer::new(Handled::Unauthorized { stale, user }, response)
        }
        AccessDenied::NoRight(user) => {
            let reason = "this user may not play this publishing point\n";
            let refusal = Refusal { reason: reason.into(), user };
            Answer::new(Handled::Refused(refusal), plain_text(StatusCode::FORBIDDEN, reason))
        }
        AccessDenied::NoRandomness => text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal error: no random numbers available for an authentication challenge\n",
        ),
    }
}

/// Redirects a player to the URL that encoders are redirected to.
fn redirect_to(url: &str) -> Answer {
    let Ok(location) = HeaderValue::from_str(url) else {
        return text(StatusCode::INTERNAL_SERVER_ERROR, "the redirect of this publishing point is not a URL\n");
    };
    let mut response = response(StatusCode::FOUND, None, Body::empty());
    response.headers_mut().insert(header::LOCATION, location);
    response.into()
}
