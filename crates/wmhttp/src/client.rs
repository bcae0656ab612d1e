//! The encoder's side of the protocol as a state machine ([MS-WMHTTP] 3.1).
//!
//! The caller reports events to a [`Session`] (`connect`, `offer`, `end`, `handle_…`) and carries out the actions that
//! [`Session::poll`] returns. The session does no I/O and reads no clock (the time is an argument). It never sees the
//! media: the caller offers a packet by its header and size, and the session returns how many bytes to send now.
//!
//! ```text
//!          connect          2xx           offer           filled up
//!  Down ───────────▶ Setup ─────▶ Ready ─────────▶ Open ───────────▶ Full
//!   ▲ ╲                 ╲ resume    ▲ ▲               │                 │ 2xx
//!   │  ╲ connect (resume) ╲─────────┘ └───────────────┼─────────────────┘
//!   │   ╲───────────────────────────┘                 │ end, or another header
//!   └── failure, from any state                       ▼
//!                   Down, or Setup again ◀── Closing ◀── Ending
//! ```
//!
//! The module `resume` decides whether a session continues after its connection was lost.
//!
//! `Ending` lasts until the server responds to `$E`, or until its TCP stack has acknowledged `$E` and a short wait for
//! a response is over (C-11: many servers send none). `Closing` lasts until the connection is shut down gracefully.
//!
//! After a redirect, PushSetup is sent to another URL and the state remains `Setup` (`redirect`). A request that needs
//! authentication is sent again (`authentication`); if credentials are needed first, the state is `AwaitingCredentials`.

mod authentication;
mod body;
mod fields;
mod peer;
mod resume;
mod types;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use url::Url;

use crate::auth::Target;
use crate::body_size::BodySizeEstimator;
pub use crate::body_size::DEFAULT_CONTENT_LENGTH;
use crate::failure::{Cause, Failure};
use crate::headers::{Cookies, Kind, PushId, RequestHead};
use crate::packet::{FRAMING_LEN, Packet};
use crate::proxy::{Proxy, responding_proxy};
use crate::redirect::RedirectChain;
use fields::{Attempt, Authenticators, Entry, PushStart, Resumption};
pub use peer::{Peer, Server};
use resume::LostSession;
pub use types::{Config, Connection, Event, HeaderChange, Output, Request, ResponseHead, RestartReason, Resume};

/// Minimum space that must remain after a packet so that a `$F` can fill it: a framing header and one byte, because an
/// empty `$F` stops a server in the field (receivers, Framing 1).
const MIN_FILLER_BYTES: u64 = FRAMING_LEN as u64 + 1;

#[derive(Debug)]
enum State {
    /// No request and no connection.
    Down,
    /// A PushSetup was sent on `connection`.
    Setup { deadline: Instant, connection: Connection },
    /// Credentials or a ticket were requested to authenticate to `target`; then the request of type `kind` is sent
    /// again.
    AwaitingCredentials { deadline: Instant, target: Target, kind: Kind, connection: Connection },
    /// Between requests; the next one uses `connection`.
    Ready { connection: Connection },
    /// A PushStart was sent, and `remaining` bytes of its body are left, always [`MIN_FILLER_BYTES`] or more. Data is
    /// held back until the request is `connected`, so that it does not pile up for an unreachable server.
    Open { remaining: u64, connected: bool },
    /// The body of the PushStart is complete; its response is awaited.
    Full { deadline: Instant },
    /// `$E` with a reason other than 1 was sent and must arrive by `deadline`. `answer_by` is set once the peer's TCP
    /// stack has acknowledged it: the session waits for a response until then.
    Ending { deadline: Instant, answer_by: Option<Instant>, then: AfterEnd },
    /// The connection is being shut down gracefully, by `deadline`. `confirmed`: the server has responded to `$E`.
    Closing { deadline: Instant, confirmed: bool, then: AfterEnd },
    /// The session has ended for good.
    Closed,
}

/// What follows after the server has received `$E`(0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AfterEnd {
    /// The stream has ended, and so does the session.
    Close,
    /// The stream continues with another header, in a new session (C-12).
    NewSession,
}

