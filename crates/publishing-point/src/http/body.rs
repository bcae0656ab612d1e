//! The body of a response: a few bytes, or a player's stream.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::net::TcpStream;

use super::buf_list::BufList;

/// A body of unknown length, such as a player's stream.
pub(crate) trait BodyStream: Send {
    /// Returns all bytes that are available next; `None` at the end.
    fn poll_bytes(&mut self, context: &mut Context<'_>) -> Poll<Option<BufList>>;

    /// Provides the socket of a body with which the connection ends, if it is not encrypted. While
    /// [`BodyStream::poll_bytes`] is pending, all bytes are written, and the body may write further ones itself. With
    /// `chunked`, it writes chunks.
    fn set_socket(&mut self, _socket: &Arc<TcpStream>, _chunked: bool) {}

    /// Returns the rest of what the body has begun to write to the socket itself; called after
    /// [`BodyStream::poll_bytes`], and written before its bytes.
    fn take_unwritten(&mut self) -> BufList {
        BufList::default()
    }
}

/// The body of a response.
pub(crate) enum Body {
    /// The whole body; `None` after it was sent.
    Full(Option<Bytes>),
    /// A stream, such as a file.
    Stream(Box<dyn BodyStream>),
    /// A stream of unknown length, with which the connection ends: it is sent without the HTTP library.
    UntilClose(Box<dyn BodyStream>),
}

impl Body {
    /// Returns an empty body.
    pub(crate) fn empty() -> Self {
        Self::Full(None)
    }

    /// Returns a body of these bytes.
    pub(crate) fn full(bytes: impl Into<Bytes>) -> Self {
        Self::Full(Some(bytes.into()).filter(|bytes| !bytes.is_empty()))
    }
}

impl http_body::Body for Body {
    type Data = BufList;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<BufList>, Infallible>>> {
        let bytes = match self.get_mut() {
            Self::Full(bytes) => Poll::Ready(bytes.take().map(BufList::from)),
            Self::Stream(stream) | Self::UntilClose(stream) => stream.poll_bytes(context),
        };
        bytes.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Full(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Stream(_) | Self::UntilClose(_) => SizeHint::default(),
        }
    }
}
