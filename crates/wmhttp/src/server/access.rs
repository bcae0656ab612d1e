//! Authenticates clients: 401 responses, and the credentials that answer them, with Basic and Digest (S-6; RFC 7617,
//! RFC 7616).
//!
//! An [`AccessPolicy`] defines the users and schemes, and an [`Authenticator`] checks requests. There is no clock and
//! no random source: the time and the text of a new nonce are arguments.
//!
//! ```
//! use wmhttp::server::access::{AccessPolicy, Scheme, Users};
//!
//! // A line written by `htdigest`: the MD5 of `bob:push:secret`.
//! let users: Users = "bob:push:0786f66609ee7d38256a25b55563aa64\n".parse()?;
//! let access = AccessPolicy { schemes: vec![Scheme::Digest], ..AccessPolicy::new(users) };
//! # let _ = access;
//! # Ok::<(), wmhttp::server::access::UsersError>(())
//! ```

mod digest;
mod users;

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::{self, HeaderValue};

use super::{Outcome, Policy, Reply, RequestHead};
use crate::headers::{lenient_text, utf8_or_latin1};
use users::Algorithm;
pub use users::{Users, UsersError};

/// Maximum number of valid nonces. The oldest is dropped first; a client that uses it receives a new challenge with
/// `stale`.
const MAX_NONCES: usize = 1024;
/// How long a nonce is valid. Afterwards the client receives another one without having to ask the user for the
/// password again.
const NONCE_LIFETIME: Duration = Duration::from_secs(300);

/// An authentication scheme that a publishing point can require.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// RFC 7617: the password in readable form, which is confidential only with TLS.
    Basic,
    /// RFC 7616, with MD5 and SHA-256.
    Digest,
}

impl Scheme {
    const ALL: [Self; 2] = [Self::Digest, Self::Basic];

    fn name(self) -> &'static str {
        match self {
            Self::Basic => "Basic",
            Self::Digest => "Digest",
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Scheme {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let found = Self::ALL.into_iter().find(|scheme| scheme.name().eq_ignore_ascii_case(text));
        found.ok_or("unknown authentication scheme; the schemes are `digest` and `basic`")
    }
}

/// The users that may push, and how they authenticate.
#[derive(Clone, Debug)]
pub struct AccessPolicy {
    /// The users.
    pub users: Users,
    /// The schemes in challenges, the preferred one first; an empty list admits no user.
    pub schemes: Vec<Scheme>,
    /// How long the nonce of a Digest challenge is valid.
    pub nonce_lifetime: Duration,
}

impl AccessPolicy {
    /// Creates a policy for these users with all schemes, Digest preferred.
    pub fn new(users: Users) -> Self {
        Self { users, schemes: Scheme::ALL.to_vec(), nonce_lifetime: NONCE_LIFETIME }
    }
}

/// A request line, which a Digest response covers.
#[derive(Clone, Copy, Debug)]
pub struct RequestLine<'a> {
    /// HTTP method.
    pub method: &'a str,
    /// The request target as it was sent.
    pub target: &'a str,
}

/// Why a client is not authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// The credentials are missing or wrong.
    Invalid,
    /// The credentials are right, but the nonce is no longer valid.
    Stale,
}

/// The client is not authenticated: the contents of the 401 response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unauthorized {
    /// The values of the WWW-Authenticate headers, the preferred one first.
    pub challenges: Vec<String>,
    /// Whether the password was right and only the nonce was no longer valid, so that this is not a failed login.
    pub stale: bool,
    /// The user name that the client claims, if any.
    pub user: Option<String>,
}

/// Authenticates requests.
#[derive(Debug)]
pub struct Authenticator {
    access: AccessPolicy,
    nonces: Nonces,
}

impl Authenticator {
    /// Creates an authenticator that has issued no nonces yet.
    pub fn new(access: AccessPolicy) -> Self {
        Self { access, nonces: Nonces::default() }
    }

    /// Replaces the policy; issued nonces remain valid.
    pub fn set_access(&mut self, access: AccessPolicy) {
        self.access = access;
    }

    /// Returns whether a user of this name exists.
    pub fn knows(&self, user: &str) -> bool {
        self.access.users.contains(user)
    }

    /// Authenticates an encoder and returns its user name.
    ///
    /// `new_nonce` becomes the nonce of a challenge: it must come from a cryptographic random source and consist of
    /// letters and digits.
    ///
    /// # Errors
    /// The 401 response (S-6). The connection stays open, even after a PushStart (3.2.5.2).
    pub fn admit(
        &mut self,
        head: &RequestHead,
        line: RequestLine<'_>,
        new_nonce: &str,
        policy: &Policy,
        now: Instant,
    ) -> Result<String, Reply> {
        let authorization = head.authorization.iter().find(|(name, _)| name == header::AUTHORIZATION);
        let authorization = authorization.map(|(_, value)| value);
        self.authenticate(authorization, &head.accept_authentication, line, new_nonce, now).map_err(|denied| {
            let text = "Authentication required to push to this publishing point";
            let outcome = Outcome::Unauthorized(Box::new(denied));
            Reply { close: false, outcome, ..Reply::error(policy, 401, text) }
        })
    }

