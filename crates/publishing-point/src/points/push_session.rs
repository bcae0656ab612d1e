//! The handle of a push session, which the registry keeps, and the messages to the session's task.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

use crate::http::connection::Connection;
use wmhttp::headers::{Directives, RequestHead};
use wmhttp::server::Reply;

/// A request for a session.
pub(crate) enum SessionRequest {
    /// A PushSetup with the id of the session.
    SetUpAgain { directives: Directives, connection: Weak<Connection>, answer: oneshot::Sender<Reply> },
    /// A PushStart.
    Start(Start),
}

/// A PushStart request.
pub(crate) struct Start {
    pub(crate) head: RequestHead,
    pub(crate) connection: Weak<Connection>,
    pub(crate) chunks: mpsc::Receiver<BodyChunk>,
    /// Dropping it without an answer closes the connection without a response.
    pub(crate) answer: oneshot::Sender<Reply>,
}

/// A part of a PushStart's body. A channel that closes before [`BodyChunk::End`] means a lost connection.
pub(crate) enum BodyChunk {
    /// The next bytes.
    Bytes(Bytes),
    /// The body is complete.
    End,
}

/// A command of the server to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionControl {
    /// No command: the initial value.
    Continue,
    /// End the session with this HTTP status (S-15).
    Terminate(u16),
    /// Another session continues at the point: end this one without ending the stream.
    Displaced,
}

/// The handle of a session's task.
#[derive(Clone)]
pub(crate) struct PublishSession {
    requests: mpsc::Sender<SessionRequest>,
    /// Only the latest command counts, so a session that is busy misses none that matters.
    control: watch::Sender<SessionControl>,
    /// The connection of the session's latest request.
    connection: watch::Receiver<Weak<Connection>>,
    /// The user that opened the session; `None` if no authentication was required.
    owner: Option<Arc<str>>,
}

impl PublishSession {
    /// Returns the handle of a session's task.
    pub(crate) fn new(
        requests: mpsc::Sender<SessionRequest>,
        control: watch::Sender<SessionControl>,
        connection: watch::Receiver<Weak<Connection>>,
        owner: Option<Arc<str>>,
    ) -> Self {
        Self { requests, control, connection, owner }
    }

    /// Returns the user that opened the session; `None` if no authentication was required.
    pub(crate) fn owner(&self) -> Option<&str> {
        self.owner.as_deref()
    }

    /// Returns whether the session belongs to this user, that is, whether this user opened it.
    pub(crate) fn belongs_to(&self, user: Option<&str>) -> bool {
        self.owner().is_none_or(|owner| user == Some(owner))
    }

    /// Returns whether the session's latest request arrived on this connection.
    pub(crate) fn is_on(&self, connection: &Arc<Connection>) -> bool {
        // Pointers are compared without upgrading: while the caller holds the connection, no other has its address.
        self.connection.borrow().as_ptr() == Arc::as_ptr(connection)
    }

    /// Passes a request to the session. A session that has ended drops it together with its answer channel.
    pub(crate) async fn request(&self, request: SessionRequest) {
        let _ = self.requests.send(request).await;
    }

    /// Sends a command to the session.
    pub(crate) fn control(&self, control: SessionControl) {
        self.control.send_replace(control);
    }

    /// Returns whether the encoder is connected.
    pub(crate) fn is_connected(&self) -> bool {
        self.connection.borrow().strong_count() > 0
    }

    /// Waits until the session's task has ended.
    pub(crate) async fn closed(&self) {
        self.requests.closed().await;
    }
}
