//! Authentication to a server or a proxy (C-5, C-13).
//!
//! A file for each scheme, and a table with a row for each, the strongest first. An
//! [`Authenticator`] takes one peer's challenges and says what becomes of the request: it is
//! sent again with the header that [`Authenticator::authorize`] gives, or credentials are
//! asked for, or it has failed. Each set of credentials is tried once.
//!
//! No I/O, no clock, no lock: random values and the time come in as arguments.

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

/// Who asks for credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The server, by 401.
    Server,
    /// A proxy before it, by 407.
    Proxy,
}

impl Target {
    /// Who asks by this status, if any.
    pub fn from_status(status: u16) -> Option<Self> {
        match status {
            401 => Some(Self::Server),
            407 => Some(Self::Proxy),
            _ => None,
        }
    }

    /// The header of its challenges.
    pub fn challenge_header(self) -> HeaderName {
        match self {
            Self::Server => WWW_AUTHENTICATE,
            Self::Proxy => PROXY_AUTHENTICATE,
        }
    }

    /// The header that answers them.
    pub fn answer_header(self) -> HeaderName {
        match self {
            Self::Server => AUTHORIZATION,
            Self::Proxy => PROXY_AUTHORIZATION,
        }
    }
}

/// A way to authenticate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// SPNEGO (RFC 4559).
    Negotiate,
    /// [MS-NTHT].
    Ntlm,
    /// RFC 7616.
    Digest,
    /// RFC 7617.
    Basic,
}

impl Scheme {
    /// Its name in HTTP.
    pub fn name(self) -> &'static str {
        match self {
            Self::Negotiate => "Negotiate",
            Self::Ntlm => "NTLM",
            Self::Digest => "Digest",
            Self::Basic => "Basic",
        }
    }

    /// Whether who listens can read the password.
    pub fn is_clear_text(self) -> bool {
        self == Self::Basic
    }

    /// Whether it authenticates a TCP connection and not a request: then it is for PushSetup only (C-13).
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
    /// Basic, also over plain http.
    pub basic: bool,
}

impl Default for Methods {
    fn default() -> Self {
        Self { negotiate: true, ntlm: true, digest: true, basic: false }
    }
}

impl Methods {
    /// Whether `scheme` may be used.
    pub fn allow(self, scheme: Scheme) -> bool {
        match scheme {
            Scheme::Negotiate => self.negotiate,
            Scheme::Ntlm => self.ntlm,
            Scheme::Digest => self.digest,
            Scheme::Basic => self.basic,
        }
    }

    /// `X-Accept-Authentication` (H-4): what is allowed and built in, the preferred first.
    pub fn accepted(self) -> Vec<String> {
        TABLE.iter().map(|row| row.scheme).filter(|scheme| self.allow(*scheme)).map(|s| s.name().to_owned()).collect()
    }
}

/// What a request's authentication depends on.
#[derive(Clone, Copy, Debug)]
struct RequestLine<'a> {
    method: &'a str,
    /// Path and query, as they are sent.
    target: &'a str,
}

/// One exchange by one scheme, from its first challenge on.
trait Mechanism: fmt::Debug + Send {
    /// The answer header's value for the next request; `None` where it needs none.
    fn authorize(&mut self, line: RequestLine<'_>) -> Option<Secret>;

    /// Another challenge of the same scheme: true where the exchange goes on, false where it is refused.
    ///
    /// # Errors
    /// Why the challenge cannot be answered.
    fn challenged(&mut self, challenge: &Challenge) -> Result<bool, String>;

    /// The next request goes on another connection: false where the exchange ends with the old one.
    fn survives_connection(&self) -> bool {
        true
    }
}

/// What an exchange begins with.
struct InitialState<'a> {
    challenge: &'a Challenge,
    credentials: &'a Credentials,
    random: fn() -> [u8; 16],
    /// The time of day, which NTLM tells a server that does not tell its own.
    #[cfg_attr(not(feature = "ntlm"), expect(dead_code, reason = "for the schemes that are left out"))]
    wall_clock: fn() -> SystemTime,
    /// The host that asks, where it is known.
    #[cfg_attr(not(feature = "ntlm"), expect(dead_code, reason = "for the schemes that are left out"))]
    host: Option<&'a str>,
}

/// A scheme's row.
struct Row {
    scheme: Scheme,
    /// The best of a scheme's challenges that can be answered.
    choose: for<'a> fn(&[&'a Challenge]) -> Option<&'a Challenge>,
    /// # Errors
    /// Why it cannot begin.
    begin: fn(&InitialState<'_>) -> Result<Box<dyn Mechanism>, String>,
}

/// The schemes of this build, the strongest first; the order of Windows encoders.
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

    /// H-4: what is allowed, in the order of Windows encoders; Basic only where it is named.
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