    /// Authenticates the user of an Authorization header's value and returns the user name. `listed` are the schemes
    /// that the client supports (H-4), and `new_nonce` is as in [`Authenticator::admit`].
    ///
    /// # Errors
    /// The contents of the 401 response.
    pub fn authenticate(
        &mut self,
        authorization: Option<&HeaderValue>,
        listed: &[String],
        line: RequestLine<'_>,
        new_nonce: &str,
        now: Instant,
    ) -> Result<String, Unauthorized> {
        let text = authorization.map(|value| lenient_text(value).trim().to_owned());
        let refusal = match self.verify(text.as_deref(), line, now) {
            Ok(user) => return Ok(user),
            Err(refusal) => refusal,
        };
        let offered = self.offered(listed);
        // A nonce that no challenge contains would displace one that a client uses.
        if offered.contains(&Scheme::Digest) {
            self.nonces.issue_nonce(new_nonce, now + self.access.nonce_lifetime);
        }
        let challenges = offered.into_iter().flat_map(|scheme| self.challenges(scheme, new_nonce, refusal)).collect();
        Err(Unauthorized { challenges, stale: refusal == Refusal::Stale, user: text.as_deref().and_then(claimed_user) })
    }

    /// Checks the credentials in an Authorization header, and returns the user name.
    fn verify(&mut self, authorization: Option<&str>, line: RequestLine<'_>, now: Instant) -> Result<String, Refusal> {
        let text = authorization.ok_or(Refusal::Invalid)?;
        let (scheme, rest) = text.split_once(' ').ok_or(Refusal::Invalid)?;
        let scheme = scheme.parse().map_err(|_| Refusal::Invalid)?;
        if !self.access.schemes.contains(&scheme) {
            return Err(Refusal::Invalid);
        }
        match scheme {
            Scheme::Basic => basic(&self.access.users, rest.trim()).ok_or(Refusal::Invalid),
            Scheme::Digest => {
                let answer = digest::Answer::parse(text).ok_or(Refusal::Invalid)?;
                if !answer.is_valid(&self.access.users, line) {
                    return Err(Refusal::Invalid);
                }
                // Only a client that knows the password may learn the state of a nonce.
                if self.nonces.consume_nonce(answer.nonce(), answer.count(), now) {
                    Ok(answer.user().into_owned())
                } else {
                    Err(Refusal::Stale)
                }
            }
        }
    }

    /// Returns the schemes that a client lists, or all if it lists none of ours, because Windows clients do not list
    /// Basic although they support it (H-4).
    fn offered(&self, listed: &[String]) -> Vec<Scheme> {
        let schemes = self.access.schemes.iter().copied();
        let is_listed = |scheme: &Scheme| listed.iter().any(|name| name.eq_ignore_ascii_case(scheme.name()));
        let both: Vec<_> = schemes.clone().filter(is_listed).collect();
        if both.is_empty() { schemes.collect() } else { both }
    }

    /// Returns the challenges of a scheme: one for each algorithm of Digest.
    fn challenges(&self, scheme: Scheme, nonce: &str, refusal: Refusal) -> Vec<String> {
        let users = &self.access.users;
        let realm = users.realm();
        match scheme {
            Scheme::Basic => vec![format!("Basic realm=\"{realm}\", charset=\"UTF-8\"")],
            Scheme::Digest => {
                let stale = if refusal == Refusal::Stale { ", stale=true" } else { "" };
                let charset = if users.has_names_beyond_ascii() { ", charset=UTF-8" } else { "" };
                let challenge = |algorithm: Algorithm| {
                    format!(
                        "Digest realm=\"{realm}\", nonce=\"{nonce}\", qop=\"auth\", algorithm={}{charset}{stale}",
                        algorithm.name()
                    )
                };
                users.algorithms().map(challenge).collect()
            }
        }
    }
}

/// Returns the user of Basic credentials if the password is right.
fn basic(users: &Users, credentials: &str) -> Option<String> {
    let (user, password) = basic_pair(credentials)?;
    users.has_password(&user, &password).then_some(user)
}

/// Decodes user name and password of Basic credentials, in UTF-8 or Latin-1.
fn basic_pair(credentials: &str) -> Option<(String, String)> {
    let bytes = BASE64_STANDARD.decode(credentials).ok()?;
    let text = utf8_or_latin1(&bytes);
    text.split_once(':').map(|(user, password)| (user.to_owned(), password.to_owned()))
}

/// Returns the user name that a client claims, whether the password is right or not.
fn claimed_user(authorization: &str) -> Option<String> {
    let (scheme, rest) = authorization.split_once(' ')?;
    match scheme.parse().ok()? {
        Scheme::Basic => basic_pair(rest.trim()).map(|(user, _)| user),
        Scheme::Digest => digest::Answer::parse(authorization).map(|answer| answer.user().into_owned()),
    }
}

/// The valid nonces, the oldest first.
#[derive(Default)]
struct Nonces(VecDeque<Nonce>);

struct Nonce {
    text: String,
    until: Instant,
    /// The highest nonce count that was used.
    count: u32,
}

impl Nonces {
    /// Adds a nonce, in place of the oldest if there are too many.
    fn issue_nonce(&mut self, text: &str, until: Instant) {
        if self.0.len() == MAX_NONCES {
            self.0.pop_front();
        }
        self.0.push_back(Nonce { text: text.to_owned(), until, count: 0 });
    }

    /// Consumes a nonce count: returns whether the nonce is valid and the count was not used before. Each count is
    /// valid for one request.
    fn consume_nonce(&mut self, text: &str, count: u32, now: Instant) -> bool {
        self.0.retain(|nonce| now < nonce.until);
        let Some(nonce) = self.0.iter_mut().find(|nonce| nonce.text == text && nonce.count < count) else {
            return false;
        };
        nonce.count = count;
        true
    }
}

impl fmt::Debug for Nonces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Nonces").field(&self.0.len()).finish()
    }
}

#[cfg(test)]
mod tests;
