//! The kernel's state of a connection: how much the peer has acknowledged.
//!
//! The HTTP library owns the stream. Callers use the number of its file descriptor, under a lock that the end of the
//! connection takes too, so that they never query a number that belongs to another file by now.

use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use asfpush_client::transport::{Telemetry, tcp_info};

/// The socket of a connection while it is open.
#[derive(Debug, Default)]
pub(crate) struct OpenSocket(Mutex<Option<RawFd>>);

/// Closes the [`OpenSocket`]; it is dropped before the stream.
pub(super) struct CloseGuard(Arc<OpenSocket>);

/// How much of the data sent since a certain time, such as that of a response, the peer has acknowledged.
#[derive(Debug)]
pub(crate) struct Acknowledgements {
    socket: Arc<OpenSocket>,
    /// Bytes that the connection had sent or queued before.
    before: u64,
}

impl OpenSocket {
    /// Sets the number of the file descriptor, which is valid until the guard is dropped.
    pub(super) fn open(self: &Arc<Self>, fd: RawFd) -> CloseGuard {
        *self.lock() = Some(fd);
        CloseGuard(Arc::clone(self))
    }

    /// Starts counting acknowledged bytes.
    pub(crate) fn acknowledgements(self: &Arc<Self>) -> Acknowledgements {
        // The kernel's counters are those of a connection that this side opened, whose SYN is acknowledged too. For an
        // accepted connection they are one byte more.
        let taken =
            |telemetry: Telemetry| telemetry.outstanding.saturating_add(telemetry.acknowledged.saturating_sub(1));
        let before = self.telemetry().map_or(0, taken);
        Acknowledgements { socket: Arc::clone(self), before }
    }

    /// Returns the kernel's counters; `None` if the connection has ended.
    fn telemetry(&self) -> Option<Telemetry> {
        // The lock is held during the system call, so that the descriptor cannot be closed and its number reused
        // meanwhile. The call does not block.
        let fd = self.lock();
        tcp_info((*fd)?)
    }

    fn lock(&self) -> MutexGuard<'_, Option<RawFd>> {
        // The data is consistent after every statement, so a poisoned lock can still be used.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for CloseGuard {
    fn drop(&mut self) {
        *self.0.lock() = None;
    }
}

impl Acknowledgements {
    /// Returns the bytes acknowledged since then; `None` if the system does not know, or the connection has ended.
    pub(crate) fn bytes(&self) -> Option<u64> {
        self.socket.telemetry().map(|telemetry| telemetry.acknowledged.saturating_sub(self.before))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn acknowledgements_are_counted_from_a_start() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        let socket = Arc::new(OpenSocket::default());
        assert_eq!(socket.acknowledgements().bytes(), None, "the socket is not open yet");
        let guard = socket.open(stream.as_raw_fd());
        stream.write_all(&[0; 1000]).await.unwrap();
        peer.read_exact(&mut [0; 1000]).await.unwrap();
        let since = socket.acknowledgements();
        stream.write_all(&[0; 234]).await.unwrap();
        peer.read_exact(&mut [0; 234]).await.unwrap();
        // The acknowledgement may arrive a little later than the bytes.
        while since.bytes().is_some_and(|bytes| bytes < 234) {
            tokio::task::yield_now().await;
        }
        assert_eq!(since.bytes(), Some(234));
        drop(guard);
        assert_eq!(since.bytes(), None, "the number may be another file's now");
    }
}
