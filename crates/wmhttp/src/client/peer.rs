//! Observes the peer and draws conclusions about it.

use std::time::{Duration, Instant};

use http::header::{HeaderMap, SERVER, VIA};

use super::{Connection, Event, HeaderChange, ResponseHead, Session, State};
use crate::failure::{Cause, Failure};
use crate::headers::{Product, PushId, SUPPORTED, idle_timeout};
use crate::server::PRODUCT as PUBLISHING_POINT;

/// How long a server keeps a lost session if it sends no Idle-Timeout (C-15).
const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// A server that ends the session on `$E`(1) does so immediately; a later loss has other causes.
const CHANGE_REJECT_WINDOW: Duration = Duration::from_secs(2);
/// A proxy that closes the connection after its response does so within this time of the next request.
const REUSE_RACE_WINDOW: Duration = Duration::from_secs(1);
/// Largest payload in bytes that every known server accepts (receivers, ASF 2).
const MAX_PAYLOAD_OF_ALL_SERVERS: usize = 8_192;
/// A server that does not accept a larger payload closes the connection within this time. Later losses have other
/// causes.
const LARGE_PAYLOAD_REJECT_WINDOW: Duration = Duration::from_secs(2);

/// The server product, from the `Server` header: determines known behavior that the protocol does not reveal.
///
/// Imitations announce features that they do not have, so push-id, Pragma and Supported prove nothing. Known imitations
/// claim builds 9.00 and 9.01 of Windows Media Services, or a version that never existed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Server {
    /// `asf-publishing-point`: keeps sessions whose connection was lost, responds with 412 to an unknown push-id, and
    /// applies `$C`.
    PublishingPoint,
    /// Windows Media Services of Windows Server 2008 or later: applies `$C` (C-12). For an unknown push-id it begins a
    /// new session (S-10), which has no header.
    WindowsMediaServices,
    /// Any other server, of which nothing is known.
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
        // Windows Media Services send their product alone, with a version of four numbers.
        let version = products.next().and_then(|product| product.strip_prefix("Cougar/"));
        let numbers: Option<Vec<u32>> =
            version.map(|version| version.split('.').map(str::parse).collect()).and_then(Result::ok);
        match numbers.as_deref() {
            Some([9, 5 | 6, _, _]) if products.next().is_none() => Self::WindowsMediaServices,
            Some(_) | None => Self::Other,
        }
    }
}

/// What is known about a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Its `Server` header.
    pub server: Option<String>,
    /// The product that the header identifies.
    pub product: Server,
    /// Its Idle-Timeout (H-8).
    pub idle_timeout: Option<Duration>,
    /// Whether its responses show a proxy (H-7).
    pub(super) via_proxy: bool,
    /// Whether it lists protocol extensions in `Supported`.
    pub(super) supported: bool,
    /// The last push-id that it assigned.
    pub(super) given_id: Option<PushId>,
    /// Whether it has assigned the same push-id to two sessions, which a server that keeps sessions apart never does
    /// (S-1).
    pub(super) repeats_ids: bool,
    /// Whether it ended a session on `$E`(1).
    pub(super) refuses_change: bool,
    /// Whether a proxy closes the connection after its response without announcing it.
    pub(super) closes: bool,
}

impl Session {
    /// Records what a response's headers say about the server.
    pub(super) fn record_peer(&mut self, headers: &HeaderMap) {
        if let Some(server) = headers.get(SERVER).and_then(|value| value.to_str().ok()) {
            self.peer.server = Some(server.to_owned());
            self.peer.product = Server::from_value(server);
        }
        self.peer.idle_timeout = idle_timeout(headers).or(self.peer.idle_timeout);
        self.peer.via_proxy |= headers.contains_key(VIA);
        self.peer.supported |= headers.contains_key(SUPPORTED);
    }

    /// Fails the attempt if the response is not that of a Windows Media server and the configuration requires one
    /// (H-5).
    pub(super) fn rejects_server(&mut self, head: &ResponseHead) -> bool {
        if !self.config.strict_server || Product::from_headers(&head.headers).is_some() {
            return false;
        }
        let server = head.headers.get(SERVER).and_then(|value| value.to_str().ok());
        self.fail(Failure::incompatible(server));
        true
    }

