//! Authorization: users, their passwords, and the rights that points grant them.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use http::Response;
use http::header::{self, HeaderMap, HeaderValue};

use crate::config::Principals;
use crate::random::random_digits;
use wmhttp::headers::{RequestHead, accepted_schemes};
use wmhttp::server::access::{AccessPolicy, Authenticator, RequestLine, Unauthorized};
use wmhttp::server::{Policy, Reply};

/// Authenticates clients and checks their rights. Without users, every client is admitted.
///
/// The lock is held only while credentials are checked in memory, never across an await.
pub(crate) struct Access(Mutex<Option<Authenticator>>);

/// Why a player, or a client of the status API, is rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AccessDenied {
    /// The client must authenticate first; contains the challenges.
    Unauthenticated(Unauthorized),
    /// The client has no right to this request; contains the user, if known.
    NoRight(Option<String>),
    /// The system provides no random numbers for a challenge.
    NoRandomness,
}

/// The response to a refused request, and the user.
pub(crate) struct Refused {
    pub(crate) reply: Reply,
    /// The user, if the encoder is authenticated.
    pub(crate) user: Option<String>,
}

impl From<Reply> for Box<Refused> {
    fn from(reply: Reply) -> Self {
        Box::new(Refused { reply, user: None })
    }
}

/// Adds the authentication challenges to a response.
pub(crate) fn challenge<B>(response: &mut Response<B>, challenges: &[String]) {
    for challenge in challenges.iter().filter_map(|challenge| HeaderValue::from_str(challenge).ok()) {
        response.headers_mut().append(header::WWW_AUTHENTICATE, challenge);
    }
}

/// The result of an authentication and the check of the rights.
enum AuthOutcome {
    /// No authentication is required: everybody has the right, or there are no users.
    NotRequired,
    /// The client is this user and has the rights.
    User(String),
    /// The client is this user, who lacks one of the rights.
    NoRight(String),
    /// The system provides no random numbers for a challenge.
    NoRandomness,
}

impl Access {
    pub(crate) fn new(users: Option<AccessPolicy>) -> Self {
        Self(Mutex::new(users.map(Authenticator::new)))
    }

    /// Replaces the users. Challenges that were sent before remain valid.
    pub(crate) fn set_users(&self, users: Option<AccessPolicy>) {
        let mut authenticator = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match (users, authenticator.as_mut()) {
            (Some(rights), Some(authenticator)) => authenticator.set_access(rights),
            (users, _) => *authenticator = users.map(Authenticator::new),
        }
    }

    /// Returns the encoder's user if it has all of these rights; `None` if no authentication is required.
    ///
    /// # Errors
    /// The response to an encoder that may not push (S-6).
    pub(crate) fn pusher(
        &self,
        head: &RequestHead,
        line: RequestLine<'_>,
        rights: &[Principals],
        policy: &Policy,
    ) -> Result<Option<String>, Box<Refused>> {
        match self
            .authenticate(rights, |authenticator, nonce| authenticator.admit(head, line, nonce, policy, Instant::now()))
        {
            Ok(AuthOutcome::NotRequired) => Ok(None),
            Ok(AuthOutcome::User(user)) => Ok(Some(user)),
            Ok(AuthOutcome::NoRight(user)) => {
                let text = "this user may not push to this publishing point; ask the server's operator for permission";
                Err(Box::new(Refused { reply: Reply::error(policy, 403, text), user: Some(user) }))
            }
            Ok(AuthOutcome::NoRandomness) => Err(Reply::error(
                policy,
                500,
                "internal error: no random numbers available for an authentication challenge",
            )
            .into()),
            Err(reply) => Err(reply.into()),
        }
    }

    /// Returns whether this user, who was authenticated before, still exists and has all of these rights.
    pub(crate) fn still_has(&self, user: &str, rights: &[Principals]) -> bool {
        let authenticator = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Without users, nobody is asked to authenticate, so every user remains known.
        let known = authenticator.as_ref().is_none_or(|authenticator| authenticator.knows(user));
        known && rights.iter().all(|who| who.has(user))
    }

    /// Returns the player's user if it has this right; `None` if no authentication is required.
    ///
    /// # Errors
    /// Why the player is rejected.
    pub(crate) fn player(
        &self,
        headers: &HeaderMap,
        line: RequestLine<'_>,
        right: &Principals,
    ) -> Result<Option<String>, AccessDenied> {
        match self.admit(headers, line, right)? {
            AuthOutcome::NotRequired => Ok(None),
            AuthOutcome::User(user) => Ok(Some(user)),
            AuthOutcome::NoRight(user) => Err(AccessDenied::NoRight(Some(user))),
            AuthOutcome::NoRandomness => Err(AccessDenied::NoRandomness),
        }
    }

    /// Returns the user if it has this right. Authentication is always required.
    ///
    /// # Errors
    /// Why the client is rejected.
    pub(crate) fn operator(
        &self,
        headers: &HeaderMap,
        line: RequestLine<'_>,
        right: &Principals,
    ) -> Result<String, AccessDenied> {
        // Without this check, a client would be challenged for a right that no user can have.
        if right.is_nobodys() {
            return Err(AccessDenied::NoRight(None));
        }
        match self.admit(headers, line, right)? {
            AuthOutcome::User(user) => Ok(user),
            AuthOutcome::NotRequired => Err(AccessDenied::NoRight(None)),
            AuthOutcome::NoRight(user) => Err(AccessDenied::NoRight(Some(user))),
            AuthOutcome::NoRandomness => Err(AccessDenied::NoRandomness),
        }
    }

    /// # Errors
    /// The challenges, if the client is not authenticated.
    fn admit(
        &self,
        headers: &HeaderMap,
        line: RequestLine<'_>,
        right: &Principals,
    ) -> Result<AuthOutcome, AccessDenied> {
        let authorization = headers.get(header::AUTHORIZATION);
        let listed = accepted_schemes(headers);
        let authenticate = |authenticator: &mut Authenticator, nonce: &str| {
            authenticator.authenticate(authorization, &listed, line, nonce, Instant::now())
        };
        self.authenticate(std::slice::from_ref(right), authenticate).map_err(AccessDenied::Unauthenticated)
    }

    /// Authenticates the client, unless everybody has all of these rights.
    fn authenticate<E>(
        &self,
        rights: &[Principals],
        authenticate: impl FnOnce(&mut Authenticator, &str) -> Result<String, E>,
    ) -> Result<AuthOutcome, E> {
        if rights.iter().all(|who| *who == Principals::Everybody) {
            return Ok(AuthOutcome::NotRequired);
        }
        // The nonce is made before the lock is taken, because reading random numbers is a system call.
        let Some(nonce) = random_digits() else { return Ok(AuthOutcome::NoRandomness) };
        // A poisoned lock can be used: a nonce is either consumed or not, whatever else failed.
        let mut authenticator = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(authenticator) = authenticator.as_mut() else { return Ok(AuthOutcome::NotRequired) };
        let user = authenticate(authenticator, &nonce)?;
        Ok(if rights.iter().all(|who| who.has(&user)) { AuthOutcome::User(user) } else { AuthOutcome::NoRight(user) })
    }
}
