//! Who is let in: users, their passwords, and the rights that points give them.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use http::Response;
use http::header::{self, HeaderMap, HeaderValue};

use crate::config::Principals;
use crate::random::random_digits;
use wmhttp::headers::{RequestHead, accepted_schemes};
use wmhttp::server::access::{AccessPolicy, Authenticator, RequestLine, Unauthorized};
use wmhttp::server::{Policy, Reply};

/// Looks at whoever comes. Without users everybody is let in.
pub(crate) struct Access(Mutex<Option<Authenticator>>);

/// Why a player, or one who acts by the status API, is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AccessDenied {
    /// It must show who it is, in answer to a challenge.
    Unknown(Unauthorized),
    /// The user has no right here.
    NoRight,
    /// There is no randomness for a challenge.
    NoRandomness,
}

/// Puts on a response what a client is to show who it is by.
pub(crate) fn challenge<B>(response: &mut Response<B>, challenges: &[String]) {
    for challenge in challenges.iter().filter_map(|challenge| HeaderValue::from_str(challenge).ok()) {
        response.headers_mut().append(header::WWW_AUTHENTICATE, challenge);
    }
}

/// Who comes, and whether that is enough.
enum AuthOutcome {
    Unasked,
    User(String),
    NoRight(String),
    NoRandomness,
}

impl Access {
    pub(crate) fn new(users: Option<AccessPolicy>) -> Self {
        Self(Mutex::new(users.map(Authenticator::new)))
    }

    /// Other users count from now on; challenges that are out still do.
    pub(crate) fn set_users(&self, users: Option<AccessPolicy>) {
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match (users, guard.as_mut()) {
            (Some(rights), Some(guard)) => guard.set_rights(rights),
            (users, _) => *guard = users.map(Authenticator::new),
        }
    }

    /// Lets a pusher in who has all of these rights at the point `path`.
    ///
    /// # Errors
    /// What to answer where it may not push (S-6).
    pub(crate) fn pusher(
        &self,
        head: &RequestHead,
        line: RequestLine<'_>,
        rights: &[Principals],
        policy: &Policy,
        path: &str,
    ) -> Result<(), Reply> {
        match self.ask(rights, |guard, nonce| guard.admit(head, line, nonce, policy, Instant::now())) {
            Ok(AuthOutcome::Unasked) => Ok(()),
            Ok(AuthOutcome::User(user)) => {
                tracing::debug!(point = path, user, "a pusher is let in");
                Ok(())
            }
            Ok(AuthOutcome::NoRight(user)) => {
                tracing::info!(point = path, user, "a pusher has no right here");
                Err(Reply::error(policy, 403, "this user may not push here: the server's operator gives the right"))
            }
            Ok(AuthOutcome::NoRandomness) => Err(Reply::error(policy, 500, "no randomness for a challenge")),
            Err(reply) => {
                // The first request of every pusher has none.
                let with_credentials = !head.authorization.is_empty();
                tracing::info!(point = path, with_credentials, "a pusher is asked for credentials");
                Err(reply)
            }
        }
    }

    /// Lets a player in who has this right at the point `path`.
    ///
    /// # Errors
    /// Why it may not play.
    pub(crate) fn player(
        &self,
        headers: &HeaderMap,
        line: RequestLine<'_>,
        right: &Principals,
        path: &str,
    ) -> Result<(), AccessDenied> {
        match self.admit(headers, line, right)? {
            AuthOutcome::Unasked => Ok(()),
            AuthOutcome::User(user) => {
                tracing::debug!(point = path, user, "a player is let in");
                Ok(())
            }
            AuthOutcome::NoRight(user) => {
                tracing::info!(point = path, user, "a player has no right here");
                Err(AccessDenied::NoRight)
            }
            AuthOutcome::NoRandomness => Err(AccessDenied::NoRandomness),
        }
    }

    /// Gives the name of a user who may act at the point `path`; nobody may without having shown who it is.
    ///
    /// # Errors
    /// Why the client may not.
    pub(crate) fn operator(
        &self,
        headers: &HeaderMap,
        line: RequestLine<'_>,
        right: &Principals,
        path: &str,
    ) -> Result<String, AccessDenied> {
        if right.is_nobodys() {
            return Err(AccessDenied::NoRight);
        }
        match self.admit(headers, line, right)? {
            AuthOutcome::User(user) => Ok(user),
            AuthOutcome::Unasked => Err(AccessDenied::NoRight),
            AuthOutcome::NoRight(user) => {
                tracing::info!(point = path, user, "a user has no right to act here");
                Err(AccessDenied::NoRight)
            }
            AuthOutcome::NoRandomness => Err(AccessDenied::NoRandomness),
        }
    }

    /// # Errors
    /// The challenges to one that is unknown.
    fn admit(
        &self,
        headers: &HeaderMap,
        line: RequestLine<'_>,
        right: &Principals,
    ) -> Result<AuthOutcome, AccessDenied> {
        let authorization = headers.get(header::AUTHORIZATION);
        let listed = accepted_schemes(headers);
        let authenticate = |guard: &mut Authenticator, nonce: &str| {
            guard.authenticate(authorization, &listed, line, nonce, Instant::now())
        };
        self.ask(std::slice::from_ref(right), authenticate).map_err(AccessDenied::Unknown)
    }

    /// Asks who comes, where one of these rights is not everybody's.
    fn ask<E>(
        &self,
        rights: &[Principals],
        authenticate: impl FnOnce(&mut Authenticator, &str) -> Result<String, E>,
    ) -> Result<AuthOutcome, E> {
        if rights.iter().all(|who| *who == Principals::Everybody) {
            return Ok(AuthOutcome::Unasked);
        }
        let Some(nonce) = random_digits() else { return Ok(AuthOutcome::NoRandomness) };
        // A nonce is spent or not, whatever else failed.
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(guard) = guard.as_mut() else { return Ok(AuthOutcome::Unasked) };
        let user = authenticate(guard, &nonce)?;
        Ok(if rights.iter().all(|who| who.has(&user)) { AuthOutcome::User(user) } else { AuthOutcome::NoRight(user) })
    }
}
