//! The publishing point's side of the protocol as a state machine ([MS-WMHTTP] 3.2).
//!
//! [`accept`] answers the PushSetup that opens a session and returns a [`ServerSession`]. The caller reports what
//! arrives and when, and carries out the actions that [`ServerSession::poll`] returns. The session does no I/O and
//! reads no clock: the time is an argument. The caller also receives the bodies of PushSetups and finds sessions by
//! their push-id; [`access`] decides who may push (S-6).
//!
//! ```text
//!   accept         start                      body_end
//!  ────────▶ Idle ───────▶ Streaming ──────────────────────▶ Idle
//!             │              │   ▲ start (resume)
//!             │              ▼   │ connection_lost
//!             │             Lost ┘
//!             ▼              ▼
//!            Over: `$E`, an error, a time-out, expulsion
//! ```

pub mod access;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};

use crate::Hresult;
use crate::headers::{Directives, Kind, PushId, RequestHead, SUPPORTED, is_encoder, pragma, set_cookie};
use crate::packet::{Decoder, Malformed, Packet};
use crate::via::Via;
use access::Unauthorized;

/// The shortest Idle-Timeout that the document allows (S-2).
const MIN_IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// The `Server` header to send if the configured one is not valid in HTTP.
const SERVER: &str = "Cougar/9.6.7600.16564";
/// The product name of the server that uses this crate.
pub(crate) const PRODUCT: &str = "asf-publishing-point";
/// The extensions that a Windows Media server lists in `Supported` ([MS-WMHTTP] 4.8).
const EXTENSIONS: &str = "com.microsoft.wm.srvppair, com.microsoft.wm.sswitch, com.microsoft.wm.predstrm, \
                          com.microsoft.wm.fastcache, com.microsoft.wm.startupprofile";
/// The media type of error texts.
const TEXT: &str = "text/plain; charset=utf-8";
/// The media type with which Windows Media servers send an ASX.
const ASX: &str = "video/x-ms-asf";

/// How long sessions are kept, and how the server identifies itself.
#[derive(Clone, Debug)]
pub struct Policy {
    /// How long a PushStart may continue without a `$H`, `$D` or `$C`, and how long a session outlives its connection
    /// (S-2, S-14). Values below 10 s count as 10 s.
    pub idle_timeout: Duration,
    /// How long a session is kept between requests (S-3).
    pub inactivity_timeout: Duration,
    /// The `Server` header; must begin with a product that encoders know, such as `Cougar/` (H-5).
    pub server: String,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            idle_timeout: Duration::from_secs(60),
            inactivity_timeout: Duration::from_secs(120),
            server: format!("{SERVER} {PRODUCT}/{}", env!("CARGO_PKG_VERSION")),
        }
    }
}

impl Policy {
    /// Returns the effective Idle-Timeout (S-2).
    fn idle(&self) -> Duration {
        self.idle_timeout.max(MIN_IDLE_TIMEOUT)
    }
}

/// What the caller found for a PushSetup's URL (S-5, S-8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PointLookup {
    /// The publishing point exists; a template is ignored.
    Exists,
    /// The publishing point does not exist, but can be created from the template in the directives.
    FromTemplate,
    /// Neither the publishing point nor a template for it exists.
    Missing,
    /// Another encoder uses the publishing point.
    Busy,
    /// The publishing point is at this URL.
    Moved(String),
    /// The publishing point must be reached through the proxy at this URL.
    UseProxy(String),
}

/// The outcome of the request that a [`Reply`] answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The request was accepted.
    Accepted,
    /// The request was rejected or redirected.
    Refused,
    /// The request's session ends with this error, as [`Output::Ended`] reports.
    SessionEnded,
    /// The client must authenticate (S-6).
    Unauthorized(Box<Unauthorized>),
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// The outcome of the request.
    pub outcome: Outcome,
    /// The session's id, which is set as a cookie (S-9).
    pub push_id: Option<PushId>,
    /// The URL to which the client is redirected (S-5).
    pub location: Option<Box<str>>,
    /// Content type and text; `None` means an empty body.
    pub body: Option<(&'static str, String)>,
    /// Whether the connection closes after the response.
    pub close: bool,
    /// The `Server` header.
    server: Box<str>,
    /// The Idle-Timeout in milliseconds, for the `Pragma` header (H-8).
    idle_timeout: u32,
}

impl Reply {
    fn new(policy: &Policy, status: u16) -> Self {
        Self {
            status,
            outcome: Outcome::Refused,
            push_id: None,
            location: None,
            body: None,
            close: false,
            server: policy.server.as_str().into(),
            idle_timeout: u32::try_from(policy.idle().as_millis()).unwrap_or(u32::MAX),
        }
    }

