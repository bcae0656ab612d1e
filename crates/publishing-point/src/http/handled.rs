//! What a handler says of the request that it answered, beside the answer itself.

use std::borrow::Cow;

use http::Response;

use super::body::Body;

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Handled {
    /// Nothing that the connection has to know.
    Plain,
    /// It was refused; the log says so.
    Refused(Refusal),
    /// The response's body is a player's stream.
    Player,
    /// An encoder's request was granted: its session lives.
    PushAccepted,
    /// The client must show who it is.
    Unauthorized {
        /// It did so rightly, but with a nonce that no longer counts: no wrong password.
        stale: bool,
        /// The user that it says it is, if it says so.
        user: Option<String>,
    },
}

/// Why a request was refused, and whose it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: Cow<'static, str>,
    /// The user, if the client has shown who it is.
    pub(crate) user: Option<String>,
}

impl Refusal {
    /// The refusal of a client that has not shown who it is.
    pub(crate) fn new(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { reason: reason.into(), user: None }
    }
}

/// A response, and what became of its request.
pub(crate) struct Answer {
    pub(crate) response: Response<Body>,
    pub(crate) handled: Handled,
}

impl Answer {
    pub(crate) fn new(handled: Handled, response: Response<Body>) -> Self {
        Self { response, handled }
    }
}

impl From<Response<Body>> for Answer {
    /// The answer to a request of which the connection has to know nothing.
    fn from(response: Response<Body>) -> Self {
        Self::new(Handled::Plain, response)
    }
}
