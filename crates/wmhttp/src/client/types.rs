//! The inputs and outputs of a session.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::HeaderMap;
use url::Url;

use crate::auth::{CredentialRequest, Login, Methods, Target, TicketRequest};
use crate::failure::Failure;
use crate::headers::{Directives, RequestHead};
use crate::proxy::{Proxy, ProxyConfig};
use crate::via::Via;

/// How a changed header is sent to the server (C-12).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeaderChange {
    /// `StreamChange` for a server that is known to apply it, `Reconnect` for others. What a server announces proves
    /// nothing; see [`Server`](super::Server).
    #[default]
    Auto,
    /// `$E`(1) and `$C` in the session.
    StreamChange,
    /// `$E`(0), and a new session with `$H`.
    Reconnect,
}

/// Whether a session continues with its push-id after its connection was lost, or a new one begins (C-15).
///
/// A PushStart with an existing push-id does not contain the header. If a server has lost the session and accepts the
/// request nevertheless, it receives packets that no player can decode, and the encoder is never notified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resume {
    /// Resumes immediately at a server that is known to reject unknown push-ids
    /// ([`Server::PublishingPoint`](super::Server)), unless a connection was refused meanwhile. At any other server, a
    /// PushSetup with push-id 0 is sent first. If it is accepted, a new session begins with its header. If it is
    /// rejected with 404 or 409 because the publishing point is in use, the server still has the session, which is then
    /// resumed.
    #[default]
    Auto,
    /// Resumes immediately at every server that assigned a push-id, until the Idle-Timeout expires.
    Always,
    /// Always begins a new session.
    Never,
}

/// The configuration of a session.
#[derive(Clone, Debug)]
pub struct Config {
    /// The publishing point.
    pub url: Url,
    /// `User-Agent` (H-3).
    pub user_agent: String,
    /// Schemes for `X-Accept-Authentication` (H-4), and the only ones that are used.
    pub auth_methods: Methods,
    /// The user at the server of `url`. Other servers never receive these credentials.
    pub login: Login,
    /// Whether the caller can obtain Kerberos tickets ([`Event::TicketNeeded`]).
    pub tickets: bool,
    /// Returns unpredictable random bytes.
    pub random: fn() -> [u8; 16],
    /// Returns the current time, for example `SystemTime::now`. NTLM sends it to servers whose challenge has no
    /// timestamp.
    pub wall_clock: fn() -> SystemTime,
    /// The directives of PushSetup (C-3).
    pub directives: Directives,
    /// The servers and proxies that the stream has passed, for a relay; empty for an encoder.
    pub via: Via,
    /// Content-Length of a PushStart in bytes; `None` selects it automatically (C-7).
    pub content_length: Option<u64>,
    /// Whether a server is rejected if its `Server` header is neither Cougar nor Rex (H-5).
    pub strict_server: bool,
    /// Whether redirects of a PushSetup are followed (C-4).
    pub automatic_redirect: bool,
    /// Whether a redirect may lead to an https URL; true if the transport supports TLS.
    pub https: bool,
    /// The proxy to use unless a server requires another (C-4).
    pub proxy: ProxyConfig,
    /// See [`HeaderChange`].
    pub header_change: HeaderChange,
    /// See [`Resume`].
    pub resume: Resume,
    /// How long to wait for a response (C-17).
    pub response_timeout: Duration,
    /// How long `$E`(0) may take to arrive, in case the server stops reading.
    pub end_timeout: Duration,
}

impl Config {
    /// Returns the configuration of a push to `url` with the defaults of an encoder: no credentials, no directives, no
    /// proxy and no TLS. `random` and `wall_clock` are the fields of the same name.
    pub fn new(
        url: Url,
        user_agent: impl Into<String>,
        random: fn() -> [u8; 16],
        wall_clock: fn() -> SystemTime,
    ) -> Self {
        Self {
            url,
            user_agent: user_agent.into(),
            auth_methods: Methods::default(),
            login: Login::default(),
            tickets: false,
            random,
            wall_clock,
            directives: Directives::default(),
            via: Via::default(),
            content_length: None,
            strict_server: true,
            automatic_redirect: true,
            https: false,
            proxy: ProxyConfig::Direct,
            header_change: HeaderChange::Auto,
            resume: Resume::Auto,
            response_timeout: Duration::from_secs(15),
            end_timeout: Duration::from_secs(5),
        }
    }
}

