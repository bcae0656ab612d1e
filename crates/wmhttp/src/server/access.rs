//! Who comes: 401 and what answers it, by Basic and Digest (S-6; RFC 7617, RFC 7616).
//!
//! [`AccessPolicy`] say who and how, a [`Authenticator`] looks at requests. No clock and no random source: the
//! time and the text of a new nonce are arguments.
//!
//! ```
//! use wmhttp::server::access::{AccessPolicy, Scheme, Users};
//!
//! // What `htdigest` writes: the MD5 of `bob:push:secret`.
//! let users: Users = "bob:push:0786f66609ee7d38256a25b55563aa64\n".parse()?;
//! let rights = AccessPolicy { schemes: vec![Scheme::Digest], ..AccessPolicy::new(users) };
//! # let _ = rights;
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

/// Nonces that count at one time. The oldest goes first: who used it is told that it is stale.
const MAX_NONCES: usize = 1024;
/// How long a nonce counts; its holder then gets another without being asked for the password.
const NONCE_LIFETIME: Duration = Duration::from_secs(300);

/// An authentication scheme that a publishing point can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// RFC 7617: the password as it is, which only TLS hides.
    Basic,
    /// RFC 7616, by MD5 and by SHA-256.
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
        found.ok_or("the schemes are `digest` and `basic`")
    }
}

/// Who may push, and how they show it.
#[derive(Clone, Debug)]
pub struct AccessPolicy {
    /// Those who may.
    pub users: Users,
    /// Schemes to ask for, the preferred first; none lets nobody in.
    pub schemes: Vec<Scheme>,
    /// How long the nonce of a Digest challenge counts.
    pub nonce_lifetime: Duration,
}

impl AccessPolicy {
    /// Rights of these users by any scheme, Digest preferred.
    pub fn new(users: Users) -> Self {
        Self { users, schemes: Scheme::ALL.to_vec(), nonce_lifetime: NONCE_LIFETIME }
    }
}

/// A request's first line, which a Digest is of.
#[derive(Clone, Copy, Debug)]
pub struct RequestLine<'a> {
    /// HTTP method.
    pub method: &'a str,
    /// The target as it stands there.
    pub target: &'a str,
}

/// Why nobody is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// Without credentials, or with wrong ones.
    Unknown,
    /// The credentials are right but for a nonce that does not count any more.
    Stale,
}

/// Nobody is let in: what a 401 answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unauthorized {
    /// The values of its WWW-Authenticate headers, the preferred first.
    pub challenges: Vec<String>,
    /// The password was right, and only the nonce no longer counts: no attempt at guessing it.
    pub stale: bool,
    /// The user that the client says it is, if it says so.
    pub user: Option<String>,
}

/// Looks at the requests of a server's pushers.
#[derive(Debug)]
pub struct Authenticator {
    rights: AccessPolicy,
    nonces: Nonces,
}

impl Authenticator {
    /// A guard that nobody has asked yet.
    pub fn new(rights: AccessPolicy) -> Self {
        Self { rights, nonces: Nonces::default() }
    }

    /// Others have rights from now on, and show them in other ways; challenges that are out still count.
    pub fn set_rights(&mut self, rights: AccessPolicy) {
        self.rights = rights;
    }

    /// Whether there is a user of this name.
    pub fn knows(&self, user: &str) -> bool {
        self.rights.users.has(user)
    }

    /// Lets a pusher in: gives the user's name.
    ///
    /// `fresh` becomes the nonce of a challenge: it must come from a cryptographic random source and
    /// consist of letters and digits.
    ///
    /// # Errors
    /// The 401 to answer (S-6). The connection stays open, that of a PushStart too (3.2.5.2).
    pub fn admit(
        &mut self,
        head: &RequestHead,
        line: RequestLine<'_>,
        fresh: &str,
        policy: &Policy,
        now: Instant,
    ) -> Result<String, Reply> {
        let authorization = head.authorization.iter().find(|(name, _)| name == header::AUTHORIZATION);
        let authorization = authorization.map(|(_, value)| value);
        self.authenticate(authorization, &head.accept_authentication, line, fresh, now).map_err(|denied| {
            let text = "who pushes to this publishing point must name a user and the right password";
            let outcome = Outcome::Unauthorized(Box::new(denied));
            Reply { close: false, outcome, ..Reply::error(policy, 401, text) }
        })
    }