    /// 204; the connection stays open (S-9, S-12).
    fn success(policy: &Policy, push_id: &PushId) -> Self {
        Self { push_id: Some(push_id.clone()), outcome: Outcome::Accepted, ..Self::new(policy, 204) }
    }

    /// Creates an error response with a sentence for the encoder's log. The connection closes, because a request body
    /// may still be in transit on it.
    pub fn error(policy: &Policy, status: u16, text: &str) -> Self {
        Self { body: Some((TEXT, format!("{text}\n"))), close: true, ..Self::new(policy, status) }
    }

    /// Creates the error response that ends a session.
    fn last(policy: &Policy, status: u16, text: &str) -> Self {
        Self { outcome: Outcome::SessionEnded, ..Self::error(policy, status, text) }
    }

    /// 302 or 305 to `location` (S-5).
    fn redirect(policy: &Policy, status: u16, location: String) -> Self {
        Self { location: Some(location.into()), close: true, ..Self::new(policy, status) }
    }

    /// Returns the response's headers ([MS-WMHTTP] 2.2.2.2). Content-Length is always included, because encoders expect
    /// it.
    pub fn to_headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(10);
        // An operator's value that is not valid in HTTP must not make the response invalid.
        let server = HeaderValue::from_str(&self.server).unwrap_or_else(|_| HeaderValue::from_static(SERVER));
        headers.insert(header::SERVER, server);
        // Digits and ASCII letters always form a valid value.
        if let Ok(pragma) = HeaderValue::from_str(&pragma(Duration::from_millis(self.idle_timeout.into()))) {
            headers.insert(header::PRAGMA, pragma);
        }
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        if let Some(cookie) = self.push_id.as_ref().and_then(set_cookie) {
            headers.insert(header::SET_COOKIE, cookie);
        }
        headers.insert(SUPPORTED, HeaderValue::from_static(EXTENSIONS));
        if let Some(location) = self.location.as_deref().and_then(|url| HeaderValue::from_str(url).ok()) {
            headers.insert(header::LOCATION, location);
        }
        if let Outcome::Unauthorized(unauthorized) = &self.outcome {
            for challenge in unauthorized.challenges.iter().filter_map(|text| HeaderValue::from_str(text).ok()) {
                headers.append(header::WWW_AUTHENTICATE, challenge);
            }
        }
        if let Some((content_type, _)) = &self.body {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        let length = self.body.as_ref().map_or(0, |(_, text)| text.len());
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        if self.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        headers
    }
}

/// Answers a PushSetup that requests a new session (push-id 0).
///
/// `new_id` becomes the session's id: it must come from a cryptographic random source and differ from the id of any
/// other session (S-1). If no session is returned, the response contains the reason.
pub fn accept(
    head: &RequestHead,
    directives: &Directives,
    lookup: PointLookup,
    new_id: PushId,
    policy: &Policy,
    now: Instant,
) -> (Option<ServerSession>, Reply) {
    match refusal(head, lookup, &new_id, policy) {
        Some(reply) => (None, reply),
        None => {
            let reply = Reply::success(policy, &new_id);
            (Some(ServerSession::new(new_id, directives.auto_destroy, policy.clone(), now)), reply)
        }
    }
}

/// Returns the error response if a PushSetup cannot open a session.
fn refusal(head: &RequestHead, lookup: PointLookup, new_id: &PushId, policy: &Policy) -> Option<Reply> {
    if head.kind != Kind::Setup {
        // S-10: a PushStart requires a session that was set up.
        return Some(unknown_session(policy));
    }
    if !is_encoder(&head.user_agent) {
        // S-4: a caller that knows the URL responds with `reply_to_non_encoder` instead.
        return Some(Reply::error(
            policy,
            400,
            "the User-Agent is not WMEncoder with a supported version (9.0 to 12.0)",
        ));
    }
    if !head.cookies.push_id().is_new_session() {
        return Some(unknown_session(policy));
    }
    match lookup {
        PointLookup::Exists | PointLookup::FromTemplate if new_id.is_new_session() => {
            // S-1: `0` is never the id of a session.
            Some(Reply::error(policy, 500, "internal error: no identifier available for a new session"))
        }
        PointLookup::Exists | PointLookup::FromTemplate => None,
        PointLookup::Missing => Some(Reply::error(
            policy,
            404,
            "no such publishing point, and the request names no existing template to create it from",
        )),
        PointLookup::Busy => Some(Reply::error(policy, 409, "another encoder pushes to this publishing point")),
        PointLookup::Moved(url) => Some(Reply::redirect(policy, 302, url)),
        PointLookup::UseProxy(url) => Some(Reply::redirect(policy, 305, url)),
    }
}

