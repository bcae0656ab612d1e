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

const DESCRIBE_TYPE: &str = "application/vnd.ms.wms-hdr.asfv1";
const PLAY_TYPE: &str = "application/x-mms-framed";
const PUBLIC: HeaderName = HeaderName::from_static("public");
const PLAIN_TYPE: &str = "video/x-ms-asf";
const METHODS: &str = "OPTIONS, GET, HEAD, POST";

/// The response to a player if its address has too many players.
const TOO_MANY_OF_ADDRESS: &str = "too many players from your address";
/// Retry-After of that response.
const PLAYERS_RETRY: Duration = Duration::from_secs(30);
/// Maximum time to receive the body of a player's log.
const LOG_TIME: Duration = Duration::from_secs(10);

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
    UnknownPoint,
    NotPushed,
    TooManyPlayers,
}

impl Playback {
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
        if let (PlayerRequest::Describe | PlayerRequest::Play { .. }, Some(PointLookup::Moved(url))) =
            (&kind, self.registry.point(&path).and_then(|point| point.redirect()))
        {
            return moved(&url);
        }
        let id = client_id(request.headers());
        match authorize(self, &kind, &request) {
            Ok(user) => client.user = user,
            Err(error) => return no_entry(error),
        }
        let plays = matches!(kind, PlayerRequest::Play { .. }) && request.method() != Method::HEAD;
        if plays && !connection.permit().play(&self.registry.config().bounds) {
            let Answer { response, handled } = text(StatusCode::SERVICE_UNAVAILABLE, TOO_MANY_OF_ADDRESS);
            return Answer::new(handled, retry_after(response, PLAYERS_RETRY));
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
            PlayerRequest::Play { order, .. } if order.form == OutputFormat::Plain => {
                play_plain(self, path, &order, request.method(), client, socket)
            }
            PlayerRequest::Play { order, chunked } => {
                let mut answer = play(self, path, &order, id, client, socket);
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
            PlayerRequest::Nothing(why) => text(StatusCode::BAD_REQUEST, why),
            PlayerRequest::NoMethod => {
                let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed\n");
                answer.response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(METHODS));
                answer
            }
        }
    }

    fn is_full(&self) -> bool {
        self.playing.load(Ordering::Relaxed) >= self.registry.config().max_players
    }

    /// Returns the stream of a new player at the point of `path`.
    ///
    /// # Errors
    /// Why there is no stream.
    fn begin_stream(&self, path: &str, order: &PlayRequest) -> Result<PlayerStream, PlayError> {
        let point = self.registry.point(path).ok_or(PlayError::UnknownPoint)?;
        if self.is_full() {
            point.activity().record_error("player refused: the server's player limit is reached");
            return Err(PlayError::TooManyPlayers);
        }
        let joined = point.join(&self.playing).ok_or(PlayError::NotPushed)?;
        Ok(PlayerStream::new(joined, order, &point.config()))
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
        Some((_, SessionState::Streams(_))) => Err(SessionError::Streams),
        Some((id, SessionState::Idle)) => Ok(Session { id, reset: false }),
        known @ (Some((_, SessionState::Nothing)) | None) => match playback.sessions.begin(now) {
            Some(id) => Ok(Session { id, reset: known.is_some() }),
            None => Err(SessionError::NoRandomness),
        },
    }
}

/// Why a player gets no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SessionError {
    Streams,
    NoRandomness,
}

fn no_session(error: SessionError) -> Answer {
    match error {
        SessionError::Streams => {
            text(StatusCode::BAD_REQUEST, "the session with this client-id already has a stream\n")
        }
        SessionError::NoRandomness => {
            text(StatusCode::INTERNAL_SERVER_ERROR, "no random numbers available for a session\n")
        }
    }
}

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

fn describe(playback: &Playback, path: &str, client: Option<u32>) -> Answer {
    let header = match header_of(playback, path) {
        Ok(header) => header,
        Err(error) => return no_stream(error),
    };
    let session = match session(playback, client) {
        Ok(session) => session,
        Err(error) => return no_session(error),
    };
    let mut response = response(StatusCode::OK, Some(DESCRIBE_TYPE), Body::full(framing::header(header.bytes())));
    session.write_headers(&mut response);
    response.into()
}

fn header_of(playback: &Playback, path: &str) -> Result<Arc<Header>, PlayError> {
    playback.registry.point(path).ok_or(PlayError::UnknownPoint)?.header().ok_or(PlayError::NotPushed)
}

fn play(
    playback: &Playback,
    path: &str,
    order: &PlayRequest,
    id: Option<u32>,
    client: Client,
    socket: &Arc<OpenSocket>,
) -> Answer {
    let mut play = match playback.begin_stream(path, order) {
        Ok(play) => play,
        Err(error) => return no_stream(error),
    };
    let session = match session(playback, id) {
        Ok(session) => session,
        Err(error) => return no_session(error),
    };
    // Another Play of this session may have been handled meanwhile.
    if !playback.sessions.stream(session.id, play.control(), Instant::now()) {
        return no_session(SessionError::Streams);
    }
    play.set_client(client, socket);
    let mut response = response(StatusCode::OK, Some(PLAY_TYPE), Body::UntilClose(Box::new(play)));
    session.write_headers(&mut response);
    Answer::new(Handled::Player, response)
}

