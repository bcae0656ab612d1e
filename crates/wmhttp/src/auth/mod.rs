//! Authentication to a server or a proxy (C-5, C-13).
//!
//! Each scheme has its own file and a row in a table, the strongest first. An [`Authenticator`] processes one peer's
//! challenges and decides what happens to the request: it is sent again with the header that
//! [`Authenticator::authorize`] returns, credentials are requested, or it has failed. Each set of credentials is tried
//! once.
//!
//! No I/O, no clock, no lock: random values and the time are arguments.

mod authenticator;
mod basic;
pub(super) mod challenge;
mod credentials;
pub(super) mod digest;
mod kerberos;
#[cfg(feature = "ntlm")]
mod negotiate;
#[cfg(feature = "ntlm")]
mod ntlm;
#[cfg(feature = "ntlm")]
mod spnego;
#[cfg(test)]
#[cfg(feature = "ntlm")]
pub(crate) mod test_acceptor;
#[cfg(feature = "ntlm")]
mod token_exchange;

use std::fmt;
use std::time::SystemTime;

use http::HeaderName;
use http::header::{AUTHORIZATION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, WWW_AUTHENTICATE};

pub use authenticator::{AuthContext, AuthStep, Authenticator, CredentialRequest};
use challenge::Challenge;
pub use credentials::{Credentials, Login, Secret};
pub use kerberos::TicketRequest;

/// The peer that requires authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The server, with status 401.
    Server,
    /// A proxy on the way to it, with status 407.
    Proxy,
}

impl Target {
    /// Returns the peer that requires authentication with this status, if any.
    pub fn from_status(status: u16) -> Option<Self> {
        match status {
            401 => Some(Self::Server),
            407 => Some(Self::Proxy),
            _ => None,
        }
    }

    /// Returns the name of the header that carries its challenges.
    pub fn challenge_header(self) -> HeaderName {
        match self {
            Self::Server => WWW_AUTHENTICATE,
            Self::Proxy => PROXY_AUTHENTICATE,
        }
    }

    /// Returns the name of the request header that answers them.
    pub fn answer_header(self) -> HeaderName {
        match self {
            Self::Server => AUTHORIZATION,
            Self::Proxy => PROXY_AUTHORIZATION,
        }
    }
}

/// An authentication scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// SPNEGO (RFC 4559).
    Negotiate,
    /// NTLM ([MS-NTHT]).
    Ntlm,
    /// Digest (RFC 7616).
    Digest,
    /// Basic (RFC 7617).
    Basic,
}

impl Scheme {
    /// Returns the scheme's name in HTTP.
    pub fn name(self) -> &'static str {
        match self {
            Self::Negotiate => "Negotiate",
            Self::Ntlm => "NTLM",
            Self::Digest => "Digest",
            Self::Basic => "Basic",
        }
    }

    /// Returns whether the password is readable in transit.
    pub fn is_clear_text(self) -> bool {
        self == Self::Basic
    }

    /// Whether the scheme authenticates a TCP connection instead of a request. Such a scheme is used for PushSetup only
    /// (C-13).
    fn is_of_connection(self) -> bool {
        matches!(self, Self::Negotiate | Self::Ntlm)
    }
}

/// The schemes that may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Methods {
    /// SPNEGO.
    pub negotiate: bool,
    /// NTLM.
    pub ntlm: bool,
    /// Digest.
    pub digest: bool,
    /// Basic, also over plain HTTP.
    pub basic: bool,
}

impl Default for Methods {
    fn default() -> Self {
        Self { negotiate: true, ntlm: true, digest: true, basic: false }
    }
}

impl Methods {
    /// Returns whether `scheme` may be used.
    pub fn allow(self, scheme: Scheme) -> bool {
        match scheme {
            Scheme::Negotiate => self.negotiate,
            Scheme::Ntlm => self.ntlm,
            Scheme::Digest => self.digest,
            Scheme::Basic => self.basic,
        }
    }

