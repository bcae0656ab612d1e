//! Encoders push in: the handlers of PushSetup and PushStart, and the publishing session.

pub(crate) mod handlers;
pub(crate) mod rate_limit;
pub(crate) mod session;