/// The TCP connection of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// A new connection; the old one is closed.
    New,
    /// The connection of the previous request. If it is lost, report [`Cause::Stale`](crate::failure::Cause::Stale).
    Same,
}

/// A request to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The destination.
    pub url: Url,
    /// The proxy to use.
    pub proxy: Option<Arc<Proxy>>,
    /// The request's headers.
    pub head: RequestHead,
    /// The connection to send it on.
    pub connection: Connection,
    /// The whole body of a PushSetup; `None` for a PushStart, whose body follows as [`Output::Send`] and data.
    pub body: Option<Bytes>,
}

/// The next action of the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a request. The previous request is over.
    Request(Request),
    /// Append bytes to the PushStart's body.
    Send(Bytes),
    /// Append a `$F` to the PushStart's body. It contains no data, but its bytes count towards the Content-Length.
    Filler(Bytes),
    /// Close the connection and discard unsent data.
    Close,
    /// Shut down the connection gracefully: close the sending side, including TLS, and read the remaining input for a
    /// short time. Then call [`Session::handle_closed`](super::Session::handle_closed).
    CloseGracefully,
    /// Report an event to the application.
    Event(Event),
}

/// An event for the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// PushSetup was accepted (C-6).
    Opened,
    /// The server or a proxy requires authentication; the request is sent again, possibly after credentials were
    /// requested.
    Authenticating,
    /// Credentials are needed; answer with [`Session::supply`](super::Session::supply).
    CredentialsNeeded(CredentialRequest),
    /// A Kerberos ticket is needed; answer with [`Session::ticket`](super::Session::ticket). Obtaining it may block.
    TicketNeeded(TicketRequest),
    /// A password is sent in readable form.
    PasswordExposed(Target),
    /// The first data of a session was sent, or the first data after a resume.
    Started,
    /// The server seems not to accept payloads as large as this stream's.
    LargePayloads {
        /// Largest payload in bytes, of the header or a data packet.
        largest: usize,
    },
    /// The server responded to a complete PushStart, and the next one continues (C-10).
    RolledOver,
    /// Another header was sent to the server (C-12).
    HeaderChanged,
    /// The session or the request was restarted automatically. The last `rewind` bytes of data have not reached the
    /// server and must be offered again, together with any other data that is known not to have arrived.
    Restarted {
        /// The reason.
        reason: RestartReason,
        /// Number of framed bytes of data packets.
        rewind: u64,
    },
    /// The attempt or the push failed. The session does nothing until `connect`.
    Failed(Failure),
    /// The peer's TCP stack has acknowledged `$E`, but the server neither responded nor closed the connection. The
    /// client now closes it (C-11).
    EndUnanswered,
    /// `$E`(0) was sent and the connection is closed (C-11).
    Ended {
        /// Whether the server responded or closed the connection, or its TCP stack acknowledged every byte, before the
        /// timeout.
        clean: bool,
    },
}

/// Why a session was restarted without a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartReason {
    /// The idle connection was closed by the peer.
    Stale,
    /// The session to resume no longer exists (C-15).
    SessionGone,
    /// The server ended the session on `$E`(1).
    HeaderChangeRefused,
    /// The server did not respond at the end of the body.
    NoAnswer,
    /// The header changed, and a new session sends it.
    HeaderChange,
    /// The request was rejected because it must be authenticated (C-13).
    Unauthenticated,
}

/// The head of a response, as received by the transport.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// HTTP status.
    pub status: u16,
    /// All headers.
    pub headers: HeaderMap,
    /// Whether the connection can carry another request.
    pub keep_alive: bool,
}
