//! Information about a handled request for the connection, in addition to the response.

use std::borrow::Cow;

use http::Response;

use super::body::Body;

/// The result of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Handled {
    /// Nothing that concerns the connection.
    Plain,
    /// The request was refused, which is logged.
    Refused(Refusal),
    /// The response body is a player's stream.
    Player,
    /// An encoder's request was accepted, and its session exists.
    PushAccepted,
    /// The client must authenticate.
    Unauthorized {
        /// The credentials were right, but their nonce has expired. This is not a failed login.
        stale: bool,
        /// The user name that the client sent, if any.
        user: Option<String>,
    },
}

/// The reason of a refusal, and the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: Cow<'static, str>,
    /// The user, if the client is authenticated.
    pub(crate) user: Option<String>,
}

impl Refusal {
    /// Returns the refusal of a client that is not authenticated.
    pub(crate) fn new(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { reason: reason.into(), user: None }
    }
}

/// A response, and the result of its request.
pub(crate) struct Answer {
    pub(crate) response: Response<Body>,
    pub(crate) handled: Handled,
}

impl Answer {
    /// Returns a response with information for the connection.
    pub(crate) fn new(handled: Handled, response: Response<Body>) -> Self {
        Self { response, handled }
    }
}

impl From<Response<Body>> for Answer {
    /// Returns an answer without further information for the connection.
    fn from(response: Response<Body>) -> Self {
        Self::new(Handled::Plain, response)
    }
}
