//! What a session is told, and what it says.

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

/// How a changed header reaches the server (C-12).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeaderChange {
    /// `StreamChange` at a server that is known to apply it, else `Reconnect`. What a server announces proves
    /// nothing: see [`Server`](super::Server).
    #[default]
    Auto,
    /// `$E`(1) and `$C` in the session.
    StreamChange,
    /// `$E`(0), and a new session with `$H`.
    Reconnect,
}

/// Whether a session whose connection was lost goes on by its push-id, or a new one begins (C-15).
///
/// A PushStart with an old push-id carries no header. A server that has lost the session, and takes the request all
/// the same, then has packets that no player can decode, and nothing ever tells the encoder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resume {
    /// Goes on at once at a server that is known to refuse a push-id that it does not have
    /// ([`Server::PublishingPoint`](super::Server)), unless a connection was refused meanwhile. Everywhere else a
    /// PushSetup with push-id 0 asks first: where it is accepted a new session begins, with its header, and where it
    /// is refused since the publishing point is taken, by 404 or 409, the server still holds the session, which
    /// then goes on.
    #[default]
    Auto,
    /// Goes on at once wherever the server gave a push-id and its Idle-Timeout is not over.
    Always,
    /// Begins a new session each time.
    Never,
}

/// What a session is to do.
#[derive(Clone, Debug)]
pub struct Config {
    /// The publishing point.
    pub url: Url,
    /// `User-Agent` (H-3).
    pub user_agent: String,
    /// Schemes for `X-Accept-Authentication` (H-4), and the only ones that are used.
    pub auth_methods: Methods,
    /// The user at the server of `url`, and there only.
    pub login: Login,
    /// Whether who drives the session can get Kerberos tickets ([`Event::TicketNeeded`]).
    pub tickets: bool,
    /// A source of random values that nobody can guess.
    pub random: fn() -> [u8; 16],
    /// The time of day, such as `SystemTime::now`: NTLM tells it to servers that do not tell their own.
    pub wall_clock: fn() -> SystemTime,
    /// What PushSetup asks of the server (C-3).
    pub directives: Directives,
    /// Which way the stream has come, for a server that pushes on; an encoder is where it begins.
    pub via: Via,
    /// Content-Length of a PushStart, bytes; `None` chooses (C-7).
    pub content_length: Option<u64>,
    /// Whether a server that does not say Cougar or Rex is refused (H-5).
    pub strict_server: bool,
    /// Whether redirects of a PushSetup are followed (C-4).
    pub automatic_redirect: bool,
    /// Whether a redirect may lead to an https URL: whether there is TLS below.
    pub https: bool,
    /// Which proxy to go through, where no server names one (C-4).
    pub proxy: ProxyConfig,
    /// See [`HeaderChange`].
    pub header_change: HeaderChange,
    /// See [`Resume`].
    pub resume: Resume,
    /// How long to wait for an answer (C-17).
    pub response_timeout: Duration,
    /// How long `$E`(0) may take to arrive: the bound for a server that does not take the data.
    pub end_timeout: Duration,
}

impl Config {
    /// A push to `url` as an encoder does it without being asked for more: nobody logs in, nothing is asked of the
    /// server, no proxy, no TLS. `random` and `wall_clock` are as the fields.
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

/// Which TCP connection a request travels on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// A new one; an old one is closed.
    New,
    /// The one of the request before; where it is gone, [`Cause::Stale`](crate::failure::Cause::Stale) is reported.
    Same,
}

/// A request to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Where to.
    pub url: Url,
    /// Through which proxy.
    pub proxy: Option<Arc<Proxy>>,
    /// Its headers.
    pub head: RequestHead,
    /// On which connection.
    pub connection: Connection,
    /// A PushSetup's whole body; `None` for a PushStart, whose body follows by [`Output::Send`] and data.
    pub body: Option<Bytes>,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a request. One under way is over.
    Request(Request),
    /// Append bytes to the PushStart's body.
    Send(Bytes),
    /// Append a `$F` to the PushStart's body: it carries nothing, but its bytes count.
    Filler(Bytes),
    /// Close the connection; what has not been sent is given up.
    Close,
    /// Close the connection in order: shut the sending side down, TLS included, and read what still comes for a moment.
    /// [`Session::handle_closed`](super::Session::handle_closed) is to be told of it.
    CloseGracefully,
    /// Tell the higher layer.
    Event(Event),
}

/// What happened, for the higher layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// PushSetup was accepted (C-6).
    Opened,
    /// The server or a proxy is to be told who pushes: the request is sent again, maybe after a question.
    Authenticating,
    /// Credentials are needed: [`Session::supply`](super::Session::supply) is waited for.
    CredentialsNeeded(CredentialRequest),
    /// A Kerberos ticket is wanted: [`Session::ticket`](super::Session::ticket) is waited for. Getting one may block.
    TicketNeeded(TicketRequest),
    /// A password goes where it can be read on the way.
    PasswordExposed(Target),
    /// Data packets flow: first of a session, or again after a resume.
    Started,
    /// The server seems to take no payloads as large as this stream's, up to `largest` bytes.
    LargePayloads {
        /// Of the header or a data packet.
        largest: usize,
    },
    /// A PushStart was answered at its end; a next one goes on (C-10).
    RolledOver,
    /// The server has been told of another header (C-12).
    HeaderChanged,
    /// The session, or the request, has begun anew by itself; the last `rewind` bytes of data
    /// have not reached the server and are to be offered again, with what else is known not to have arrived.
    Restarted {
        /// Why.
        reason: RestartReason,
        /// Framed bytes of data packets.
        rewind: u64,
    },
    /// The attempt or the push failed: nothing more happens until `connect`.
    Failed(Failure),
    /// The peer's system has acknowledged `$E`, and the server has neither answered nor closed: the connection is
    /// closed without (C-11).
    EndUnanswered,
    /// `$E`(0) is out and the connection done with (C-11).
    Ended {
        /// Whether the server answered or closed, or its system acknowledged every byte, before the time-out.
        clean: bool,
    },
}

/// Why a session began anew without a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartReason {
    /// The idle connection had been closed.
    Stale,
    /// The session that was to go on does not exist any more (C-15).
    SessionGone,
    /// The server ended the session at `$E`(1).
    HeaderChangeRefused,
    /// The server did not answer at the end of the body.
    NoAnswer,
    /// The header changed, and a new session carries it.
    HeaderChange,
    /// The request was refused until it is authenticated (C-13).
    Unauthenticated,
}

/// The head of a response, as the transport saw it.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// HTTP status.
    pub status: u16,
    /// All headers.
    pub headers: HeaderMap,
    /// Whether the connection can carry another request.
    pub keep_alive: bool,
}