/// Answers with the stream as an endless file; for HEAD only with its type.
fn play_plain(
    playback: &Playback,
    path: &str,
    order: &PlayRequest,
    method: &Method,
    client: Client,
    socket: &Arc<OpenSocket>,
) -> Answer {
    if method == Method::HEAD {
        return match header_of(playback, path) {
            Ok(_) => response(StatusCode::OK, Some(PLAIN_TYPE), Body::empty()).into(),
            Err(error) => no_stream(error),
        };
    }
    match playback.begin_stream(path, order) {
        Ok(mut play) => {
            play.set_client(client, socket);
            let body = Body::UntilClose(Box::new(play));
            Answer::new(Handled::Player, response(StatusCode::OK, Some(PLAIN_TYPE), body))
        }
        Err(error) => no_stream(error),
    }
}

/// Answers a request that is valid only in an existing session (3.2.5.1).
fn in_session(playback: &Playback, client: Option<u32>, kind: PlayerRequest) -> Answer {
    let Some(id) = client else {
        return text(StatusCode::BAD_REQUEST, "this request requires the client-id of a session\n");
    };
    match (playback.sessions.look_up(id, Instant::now()), kind) {
        (SessionState::Nothing, _) => return text(StatusCode::BAD_REQUEST, "no session has this client-id\n"),
        (SessionState::Streams(control), PlayerRequest::Stop) => control.stop(),
        (SessionState::Streams(control), PlayerRequest::Select(choice)) => control.choose(choice),
        (SessionState::Streams(_) | SessionState::Idle, _) => {}
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
    headers.insert(PUBLIC, HeaderValue::from_static(METHODS));
    if version == Version::HTTP_11 {
        headers.remove(header::CONNECTION);
        *response.version_mut() = version;
    }
    response
}

fn asx(playback: &Playback, request: &Request<Incoming>, scheme: &str) -> Answer {
    let path = request.uri().path();
    let exists = |path| playback.registry.point(path).is_some();
    if !exists(path) && !without_asx(path).is_some_and(exists) {
        return no_stream(PlayError::UnknownPoint);
    }
    let (content_type, text) = asx::file(&playback.registry.config().policy, &asx::url_of(request, scheme));
    response(StatusCode::OK, Some(content_type), Body::full(text)).into()
}

/// Logs a player's report. It needs no session, because it may arrive after the session and has no effect on it.
async fn log(path: &str, client: Option<u32>, line: Option<String>, body: Incoming) -> Answer {
    let log = match line {
        Some(line) => PlayerLog::of_line(&line),
        None => match timeout(LOG_TIME, player_log::read(body)).await {
            Ok(Some(text)) => PlayerLog::of_xml(&text),
            Ok(None) | Err(_) => {
                return text(StatusCode::PAYLOAD_TOO_LARGE, "the log is incomplete, too slow, or larger than 64 KiB\n");
            }
        },
    };
    log.tell(path, client);
    response(StatusCode::NO_CONTENT, None, Body::empty()).into()
}

fn no_stream(error: PlayError) -> Answer {
    match error {
        PlayError::UnknownPoint => text(StatusCode::NOT_FOUND, "no such publishing point\n"),
        PlayError::NotPushed => text(StatusCode::SERVICE_UNAVAILABLE, "no active stream at this publishing point\n"),
        PlayError::TooManyPlayers => text(StatusCode::SERVICE_UNAVAILABLE, "player limit reached\n"),
    }
}

fn no_entry(error: AccessDenied) -> Answer {
    match error {
        AccessDenied::Unknown(Unauthorized { challenges, stale, user }) => {
            let mut response = plain_text(StatusCode::UNAUTHORIZED, "Authentication required\n");
            challenge(&mut response, &challenges);
            Answer::new(Handled::Unauthorized { stale, user }, response)
        }
        AccessDenied::NoRight(user) => {
            let reason = "this user may not play this publishing point\n";
            let refusal = Refusal { reason: reason.into(), user };
            Answer::new(Handled::Refused(refusal), plain_text(StatusCode::FORBIDDEN, reason))
        }
        AccessDenied::NoRandomness => {
            text(StatusCode::INTERNAL_SERVER_ERROR, "no random numbers available for a challenge\n")
        }
    }
}

/// Redirects a player to the URL that encoders are redirected to.
fn moved(url: &str) -> Answer {
    let Ok(location) = HeaderValue::from_str(url) else {
        return text(StatusCode::INTERNAL_SERVER_ERROR, "the redirect of this publishing point is not a URL\n");
    };
    let mut response = response(StatusCode::FOUND, None, Body::empty());
    response.headers_mut().insert(header::LOCATION, location);
    response.into()
}
