//! What the peer shows of itself, and what is concluded from it.

use std::time::{Duration, Instant};

use http::header::{HeaderMap, SERVER, VIA};

use super::{Connection, Event, HeaderChange, ResponseHead, Session, State};
use crate::failure::{Cause, Failure};
use crate::headers::{Product, PushId, SUPPORTED, idle_timeout};
use crate::server::PRODUCT as PUBLISHING_POINT;

/// How long a server keeps a lost session where it did not say (C-15).
const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// A server that ends the session at `$E`(1) does so at once; what breaks later has other reasons.
const CHANGE_VERDICT: Duration = Duration::from_secs(2);
/// A proxy that closes after its answer has closed within this time of the next request.
const REUSE_RACE_WINDOW: Duration = Duration::from_secs(1);
/// Largest payload that a server in the field takes.
const LARGEST_PAYLOAD_TAKEN: usize = 8_192;
/// It closes within this time of a larger one.
const CLOSED_ON_LARGE: Duration = Duration::from_secs(2);

/// Which server answers, by its `Server` header: what it is known to do where nothing in the protocol shows it.
///
/// Imitations announce more than they do, so that push-id, Pragma and Supported prove nothing. Those in the field say
/// that they are builds 9.00 and 9.01 of Windows Media Services, or give a version that these never had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Server {
    /// `asf-publishing-point`: keeps sessions whose connection was lost, answers 412 to a push-id that it does not
    /// have, and applies `$C`.
    PublishingPoint,
    /// Windows Media Services, of Windows Server 2008 or later: applies `$C` (C-12). For a push-id that it does not
    /// have it begins a new session (S-10), which then has no header.
    WindowsMediaServices,
    /// Anything else: nothing is known of it.
    #[default]
    Other,
}

impl Server {
    /// Reads a `Server` header's value.
    fn from_value(value: &str) -> Self {
        let mut products = value.split_whitespace();
        if products.clone().any(|product| product.split('/').next() == Some(PUBLISHING_POINT)) {
            return Self::PublishingPoint;
        }
        let version = products.next().and_then(|product| product.strip_prefix("Cougar/"));
        let numbers: Option<Vec<u32>> =
            version.map(|version| version.split('.').map(str::parse).collect()).and_then(Result::ok);
        match numbers.as_deref() {
            Some([9, 5 | 6, _, _]) if products.next().is_none() => Self::WindowsMediaServices,
            Some(_) | None => Self::Other,
        }
    }
}

/// What a server has shown of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Its `Server` header.
    pub server: Option<String>,
    /// Which server that is.
    pub product: Server,
    /// Its Idle-Timeout (H-8).
    pub idle_timeout: Option<Duration>,
    /// Whether a proxy shows in its answers (H-7).
    pub(super) via_proxy: bool,
    /// Whether it lists protocol extensions in `Supported`.
    pub(super) supported: bool,
    /// The push-id that it gave last.
    pub(super) given_id: Option<PushId>,
    /// Whether it has given the same push-id to two sessions, as no server does that keeps sessions apart (S-1).
    pub(super) repeats_ids: bool,
    /// Whether it was seen to end a session at `$E`(1).
    pub(super) refuses_change: bool,
    /// Whether a proxy closes the connection after its answer without saying so.
    pub(super) closes: bool,
}

impl Session {
    pub(super) fn note_peer(&mut self, headers: &HeaderMap) {
        if let Some(server) = headers.get(SERVER).and_then(|value| value.to_str().ok()) {
            self.peer.server = Some(server.to_owned());
            self.peer.product = Server::from_value(server);
        }
        self.peer.idle_timeout = idle_timeout(headers).or(self.peer.idle_timeout);
        self.peer.via_proxy |= headers.contains_key(VIA);
        self.peer.supported |= headers.contains_key(SUPPORTED);
    }

    pub(super) fn refuses_server(&mut self, head: &ResponseHead) -> bool {
        if !self.config.strict_server || Product::from_headers(&head.headers).is_some() {
            return false;
        }
        let server = head.headers.get(SERVER).and_then(|value| value.to_str().ok());
        self.fail(Failure::incompatible(server));
        true
    }

    /// UsingProxy (C-4, C-7): one was chosen, or shows in the answers.
    pub fn uses_proxy(&self) -> bool {
        self.proxy.is_some() || self.peer.via_proxy
    }

    pub(super) fn next_connection(&self, head: &ResponseHead) -> Connection {
        if head.keep_alive && !self.peer.closes { Connection::Same } else { Connection::New }
    }

    /// Whether a proxy has closed the connection on which it answered just when the next request came:
    /// tinyproxy does so each time. After `$E` a close may as well be the server's own.
    pub(super) fn proxy_closed_reused_connection(&self, cause: Cause, delivered: bool, now: Instant) -> bool {
        matches!(cause, Cause::Closed | Cause::Reset)
            && !(delivered && matches!(self.state, State::Ending { .. }))
            && self.push_start.connection_kept_by_proxy
            && self.is_recent(REUSE_RACE_WINDOW, now)
    }

    /// Whether the PushStart under way, or its data, is no older than `time`.
    pub(super) fn is_recent(&self, time: Duration, now: Instant) -> bool {
        self.push_start.begun_at.is_some_and(|at| now.saturating_duration_since(at) <= time)
    }

    /// Tells, once, that the server may be one that takes small payloads only (receivers, ASF 2): where it has
    /// closed twice in a row, without an answer, as soon as larger ones came. One crash or one lost connection
    /// is not enough, and a server that has taken them for longer is none.
    pub(super) fn note_large_payloads(&mut self, cause: Cause, now: Instant) {
        let Some(header) = &self.entry.header else { return };
        let largest = header.bytes().len().max(header.packet_size());
        let at_once = matches!(cause, Cause::Closed | Cause::Reset) && self.is_recent(CLOSED_ON_LARGE, now);
        if !at_once || largest <= LARGEST_PAYLOAD_TAKEN {
            self.closed_on_large = 0;
            return;
        }
        self.closed_on_large = self.closed_on_large.saturating_add(1);
        if self.closed_on_large == 2 {
            self.event(Event::LargePayloads { largest });
        }
    }

    /// Only who gives out ids can find a session by one again.
    pub(super) fn keeps_sessions(&self) -> bool {
        !self.cookies.push_id().is_new_session()
    }

    pub(super) fn idle_timeout(&self) -> Duration {
        self.peer.idle_timeout.unwrap_or(DEFAULT_IDLE_TIMEOUT)
    }

    /// A PushSetup with push-id 0 was accepted: compares the id with that of the session before.
    pub(super) fn note_new_id(&mut self) {
        let id = self.cookies.push_id().clone();
        if id.is_new_session() {
            return;
        }
        self.peer.repeats_ids |= self.peer.given_id.as_ref() == Some(&id);
        self.peer.given_id = Some(id);
    }

    /// Whether the server is known to go on with a `$C` (C-12).
    pub(super) fn applies_stream_change(&self) -> bool {
        let imitates = self.peer.repeats_ids || !self.peer.supported || self.peer.idle_timeout.is_none();
        let known = match self.peer.product {
            Server::PublishingPoint => true,
            Server::WindowsMediaServices => self.keeps_sessions() && !imitates,
            Server::Other => false,
        };
        known && !self.peer.refuses_change
    }

    /// Whether what ends the request now is the server's answer to `$E`(1).
    pub(super) fn header_change_rejected(&self, now: Instant) -> bool {
        self.config.header_change == HeaderChange::Auto
            && self.entry.changed_at.is_some_and(|at| now.saturating_duration_since(at) <= CHANGE_VERDICT)
    }
}
