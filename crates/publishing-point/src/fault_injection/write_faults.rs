//! Faults in how answers go out: what comes before one, and its pieces.

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

/// What is no HTTP, however tolerant its reader.
pub(super) const GARBAGE: &[u8] = b"\0\x01\x02garbage\r\n\r\n";
/// Bytes of an answer that goes out in pieces, before the pause: not even its first word.
const FIRST_PIECE: usize = 7;
/// What the system may take in for a server that holds encoders back on purpose.
const SMALL_RECV_BUFFER: usize = 16 * 1024;
/// The pause.
const WRITE_PAUSE: Duration = Duration::from_millis(300);

/// What is to befall the next answer of a connection on its way out.
#[derive(Default)]
pub(crate) struct WriteFaults {
    /// Looked at with each write, unlike the plan.
    armed: AtomicBool,
    plan: Mutex<WritePlan>,
    /// The system must not take in much that the server does not read.
    small_recv_buffer: AtomicBool,
}

#[derive(Clone, Copy, Default)]
struct WritePlan {
    before: &'static [u8],
    split: bool,
}

impl WriteFaults {
    /// These bytes come before the answer.
    pub(super) fn say_first(&self, bytes: &'static [u8]) {
        self.change(|plan| plan.before = bytes);
    }

    /// The answer comes in two pieces.
    pub(super) fn split(&self) {
        self.change(|plan| plan.split = true);
    }

    /// Has the system take in little from now on: of this connection alone.
    pub(super) fn hold_back(&self) {
        self.small_recv_buffer.store(true, Ordering::Relaxed);
    }

    fn change(&self, change: impl FnOnce(&mut WritePlan)) {
        // Plain data, consistent after every statement.
        change(&mut self.plan.lock().unwrap_or_else(PoisonError::into_inner));
        self.armed.store(true, Ordering::Release);
    }

    fn take(&self) -> Option<WritePlan> {
        let armed = self.armed.load(Ordering::Relaxed) && self.armed.swap(false, Ordering::Acquire);
        armed.then(|| std::mem::take(&mut *self.plan.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// A stream whose writes suffer so.
pub(crate) struct FaultyStream<S> {
    stream: S,
    faults: Arc<WriteFaults>,
    /// Of the plan under way.
    now: WritePlan,
    pause: Option<Pin<Box<Sleep>>>,
}

impl<S> FaultyStream<S> {
    pub(crate) fn new(stream: S, faults: Arc<WriteFaults>) -> Self {
        Self { stream, faults, now: WritePlan::default(), pause: None }
    }

    pub(crate) fn into_inner(self) -> S {
        self.stream
    }

    fn is_plain(&mut self) -> bool {
        if let Some(plan) = self.faults.take() {
            self.now = plan;
        }
        self.now.before.is_empty() && !self.now.split && self.pause.is_none()
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FaultyStream<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.is_plain() {
            return Pin::new(&mut this.stream).poll_write(context, bytes);
        }
        while !this.now.before.is_empty() {
            let written = ready!(Pin::new(&mut this.stream).poll_write(context, this.now.before))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            this.now.before = this.now.before.get(written..).unwrap_or_default();
        }
        if let Some(pause) = &mut this.pause {
            ready!(pause.as_mut().poll(context));
            this.pause = None;
        }
        let piece = bytes.get(..FIRST_PIECE).filter(|_| this.now.split);
        let written = ready!(Pin::new(&mut this.stream).poll_write(context, piece.unwrap_or(bytes)))?;
        if piece.is_some() {
            this.now.split = false;
            this.pause = Some(Box::pin(sleep(WRITE_PAUSE)));
        }
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_plain() {
            return Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, slices);
        }
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
        let small = &this.faults.small_recv_buffer;
        if small.load(Ordering::Relaxed) && small.swap(false, Ordering::Relaxed) {
            SockRef::from(this.stream.tcp()).set_recv_buffer_size(SMALL_RECV_BUFFER)?;
        }
        Pin::new(&mut this.stream).poll_read(context, buffer)
    }
}
