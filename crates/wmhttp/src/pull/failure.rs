//! Why a stream is not fetched, in the words of who fetches it.

use std::fmt;
use std::time::Duration;

use http::header::HeaderMap;

use crate::failure::{self, Cause};

/// The kinds of failure, for counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No connection to the origin.
    Unreachable,
    /// The origin has no stream now (404, 503).
    NoStream,
    /// The origin asks for other credentials.
    Unauthorized,
    /// The origin refuses the request otherwise.
    Refused,
    /// The origin redirects to nowhere.
    Redirect,
    /// The stream comes back to the point that asks for it.
    Loop,
    /// What the origin sends is not a stream, or breaks the protocol's rules.
    Malformed,
    /// Nothing arrived in time.
    Stalled,
    /// The connection ended before the stream did.
    Lost,
}

impl Kind {
    /// All of them.
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

    /// Its name in the status and the metrics.
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

/// Why a stream is not fetched: what happened, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind it is.
    pub kind: Kind,
    /// What happened.
    pub text: String,
    /// What to do about it.
    pub remedy: &'static str,
    /// Whether the next attempt will fail the same way unless somebody changes something.
    pub permanent: bool,
    /// How long the origin asks to be left alone.
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

    /// The origin answered with a status that is not a success, a redirect, or a request for credentials.
    pub(super) fn from_status(status: u16, headers: &HeaderMap) -> Self {
        let (kind, meaning, remedy) = match status {
            404 => (
                Kind::NoStream,
                "it has no such publishing point",
                "Check the path of `source`, and that the origin has this publishing point.",
            ),
            503 => (
                Kind::NoStream,
                "it has no stream at this publishing point now, or no room",
                "Check that an encoder pushes to the origin, and the origin's limits of players.",
            ),
            508 => (
                Kind::Loop,
                "the stream would come back to where it is fetched from",
                "Remove one `source` or `forward` from the circle of publishing points.",
            ),
            403 => {
                (Kind::Refused, "forbidden", "Allow this server to play at the origin: see its networks and rights.")
            }
            400..=499 => (
                Kind::Refused,
                "it refuses the request",
                "Check that `source` leads to a server of streams, and see that server's log.",
            ),
            _ => (Kind::NoStream, "it cannot serve now", "See the origin's log."),
        };
        let retry_after = failure::retry_after(headers);
        // What a proxy or a limit says for now is not for good.
        let permanent = matches!(kind, Kind::Refused | Kind::Loop) && !matches!(status, 408 | 425 | 429);
        let text = format!("the origin answered {status}: {meaning}");
        Self { permanent, retry_after, ..Self::new(kind, text, remedy) }
    }

    pub(super) fn unauthorized(text: String) -> Self {
        Self::new(
            Kind::Unauthorized,
            text,
            "Set `user` and `password-file` of `source` to a user whom the origin lets play; Basic over plain http needs \
             `auth = [\"digest\", \"basic\"]`.",
        )
    }

    pub(super) fn redirect(text: String) -> Self {
        Self::new(
            Kind::Redirect,
            text,
            "Correct the redirect at the origin, or set `source` to the URL where the stream is.",
        )
    }

    pub(super) fn looped() -> Self {
        Self::new(
            Kind::Loop,
            "the origin's stream has come through this publishing point before".to_owned(),
            "Remove one `source` or `forward` from the circle of publishing points.",
        )
    }

    /// What arrived is not a stream, or not the one that its header describes.
    pub fn malformed(text: String) -> Self {
        Self::new(Kind::Malformed, text, "Check that `source` leads to a live stream of Windows Media (ASF).")
    }

    /// The way to the origin leads over a proxy, and what the user has set names none: `text` says what.
    pub fn proxy_setting(text: String) -> Self {
        Self::new(Kind::Unreachable, text, "Correct or remove the proxy that the environment names.")
    }

    pub(super) fn stalled(text: String) -> Self {
        Self::new(
            Kind::Stalled,
            text,
            "Check the origin and the network; raise `source-timeout` if the stream has such pauses.",
        )
    }

    pub(super) fn ended_early() -> Self {
        Self::new(
            Kind::Lost,
            "the origin closed the connection before the end of the stream".to_owned(),
            "See the origin's log.",
        )
    }

    pub(super) fn lost(cause: Cause, detail: &str) -> Self {
        let (kind, remedy) = match cause {
            Cause::NameNotFound | Cause::NameTimeout => {
                (Kind::Unreachable, "Check the host in `source`, and the name service.")
            }
            Cause::Refused | Cause::Unreachable | Cause::ConnectTimeout | Cause::LocalAddress => {
                (Kind::Unreachable, "Check host and port in `source`, and that the origin runs.")
            }
            Cause::ProxyNameNotFound
            | Cause::ProxyNameTimeout
            | Cause::ProxyRefused
            | Cause::ProxyConnectTimeout
            | Cause::ProxyDenied
            | Cause::ProxyNoTunnel => (Kind::Unreachable, "Check the proxy that the environment names."),
            Cause::Untrusted | Cause::Tls => (Kind::Unreachable, "Check the origin's certificate."),
            Cause::Stalled => (Kind::Stalled, "Check the network."),
            Cause::Resources => (Kind::Unreachable, "Raise the server's limits of descriptors and threads."),
            Cause::NotHttp => (Kind::Malformed, "Check host and port in `source`."),
            Cause::Reset | Cause::Closed | Cause::Stale | Cause::Other => (Kind::Lost, "See the origin's log."),
        };
        // The meaning is that of a push; what to do is not.
        Self::new(kind, failure::Failure::lost(cause, detail).text, remedy)
    }
}