    /// Returns the value of `X-Accept-Authentication` (H-4): the schemes that are allowed and built in, the preferred
    /// one first.
    pub fn accepted(self) -> Vec<String> {
        TABLE.iter().map(|row| row.scheme).filter(|scheme| self.allow(*scheme)).map(|s| s.name().to_owned()).collect()
    }
}

/// The parts of a request line that an authentication response covers.
#[derive(Clone, Copy, Debug)]
struct RequestLine<'a> {
    method: &'a str,
    /// The request's target, as the peer receives it: path and query, or for a proxy the whole URL.
    target: &'a str,
}

/// One authentication exchange with one scheme, beginning with its first challenge.
trait Mechanism: fmt::Debug + Send {
    /// Returns the value of the authentication header for the next request; `None` if it needs none.
    fn authorize(&mut self, line: RequestLine<'_>) -> Option<Secret>;

    /// Processes another challenge of the same scheme. Returns true if the exchange continues, and false if the peer
    /// rejected it.
    ///
    /// # Errors
    /// Why the challenge cannot be answered.
    fn challenged(&mut self, challenge: &Challenge) -> Result<bool, String>;

    /// Whether the exchange remains valid if the next request uses another connection.
    fn survives_connection(&self) -> bool {
        true
    }
}

/// The inputs of a new exchange.
struct InitialState<'a> {
    challenge: &'a Challenge,
    credentials: &'a Credentials,
    random: fn() -> [u8; 16],
    /// The current time, which NTLM sends to a server whose challenge has no timestamp.
    #[cfg_attr(not(feature = "ntlm"), expect(dead_code, reason = "used only by the schemes of the feature `ntlm`"))]
    wall_clock: fn() -> SystemTime,
    /// The server's host name, if known.
    #[cfg_attr(not(feature = "ntlm"), expect(dead_code, reason = "used only by the schemes of the feature `ntlm`"))]
    host: Option<&'a str>,
}

/// A scheme's entry in [`TABLE`].
struct Row {
    scheme: Scheme,
    /// Selects the best of a scheme's challenges that can be answered.
    choose: for<'a> fn(&[&'a Challenge]) -> Option<&'a Challenge>,
    /// Begins an exchange.
    ///
    /// # Errors
    /// Why the exchange cannot begin.
    begin: fn(&InitialState<'_>) -> Result<Box<dyn Mechanism>, String>,
}

/// The schemes of this build, the strongest first. Windows encoders use the same order.
const TABLE: &[Row] = &[
    #[cfg(feature = "ntlm")]
    Row { scheme: Scheme::Negotiate, choose: first, begin: negotiate::begin },
    #[cfg(feature = "ntlm")]
    Row { scheme: Scheme::Ntlm, choose: first, begin: ntlm::begin },
    Row { scheme: Scheme::Digest, choose: digest::strongest, begin: digest::begin },
    Row { scheme: Scheme::Basic, choose: first, begin: basic::begin },
];

fn first<'a>(challenges: &[&'a Challenge]) -> Option<&'a Challenge> {
    challenges.first().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// H-4: the allowed schemes in the order of Windows encoders; Basic only if it is named.
    #[test]
    fn h4_accepted_schemes() {
        let all = Methods { basic: true, ..Methods::default() };
        if cfg!(feature = "ntlm") {
            assert_eq!(Methods::default().accepted(), ["Negotiate", "NTLM", "Digest"]);
            assert_eq!(all.accepted(), ["Negotiate", "NTLM", "Digest", "Basic"]);
            assert_eq!(Methods { negotiate: false, ..Methods::default() }.accepted(), ["NTLM", "Digest"]);
        } else {
            assert_eq!(all.accepted(), ["Digest", "Basic"]);
        }
        assert_eq!(Methods { negotiate: false, ntlm: false, digest: false, basic: false }.accepted(), [""; 0]);
    }
}
