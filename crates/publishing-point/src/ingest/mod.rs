//! Pushes of encoders: the handlers of PushSetup and PushStart, and the push session.

pub(crate) mod handlers;
pub(crate) mod rate_limit;
pub(crate) mod session;
pub(crate) mod setup;
pub(crate) mod stream_writer;