/// Responds to a client that is not an encoder as Windows does (S-4): 200, with an ASX that refers to the same URL.
pub fn reply_to_non_encoder(policy: &Policy, url: &str) -> Reply {
    let asx = format!(
        "<ASX VERSION=\"3.0\">\r\n<ENTRY>\r\n<REF HREF=\"{}\"/>\r\n</ENTRY>\r\n</ASX>\r\n",
        escape_attribute(url)
    );
    Reply { body: Some((ASX, asx)), close: true, ..Reply::new(policy, 200) }
}

fn escape_attribute(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Responds to an unknown push-id (S-7, S-10).
///
/// The status is 412, because the session that the request requires does not exist. An encoder then starts again with
/// push-id 0. 404 would mean that the publishing point is missing, and 400 that the encoder made an error.
pub fn unknown_session(policy: &Policy) -> Reply {
    Reply::error(policy, 412, "no session has this push-id: start again with push-id=0")
}

/// Rejects a push that has already passed the publishing point named `pseudonym`, or too many relays, with 508 (RFC
/// 5842, 7.2) and the remedy. `None` accepts it.
pub fn loop_refusal(via: &Via, pseudonym: Option<&str>, policy: &Policy) -> Option<Reply> {
    via.refusal(pseudonym).map(|why| Reply::error(policy, 508, &why))
}

/// The next action of the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// `$H`: the ASF file header of the stream.
    Header(Bytes),
    /// `$D`: one ASF data packet, a slice of the received chunk if it was within one.
    Data(Bytes),
    /// `$C`: the ASF file header of the next entry.
    StreamChange(Bytes),
    /// `$E`(1): the entry has ended, and a `$C` must follow.
    EntryEnded,
    /// Respond to the current PushStart now, whether its body is complete or not. [`Reply::close`] is whether the
    /// connection closes afterwards.
    Reply(Reply),
    /// Close the session's connection, if it still has one, without a response.
    Close,
    /// The session was deleted; no further output follows.
    Ended {
        /// The Reason of `$E`, or why the server ended the session.
        reason: Hresult,
        /// Whether the publishing point must be removed because of the session's AutoDestroy (S-13).
        destroy: bool,
    },
}

/// Why a body violates the protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Violation {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the session begins with a ${0} packet instead of $H")]
    HeaderDue(char),
    #[error("the session contains a second $H packet")]
    SecondHeader,
    #[error("a $C packet does not follow an $E packet with Reason 1")]
    ChangeInEntry,
    #[error("a $D packet instead of $C follows an $E packet with Reason 1")]
    DataBetweenEntries,
    #[error("the body ends within a packet")]
    IncompletePacket,
    #[error("the body ends before the $H packet of the session")]
    NoHeader,
}

/// The position in the grammar of the session's bodies (P-8). It is kept across requests: an `$E`(1) may be the last
/// packet of one body and its `$C` the first of the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyState {
    /// Before `$H`.
    Start,
    /// After `$H` or `$C`.
    Entry,
    /// After `$E`(1).
    BetweenEntries,
}

