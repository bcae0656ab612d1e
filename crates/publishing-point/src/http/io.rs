//! The byte stream of a connection: plain TCP, or TLS.

use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::ServerConfig;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// A connection, as used by HTTP.
pub(crate) enum MaybeTlsStream {
    /// TCP without encryption.
    Plain(TcpStream),
    /// Plain TCP to which another task may write too; see [`MaybeTlsStream::share`].
    Shared(Arc<TcpStream>),
    /// TLS over TCP. It is boxed, because its state is large and most connections are plain.
    Tls(Box<TlsStream<TcpStream>>),
}

impl MaybeTlsStream {
    /// Performs the TLS handshake, if TLS is used.
    ///
    /// # Errors
    /// If the peer does not use TLS, or no version that this server supports.
    pub(crate) async fn accept(stream: TcpStream, tls: Option<Arc<ServerConfig>>) -> io::Result<Self> {
        Ok(match tls {
            None => Self::Plain(stream),
            Some(config) => Self::Tls(Box::new(TlsAcceptor::from(config).accept(stream).await?)),
        })
    }

    /// Returns the TCP connection.
    pub(crate) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Shared(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }

    /// Shares the TCP connection, so that another task can write to it while this one waits; `None` with TLS, which
    /// encrypts what is written.
    pub(crate) fn share(self) -> (Self, Option<Arc<TcpStream>>) {
        match self {
            Self::Plain(stream) => Self::Shared(Arc::new(stream)).share(),
            Self::Shared(stream) => (Self::Shared(Arc::clone(&stream)), Some(stream)),
            Self::Tls(_) => (self, None),
        }
    }

    /// Shuts down the write side, and returns the TCP connection for reading.
    ///
    /// # Errors
    /// If the peer has closed the connection already.
    pub(crate) async fn end(mut self) -> io::Result<Arc<TcpStream>> {
        self.shutdown().await?;
        Ok(match self {
            Self::Plain(stream) => Arc::new(stream),
            Self::Shared(stream) => stream,
            Self::Tls(stream) => Arc::new(stream.into_inner().0),
        })
    }
}

impl AsyncRead for MaybeTlsStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, into),
            Self::Shared(stream) => loop {
                ready!(stream.poll_read_ready(context))?;
                match stream.try_read(into.initialize_unfilled()) {
                    Ok(read) => {
                        into.advance(read);
                        return Poll::Ready(Ok(()));
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Poll::Ready(Err(error)),
                }
            },
            Self::Tls(stream) => Pin::new(stream).poll_read(context, into),
        }
    }
}

impl AsyncWrite for MaybeTlsStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Shared(stream) => poll_write_shared(stream, context, |stream| stream.try_write(bytes)),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Shared(stream) => poll_write_shared(stream, context, |stream| stream.try_write_vectored(slices)),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Shared(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Shared(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Shared(stream) => Poll::Ready(SockRef::from(&**stream).shutdown(Shutdown::Write)),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

/// Writes when the socket accepts more.
fn poll_write_shared(
    stream: &TcpStream,
    context: &mut Context<'_>,
    write: impl Fn(&TcpStream) -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(context))?;
        match write(stream) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return Poll::Ready(result),
        }
    }
}
