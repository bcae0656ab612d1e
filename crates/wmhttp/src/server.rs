//! The publishing point's end of the protocol as a state machine ([MS-WMHTTP] 3.2).
//!
//! [`accept`] answers the PushSetup that opens a session. The [`ServerSession`] it
//! gives is then told what arrives on the wire and when, and says through
//! [`ServerSession::poll`] what to hand on and what to answer. No I/O and no clock:
//! time is an argument. The bodies of PushSetups and the look-up of sessions by
//! their push-id are the caller's; [`access`] says who may push (S-6).
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
const LEAST_IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// The protocol's own part of the `Server` header, for where the policy's cannot travel in HTTP.
const SERVER: &str = "Cougar/9.6.7600.16564";
/// The product that stands behind it: the name of the server that is made of this.
pub(crate) const PRODUCT: &str = "asf-publishing-point";
/// What a Windows Media server lists in `Supported` ([MS-WMHTTP] 4.8).
const EXTENSIONS: &str = "com.microsoft.wm.srvppair, com.microsoft.wm.sswitch, com.microsoft.wm.predstrm, \
                          com.microsoft.wm.fastcache, com.microsoft.wm.startupprofile";
const TEXT: &str = "text/plain; charset=utf-8";
/// The media type under which Windows Media servers announce an ASX.
const ASX: &str = "video/x-ms-asf";

/// How sessions are kept.
#[derive(Clone, Debug)]
pub struct Policy {
    /// How long a PushStart may go without a `$H`, `$D` or `$C`, and how long a session outlives
    /// its connection (S-2, S-14). Less than 10 s counts as 10 s.
    pub idle_timeout: Duration,
    /// How long a session lives between requests (S-3).
    pub inactivity_timeout: Duration,
    /// The `Server` header; must begin with a product that pushers know, such as `Cougar/` (H-5).
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
    /// The Idle-Timeout in force (S-2).
    fn idle(&self) -> Duration {
        self.idle_timeout.max(LEAST_IDLE_TIMEOUT)
    }
}

/// What the higher layer says of a PushSetup's URL (S-5, S-8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PointLookup {
    /// It is a publishing point; a template is ignored.
    Exists,
    /// It is none yet, and can be made from the template that the directives name.
    FromTemplate,
    /// Neither it nor a template for it exists.
    Missing,
    /// Another pusher has it.
    Busy,
    /// It is found at this URL.
    Moved(String),
    /// It is reached through the proxy at this URL.
    UseProxy(String),
}

