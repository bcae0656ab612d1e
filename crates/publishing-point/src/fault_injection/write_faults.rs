//! Faults in how responses are written: bytes before the response, and its pieces.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::http::io::MaybeTlsStream;

/// Bytes that even a tolerant parser does not accept as HTTP.
pub(super) const GARBAGE: &[u8] = b"\0\x01\x02garbage\r\n\r\n";
/// Bytes of the first piece of a split response: less than its first word.
const FIRST_PIECE: usize = 7;
/// Receive buffer in the kernel for connections of a point that delays encoders on purpose, in bytes.
const SMALL_RECV_BUFFER: usize = 16 * 1024;
/// The pause between the pieces.
const WRITE_PAUSE: Duration = Duration::from_millis(300);

/// The faults of the next response on a connection.
#[derive(Default)]
pub(crate) struct WriteFaults {
    /// Whether the plan has changes. It is checked on each write, without locking the plan.
    is_pending: AtomicBool,
    plan: Mutex<WritePlan>,
    /// Whether the kernel must buffer little data that the server does not read.
    small_recv_buffer: AtomicBool,
}

/// How the next response is written.
#[derive(Clone, Copy, Default)]
struct WritePlan {
    /// Bytes to send first.
    before: &'static [u8],
    /// Whether the response is sent in two pieces.
    split: bool,
}

impl WriteFaults {
    /// Sends these bytes before the response.
    pub(super) fn write_before_response(&self, bytes: &'static [u8]) {
        self.change(|plan| plan.before = bytes);
    }

    /// Sends the response in two pieces.
    pub(super) fn split(&self) {
        self.change(|plan| plan.split = true);
    }

    /// Limits the kernel's receive buffer of this connection from now on.
    pub(super) fn limit_recv_buffer(&self) {
        self.small_recv_buffer.store(true, Ordering::Relaxed);
    }

    fn change(&self, change: impl FnOnce(&mut WritePlan)) {
        // The data is consistent after every statement, so a poisoned lock can still be used.
        change(&mut self.plan.lock().unwrap_or_else(PoisonError::into_inner));
        self.is_pending.store(true, Ordering::Release);
    }

    /// Returns the plan if it has changed, and resets it.
    fn take(&self) -> Option<WritePlan> {
        // The relaxed load keeps the usual case, no fault, cheap; only the swap decides.
        let is_pending = self.is_pending.load(Ordering::Relaxed) && self.is_pending.swap(false, Ordering::Acquire);
        is_pending.then(|| std::mem::take(&mut *self.plan.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// A stream that applies these faults to its writes.
pub(crate) struct FaultyStream<S> {
    stream: S,
    faults: Arc<WriteFaults>,
    /// What remains of the current plan.
    plan: WritePlan,
    pause: Option<Pin<Box<Sleep>>>,
}

impl<S> FaultyStream<S> {
    pub(crate) fn new(stream: S, faults: Arc<WriteFaults>) -> Self {
        Self { stream, faults, plan: WritePlan::default(), pause: None }
    }

    pub(crate) fn into_inner(self) -> S {
        self.stream
    }

    /// Returns whether writes pass unchanged now; takes over a new plan.
    fn passes_unchanged(&mut self) -> bool {
        if let Some(plan) = self.faults.take() {
            self.plan = plan;
        }
        self.plan.before.is_empty() && !self.plan.split && self.pause.is_none()
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FaultyStream<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.passes_unchanged() {
            return Pin::new(&mut this.stream).poll_write(context, bytes);
        }
        while !this.plan.before.is_empty() {
            let written = ready!(Pin::new(&mut this.stream).poll_write(context, this.plan.before))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            this.plan.before = this.plan.before.get(written..).unwrap_or_default();
        }
        if let Some(pause) = &mut this.pause {
            ready!(pause.as_mut().poll(context));
            this.pause = None;
        }
        // A write that is too short to be split is sent as it is, and the next one is split.
        let piece = bytes.get(..FIRST_PIECE).filter(|_| this.plan.split);
        let written = ready!(Pin::new(&mut this.stream).poll_write(context, piece.unwrap_or(bytes)))?;
        if piece.is_some() {
            this.plan.split = false;
            this.pause = Some(Box::pin(sleep(WRITE_PAUSE)));
        }
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.passes_unchanged() {
            return Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, slices);
        }
        // Faults act on one slice at a time. A short write is allowed, so the caller writes the others again.
        let first = slices.iter().find(|slice| !slice.is_empty());
        self.poll_write(context, first.map_or(&[][..], |slice| slice))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

impl AsyncRead for FaultyStream<MaybeTlsStream> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // The buffer is set here, where the socket is at hand. The flag is only a request, so relaxed ordering
        // suffices.
        let small = &this.faults.small_recv_buffer;
        if small.load(Ordering::Relaxed) && small.swap(false, Ordering::Relaxed) {
            SockRef::from(this.stream.tcp()).set_recv_buffer_size(SMALL_RECV_BUFFER)?;
        }
        Pin::new(&mut this.stream).poll_read(context, buffer)
    }
}
