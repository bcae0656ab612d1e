//! The player's side of the pull protocol ([MS-WMSP] 3.1) as a state machine. A relay pulls a live stream with it.
//!
//! The caller reports events to a [`Session`] (`connect`, `handle_…`) and carries out the actions that
//! [`Session::poll`] returns. The session does no I/O and reads no clock. Each request uses a new connection.
//!
//! ```text
//!           connect              header            200
//!  Down ───────────▶ Describing ───────▶ Playing ───────▶ Streaming
//!   ▲                    │ an ASF file over plain HTTP        ▲ │ $E(1): Describe again
//!   └─ failure, $E(0)    └────────────────────────────────────┘ ▼
//! ```
//!
//! The first response shows what the origin is. If its body begins with `$`, the origin speaks the protocol. If it
//! begins with a Header Object, the origin is a plain HTTP server and the body is already the ASF stream.

mod failure;
mod header_pieces;
pub mod packet;

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{
    ACCEPT, CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, PRAGMA, USER_AGENT, VIA,
};
use url::Url;

use crate::Hresult;
use crate::auth::{AuthContext, AuthStep, Authenticator, Login, Methods, Target};
use crate::failure::Cause;
use crate::headers;
use crate::redirect::RedirectChain;
use crate::via::Via;
use header_pieces::HeaderPieces;
use packet::{Decoder, Packet};

pub use failure::{Failure, Kind};

/// Maximum number of consecutive restarts of Describe and Play, each less than [`RESTART_WINDOW`] after the previous
/// one. It stops a loop with an origin whose header changes too fast, or that ends every stream immediately.
const MAX_RESTARTS: u32 = 3;
/// Time within which a restart counts as consecutive.
const RESTART_WINDOW: Duration = Duration::from_secs(10);
/// Number of bytes of the first body that identify its format.
const SNIFF_BYTES: usize = 4;
/// The first bytes of the Header Object's GUID.
const ASF_MAGIC: [u8; SNIFF_BYTES] = [0x30, 0x26, 0xB2, 0x75];

/// The configuration of a session.
#[derive(Clone, Debug)]
pub struct Config {
    /// The origin's publishing point, or any URL of a live ASF stream.
    pub url: Url,
    /// `User-Agent`. Servers use the protocol with clients whose name begins with `NSPlayer/`.
    pub user_agent: String,
    /// The authentication schemes that may be used.
    pub auth_methods: Methods,
    /// The user at the server of `url`. Other servers never receive these credentials.
    pub login: Login,
    /// Returns unpredictable random bytes.
    pub random: fn() -> [u8; 16],
    /// The unique name in `Via` of the publishing point that pulls the stream.
    pub via_pseudonym: String,
    /// The servers and proxies passed by the request that caused this pull.
    pub via: Via,
    /// Whether a redirect may lead to an https URL; true if the transport supports TLS.
    pub https: bool,
    /// How long to wait for a response, and for the header.
    pub response_timeout: Duration,
    /// How long the stream may pause.
    pub stall_timeout: Duration,
}

/// A GET on a new connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The destination.
    pub url: Url,
    /// The request's headers.
    pub headers: HeaderMap,
}

/// The next action of the caller.
#[derive(Debug)]
pub enum Output {
    /// Send a request; the previous connection is closed.
    Request(Request),
    /// A stream begins, or replaces the previous one. The value lists the servers and proxies that it has passed.
    Started(Via),
    /// The header of the packets that follow.
    Header(Box<asf::Header>),
    /// A data packet, with or without padding, no longer than the packet size in the header.
    Data(Bytes),
    /// Bytes of an ASF stream without framing: header and data packets.
    Plain(Bytes),
    /// The origin has ended the stream.
    Ended,
    /// The stream cannot be pulled, or was interrupted.
    Failed(Failure),
}

#[derive(Debug)]
enum State {
    Down,
    /// Describe was sent.
    Describing {
        deadline: Instant,
    },
    /// The body of its response arrives, but too little of it to identify the format.
    Sniffing {
        received: BytesMut,
        via: Via,
        deadline: Instant,
    },
    /// The body of the Describe response arrives.
    Described {
        decoder: Decoder,
        pieces: HeaderPieces,
        deadline: Instant,
    },
    /// Play was sent, for these streams.
    Playing {
        selected: Vec<u8>,
        deadline: Instant,
    },
    /// The body of the Play response arrives.
    Streaming(Box<Streaming>),
    /// A plain ASF stream arrives.
    Plain {
        deadline: Instant,
    },
}

