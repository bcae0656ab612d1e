//! The way to a push session: its handle, which the registry keeps, and what is sent to its task.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

use crate::http::connection::Connection;
use wmhttp::headers::{Directives, RequestHead};
use wmhttp::server::Reply;

/// A request to a session.
pub(crate) enum SessionRequest {
    SetUpAgain { directives: Directives, connection: Weak<Connection>, answer: oneshot::Sender<Reply> },
    Start(Start),
}

/// A PushStart.
pub(crate) struct Start {
    pub(crate) head: RequestHead,
    pub(crate) connection: Weak<Connection>,
    pub(crate) chunks: mpsc::Receiver<BodyChunk>,
    /// Dropped unused, it closes the connection without an answer.
    pub(crate) answer: oneshot::Sender<Reply>,
}

/// A piece of a PushStart's body. A channel that closes before [`BodyChunk::End`] is a lost connection.
pub(crate) enum BodyChunk {
    Bytes(Bytes),
    End,
}

/// What the server decides about a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionControl {
    Stay,
    /// Ended with an HTTP status (S-15).
    Expelled(u16),
    /// Another session continues in its point: this one ends without ending the stream.
    Displaced,
}

/// The way to a session's task.
#[derive(Clone)]
pub(crate) struct PublishSession {
    requests: mpsc::Sender<SessionRequest>,
    control: watch::Sender<SessionControl>,
    /// The connection of the session's latest request.
    connection: watch::Receiver<Weak<Connection>>,
    /// The user that opened it; `None` where nobody was asked.
    owner: Option<Arc<str>>,
}

impl PublishSession {
    pub(crate) fn new(
        requests: mpsc::Sender<SessionRequest>,
        control: watch::Sender<SessionControl>,
        connection: watch::Receiver<Weak<Connection>>,
        owner: Option<Arc<str>>,
    ) -> Self {
        Self { requests, control, connection, owner }
    }

    /// The user that opened the session; `None` where nobody was asked.
    pub(crate) fn owner(&self) -> Option<&str> {
        self.owner.as_deref()
    }

    /// Whether this user may act in the session: it belongs to the user that opened it.
    pub(crate) fn belongs_to(&self, user: Option<&str>) -> bool {
        self.owner().is_none_or(|owner| user == Some(owner))
    }

    /// Whether the session's latest request came on this connection.
    pub(crate) fn is_on(&self, connection: &Arc<Connection>) -> bool {
        self.connection.borrow().as_ptr() == Arc::as_ptr(connection)
    }

    /// Hands a request over; a session that has ended drops it, and its answer with it.
    pub(crate) async fn request(&self, request: SessionRequest) {
        let _ = self.requests.send(request).await;
    }

    pub(crate) fn control(&self, control: SessionControl) {
        self.control.send_replace(control);
    }

    /// Whether the encoder is connected.
    pub(crate) fn is_connected(&self) -> bool {
        self.connection.borrow().strong_count() > 0
    }

    /// Waits until the session's task has ended.
    pub(crate) async fn closed(&self) {
        self.requests.closed().await;
    }
}