/// What became of the request that a [`Reply`] answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was granted.
    Accepted,
    /// It was refused, or sent elsewhere.
    Refused,
    /// The session that it belongs to ends with this error: what [`Output::Ended`] tells.
    SessionEnded,
    /// The client must show who it is (S-6).
    Unauthorized(Box<Unauthorized>),
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// What it says of the request.
    pub outcome: Outcome,
    /// The session's id, to be set as a cookie (S-9).
    pub push_id: Option<PushId>,
    /// Where to go instead (S-5).
    pub location: Option<Box<str>>,
    /// Content type and text; `None` is an empty body.
    pub body: Option<(&'static str, String)>,
    /// Whether the connection closes after it.
    pub close: bool,
    server: Box<str>,
    /// Milliseconds.
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

    /// 204, the connection stays open (S-9, S-12).
    fn success(policy: &Policy, push_id: &PushId) -> Self {
        Self { push_id: Some(push_id.clone()), outcome: Outcome::Accepted, ..Self::new(policy, 204) }
    }

    /// An error with a sentence for the pusher's log; the connection closes, since a body may still
    /// be under way on it.
    pub fn error(policy: &Policy, status: u16, text: &str) -> Self {
        Self { body: Some((TEXT, format!("{text}\n"))), close: true, ..Self::new(policy, status) }
    }

    /// The error that a session ends with.
    fn last(policy: &Policy, status: u16, text: &str) -> Self {
        Self { outcome: Outcome::SessionEnded, ..Self::error(policy, status, text) }
    }

    fn redirect(policy: &Policy, status: u16, location: String) -> Self {
        Self { location: Some(location.into()), close: true, ..Self::new(policy, status) }
    }

    /// The reply's headers ([MS-WMHTTP] 2.2.2.2); Content-Length always, since pushers look for it.
    pub fn to_headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(10);
        let server = HeaderValue::from_str(&self.server).unwrap_or_else(|_| HeaderValue::from_static(SERVER));
        headers.insert(header::SERVER, server);
        // Digits and ASCII letters always make a value.
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

/// Answers a PushSetup that asks for a new session (push-id 0).
///
/// `fresh` becomes the session's id: it must come from a cryptographic random source and be no
/// other session's (S-1). Without a reception the reply says why.
pub fn accept(
    head: &RequestHead,
    directives: &Directives,
    lookup: PointLookup,
    fresh: PushId,
    policy: &Policy,
    now: Instant,
) -> (Option<ServerSession>, Reply) {
    match refusal(head, lookup, &fresh, policy) {
        Some(reply) => (None, reply),
        None => {
            let reply = Reply::success(policy, &fresh);
            (Some(ServerSession::new(fresh, directives.auto_destroy, policy.clone(), now)), reply)
        }
    }
}

/// Why a PushSetup opens no session.
fn refusal(head: &RequestHead, lookup: PointLookup, fresh: &PushId, policy: &Policy) -> Option<Reply> {
    if head.kind != Kind::Setup {
        // S-10: a PushStart needs a session that was set up.
        return Some(unknown_session(policy));
    }
    if !is_encoder(&head.user_agent) {
        // S-4: who has the URL answers with `reply_to_non_encoder` instead.
        return Some(Reply::error(policy, 400, "User-Agent is not a WMEncoder/<version> of this protocol"));
    }
    if !head.cookies.push_id().is_new_session() {
        return Some(unknown_session(policy));
    }
    match lookup {
        PointLookup::Exists | PointLookup::FromTemplate if fresh.is_new_session() => {
            // S-1: `0` is never a session's id.
            Some(Reply::error(policy, 500, "no identifier for a new session"))
        }
        PointLookup::Exists | PointLookup::FromTemplate => None,
        PointLookup::Missing => {
            Some(Reply::error(policy, 404, "no such publishing point, and no template to make it from"))
        }
        PointLookup::Busy => Some(Reply::error(policy, 409, "another encoder pushes to this publishing point")),
        PointLookup::Moved(url) => Some(Reply::redirect(policy, 302, url)),
        PointLookup::UseProxy(url) => Some(Reply::redirect(policy, 305, url)),
    }
}

/// Answers what is no encoder as Windows does (S-4): 200, with an ASX that names the same URL.
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

/// Answers a push-id that no session has (S-7, S-10).
///
/// 412: what the request presumes, a session, is not there. A pusher then begins anew with push-id 0,
/// while 404 would tell it that the publishing point is missing and 400 that it is at fault itself.
pub fn unknown_session(policy: &Policy) -> Reply {
    Reply::error(policy, 412, "no session has this push-id: begin again with push-id=0")
}

/// Refuses a push that has come through the publishing point called `pseudonym` before, or through too many relays:
/// 508 (RFC 5842, 7.2), with the remedy. `None` admits it.
pub fn loop_refusal(via: &Via, pseudonym: Option<&str>, policy: &Policy) -> Option<Reply> {
    via.refusal(pseudonym).map(|why| Reply::error(policy, 508, &why))
}

/// What a [`ServerSession`] wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// `$H`: the ASF file header of the stream.
    Header(Bytes),
    /// `$D`: one ASF data packet, a slice of the chunk that it came in where it lay in one.
    Data(Bytes),
    /// `$C`: the ASF file header of the next entry.
    StreamChange(Bytes),
    /// `$E`(1): the entry is over, a `$C` is due.
    EntryEnded,
    /// Answer the PushStart under way now, its body complete or not; [`Reply::close`] tells
    /// whether the connection closes after it.
    Reply(Reply),
    /// Close the session's connection, where it still has one, without an answer.
    Close,
    /// The session is deleted: nothing follows.
    Ended {
        /// `$E`'s Reason, or why the server ended it.
        reason: Hresult,
        /// Whether the publishing point is to be removed: the session's AutoDestroy (S-13).
        destroy: bool,
    },
}

/// Why a body is no push.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Violation {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("${0} where the session's $H was due")]
    HeaderDue(char),
    #[error("a second $H in a session")]
    HeaderAgain,
    #[error("$C without an $E with Reason 1 before it")]
    ChangeInEntry,
    #[error("$D after an $E with Reason 1, where a $C was due")]
    DataBetweenEntries,
    #[error("the body ends within a packet")]
    Cut,
    #[error("the body ends before the session's $H")]
    NoHeader,
}