#[derive(Debug)]
struct Streaming {
    decoder: Decoder,
    pieces: HeaderPieces,
    /// The streams that were requested.
    selected: Vec<u8>,
    /// Maximum size of a data packet in bytes, once the header is known.
    packet_size: Option<usize>,
    deadline: Instant,
}

/// Pulls one stream; see the module documentation.
#[derive(Debug)]
pub struct Session {
    config: Config,
    route: RedirectChain,
    authenticator: Authenticator,
    /// The number that the origin assigned to the session (client-id), as it was written.
    client_id: Option<String>,
    /// A random name for this session (xClientGUID).
    guid: String,
    state: State,
    /// Number of consecutive restarts, and the time of the last one.
    restarts: u32,
    restarted: Option<Instant>,
    outputs: VecDeque<Output>,
}

impl Session {
    /// Creates a session in its initial state.
    pub fn new(config: Config) -> Self {
        Self {
            route: RedirectChain::new(config.url.clone()),
            guid: guid((config.random)()),
            config,
            authenticator: Authenticator::new(Target::Server),
            client_id: None,
            state: State::Down,
            restarts: 0,
            restarted: None,
            outputs: VecDeque::new(),
        }
    }

    /// Returns the next action. Call it until it returns `None` after each call of another method.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns when [`Session::handle_timeout`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Down => None,
            State::Describing { deadline }
            | State::Sniffing { deadline, .. }
            | State::Described { deadline, .. }
            | State::Playing { deadline, .. }
            | State::Plain { deadline } => Some(*deadline),
            State::Streaming(streaming) => Some(streaming.deadline),
        }
    }

    /// Starts to pull. Earlier redirects are forgotten, but the state of authentication is kept.
    pub fn connect(&mut self, now: Instant) {
        self.route = RedirectChain::new(self.config.url.clone());
        self.client_id = None;
        self.restarts = 0;
        self.describe(now);
    }

    /// Aborts; the caller closes the connection.
    pub fn disconnect(&mut self) {
        self.state = State::Down;
        self.outputs.clear();
    }

    /// Processes the head of the origin's response to the current request.
    pub fn handle_response(&mut self, status: u16, headers: &HeaderMap, now: Instant) {
        let selected = match &mut self.state {
            State::Describing { .. } => None,
            State::Playing { selected, .. } => Some(std::mem::take(selected)),
            State::Down
            | State::Sniffing { .. }
            | State::Described { .. }
            | State::Streaming(_)
            | State::Plain { .. } => {
                return;
            }
        };
        if status == 401 {
            return self.challenged(headers, selected, now);
        }
        self.authenticator.accepted();
        match status {
            200..=299 => {}
            301 | 302 | 303 | 307 | 308 => return self.redirected(status, headers, now),
            _ => return self.fail(Failure::from_status(status, headers)),
        }
        let via = Via::from_headers(headers);
        if via.contains(&self.config.via_pseudonym) {
            return self.fail(Failure::relay_loop());
        }
        if let Some(id) = client_id(headers) {
            self.client_id = Some(id);
        }
        match selected {
            None => {
                if let Some(what) = other_content(headers) {
                    return self.fail(Failure::malformed(format!("the origin answered with {what}, not a stream")));
                }
                self.state =
                    State::Sniffing { received: BytesMut::new(), via, deadline: now + self.config.response_timeout };
            }
            Some(selected) => {
                self.outputs.push_back(Output::Started(via));
                self.state = State::Streaming(Box::new(Streaming {
                    decoder: Decoder::default(),
                    pieces: HeaderPieces::default(),
                    selected,
                    packet_size: None,
                    deadline: now + self.config.response_timeout,
                }));
            }
        }
    }

    /// Processes bytes of the response's body.
    pub fn handle_body(&mut self, bytes: Bytes, now: Instant) {
        // An empty chunk is not a sign of activity.
        if bytes.is_empty() {
            return;
        }
        match &mut self.state {
            State::Down | State::Describing { .. } | State::Playing { .. } => {}
            State::Plain { deadline } => {
                *deadline = now + self.config.stall_timeout;
                self.outputs.push_back(Output::Plain(bytes));
            }
            State::Sniffing { .. } => self.sniff(bytes, now),
            State::Described { decoder, .. } => {
                decoder.push(bytes);
                self.read_description(now);
            }
            State::Streaming(streaming) => {
                streaming.decoder.push(bytes);
                self.read_stream(now);
            }
        }
    }

    /// Records that the response's body is complete.
    pub fn handle_body_end(&mut self) {
        match &mut self.state {
            State::Down => {}
            // The end of the body is the end of the stream, as with a file.
            State::Plain { .. } => self.ended(),
            State::Sniffing { received, .. } if received.is_empty() => {
                self.fail(Failure::malformed("the origin's response is empty".to_owned()));
            }
            State::Sniffing { .. } | State::Described { .. } => {
                self.fail(Failure::malformed("the origin's response ends within the header".to_owned()));
            }
            State::Describing { .. } | State::Playing { .. } | State::Streaming(_) => self.fail(Failure::ended_early()),
        }
    }

    /// Records that no connection could be established, or that it was lost.
    pub fn handle_lost(&mut self, cause: Cause, detail: &str) {
        if !matches!(self.state, State::Down) {
            self.fail(Failure::lost(cause, detail));
        }
    }

    /// Handles the expiry of [`Session::deadline`].
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        let (wait, stall) = (self.config.response_timeout.as_secs_f64(), self.config.stall_timeout.as_secs_f64());
        let text = match &self.state {
            State::Down => return,
            State::Describing { .. } | State::Playing { .. } => format!("the origin did not answer within {wait} s"),
            State::Sniffing { .. } | State::Described { .. } => format!("the origin sent no header within {wait} s"),
            State::Streaming(streaming) if streaming.packet_size.is_none() => {
                format!("the origin sent no header within {wait} s")
            }
            State::Streaming(_) | State::Plain { .. } => format!("the origin sent no packet for {stall} s"),
        };
        self.fail(Failure::stalled(text));
    }

    /// Ends the pull like a failure of the origin, because the caller cannot use the stream.
    pub fn refuse(&mut self, failure: Failure) {
        if !matches!(self.state, State::Down) {
            self.fail(failure);
        }
    }

    /// Sends Describe: a request for the header ([MS-WMSP] 3.1).
    fn describe(&mut self, now: Instant) {
        self.request(&["no-cache,rate=1.000000,stream-time=0,stream-offset=0:0,request-context=1,max-duration=0"]);
        self.state = State::Describing { deadline: now + self.config.response_timeout };
    }

    /// Requests all streams, because a server sends only the streams that are named (2.2.1.4.23).
    fn play(&mut self, selected: Vec<u8>, now: Instant) {
        let entries: Vec<String> = selected.iter().map(|stream| format!("ffff:{stream:x}:0")).collect();
        // Each directive has its own line, because some servers compare whole lines.
        self.request(&[
            "no-cache,rate=1.000000,stream-time=0,stream-offset=4294967295:4294967295,request-context=2,max-duration=0",
            "xPlayStrm=1",
            &format!("stream-switch-count={}", entries.len()),
            &format!("stream-switch-entry={}", entries.join(" ")),
        ]);
        self.state = State::Playing { selected, deadline: now + self.config.response_timeout };
    }

    /// Sends a GET with these `Pragma` directives and the headers of every request.
    fn request(&mut self, pragmas: &[&str]) {
        let url = self.route.url().clone();
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        let mut put = |name: HeaderName, value: &str| {
            // Values that are not valid in a header are omitted. The URL and the user agent were validated before.
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.append(name, value);
            }
        };
        put(USER_AGENT, &self.config.user_agent);
        let host = url.host_str().unwrap_or_default();
        put(HOST, &url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")));
        for pragma in pragmas {
            put(PRAGMA, pragma);
        }
        put(PRAGMA, &format!("xClientGUID={{{}}}", self.guid));
        if let Some(id) = &self.client_id {
            put(PRAGMA, &format!("client-id={id}"));
        }
        put(CONNECTION, "close");
        if let Some(via) = self.config.via.with_hop(&self.config.via_pseudonym).to_value() {
            headers.insert(VIA, via);
        }
        // Each request uses a new connection, so an exchange that is bound to one cannot continue.
        self.authenticator.connection_changes();
        if let Some(value) = self.authenticator.authorize_request("GET", &url) {
            headers.insert(Target::Server.answer_header(), value);
        }
        self.outputs.push_back(Output::Request(Request { url, headers }));
    }

    /// Answers a 401 response to Describe, or to Play of the streams `selected`.
    fn challenged(&mut self, headers: &HeaderMap, selected: Option<Vec<u8>>, now: Instant) {
        let no_login = Login::default();
        // After a redirect another server requires authentication. It must not receive the credentials of the first.
        let is_original_server = self.route.url().origin() == self.config.url.origin();
        let context = AuthContext {
            kind: headers::Kind::Setup,
            url: self.route.url(),
            // Both authenticate a connection, and each request has its own.
            methods: Methods { negotiate: false, ntlm: false, ..self.config.auth_methods },
            login: if is_original_server { &self.config.login } else { &no_login },
            random: self.config.random,
            // Only NTLM needs the time, and it is disabled above.
            wall_clock: || SystemTime::UNIX_EPOCH,
            kept: false,
            tickets: false,
        };
        let mut step = self.authenticator.challenged(headers, &context);
        if let AuthStep::NeedCredentials(_) = step {
            // A relay has no application that could supply credentials.
            step = self.authenticator.supply(None, &context);
        }
        match step {
            AuthStep::Resend => match selected {
                None => self.describe(now),
                Some(selected) => self.play(selected, now),
            },
            AuthStep::Refused(failure) => self.fail(Failure::unauthorized(failure.text)),
            AuthStep::NeedCredentials(_) | AuthStep::NeedTicket(_) | AuthStep::RepeatSetup => {
                self.fail(Failure::unauthorized(
                    "the origin answered 401 and offers no enabled authentication scheme".to_owned(),
                ));
            }
        }
    }

    /// Follows a redirect. The new server describes the stream again.
    fn redirected(&mut self, status: u16, headers: &HeaderMap, now: Instant) {
        match self.route.follow(status, headers, self.config.https) {
            Ok(is_other_origin) => {
                if is_other_origin {
                    self.authenticator.forget();
                    self.client_id = None;
                }
                self.describe(now);
            }
            Err(failure) => self.fail(Failure::redirect(failure.text)),
        }
    }

    /// Identifies the format of the first body.
    fn sniff(&mut self, bytes: Bytes, now: Instant) {
        let State::Sniffing { received, via, deadline } = &mut self.state else { return };
        let (via, deadline) = (via.clone(), *deadline);
        let bytes = if received.is_empty() && bytes.len() >= SNIFF_BYTES {
            bytes
        } else {
            received.put_slice(&bytes);
            if received.len() < SNIFF_BYTES {
                return;
            }
            std::mem::take(received).freeze()
        };
        match bytes.first_chunk::<SNIFF_BYTES>() {
            Some(&ASF_MAGIC) => {
                // Until the header has arrived, the response timeout applies.
                self.state = State::Plain { deadline };
                self.outputs.push_back(Output::Started(via));
                self.outputs.push_back(Output::Plain(bytes));
            }
            Some(b"<ASX" | b"<asx" | b"<Asx" | b"[Ref") => {
                let text = "the origin answered with a playlist (ASX), not a stream".to_owned();
                self.fail(Failure::malformed(text));
            }
            Some(_) | None => {
                let mut decoder = Decoder::default();
                decoder.push(bytes);
                self.state = State::Described { decoder, pieces: HeaderPieces::default(), deadline };
                self.read_description(now);
            }
        }
    }

    /// Reads the Describe response up to the end of the header.
    fn read_description(&mut self, now: Instant) {
        let State::Described { decoder, pieces, .. } = &mut self.state else { return };
        loop {
            let packet = match decoder.next_packet() {
                Ok(Some(packet)) => packet,
                Ok(None) => return,
                Err(error) => return self.fail(not_a_stream(&error)),
            };
            let Packet::Header { piece, first, last } = packet else {
                if matches!(packet, Packet::Other) {
                    continue;
                }
                let text = "the origin sent media, or the end of the stream, before the header".to_owned();
                return self.fail(Failure::malformed(text));
            };
            match pieces.push(&piece, first, last) {
                Ok(None) => {}
                Ok(Some(header)) => {
                    // The rest of the response is not needed.
                    return self.play(stream_numbers(&header), now);
                }
                Err(error) => return self.fail(Failure::malformed(format!("the origin's stream: {error}"))),
            }
        }
    }

    /// Reads the packets of the Play response.
    fn read_stream(&mut self, now: Instant) {
        let State::Streaming(streaming) = &mut self.state else { return };
        loop {
            let packet = match streaming.decoder.next_packet() {
                Ok(Some(packet)) => packet,
                Ok(None) => return,
                Err(error) => return self.fail(not_a_stream(&error)),
            };
            match packet {
                // These packets do not extend the deadline for media.
                Packet::Other => continue,
                Packet::StreamChange => {
                    streaming.pieces = HeaderPieces::default();
                    continue;
                }
                Packet::Header { piece, first, last } => match streaming.pieces.push(&piece, first, last) {
                    Ok(None) => continue,
                    Ok(Some(header)) => {
                        let selects_all =
                            stream_numbers(&header).iter().all(|stream| streaming.selected.contains(stream));
                        if !selects_all {
                            // The new streams were not selected, so the server would not send them.
                            return self.restart(now);
                        }
                        streaming.packet_size = Some(header.packet_size());
                        self.outputs.push_back(Output::Header(Box::new(header)));
                    }
                    Err(error) => return self.fail(Failure::malformed(format!("the origin's stream: {error}"))),
                },
                Packet::Data(bytes) => {
                    let len = bytes.len();
                    match streaming.packet_size {
                        Some(size) if len <= size => self.outputs.push_back(Output::Data(bytes)),
                        Some(size) => {
                            let text = format!(
                                "the origin sent a data packet of {len} bytes; the packet size in its header is {size}"
                            );
                            return self.fail(Failure::malformed(text));
                        }
                        None => {
                            return self.fail(Failure::malformed("the origin sent media before the header".to_owned()));
                        }
                    }
                }
                // Like players in the field, request the stream again; servers expect that.
                Packet::End(Hresult::FALSE) => return self.restart(now),
                Packet::End(_) => return self.ended(),
            }
            streaming.deadline = now + self.config.stall_timeout;
        }
    }

    /// Requests the stream again from the beginning, because another stream has replaced it.
    fn restart(&mut self, now: Instant) {
        let recent = self.restarted.is_some_and(|at| now.saturating_duration_since(at) < RESTART_WINDOW);
        self.restarts = if recent { self.restarts + 1 } else { 1 };
        self.restarted = Some(now);
        if self.restarts > MAX_RESTARTS {
            let text = format!("the origin ended its stream {} times within a few seconds", self.restarts);
            return self.fail(Failure::malformed(text));
        }
        self.describe(now);
    }

    fn ended(&mut self) {
        self.state = State::Down;
        self.outputs.push_back(Output::Ended);
    }

    fn fail(&mut self, failure: Failure) {
        self.state = State::Down;
        self.outputs.push_back(Output::Failed(failure));
    }
}

