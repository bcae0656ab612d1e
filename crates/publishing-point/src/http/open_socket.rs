//! What the kernel knows of a connection: how much of it the peer has acknowledged.
//!
//! The HTTP library has the stream. Those who ask have its descriptor's number, under a lock that the connection's end
//! takes too: so nobody asks about a number that is another file's by now.

use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use asfpush_client::transport::{Telemetry, tcp_info};

/// The socket of a connection, as long as it is open.
#[derive(Debug, Default)]
pub(crate) struct OpenSocket(Mutex<Option<RawFd>>);

/// Closes the [`OpenSocket`]; dropped before the stream is.
pub(super) struct CloseGuard(Arc<OpenSocket>);

/// How much of what is sent from a moment on, such as a response, the peer has acknowledged.
#[derive(Debug)]
pub(crate) struct Acknowledgements {
    socket: Arc<OpenSocket>,
    /// What the connection had sent, or had still to send, before.
    before: u64,
}

impl OpenSocket {
    /// The socket has this number until the guard is dropped.
    pub(super) fn open(self: &Arc<Self>, fd: RawFd) -> CloseGuard {
        *self.lock() = Some(fd);
        CloseGuard(Arc::clone(self))
    }

    /// What is acknowledged from now on.
    pub(crate) fn acknowledgements(self: &Arc<Self>) -> Acknowledgements {
        // What is outstanding is computed for a connection that this side began, whose SYN is acknowledged too: on one that
        // was accepted it is one byte more.
        let taken = |told: Telemetry| told.outstanding.saturating_add(told.acknowledged.saturating_sub(1));
        let before = self.telemetry().map_or(0, taken);
        Acknowledgements { socket: Arc::clone(self), before }
    }

    fn telemetry(&self) -> Option<Telemetry> {
        let fd = self.lock();
        tcp_info((*fd)?)
    }

    fn lock(&self) -> MutexGuard<'_, Option<RawFd>> {
        // Plain data, consistent after every statement.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for CloseGuard {
    fn drop(&mut self) {
        *self.0.lock() = None;
    }
}

impl Acknowledgements {
    /// Bytes acknowledged since; `None` if the system does not know, or the connection has ended.
    pub(crate) fn bytes(&self) -> Option<u64> {
        self.socket.telemetry().map(|told| told.acknowledged.saturating_sub(self.before))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn what_is_sent_from_a_moment_on_is_acknowledged() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        let socket = Arc::new(OpenSocket::default());
        assert_eq!(socket.acknowledgements().bytes(), None, "it is not open yet");
        let guard = socket.open(stream.as_raw_fd());
        stream.write_all(&[0; 1000]).await.unwrap();
        peer.read_exact(&mut [0; 1000]).await.unwrap();
        let since = socket.acknowledgements();
        stream.write_all(&[0; 234]).await.unwrap();
        peer.read_exact(&mut [0; 234]).await.unwrap();
        // The acknowledgement may come a little later than the bytes.
        while since.bytes().is_some_and(|bytes| bytes < 234) {
            tokio::task::yield_now().await;
        }
        assert_eq!(since.bytes(), Some(234));
        drop(guard);
        assert_eq!(since.bytes(), None, "the number may be another file's now");
    }
}
