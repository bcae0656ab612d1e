//! What a handler says of the request that it answered, beside the answer itself.

use http::Response;

use super::body::Body;

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handled {
    /// Nothing that the connection has to know.
    Plain,
    /// The response's body is a player's stream.
    Player,
    /// An encoder's request was granted: its session lives.
    PushAccepted,
    /// The client must show who it is.
    Unauthorized {
        /// It did so rightly, but with a nonce that no longer counts: no wrong password.
        stale: bool,
    },
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