fn not_a_stream(error: &packet::Malformed) -> Failure {
    Failure::malformed(format!("the origin's data is not an ASF stream, or its packets are misaligned: {error}"))
}

fn stream_numbers(header: &asf::Header) -> Vec<u8> {
    header.streams().iter().map(|stream| stream.number).collect()
}

/// Returns the session's number (2.2.1.4.4) if it is valid: up to 10 digits.
fn client_id(headers: &HeaderMap) -> Option<String> {
    let values = headers.get_all(PRAGMA).iter().filter_map(|value| value.to_str().ok());
    let mut tokens = values.flat_map(|value| value.split(','));
    let id = tokens.find_map(|token| token.trim().strip_prefix("client-id=").map(str::to_owned))?;
    (!id.is_empty() && id.len() <= 10 && id.bytes().all(|byte| byte.is_ascii_digit())).then_some(id)
}

/// Returns the media type if the response is a page, a picture or the like.
fn other_content(headers: &HeaderMap) -> Option<String> {
    let content_type = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    let kind = content_type.split(['/', ';']).next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_other = ["text", "image", "font", "multipart"].contains(&kind.as_str());
    is_other.then(|| content_type.chars().filter(|char| !char.is_control()).take(80).collect())
}

/// Formats a random GUID (version 4).
fn guid(random: [u8; 16]) -> String {
    // Version 4 in bits 76 to 79, and the variant `10` in bits 62 and 63 (RFC 9562, 5.4).
    let number = u128::from_be_bytes(random) & !(0xF000 << 64) & !(0xC << 60) | (4 << 76) | (8 << 60);
    let text = format!("{number:032X}");
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| text.get(range).unwrap_or_default());
    parts.join("-")
}

#[cfg(test)]
mod tests;