impl BodyState {
    /// Checks whether `packet` is allowed here (P-8, S-11). A `$F` may occur anywhere after `$H`, and a `$D` may follow
    /// a `$F`, because a `$F` contains nothing and is ignored (P-7).
    fn check(self, packet: &Packet) -> Result<(), Violation> {
        match (self, packet) {
            (Self::Start, Packet::Header(_)) => Ok(()),
            (Self::Start, other) => Err(Violation::HeaderDue(char::from(other.letter()))),
            (Self::Entry | Self::BetweenEntries, Packet::Header(_)) => Err(Violation::SecondHeader),
            (Self::Entry, Packet::StreamChange(_)) => Err(Violation::ChangeInEntry),
            (Self::BetweenEntries, Packet::Data(_)) => Err(Violation::DataBetweenEntries),
            (Self::Entry, Packet::Data(_) | Packet::End(_) | Packet::Filler(_))
            | (Self::BetweenEntries, Packet::StreamChange(_) | Packet::End(_) | Packet::Filler(_)) => Ok(()),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Between requests, until the Inactivity-Timeout (S-3).
    Idle { until: Instant },
    /// A PushStart is in progress, until the Idle-Timeout (S-2).
    Streaming { until: Instant },
    /// Its connection was lost; the Idle-Timeout keeps running (S-14).
    Lost { until: Instant },
    /// The session was deleted.
    Over,
}

/// One session of one encoder; see the module documentation.
#[derive(Debug)]
pub struct ServerSession {
    push_id: PushId,
    auto_destroy: bool,
    policy: Policy,
    state: State,
    body_state: BodyState,
    decoder: Decoder,
    outputs: VecDeque<Output>,
}

impl ServerSession {
    fn new(push_id: PushId, auto_destroy: bool, policy: Policy, now: Instant) -> Self {
        let state = State::Idle { until: now + policy.inactivity_timeout };
        Self {
            push_id,
            auto_destroy,
            policy,
            state,
            body_state: BodyState::Start,
            decoder: Decoder::default(),
            outputs: VecDeque::new(),
        }
    }

    /// Returns the session's id (S-1).
    pub fn push_id(&self) -> &PushId {
        &self.push_id
    }

    /// Returns whether the publishing point is removed with the session (S-1).
    pub fn auto_destroy(&self) -> bool {
        self.auto_destroy
    }

    /// Returns whether a PushStart is in progress.
    pub fn is_streaming(&self) -> bool {
        matches!(self.state, State::Streaming { .. })
    }

    /// Returns whether the session was deleted.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Returns the next action. Call it until it returns `None` after each call of another method.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns when [`ServerSession::timed_out`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Idle { until } | State::Streaming { until } | State::Lost { until } => Some(until),
            State::Over => None,
        }
    }

    /// Responds to a PushSetup with the session's own id: 204, or an error while a PushStart is in progress, which
    /// continues unaffected (S-7). The AutoDestroy of the latest PushSetup applies.
    pub fn set_up_again(&mut self, directives: &Directives, now: Instant) -> Reply {
        match self.state {
            State::Over => unknown_session(&self.policy),
            State::Streaming { .. } => self.in_progress_reply(),
            State::Idle { .. } | State::Lost { .. } => {
                self.auto_destroy = directives.auto_destroy;
                self.enter_idle(now);
                Reply::success(&self.policy, &self.push_id)
            }
        }
    }

    /// Processes the head of a PushStart as soon as it has arrived, before its body (S-10). After a lost connection it
    /// resumes the session (S-14).
    ///
    /// # Errors
    /// The response to send immediately if the head is not a PushStart of this session, if the session is over, or if
    /// another PushStart of it is in progress, which continues unaffected.
    pub fn start(&mut self, head: &RequestHead, now: Instant) -> Result<(), Reply> {
        if head.kind != Kind::Start {
            return Err(Reply::error(&self.policy, 400, "the request is not a PushStart"));
        }
        if *head.cookies.push_id() != self.push_id {
            return Err(unknown_session(&self.policy));
        }
        match self.state {
            State::Over => Err(unknown_session(&self.policy)),
            State::Streaming { .. } => Err(self.in_progress_reply()),
            State::Idle { .. } | State::Lost { .. } => {
                // Discard the incomplete packet of a lost body: the next body begins with a whole packet.
                self.decoder = Decoder::default();
                self.restart_idle_timeout(now);
                Ok(())
            }
        }
    }

    /// Processes the next bytes of the PushStart's body, split at any position.
    pub fn body(&mut self, bytes: Bytes, now: Instant) {
        if !self.is_streaming() {
            return;
        }
        self.decoder.push(bytes);
        if let Err(violation) = self.take_packets(now) {
            self.reject(&violation);
        }
    }

    /// Records that the PushStart's body is complete: its Content-Length is reached (S-12).
    pub fn body_end(&mut self, now: Instant) {
        if !self.is_streaming() {
            return;
        }
        if !self.decoder.is_aligned() {
            self.reject(&Violation::IncompletePacket);
        } else if self.body_state == BodyState::Start {
            self.reject(&Violation::NoHeader);
        } else {
            self.enter_idle(now);
            self.outputs.push_back(Output::Reply(Reply::success(&self.policy, &self.push_id)));
        }
    }

    /// Records that the session's connection was lost. During a PushStart, the session waits for the encoder to return
    /// until the Idle-Timeout, which keeps running (S-14). Between requests the connection does not matter.
    pub fn connection_lost(&mut self, _now: Instant) {
        if let State::Streaming { until } = self.state {
            self.state = State::Lost { until };
        }
    }

