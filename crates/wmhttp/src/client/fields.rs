//! The fields of a [`Session`](super::Session), grouped by what they describe.

use std::sync::Arc;
use std::time::Instant;

use super::resume::{LostSession, Resumed};
use crate::auth::{Authenticator, Target};

/// The entry of the stream that the server has in this session: what `$H` or the last `$C` began.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// Its header, compared by identity.
    pub(super) header: Option<Arc<asf::Header>>,
    /// The header was sent in the current PushStart, so only the response to that proves that it arrived.
    pub(super) in_request: bool,
    /// `$E`(1) was sent, and the `$C` that follows it was not.
    pub(super) is_between: bool,
    /// When `$E`(1) was sent; cleared once the server has shown that it accepts header changes.
    pub(super) changed_at: Option<Instant>,
    /// Framed bytes of data sent since `$H` or the last `$C`, in any request.
    pub(super) bytes_sent: u64,
}

/// The current PushStart.
#[derive(Debug, Default)]
pub(super) struct PushStart {
    /// When the request began, or its first data was sent.
    pub(super) started_at: Option<Instant>,
    /// It was sent on a connection that a proxy seemed to keep open.
    pub(super) connection_kept_by_proxy: bool,
    /// Framed bytes of data sent in this request.
    pub(super) bytes_sent: u64,
    /// [`Entry::header`] as it was before this request.
    pub(super) header_before: Option<Arc<asf::Header>>,
    /// [`Entry::is_between`] as it was before this request.
    pub(super) was_between: bool,
}

/// What has happened since the last call of [`Session::connect`](super::Session::connect).
#[derive(Debug, Default)]
pub(super) struct Attempt {
    /// PushSetup was repeated because a PushStart could not be authenticated.
    pub(super) sent_back_to_setup: bool,
    /// PushSetup was repeated because its connection was lost before any data was sent. This outlasts the attempt: only
    /// data that was sent clears it.
    pub(super) setup_repeated: bool,
    /// [`Event::Started`](super::Event::Started) was emitted.
    pub(super) started: bool,
}

/// Authentication state towards the server and towards a proxy.
#[derive(Debug)]
pub(super) struct Authenticators {
    pub(super) server: Authenticator,
    pub(super) proxy: Authenticator,
}

impl Default for Authenticators {
    fn default() -> Self {
        Self { server: Authenticator::new(Target::Server), proxy: Authenticator::new(Target::Proxy) }
    }
}

/// Resuming a session after its connection was lost (C-15).
#[derive(Debug, Default)]
pub(super) struct Resumption {
    /// The session lost most recently, while the server may still hold it.
    pub(super) lost: Option<LostSession>,
    /// Set while the current session is a resumed one that the server has not yet confirmed.
    pub(super) resumed: Option<Resumed>,
}