    /// UsingProxy (C-4, C-7): a proxy is configured, or shows in the responses.
    pub fn uses_proxy(&self) -> bool {
        self.proxy.is_some() || self.peer.via_proxy
    }

    /// The connection of the next request: that of this response if it can be used again.
    pub(super) fn next_connection(&self, head: &ResponseHead) -> Connection {
        if head.keep_alive && !self.peer.closes { Connection::Same } else { Connection::New }
    }

    /// Whether a proxy closed the reused connection just when the next request was sent; tinyproxy does so after every
    /// response. After `$E`, the server itself may have closed it.
    pub(super) fn proxy_closed_reused_connection(&self, cause: Cause, delivered: bool, now: Instant) -> bool {
        matches!(cause, Cause::Closed | Cause::Reset)
            && !(delivered && matches!(self.state, State::Ending { .. }))
            && self.push_start.connection_kept_by_proxy
            && self.is_recent(REUSE_RACE_WINDOW, now)
    }

    /// Whether the current PushStart, or its first data, is no older than `time`.
    pub(super) fn is_recent(&self, time: Duration, now: Instant) -> bool {
        self.push_start.started_at.is_some_and(|at| now.saturating_duration_since(at) <= time)
    }

    /// Reports, once, that the server may accept only small payloads (receivers, ASF 2): it closed the connection twice
    /// in a row, without a response, as soon as larger ones arrived. A single crash or lost connection is not enough,
    /// and a server that accepted them for longer is not such a server.
    pub(super) fn check_large_payloads(&mut self, cause: Cause, now: Instant) {
        let Some(header) = &self.entry.header else { return };
        let largest = header.bytes().len().max(header.packet_size());
        let at_once = matches!(cause, Cause::Closed | Cause::Reset) && self.is_recent(LARGE_PAYLOAD_REJECT_WINDOW, now);
        if !at_once || largest <= MAX_PAYLOAD_OF_ALL_SERVERS {
            self.closes_on_large = 0;
            return;
        }
        self.closes_on_large = self.closes_on_large.saturating_add(1);
        if self.closes_on_large == 2 {
            self.event(Event::LargePayloads { largest });
        }
    }

    /// Only a server that assigns ids can find a session by its id.
    pub(super) fn keeps_sessions(&self) -> bool {
        !self.cookies.push_id().is_new_session()
    }

    /// How long the server keeps a lost session (C-15).
    pub(super) fn idle_timeout(&self) -> Duration {
        self.peer.idle_timeout.unwrap_or(DEFAULT_IDLE_TIMEOUT)
    }

    /// Compares the id of a new session, after a PushSetup with push-id 0, with that of the previous session.
    pub(super) fn record_push_id(&mut self) {
        let id = self.cookies.push_id().clone();
        if id.is_new_session() {
            return;
        }
        self.peer.repeats_ids |= self.peer.given_id.as_ref() == Some(&id);
        self.peer.given_id = Some(id);
    }

    /// Whether the server is known to apply a `$C` (C-12).
    pub(super) fn applies_stream_change(&self) -> bool {
        // Real Windows Media Services send all of these. An imitation may send the product name without them.
        let imitates = self.peer.repeats_ids || !self.peer.supported || self.peer.idle_timeout.is_none();
        let known = match self.peer.product {
            Server::PublishingPoint => true,
            Server::WindowsMediaServices => self.keeps_sessions() && !imitates,
            Server::Other => false,
        };
        known && !self.peer.refuses_change
    }

    /// Whether the loss of the current request is the server's reaction to `$E`(1).
    pub(super) fn header_change_rejected(&self, now: Instant) -> bool {
        self.config.header_change == HeaderChange::Auto
            && self.entry.changed_at.is_some_and(|at| now.saturating_duration_since(at) <= CHANGE_REJECT_WINDOW)
    }
}
