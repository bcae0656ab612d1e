//! Sends the response with a player's stream, without the HTTP library.
//!
//! The library would keep its read buffer and its parser state for the whole stream, which is more memory than the rest
//! of a player needs, and it would run its state machine for each packet. After the request the library is no longer
//! needed, because the connection accepts no further request.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, Response, Version};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::body::{Body, BodyStream};
use super::buf_list::BufList;
use super::io::MaybeTlsStream;

/// Maximum bytes that a player may send while it plays. They are discarded, because requests after the one for a stream
/// are not answered. Beyond this, the server stops reading, so that a client cannot keep it busy.
const MAX_DISCARDED: usize = 64 * 1024;
/// Maximum slices of one write. Linux accepts up to 1024; this number covers the packets of 100 KB.
const MAX_PIECES: usize = 64;

/// The end of a chunk (RFC 9112, 7.1).
pub(crate) const CHUNK_END: &[u8; 2] = b"\r\n";

/// A response with whose body the connection ends.
pub(crate) struct StreamResponse {
    /// The formatted status line and headers.
    head: Bytes,
    /// Whether each piece of the body is sent as a chunk (RFC 9112, 7.1). Otherwise the end of the connection ends the
    /// body.
    chunked: bool,
    body: Box<dyn BodyStream>,
}

impl StreamResponse {
    /// Takes the body of a response if it is a stream that ends with the connection, and formats the response head.
    pub(crate) fn take(response: &mut Response<Body>) -> Option<Self> {
        let body = match std::mem::replace(response.body_mut(), Body::empty()) {
            Body::UntilClose(body) => body,
            other @ (Body::Full(_) | Body::Stream(_)) => {
                *response.body_mut() = other;
                return None;
            }
        };
        let chunked = response.version() == Version::HTTP_11;
        Some(Self { head: head(response, chunked, SystemTime::now()), chunked, body })
    }

    /// Sends the response to its end. Returns the stream, and the error if the peer closes the connection first, or the
    /// connection is lost.
    pub(crate) async fn send(self, stream: MaybeTlsStream) -> (MaybeTlsStream, io::Result<()>) {
        let Self { head, chunked, mut body } = self;
        let (mut stream, socket) = stream.share();
        if let Some(socket) = socket {
            body.set_socket(&socket, chunked);
        }
        let mut sending = Sending { body, pending: head.into(), chunked, ended: false, discard_budget: MAX_DISCARDED };
        let result = poll_fn(|context| sending.poll(&mut stream, context)).await;
        (stream, result)
    }
}

/// A response in progress.
struct Sending {
    body: Box<dyn BodyStream>,
    /// Bytes that are sent next.
    pending: BufList,
    chunked: bool,
    /// Whether nothing follows after `pending`.
    ended: bool,
    /// How many more bytes of the peer are read and discarded.
    discard_budget: usize,
}

impl Sending {
    /// Writes until nothing is available, and notices if the peer closes the connection.
    fn poll(&mut self, stream: &mut MaybeTlsStream, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Reading is the only way to notice that a player has closed the connection while its stream pauses.
        if self.discard_budget > 0 {
            match self.poll_read(stream, context) {
                Poll::Ready(Ok(())) => return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {}
            }
        }
        loop {
            while !self.pending.is_empty() {
                let mut slices = [IoSlice::new(&[]); MAX_PIECES];
                let count = self.pending.chunks_vectored(&mut slices);
                let slices = slices.get(..count).unwrap_or_default();
                let written = ready!(Pin::new(&mut *stream).poll_write_vectored(context, slices))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.pending.advance(written);
            }
            // TLS buffers data that the socket did not accept.
            ready!(Pin::new(&mut *stream).poll_flush(context))?;
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            let next = self.body.poll_bytes(context);
            self.pending = self.body.take_unwritten();
            let next = match next {
                Poll::Ready(next) => next,
                Poll::Pending if self.pending.is_empty() => return Poll::Pending,
                Poll::Pending => continue,
            };
            self.ended = next.is_none();
            self.pending.append(match next {
                Some(bytes) if self.chunked => chunk(bytes),
                Some(bytes) => bytes,
                None if self.chunked => Bytes::from_static(b"0\r\n\r\n").into(),
                None => BufList::default(),
            });
        }
    }

    /// Reads and discards what the peer sends; ready if the peer has closed the connection.
    fn poll_read(&mut self, stream: &mut MaybeTlsStream, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.discard_budget > 0 {
            let mut dropped = [0; 512];
            let mut dropped = ReadBuf::new(&mut dropped);
            ready!(Pin::new(&mut *stream).poll_read(context, &mut dropped))?;
            match dropped.filled().len() {
                0 => return Poll::Ready(Ok(())),
                read => self.discard_budget = self.discard_budget.saturating_sub(read),
            }
        }
        Poll::Pending
    }
}

/// Formats a chunk (RFC 9112, 7.1).
pub(crate) fn chunk(bytes: BufList) -> BufList {
    let mut chunk = BufList::from(Bytes::from(format!("{:x}\r\n", bytes.remaining())));
    chunk.append(bytes);
    chunk.push(Bytes::from_static(CHUNK_END));
    chunk
}