/// One push session with one publishing point; see the module documentation.
#[derive(Debug)]
pub struct Session {
    config: Config,
    route: RedirectChain,
    /// The proxy that the requests go through.
    proxy: Option<Arc<Proxy>>,
    /// Chooses the size of a PushStart's body through a proxy.
    body_size: BodySizeEstimator,
    state: State,
    cookies: Cookies,
    /// What is known about the server, across sessions.
    peer: Peer,
    authenticators: Authenticators,
    attempt: Attempt,
    entry: Entry,
    push_start: PushStart,
    resumption: Resumption,
    /// Number of consecutive attempts that ended immediately with payloads larger than [`LARGEST_PAYLOAD_TAKEN`].
    closes_on_large: u32,
    /// [`Session::end`] was called, and `$E` was not sent yet.
    end_wanted: bool,
    outputs: VecDeque<Output>,
}

impl Session {
    /// Creates a session in its initial state (C-1).
    pub fn new(config: Config) -> Self {
        Self {
            route: RedirectChain::new(config.url.clone()),
            config,
            proxy: None,
            body_size: BodySizeEstimator::default(),
            state: State::Down,
            cookies: Cookies::default(),
            peer: Peer::default(),
            authenticators: Authenticators::default(),
            attempt: Attempt::default(),
            entry: Entry::default(),
            push_start: PushStart::default(),
            resumption: Resumption::default(),
            closes_on_large: 0,
            end_wanted: false,
            outputs: VecDeque::new(),
        }
    }

    /// Returns what is known about the server.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Returns the URL of the next request: the session's URL, or the target of redirects (C-4).
    pub fn url(&self) -> &Url {
        self.route.url()
    }

    /// Returns the next action. Call it until it returns `None` after each call of another method.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns whether [`Session::poll`] has an action.
    pub fn has_output(&self) -> bool {
        !self.outputs.is_empty()
    }

    /// Replaces the configuration; the current request continues with the old one.
    pub fn set_config(&mut self, config: Config) {
        self.config = config;
    }