    /// Who shows to be a user by the value of an Authorization header: gives the user's name. `listed` are
    /// the schemes that the client says it can do (H-4), `fresh` is as in [`Authenticator::admit`].
    ///
    /// # Errors
    /// What a 401 answers.
    pub fn authenticate(
        &mut self,
        authorization: Option<&HeaderValue>,
        listed: &[String],
        line: RequestLine<'_>,
        fresh: &str,
        now: Instant,
    ) -> Result<String, Unauthorized> {
        let text = authorization.map(|value| lenient_text(value).trim().to_owned());
        let refusal = match self.look_at(text.as_deref(), line, now) {
            Ok(user) => return Ok(user),
            Err(refusal) => refusal,
        };
        let offered = self.offered(listed);
        if offered.contains(&Scheme::Digest) {
            self.nonces.issue_nonce(fresh, now + self.rights.nonce_lifetime);
        }
        let challenges = offered.into_iter().flat_map(|scheme| self.challenges(scheme, fresh, refusal)).collect();
        Err(Unauthorized { challenges, stale: refusal == Refusal::Stale, user: text.as_deref().and_then(claimed_user) })
    }

    fn look_at(&mut self, authorization: Option<&str>, line: RequestLine<'_>, now: Instant) -> Result<String, Refusal> {
        let text = authorization.ok_or(Refusal::Unknown)?;
        let (scheme, rest) = text.split_once(' ').ok_or(Refusal::Unknown)?;
        let scheme = scheme.parse().map_err(|_| Refusal::Unknown)?;
        if !self.rights.schemes.contains(&scheme) {
            return Err(Refusal::Unknown);
        }
        match scheme {
            Scheme::Basic => basic(&self.rights.users, rest.trim()).ok_or(Refusal::Unknown),
            Scheme::Digest => {
                let answer = digest::Answer::parse(text).ok_or(Refusal::Unknown)?;
                if !answer.is_right(&self.rights.users, line) {
                    return Err(Refusal::Unknown);
                }
                // Only who knows the password is told what became of a nonce.
                if self.nonces.consume_nonce(answer.nonce(), answer.count(), now) {
                    Ok(answer.user().into_owned())
                } else {
                    Err(Refusal::Stale)
                }
            }
        }
    }

    /// The schemes that a client lists; all of them to one that lists none of them, since Windows
    /// clients do not list Basic and can do it (H-4).
    fn offered(&self, listed: &[String]) -> Vec<Scheme> {
        let schemes = self.rights.schemes.iter().copied();
        let is_listed = |scheme: &Scheme| listed.iter().any(|name| name.eq_ignore_ascii_case(scheme.name()));
        let both: Vec<_> = schemes.clone().filter(is_listed).collect();
        if both.is_empty() { schemes.collect() } else { both }
    }

    fn challenges(&self, scheme: Scheme, nonce: &str, refusal: Refusal) -> Vec<String> {
        let users = &self.rights.users;
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

/// The user of Basic credentials, where the password is right.
fn basic(users: &Users, credentials: &str) -> Option<String> {
    let (user, password) = basic_pair(credentials)?;
    users.has_password(&user, &password).then_some(user)
}

/// User and password of Basic credentials, in UTF-8 or Latin-1.
fn basic_pair(credentials: &str) -> Option<(String, String)> {
    let bytes = BASE64_STANDARD.decode(credentials).ok()?;
    let text = utf8_or_latin1(&bytes);
    text.split_once(':').map(|(user, password)| (user.to_owned(), password.to_owned()))
}

/// Who a client says it is, right or wrong.
fn claimed_user(authorization: &str) -> Option<String> {
    let (scheme, rest) = authorization.split_once(' ')?;
    match scheme.parse().ok()? {
        Scheme::Basic => basic_pair(rest.trim()).map(|(user, _)| user),
        Scheme::Digest => digest::Answer::parse(authorization).map(|answer| answer.user().into_owned()),
    }
}

/// The nonces that count, the oldest first.
#[derive(Default)]
struct Nonces(VecDeque<Nonce>);

struct Nonce {
    text: String,
    until: Instant,
    /// The highest nonce count so far.
    count: u32,
}

impl Nonces {
    fn issue_nonce(&mut self, text: &str, until: Instant) {
        if self.0.len() == MAX_NONCES {
            self.0.pop_front();
        }
        self.0.push_back(Nonce { text: text.to_owned(), until, count: 0 });
    }

    /// Whether the nonce counts, and this count was not had: each is good for one request.
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
