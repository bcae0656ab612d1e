//! Failures of a pull, in words for the relay's operator.

use std::fmt;
use std::time::Duration;

use http::header::HeaderMap;

use crate::failure::{self, Cause};

/// The kinds of failure, used as labels of counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No connection to the origin.
    Unreachable,
    /// The origin currently has no stream (404, 503).
    NoStream,
    /// The origin requires other credentials.
    Unauthorized,
    /// The origin rejects the request for another reason.
    Refused,
    /// The origin sent a redirect that cannot be followed.
    Redirect,
    /// The stream has already passed the publishing point that requests it.
    Loop,
    /// The origin's data is not a stream, or violates the protocol.
    Malformed,
    /// Nothing arrived in time.
    Stalled,
    /// The connection ended before the stream did.
    Lost,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 9] = [
        Self::Unreachable,
        Self::NoStream,
        Self::Unauthorized,
        Self::Refused,
        Self::Redirect,
        Self::Loop,
        Self::Malformed,
        Self::Stalled,
        Self::Lost,
    ];

    /// Returns the name used in the status and the metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::NoStream => "no-stream",
            Self::Unauthorized => "unauthorized",
            Self::Refused => "refused",
            Self::Redirect => "redirect",
            Self::Loop => "loop",
            Self::Malformed => "malformed",
            Self::Stalled => "stalled",
            Self::Lost => "lost",
        }
    }
}

/// Why a stream cannot be pulled: what happened, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The kind of failure.
    pub kind: Kind,
    /// What happened.
    pub text: String,
    /// What to do about it.
    pub remedy: &'static str,
    /// Whether the next attempt will fail the same way unless something is changed.
    pub permanent: bool,
    /// How long the origin asks the relay to wait before it retries.
    pub retry_after: Option<Duration>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. {}", self.text, self.remedy)
    }
}

impl Failure {
    fn new(kind: Kind, text: String, remedy: &'static str) -> Self {
        let permanent = match kind {
            Kind::Unauthorized | Kind::Refused | Kind::Redirect | Kind::Loop => true,
            Kind::Unreachable | Kind::NoStream | Kind::Malformed | Kind::Stalled | Kind::Lost => false,
        };
        Self { kind, text, remedy, permanent, retry_after: None }
    }

    /// Creates the failure for a status other than success, redirect and 401.
    pub(super) fn from_status(status: u16, headers: &HeaderMap) -> Self {
        let (kind, meaning, remedy) = match status {
            404 => (
                Kind::NoStream,
                "no such publishing point",
                "Check the path of `source`, and that the origin has this publishing point.",
            ),
            503 => (
                Kind::NoStream,
                "this publishing point currently has no stream, or the player limit is reached",
                "Check that an encoder pushes to the origin, and the origin's player limits.",
            ),
            508 => (
                Kind::Loop,
                "relay loop: the stream would return to its own source",
                "Remove one `source` or `forward` entry from the loop of publishing points.",
            ),
            403 => (
                Kind::Refused,
                "forbidden",
                "Allow this server to play at the origin: check the origin's networks and users.",
            ),
            400..=499 => (
                Kind::Refused,
                "request rejected",
                "Check that `source` is the URL of a stream, and check the origin's log.",
            ),
            _ => (Kind::NoStream, "service unavailable", "Check the origin's log."),
        };
        let retry_after = failure::retry_after(headers);
        // The status of an overloaded proxy or rate limit is temporary.
        let permanent = matches!(kind, Kind::Refused | Kind::Loop) && !matches!(status, 408 | 425 | 429);
        let text = format!("the origin answered {status}: {meaning}");
        Self { permanent, retry_after, ..Self::new(kind, text, remedy) }
    }

    pub(super) fn unauthorized(text: String) -> Self {
        Self::new(
            Kind::Unauthorized,
            text,
            "Set `user` and `password-file` of `source` to a user who may play at the origin; Basic over plain http \
             requires `auth = [\"digest\", \"basic\"]`.",
        )
    }

    pub(super) fn redirect(text: String) -> Self {
        Self::new(Kind::Redirect, text, "Correct the redirect at the origin, or set `source` to the stream's own URL.")
    }

    pub(super) fn relay_loop() -> Self {
        Self::new(
            Kind::Loop,
            "relay loop: the origin's stream has already passed this publishing point".to_owned(),
            "Remove one `source` or `forward` entry from the loop of publishing points.",
        )
    }

    /// Creates the failure for data that is not a stream, or does not match the stream's header.
    pub fn malformed(text: String) -> Self {
        Self::new(Kind::Malformed, text, "Check that `source` is the URL of a live Windows Media (ASF) stream.")
    }

    /// Creates the failure for an environment variable that is not a valid proxy; `text` describes it.
    pub fn proxy_setting(text: String) -> Self {
        Self::new(
            Kind::Unreachable,
            text,
            "Correct or remove the proxy in the environment (`http_proxy`, `https_proxy`).",
        )
    }

    pub(super) fn stalled(text: String) -> Self {
        Self::new(
            Kind::Stalled,
            text,
            "Check the origin and the network. Raise `source-timeout` if the stream has pauses of this length.",
        )
    }

    pub(super) fn ended_early() -> Self {
        Self::new(
            Kind::Lost,
            "the origin closed the connection before the end of the stream".to_owned(),
            "Check the origin's log.",
        )
    }

    pub(super) fn lost(cause: Cause, detail: &str) -> Self {
        let (kind, remedy) = match cause {
            Cause::NameNotFound | Cause::NameTimeout => (Kind::Unreachable, "Check the host in `source`, and DNS."),
            Cause::Refused | Cause::Unreachable | Cause::ConnectTimeout | Cause::LocalAddress => {
                (Kind::Unreachable, "Check host and port in `source`, and that the origin is running.")
            }
            Cause::ProxyNameNotFound
            | Cause::ProxyNameTimeout
            | Cause::ProxyRefused
            | Cause::ProxyConnectTimeout
            | Cause::ProxyDenied
            | Cause::ProxyNoTunnel => {
                (Kind::Unreachable, "Check the proxy in the environment (`http_proxy`, `https_proxy`).")
            }
            Cause::Untrusted | Cause::Tls => (Kind::Unreachable, "Check the origin's certificate."),
            Cause::Stalled => (Kind::Stalled, "Check the network and the origin."),
            Cause::Resources => {
                (Kind::Unreachable, "Raise the limits of file descriptors and threads (ulimit -n, ulimit -u).")
            }
            Cause::NotHttp => (Kind::Malformed, "Check host and port in `source`."),
            Cause::Reset | Cause::Closed | Cause::Stale | Cause::Other => {
                (Kind::Lost, "Check the network and the origin's log.")
            }
        };
        // The description is the same as for a push, but the remedy differs, and the log of a server must name the
        // other one.
        let text = failure::Failure::lost(cause, detail).text.replacen("the server", "the origin", 1);
        Self::new(kind, text, remedy)
    }
}