    /// Returns when [`Session::handle_timeout`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Setup { deadline, .. }
            | State::AwaitingCredentials { deadline, .. }
            | State::Full { deadline }
            | State::Closing { deadline, .. } => Some(deadline),
            State::Ending { deadline, answer_by, .. } => Some(answer_by.map_or(deadline, |by| by.min(deadline))),
            State::Down | State::Ready { .. } | State::Open { .. } | State::Closed => None,
        }
    }

    /// Returns whether an offer could be granted now.
    pub fn wants_data(&self) -> bool {
        matches!(self.state, State::Ready { .. } | State::Open { connected: true, .. }) && !self.end_wanted
    }

    /// Returns whether there is neither a connection nor an attempt at one.
    pub fn is_down(&self) -> bool {
        matches!(self.state, State::Down | State::Closed)
    }

    /// Returns whether the session has ended for good, so that it cannot connect again.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Returns whether a PushStart is in progress whose body continues, or ends only because the server needs a new
    /// session for another header.
    pub fn is_streaming(&self) -> bool {
        matches!(self.state, State::Open { connected: true, .. } | State::Full { .. })
    }

    /// Returns whether `$E`(0) was sent and the session is not yet over.
    pub fn is_ending(&self) -> bool {
        matches!(self.state, State::Ending { .. } | State::Closing { .. })
    }

    /// Returns whether `$E`(0) was sent and [`Session::handle_acknowledged`] is expected.
    pub fn awaits_acknowledgement(&self) -> bool {
        matches!(self.state, State::Ending { answer_by: None, .. })
    }

    /// Returns the time by which the connection must be closed, after [`Output::CloseGracefully`] and until
    /// [`Session::handle_closed`].
    pub fn close_by(&self) -> Option<Instant> {
        match self.state {
            State::Closing { deadline, .. } => Some(deadline),
            State::Down
            | State::Setup { .. }
            | State::AwaitingCredentials { .. }
            | State::Ready { .. }
            | State::Open { .. }
            | State::Full { .. }
            | State::Ending { .. }
            | State::Closed => None,
        }
    }

    /// Starts an attempt: a PushSetup (C-2), or after a lost connection a PushStart that resumes the session if the
    /// server still has it (C-15); see [`Resume`].
    pub fn connect(&mut self, now: Instant) {
        if !matches!(self.state, State::Down) {
            return;
        }
        self.attempt.started = false;
        self.attempt.sent_back_to_setup = false;
        self.resume_or_set_up(now);
    }

    /// Offers the next data packet: the header that describes it, and its framed size.
    ///
    /// Returns how many framed bytes of packets with this header to send now. Report the bytes sent with
    /// [`Session::sent`]. 0 means that the packet must wait: offer it again after carrying out [`Session::poll`], or
    /// after the next event if that returned nothing (C-9).
    pub fn offer(&mut self, header: &Arc<asf::Header>, size: usize, now: Instant) -> u64 {
        if self.end_wanted {
            return 0;
        }
        if let State::Ready { connection } = self.state {
            self.send_push_start(connection, header, now);
        }
        if !self.announce(header, now) {
            return 0;
        }
        let State::Open { remaining, connected: true } = self.state else { return 0 };
        // C-9: more than the packet and a framing header, so that the remainder can be filled.
        if remaining < size as u64 + MIN_FILLER_BYTES {
            self.fill_up(now);
            return 0;
        }
        // A server reacts to the first data rather than to the head, so the time is counted from there
        // (`Session::is_recent`).
        if self.push_start.bytes_sent == 0 {
            self.push_start.started_at = Some(now);
        }
        // The caller may send further packets of the same header, as many as fit, without another offer.
        remaining - MIN_FILLER_BYTES
    }

    /// Records that `bytes` framed bytes of data, up to what [`Session::offer`] granted, were appended to the body.
    pub fn sent(&mut self, bytes: u64) {
        let State::Open { remaining, .. } = &mut self.state else { return };
        debug_assert!(bytes + MIN_FILLER_BYTES <= *remaining, "{bytes} of {remaining}");
        *remaining = remaining.saturating_sub(bytes);
        self.push_start.bytes_sent += bytes;
        self.entry.bytes_sent += bytes;
        if !self.attempt.started && bytes > 0 {
            self.attempt.started = true;
            self.attempt.setup_repeated = false;
            self.event(Event::Started);
        }
    }

    /// Ends the stream: sends `$E`(0) as soon as the protocol allows (C-11).
    ///
    /// Must be called again after [`Event::Failed`] and [`Event::Restarted`], after which data may be requested again.
    pub fn end(&mut self, now: Instant) {
        self.end_wanted = true;
        self.advance_end(now);
    }

    /// Records that the connection of the current request is established.
    pub fn handle_connected(&mut self) {
        if let State::Open { connected, .. } = &mut self.state {
            *connected = true;
        }
    }

    /// Processes the server's response to the current request, whenever it arrives (C-16).
    pub fn handle_response(&mut self, head: &ResponseHead, now: Instant) {
        // H-6: cookies are taken from every response.
        let before: PushId = self.cookies.push_id().clone();
        self.cookies.update_from(&head.headers, (self.config.wall_clock)());
        self.record_peer(&head.headers);
        // Checked first: while a session is resumed, a status or push-id has another meaning than later.
        if self.ends_resume(head, &before, now) {
            if self.required_authentication(head, now).is_none() {
                self.authenticated();
            }
            self.resume_refused(head, &before, now);
            return;
        }
        if let Some((target, kind)) = self.required_authentication(head, now) {
            self.challenged(target, kind, head, now);
            return;
        }
        self.authenticated();
        let success = (200..300).contains(&head.status);
        match self.state {
            State::Down | State::AwaitingCredentials { .. } | State::Ready { .. } | State::Closed => {}
            State::Ending { deadline, then, .. } => self.close_after_end(deadline, true, then),
            // The response arrived after the wait for it.
            State::Closing { deadline, then, .. } => self.state = State::Closing { deadline, confirmed: true, then },
            State::Setup { .. } if success => {
                if self.rejects_server(head) {
                    return;
                }
                self.resumption.lost = None;
                self.record_push_id();
                self.state = State::Ready { connection: self.next_connection(head) };
                self.event(Event::Opened);
                self.advance_end(now);
            }
            State::Setup { .. } if (300..=305).contains(&head.status) => self.redirect(head, now),
            State::Full { .. } if success => {
                if self.rejects_server(head) {
                    return;
                }
                self.entry.changed_at = None;
                self.resumption.resumed = None;
                self.attempt.sent_back_to_setup = false;
                self.state = State::Ready { connection: self.next_connection(head) };
                self.event(Event::RolledOver);
                self.advance_end(now);
            }
            // C-16: any response before the body is complete ends the request. Right after `$E`(1) it is the answer to
            // that, and not the end of the push.
            State::Open { .. } if self.header_change_rejected(now) => self.restart_after_change(now),
            State::Open { .. } if success => self.fail(Failure::displaced(head.status)),
            State::Setup { .. } | State::Open { .. } | State::Full { .. } => {
                let had_template = self.config.directives.template.is_some();
                let failure = Failure::from_status(head.status, &head.headers, had_template, self.uses_proxy());
                // The remedy for a missing name does not apply to an error of a proxy.
                let by_proxy = self.uses_proxy() && responding_proxy(&head.headers).is_some();
                let has_name = self.route.url().path() != "/";
                let failure = if has_name || by_proxy { failure } else { failure.without_name() };
                let is_setup = matches!(self.state, State::Setup { .. });
                if !(is_setup && self.is_occupied_by_own_session(head, &failure, now)) {
                    // 409 says that the publishing point is in use, possibly by the lost session, which is worth
                    // another attempt. Any other status means that the session is gone.
                    let lost = self.resumption.lost.take().filter(|_| is_setup && head.status == 409);
                    self.fail_keeping(failure, lost);
                }
            }
        }
    }

    /// Processes the loss of the current request's connection (C-14). `delivered` is whether the peer's TCP stack has
    /// acknowledged every byte.
    pub fn handle_disconnect(&mut self, cause: Cause, detail: &str, delivered: bool, now: Instant) {
        match self.state {
            // Between requests, the loss shows when the next request finds its connection stale.
            State::Down | State::AwaitingCredentials { .. } | State::Ready { .. } | State::Closed => {}
            State::Open { .. } | State::Full { .. } | State::Ending { .. }
                if cause == Cause::Stale || self.proxy_closed_reused_connection(cause, delivered, now) =>
            {
                // From now on a new connection is used for each request, instead of repeating every request.
                self.peer.closes |= self.uses_proxy();
                self.repeat_request(now);
            }
            // C-11: the server may close first, without a response.
            State::Ending { then, .. } if delivered || cause == Cause::Closed => self.ended(then, true, now),
            State::Closing { confirmed, then, .. } => self.ended(then, confirmed || delivered, now),
            State::Open { .. } | State::Full { .. } if self.header_change_rejected(now) => {
                self.restart_after_change(now)
            }
            // The connection that received the challenge was closed before the authenticated request arrived.
            State::Setup { connection: Connection::Same, .. }
                if matches!(cause, Cause::Stale | Cause::Closed | Cause::Reset) && !self.attempt.setup_repeated =>
            {
                self.attempt.setup_repeated = true;
                self.close();
                self.send_push_setup(Connection::New, now);
            }
            State::Setup { .. } => {
                let lost = self.resumption.lost.take().filter(|_| self.may_be_kept_after(cause));
                self.fail_keeping(Failure::lost(cause, detail), lost);
            }
            State::Open { .. } | State::Full { .. } | State::Ending { .. } => {
                self.check_large_payloads(cause, now);
                let lost = self.resumable_session(cause, now);
                self.fail_keeping(Failure::lost(cause, detail), lost);
            }
        }
    }

    /// Records that the peer's TCP stack has acknowledged the whole body including `$E`. The session waits for a
    /// response no longer than `grace` (C-11), because many servers send none.
    pub fn handle_acknowledged(&mut self, grace: Duration, now: Instant) {
        if let State::Ending { answer_by: answer_by @ None, .. } = &mut self.state {
            *answer_by = Some(now + grace);
        }
    }

    /// Records that the connection was shut down gracefully after [`Output::CloseGracefully`]. `delivered` is whether
    /// the peer's TCP stack has acknowledged every byte.
    pub fn handle_closed(&mut self, delivered: bool, now: Instant) {
        if let State::Closing { confirmed, then, .. } = self.state {
            self.ended(then, confirmed || delivered, now);
        }
    }

    /// Handles the expiry of [`Session::deadline`].
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        match self.state {
            State::Setup { .. } => {
                let lost = self.resumption.lost.take();
                self.fail_keeping(Failure::no_answer(self.config.response_timeout), lost);
            }
            State::AwaitingCredentials { target, .. } => self.unanswered(target),
            // Five of six known servers do not respond here. A new session works with all of them.
            State::Full { .. } => self.restart(RestartReason::NoAnswer, 0, now),
            State::Ending { deadline, answer_by: Some(_), then } if now < deadline => {
                self.close_after_end(deadline, false, then);
            }
            State::Ending { answer_by, then, .. } => self.ended(then, answer_by.is_some(), now),
            State::Closing { confirmed, then, .. } => self.ended(then, confirmed, now),
            State::Down | State::Ready { .. } | State::Open { .. } | State::Closed => {}
        }
    }

    /// Aborts the current attempt: closes the connection without `$E`. `connect` may resume the session while the
    /// server keeps it.
    pub fn disconnect(&mut self, now: Instant) {
        if self.is_down() {
            return;
        }
        // An attempt to resume a lost session does not prevent a later attempt, unless `$E` was already sent.
        let over = self.is_ending();
        let lost =
            self.resumption.lost.take().or_else(|| self.lost_session(now + self.idle_timeout())).filter(|_| !over);
        self.close();
        self.resumption.lost = lost;
        self.state = State::Down;
    }

    /// Like [`Session::disconnect`], but the next `connect` begins a new session.
    pub fn abandon(&mut self) {
        if !self.is_down() {
            self.close();
            self.resumption.lost = None;
            self.state = State::Down;
        }
    }

    // ---- requests ----

    /// Begins a new session at the configured URL, because the target of a redirect may have changed.
    fn set_up(&mut self, now: Instant) {
        let route = RedirectChain::new(self.config.url.clone());
        if route.url().origin() != self.route.url().origin() {
            self.forget_server();
        }
        self.route = route;
        self.set_up_at_route(now);
    }

    /// C-4: sends PushSetup again to the redirect target, on a new connection.
    fn redirect(&mut self, head: &ResponseHead, now: Instant) {
        let (status, headers) = (head.status, &head.headers);
        let followed = match status {
            _ if !self.config.automatic_redirect => Err(self.route.refusal(status, headers)),
            305 => self.route.follow_to_proxy(headers).map(|()| false),
            _ => self.route.follow(status, headers, self.config.https),
        };
        match followed {
            Ok(is_other_origin) => {
                if is_other_origin {
                    self.forget_server();
                }
                self.close();
                self.set_up_at_route(now);
            }
            Err(failure) => self.fail(failure),
        }
    }

    /// Prepares for another server: it must not receive the old one's cookies, and nothing is known about it yet.
    fn forget_server(&mut self) {
        self.cookies = Cookies::default();
        // A redirect may lead to different servers. Rejected header changes are remembered for all of them; otherwise
        // each header change would break the session again.
        self.authenticators.server.forget();
        self.peer = Peer { refuses_change: self.peer.refuses_change, ..Peer::default() };
    }

    /// Begins a new session at the current URL of the route, through the proxy that applies to it.
    fn set_up_at_route(&mut self, now: Instant) {
        // A new session has push-id 0; the server's other cookies are sent again (H-2).
        self.cookies.forget_session();
        self.entry = Entry::default();
        self.resumption.resumed = None;
        self.attempt.started = false;
        self.push_start.bytes_sent = 0;
        let before = self.proxy.take();
        let chosen = match self.route.proxy() {
            Some(named) => Ok(Some(named.clone())),
            None => self.config.proxy.proxy_for(self.route.url()),
        };
        match chosen {
            Ok(proxy) => self.proxy = proxy.map(Arc::new),
            Err(why) => return self.fail(Failure::unreadable_proxy(&why)),
        }
        // Credentials for one proxy are not sent to another one.
        if self.proxy != before {
            self.authenticators.proxy.forget();
        }
        if let Some(proxy) = self.proxy.as_ref().filter(|proxy| proxy.url.scheme() != "http") {
            self.fail(Failure::bad_proxy(proxy.url.scheme()));
            return;
        }
        self.send_push_setup(Connection::New, now);
    }

    /// Sends PushSetup (C-2) with the current cookies.
    fn send_push_setup(&mut self, connection: Connection, now: Instant) {
        let body = self.config.directives.to_body();
        let head = self.head(Kind::Setup, body.len() as u64, connection);
        self.state = State::Setup { deadline: now + self.config.response_timeout, connection };
        self.outputs.push_back(Output::Request(Request {
            url: self.route.url().clone(),
            proxy: self.proxy.clone(),
            head,
            connection,
            body: Some(Bytes::from(body)),
        }));
    }

    /// Sends the head of a PushStart (C-7), and for a new session the `$H` (C-8).
    fn send_push_start(&mut self, connection: Connection, header: &Arc<asf::Header>, now: Instant) {
        let content_length = self.content_length(header);
        self.body_size.begin(content_length, now);
        // The server receives the request to resume only now.
        if let Some(resumed) = &mut self.resumption.resumed {
            resumed.at = now;
        }
        self.push_start = PushStart {
            started_at: Some(now),
            connection_kept_by_proxy: connection == Connection::Same && self.uses_proxy(),
            bytes_sent: 0,
            header_before: self.entry.header.clone(),
            was_between: self.entry.is_between,
        };
        self.state = State::Open { remaining: content_length, connected: connection == Connection::Same };
        self.entry.in_request = false;
        let head = self.head(Kind::Start, content_length, connection);
        self.outputs.push_back(Output::Request(Request {
            url: self.route.url().clone(),
            proxy: self.proxy.clone(),
            head,
            connection,
            body: None,
        }));
        // C-8: without waiting for a response. A PushStart that continues a session has no `$H` (P-8).
        if self.entry.header.is_none() {
            self.send(&Packet::Header(header.bytes().clone()));
            self.entry.header = Some(Arc::clone(header));
            self.entry.in_request = true;
        }
    }

    fn head(&mut self, kind: Kind, content_length: u64, connection: Connection) -> RequestHead {
        RequestHead {
            kind,
            authorization: self.authorization(connection),
            accept_authentication: self.config.auth_methods.accepted(),
            user_agent: self.config.user_agent.clone(),
            content_length,
            cookies: self.cookies.clone(),
            via: self.config.via.clone(),
        }
    }

    // ---- state changes ----

    /// Ends the attempt or the push. The next connect begins a new session.
    fn fail(&mut self, failure: Failure) {
        self.fail_keeping(failure, None);
    }

    /// Like [`Session::fail`], but the next connect may resume `lost`.
    fn fail_keeping(&mut self, failure: Failure, lost: Option<LostSession>) {
        self.end_wanted = false;
        self.close();
        self.resumption.lost = lost;
        self.state = State::Down;
        self.event(Event::Failed(failure));
    }

    /// Begins a new session immediately, because the protocol requires it.
    fn restart(&mut self, reason: RestartReason, rewind: u64, now: Instant) {
        self.end_wanted = false;
        self.close();
        self.resumption.lost = None;
        self.event(Event::Restarted { reason, rewind });
        self.set_up(now);
    }

    /// Begins a new session, because the server ended the last one on a header change (receivers, Framing 2).
    fn restart_after_change(&mut self, now: Instant) {
        self.peer.refuses_change = true;
        // If the server ended the session at `$E`(1), it had received everything before. After the `$C`, the data that
        // followed it is lost.
        let rewind = if self.entry.is_between { 0 } else { self.entry.bytes_sent };
        self.restart(RestartReason::HeaderChangeRefused, rewind, now);
    }

    /// The kept connection was stale, so the server received nothing of the request. Before the first `$H` the setup is
    /// repeated once; after it the same request is sent on a new connection.
    fn repeat_request(&mut self, now: Instant) {
        if self.push_start.header_before.is_none() && !self.attempt.setup_repeated && !self.peer.closes {
            self.attempt.setup_repeated = true;
            self.restart(RestartReason::Stale, self.push_start.bytes_sent, now);
            return;
        }
        self.discard_push_start(RestartReason::Stale, Connection::New);
        self.state = State::Ready { connection: Connection::New };
    }

    /// Discards the current PushStart; its data must be offered again, on `connection`.
    fn discard_push_start(&mut self, reason: RestartReason, connection: Connection) {
        // The server has the header that it had before this request.
        self.entry.header = self.push_start.header_before.take();
        self.entry.is_between = std::mem::take(&mut self.push_start.was_between);
        self.entry.in_request = false;
        self.entry.bytes_sent = self.entry.bytes_sent.saturating_sub(self.push_start.bytes_sent);
        self.end_wanted = false;
        if connection == Connection::New {
            self.close();
        }
        self.event(Event::Restarted { reason, rewind: self.push_start.bytes_sent });
    }

    /// C-11: the client closes the connection. It does so gracefully, because closing with unread input sends a reset,
    /// which can destroy data that the server has not read yet.
    fn close_after_end(&mut self, deadline: Instant, confirmed: bool, then: AfterEnd) {
        if !confirmed {
            self.event(Event::EndUnanswered);
        }
        self.outputs.push_back(Output::CloseGracefully);
        self.state = State::Closing { deadline, confirmed, then };
    }

    /// Completes the end of the session, or begins the next one.
    fn ended(&mut self, then: AfterEnd, clean: bool, now: Instant) {
        match then {
            AfterEnd::Close => {
                self.close();
                self.state = State::Closed;
                self.event(Event::Ended { clean });
            }
            AfterEnd::NewSession => self.restart(RestartReason::HeaderChange, 0, now),
        }
    }

    fn close(&mut self) {
        self.outputs.push_back(Output::Close);
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }
}

#[cfg(test)]
mod tests;