/// Where the session is in the grammar of its bodies (P-8). It outlives a request: an `$E`(1) may
/// end one body and its `$C` begin the next.
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
    /// Whether `packet` may come here (P-8, S-11). A `$F` stands anywhere after `$H`, and `$D` after a
    /// `$F`: it carries nothing and is ignored (P-7).
    fn check(self, packet: &Packet) -> Result<(), Violation> {
        match (self, packet) {
            (Self::Start, Packet::Header(_)) => Ok(()),
            (Self::Start, other) => Err(Violation::HeaderDue(char::from(other.letter()))),
            (Self::Entry | Self::BetweenEntries, Packet::Header(_)) => Err(Violation::HeaderAgain),
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
    /// A PushStart is under way, until the Idle-Timeout (S-2).
    Streaming { until: Instant },
    /// Its connection was lost; the Idle-Timeout goes on (S-14).
    Lost { until: Instant },
    /// The session is deleted.
    Over,
}

/// One session of one pusher. See the module's text.
#[derive(Debug)]
pub struct ServerSession {
    push_id: PushId,
    auto_destroy: bool,
    policy: Policy,
    state: State,
    position: BodyState,
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
            position: BodyState::Start,
            decoder: Decoder::default(),
            outputs: VecDeque::new(),
        }
    }

    /// The session's id (S-1).
    pub fn push_id(&self) -> &PushId {
        &self.push_id
    }

    /// Whether the publishing point goes with the session (S-1).
    pub fn auto_destroy(&self) -> bool {
        self.auto_destroy
    }

    /// Whether a PushStart is under way.
    pub fn is_streaming(&self) -> bool {
        matches!(self.state, State::Streaming { .. })
    }

    /// Whether the session is deleted.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// What to do next; to be asked until `None` after each call of another method.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`ServerSession::timed_out`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Idle { until } | State::Streaming { until } | State::Lost { until } => Some(until),
            State::Over => None,
        }
    }

    /// Answers a PushSetup that carries the session's own id: 204, or an error while a PushStart is
    /// under way, which goes on undisturbed (S-7). The latest PushSetup's AutoDestroy counts.
    pub fn set_up_again(&mut self, directives: &Directives, now: Instant) -> Reply {
        match self.state {
            State::Over => unknown_session(&self.policy),
            State::Streaming { .. } => self.occupied(),
            State::Idle { .. } | State::Lost { .. } => {
                self.auto_destroy = directives.auto_destroy;
                self.idle(now);
                Reply::success(&self.policy, &self.push_id)
            }
        }
    }

    /// Takes a PushStart's head as soon as it is in; its body follows (S-10). After a lost connection
    /// it resumes the session (S-14).
    ///
    /// # Errors
    /// What to answer at once, where the head is no PushStart of this session, where the session is
    /// over, or where another PushStart of it is under way; that one goes on undisturbed.
    pub fn start(&mut self, head: &RequestHead, now: Instant) -> Result<(), Reply> {
        if head.kind != Kind::Start {
            return Err(Reply::error(&self.policy, 400, "the request is not a PushStart"));
        }
        if *head.cookies.push_id() != self.push_id {
            return Err(unknown_session(&self.policy));
        }
        match self.state {
            State::Over => Err(unknown_session(&self.policy)),
            State::Streaming { .. } => Err(self.occupied()),
            State::Idle { .. } | State::Lost { .. } => {
                // What a lost body left of a packet is dropped: the next begins with a whole one.
                self.decoder = Decoder::default();
                self.restart_idle_timeout(now);
                Ok(())
            }
        }
    }

    /// Takes the next bytes of the PushStart's body, cut anywhere.
    pub fn body(&mut self, bytes: Bytes, now: Instant) {
        if !self.is_streaming() {
            return;
        }
        self.decoder.push(bytes);
        if let Err(violation) = self.take_packets(now) {
            self.reject(&violation);
        }
    }

    /// The PushStart's body is complete: its Content-Length is reached (S-12).
    pub fn body_end(&mut self, now: Instant) {
        if !self.is_streaming() {
            return;
        }
        if !self.decoder.is_aligned() {
            self.reject(&Violation::Cut);
        } else if self.position == BodyState::Start {
            self.reject(&Violation::NoHeader);
        } else {
            self.idle(now);
            self.outputs.push_back(Output::Reply(Reply::success(&self.policy, &self.push_id)));
        }
    }

    /// The session's connection is gone. In the middle of a PushStart the session waits for the
    /// pusher's return until the Idle-Timeout, which goes on (S-14); between requests a
    /// connection matters to no one.
    pub fn connection_lost(&mut self, _now: Instant) {
        if let State::Streaming { until } = self.state {
            self.state = State::Lost { until };
        }
    }

    /// The deadline has passed: the session is deleted, with 408 where a PushStart is under way (S-2, S-3).
    pub fn timed_out(&mut self, now: Instant) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        match self.state {
            State::Streaming { .. } => {
                let reply = Reply::last(&self.policy, 408, "nothing of the stream came within the Idle-Timeout");
                self.outputs.push_back(Output::Reply(reply));
                self.end(Hresult::TIMEOUT);
            }
            State::Idle { .. } => {
                self.outputs.push_back(Output::Close);
                self.end(Hresult::TIMEOUT);
            }
            // The cause is the connection, the time-out only its consequence.
            State::Lost { .. } => self.end(Hresult::RESET_CONNECTION),
            State::Over => {}
        }
    }

    /// The higher layer ends the session with an error `status`, which only a PushStart under way
    /// can be told (S-15).
    pub fn terminate(&mut self, status: u16, _now: Instant) {
        match self.state {
            State::Streaming { .. } => {
                let reply = Reply::last(&self.policy, status, "the publishing point has ended the push");
                self.outputs.push_back(Output::Reply(reply));
            }
            State::Idle { .. } => self.outputs.push_back(Output::Close),
            State::Lost { .. } => {}
            State::Over => return,
        }
        self.end(Hresult::ABORT);
    }

    /// The higher layer cannot use what came, a header or a data packet: ends the session with 400 and `why` (S-11).
    /// A refusal is final: nothing that came behind what is refused is handed on.
    pub fn refuse(&mut self, why: &str) {
        if self.is_over() && self.outputs.is_empty() {
            return;
        }
        self.outputs.clear();
        self.outputs.push_back(Output::Reply(Reply::last(&self.policy, 400, why)));
        self.end(Hresult::BAD_REQUEST);
    }

    fn take_packets(&mut self, now: Instant) -> Result<(), Violation> {
        // An end empties the decoder, so that nothing after it is looked at.
        while let Some(packet) = self.decoder.next_packet()? {
            self.position.check(&packet)?;
            match packet {
                Packet::Header(header) => {
                    self.position = BodyState::Entry;
                    self.restart_idle_timeout(now);
                    self.outputs.push_back(Output::Header(header));
                }
                Packet::Data(data) => {
                    self.restart_idle_timeout(now);
                    self.outputs.push_back(Output::Data(data));
                }
                Packet::StreamChange(header) => {
                    self.position = BodyState::Entry;
                    self.restart_idle_timeout(now);
                    self.outputs.push_back(Output::StreamChange(header));
                }
                Packet::End(Hresult::FALSE) => {
                    // A repeated `$E`(1) says nothing new.
                    if self.position == BodyState::Entry {
                        self.outputs.push_back(Output::EntryEnded);
                    }
                    self.position = BodyState::BetweenEntries;
                }
                Packet::End(reason) => {
                    // S-13 lets the server close without an answer; one shows the pusher that the end arrived.
                    let reply = Reply { close: true, outcome: Outcome::Accepted, ..Reply::new(&self.policy, 204) };
                    self.outputs.push_back(Output::Reply(reply));
                    self.end(reason);
                }
                Packet::Filler(_) => {}
            }
        }
        Ok(())
    }

    /// Ends the session over a body that is no push: nothing after the fault can be trusted (S-11).
    fn reject(&mut self, violation: &Violation) {
        self.outputs.push_back(Output::Reply(Reply::last(&self.policy, 400, &violation.to_string())));
        self.end(Hresult::BAD_REQUEST);
    }

    fn end(&mut self, reason: Hresult) {
        self.state = State::Over;
        self.decoder = Decoder::default();
        self.outputs.push_back(Output::Ended { reason, destroy: self.auto_destroy });
    }

    fn idle(&mut self, now: Instant) {
        self.state = State::Idle { until: now + self.policy.inactivity_timeout };
    }

    fn restart_idle_timeout(&mut self, now: Instant) {
        self.state = State::Streaming { until: now + self.policy.idle() };
    }

    fn occupied(&self) -> Reply {
        Reply::error(&self.policy, 409, "a PushStart of this session is under way")
    }
}

#[cfg(test)]
mod tests;
