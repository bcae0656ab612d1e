//! What the far end shows of itself, and what is concluded from it.

use std::time::{Duration, Instant};

use http::header::{HeaderMap, SERVER, VIA};

use super::{Connection, Event, HeaderChange, ResponseHead, Session, State};
use crate::failure::{Cause, Failure};
use crate::headers::{Product, SUPPORTED, idle_timeout};

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

/// What a server has shown of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Its `Server` header.
    pub server: Option<String>,
    /// Its Idle-Timeout (H-8).
    pub idle_timeout: Option<Duration>,
    /// Whether a proxy shows in its answers (H-7).
    pub(super) via_proxy: bool,
    /// Whether it lists protocol extensions in `Supported`.
    pub(super) supported: bool,
    /// Whether it was seen to end a session at `$E`(1).
    pub(super) refuses_change: bool,
    /// Whether a proxy closes the connection after its answer without saying so.
    pub(super) closes: bool,
}

impl Session {
    pub(super) fn note_peer(&mut self, headers: &HeaderMap) {
        if let Some(server) = headers.get(SERVER).and_then(|value| value.to_str().ok()) {
            self.peer.server = Some(server.to_owned());
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
        self.fail(Failure::incompatible(server), None);
        true
    }

    /// UsingProxy (C-4, C-7): one was chosen, or shows in the answers.
    pub(super) fn uses_proxy(&self) -> bool {
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
            && self.kept_by_proxy
            && self.is_recent(REUSE_RACE_WINDOW, now)
    }

    /// Whether the PushStart under way, or its data, is no older than `time`.
    pub(super) fn is_recent(&self, time: Duration, now: Instant) -> bool {
        self.begun_at.is_some_and(|at| now.saturating_duration_since(at) <= time)
    }

    /// Tells, once, that the server may be one that takes small payloads only (receivers, ASF 2): where it has
    /// closed twice in a row, without an answer, as soon as larger ones came. One crash or one lost connection
    /// is not enough, and a server that has taken them for longer is none.
    pub(super) fn note_large_payloads(&mut self, cause: Cause, now: Instant) {
        let Some(header) = &self.announced else { return };
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

    /// Whether an answer now is the server's answer to a resume, not to what the session did later.
    pub(super) fn is_resuming(&self, now: Instant) -> bool {
        self.resumed.is_some_and(|resumed| now.saturating_duration_since(resumed.at) <= self.config.response_timeout)
    }

    pub(super) fn idle_timeout(&self) -> Duration {
        self.peer.idle_timeout.unwrap_or(DEFAULT_IDLE_TIMEOUT)
    }

    /// Whether what ends the request now is the server's answer to `$E`(1).
    pub(super) fn header_change_rejected(&self, now: Instant) -> bool {
        self.config.header_change == HeaderChange::Auto
            && self.changed_at.is_some_and(|at| now.saturating_duration_since(at) <= CHANGE_VERDICT)
    }
}