/// Returns the head as the HTTP library would write it, with names in Title-Case.
fn head<B>(response: &Response<B>, chunked: bool, now: SystemTime) -> Bytes {
    let mut head = BytesMut::with_capacity(512);
    let version = if chunked { "HTTP/1.1" } else { "HTTP/1.0" };
    let status = response.status();
    let reason = status.canonical_reason().unwrap_or_default();
    head.put_slice(format!("{version} {} {reason}\r\n", status.as_str()).as_bytes());
    put_fields(&mut head, response.headers());
    if chunked {
        head.put_slice(b"Transfer-Encoding: chunked\r\n");
    }
    head.put_slice(format!("Date: {}\r\n\r\n", httpdate::fmt_http_date(now)).as_bytes());
    head.freeze()
}

/// Appends the header fields with names in Title-Case.
fn put_fields(head: &mut BytesMut, headers: &HeaderMap) {
    for (name, value) in headers {
        let mut before = b'-';
        for byte in name.as_str().bytes() {
            head.put_u8(if before == b'-' { byte.to_ascii_uppercase() } else { byte });
            before = byte;
        }
        head.put_slice(b": ");
        head.put_slice(value.as_bytes());
        head.put_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use http::{HeaderValue, StatusCode, header};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::mpsc;

    use super::*;

    /// Yields the pieces that the test sends.
    struct Given(mpsc::UnboundedReceiver<&'static [u8]>);

    impl BodyStream for Given {
        fn poll_bytes(&mut self, context: &mut Context<'_>) -> Poll<Option<BufList>> {
            self.0.poll_recv(context).map(|bytes| Some(Bytes::from_static(bytes?).into()))
        }
    }

    fn response(version: Version, body: impl BodyStream + 'static) -> Response<Body> {
        let mut response = Response::new(Body::UntilClose(Box::new(body)));
        *response.version_mut() = version;
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        response
    }

    async fn connected() -> (TcpStream, MaybeTlsStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (peer, MaybeTlsStream::Plain(listener.accept().await.unwrap().0))
    }

    /// Returns what a peer receives of a response with the pieces `one` and `three`, after its head.
    async fn received(version: Version) -> String {
        let (mut peer, stream) = connected().await;
        let (give, given) = mpsc::unbounded_channel();
        let response = StreamResponse::take(&mut response(version, Given(given))).unwrap();
        let sending = tokio::spawn(response.send(stream));
        give.send(b"one").unwrap();
        tokio::task::yield_now().await;
        give.send(b"three").unwrap();
        drop(give);
        sending.await.unwrap().1.unwrap();
        let mut all = String::new();
        peer.read_to_string(&mut all).await.unwrap();
        all.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    #[tokio::test]
    async fn the_body_ends_with_the_connection_or_with_a_last_chunk() {
        assert_eq!(received(Version::HTTP_10).await, "onethree");
        let chunks = received(Version::HTTP_11).await;
        assert!(chunks.ends_with("\r\n0\r\n\r\n"), "{chunks:?}");
        let lines: String = chunks.split("\r\n").filter(|line| u32::from_str_radix(line, 16).is_err()).collect();
        assert_eq!(lines, "onethree", "{chunks:?}");
    }

    #[tokio::test]
    async fn a_peer_that_closes_ends_it_whatever_it_has_sent_before() {
        for before in [0, 1, MAX_DISCARDED - 1] {
            let (mut peer, stream) = connected().await;
            let (_give, given) = mpsc::unbounded_channel();
            let response = StreamResponse::take(&mut response(Version::HTTP_10, Given(given))).unwrap();
            let sending = tokio::spawn(response.send(stream));
            peer.write_all(&vec![0; before]).await.unwrap();
            peer.shutdown().await.unwrap();
            let error = sending.await.unwrap().1.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted, "after {before} bytes");
        }
    }

    #[tokio::test]
    async fn no_more_is_read_than_a_player_may_send() {
        let (mut peer, stream) = connected().await;
        let (give, given) = mpsc::unbounded_channel();
        let response = StreamResponse::take(&mut response(Version::HTTP_10, Given(given))).unwrap();
        let sending = tokio::spawn(response.send(stream));
        peer.write_all(&vec![0; 2 * MAX_DISCARDED]).await.unwrap();
        peer.shutdown().await.unwrap();
        // Turns enough to read all of it, and the end behind it, which would end the response.
        for _ in 0..100_000 {
            tokio::task::yield_now().await;
        }
        give.send(b"the stream").unwrap();
        drop(give);
        sending.await.unwrap().1.unwrap();
    }

    #[test]
    fn other_responses_are_left_to_the_library() {
        let mut full = Response::new(Body::full("text"));
        assert!(StreamResponse::take(&mut full).is_none());
        assert!(matches!(full.body(), Body::Full(Some(_))));
        let mut file = Response::new(Body::Stream(Box::new(Given(mpsc::unbounded_channel().1))));
        assert!(StreamResponse::take(&mut file).is_none());
        assert!(matches!(file.body(), Body::Stream(_)));
    }

    #[test]
    fn the_head_is_as_the_library_writes_it() {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::OK;
        response.headers_mut().insert("x-two-words", HeaderValue::from_static("Value"));
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let end = "Date: Sun, 09 Sep 2001 01:46:40 GMT\r\n\r\n";
        let fields = "X-Two-Words: Value\r\nConnection: close\r\n";
        assert_eq!(head(&response, false, now), format!("HTTP/1.0 200 OK\r\n{fields}{end}"));
        let chunks = "Transfer-Encoding: chunked\r\n";
        assert_eq!(head(&response, true, now), format!("HTTP/1.1 200 OK\r\n{fields}{chunks}{end}"));
    }
}