    /// Deletes the session after its deadline, with 408 if a PushStart is in progress (S-2, S-3).
    pub fn timed_out(&mut self, now: Instant) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        match self.state {
            State::Streaming { .. } => {
                let reply = Reply::last(
                    &self.policy,
                    408,
                    "no header or data packet arrived within the Idle-Timeout of the session",
                );
                self.outputs.push_back(Output::Reply(reply));
                self.end(Hresult::TIMEOUT);
            }
            State::Idle { .. } => {
                self.outputs.push_back(Output::Close);
                self.end(Hresult::TIMEOUT);
            }
            // Report the lost connection as the cause; the timeout only follows from it.
            State::Lost { .. } => self.end(Hresult::RESET_CONNECTION),
            State::Over => {}
        }
    }

    /// Ends the session with an error `status` on behalf of the caller. The client receives it only if a PushStart is
    /// in progress (S-15).
    pub fn terminate(&mut self, status: u16, _now: Instant) {
        match self.state {
            State::Streaming { .. } => {
                let reply = Reply::last(
                    &self.policy,
                    status,
                    "the server has ended the push, because of a request of its operator, a reload, or its shutdown",
                );
                self.outputs.push_back(Output::Reply(reply));
            }
            State::Idle { .. } => self.outputs.push_back(Output::Close),
            State::Lost { .. } => {}
            State::Over => return,
        }
        self.end(Hresult::ABORT);
    }

    /// Ends the session with 400 and `why`, because the caller cannot use a header or a data packet (S-11). The
    /// rejection is final: no later data of the session is passed on.
    pub fn refuse(&mut self, why: &str) {
        if self.is_over() && self.outputs.is_empty() {
            return;
        }
        // Data that was decoded after the unusable packet must not be passed on.
        self.outputs.clear();
        self.outputs.push_back(Output::Reply(Reply::last(&self.policy, 400, why)));
        self.end(Hresult::BAD_REQUEST);
    }

    /// Decodes the packets received so far.
    fn take_packets(&mut self, now: Instant) -> Result<(), Violation> {
        // Ending the session clears the decoder, so that later packets are not processed.
        while let Some(packet) = self.decoder.next_packet()? {
            self.body_state.check(&packet)?;
            match packet {
                Packet::Header(header) => {
                    self.body_state = BodyState::Entry;
                    self.restart_idle_timeout(now);
                    self.outputs.push_back(Output::Header(header));
                }
                Packet::Data(data) => {
                    self.restart_idle_timeout(now);
                    self.outputs.push_back(Output::Data(data));
                }
                Packet::StreamChange(header) => {
                    self.body_state = BodyState::Entry;
                    self.restart_idle_timeout(now);
                    self.outputs.push_back(Output::StreamChange(header));
                }
                Packet::End(Hresult::FALSE) => {
                    // A repeated `$E`(1) has no effect.
                    if self.body_state == BodyState::Entry {
                        self.outputs.push_back(Output::EntryEnded);
                    }
                    self.body_state = BodyState::BetweenEntries;
                }
                Packet::End(reason) => {
                    // S-13 allows the server to close without a response; a response confirms to the encoder that the
                    // end arrived.
                    let reply = Reply { close: true, outcome: Outcome::Accepted, ..Reply::new(&self.policy, 204) };
                    self.outputs.push_back(Output::Reply(reply));
                    self.end(reason);
                }
                Packet::Filler(_) => {}
            }
        }
        Ok(())
    }

    /// Ends the session because its body violates the protocol: no later data can be trusted (S-11).
    fn reject(&mut self, violation: &Violation) {
        self.outputs.push_back(Output::Reply(Reply::last(&self.policy, 400, &violation.to_string())));
        self.end(Hresult::BAD_REQUEST);
    }

    /// Deletes the session. Nothing more is decoded.
    fn end(&mut self, reason: Hresult) {
        self.state = State::Over;
        self.decoder = Decoder::default();
        self.outputs.push_back(Output::Ended { reason, destroy: self.auto_destroy });
    }

    /// Waits for the next request, until the Inactivity-Timeout (S-3).
    fn enter_idle(&mut self, now: Instant) {
        self.state = State::Idle { until: now + self.policy.inactivity_timeout };
    }

    /// Restarts the Idle-Timeout (S-2).
    fn restart_idle_timeout(&mut self, now: Instant) {
        self.state = State::Streaming { until: now + self.policy.idle() };
    }

    /// The response to a request while a PushStart of the session is in progress (S-7).
    fn in_progress_reply(&self) -> Reply {
        Reply::error(&self.policy, 409, "a PushStart of this session is already in progress")
    }
}

#[cfg(test)]
mod tests;
