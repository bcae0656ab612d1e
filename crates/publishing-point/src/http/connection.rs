//! One TCP connection: HTTP/1 on it, its bounds in time, and an end the far side can read.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Response;
use http::header::{self, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, body::Incoming, server::conn::http1};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, interval_at, timeout, timeout_at};

use super::body::Body;
use super::io::MaybeTlsStream;
use super::open_socket::OpenSocket;
use super::streaming::StreamResponse;
use crate::admission::client_limits::ConnectionPermit;
use crate::admission::limits::ServerLimits;
use crate::fault_injection::write_faults::{FaultyStream, WriteFaults};

/// Bytes that the HTTP library reads ahead of a pusher's session.
const READ_AHEAD: usize = 64 * 1024;
/// Times that a connection is asked for credentials before it is closed: each time costs a nonce.
const MAX_ASKED: usize = 8;
/// Time beyond the Inactivity-Timeout, at which the session itself closes its connection.
const AFTER_INACTIVITY: Duration = Duration::from_secs(30);
/// Silence after which the kernel asks whether the peer is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long what still comes is read and dropped after the last answer, so that the peer can read
/// that: a socket closed over unread bytes resets the connection.
const LINGERING_CLOSE_TIME: Duration = Duration::from_secs(1);
/// Bytes dropped at most in that time.
const LINGER_BYTES: usize = 64 << 20;

/// What requests and sessions know of the connection they came on. It is gone when the connection is.
pub(crate) struct Connection {
    peer: SocketAddr,
    /// What URLs that lead here begin with.
    scheme: &'static str,
    visit: ConnectionPermit,
    socket: Arc<OpenSocket>,
    close: Notify,
    /// It closes by a reset.
    resets: AtomicBool,
    requests: AtomicU64,
    /// How many they were when that was last looked at.
    seen: AtomicU64,
    /// Requests under way.
    busy: AtomicUsize,
    /// It pushes or plays, and has time.
    settled: AtomicBool,
    asked: AtomicUsize,
    wire: Arc<WriteFaults>,
    /// The response that the rest of the connection is for.
    streaming: Mutex<Option<StreamResponse>>,
}

impl Connection {
    fn new(peer: SocketAddr, scheme: &'static str, visit: ConnectionPermit) -> Self {
        Self {
            peer,
            scheme,
            visit,
            socket: Arc::default(),
            close: Notify::new(),
            resets: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            busy: AtomicUsize::new(0),
            settled: AtomicBool::new(false),
            asked: AtomicUsize::new(0),
            wire: Arc::default(),
            streaming: Mutex::default(),
        }
    }

    /// The address of the peer.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// `http` or `https`.
    pub(crate) fn scheme(&self) -> &'static str {
        self.scheme
    }

    /// Where it comes from.
    pub(crate) fn visit(&self) -> &ConnectionPermit {
        &self.visit
    }

    /// What the kernel knows of it.
    pub(crate) fn socket(&self) -> &Arc<OpenSocket> {
        &self.socket
    }

    /// It pushes or plays: from now on the protocol's own time-outs count, and no other.
    pub(crate) fn mark_established(&self) {
        self.settled.store(true, Ordering::Relaxed);
    }

    /// Counts a request for credentials; the connection closes after one too many.
    pub(crate) fn asked(&self, mut response: Response<Body>) -> Response<Body> {
        if self.asked.fetch_add(1, Ordering::Relaxed) + 1 >= MAX_ASKED {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// Whether it neither does anything nor has done since this was asked.
    fn is_idle(&self) -> bool {
        let requests = self.requests();
        let used = self.seen.swap(requests, Ordering::Relaxed) != requests;
        !used && !self.settled.load(Ordering::Relaxed) && self.busy.load(Ordering::Relaxed) == 0
    }

    /// Closes the connection without an answer.
    pub(crate) fn close(&self) {
        self.close.notify_one();
    }

    /// Resets the connection.
    #[cfg(feature = "fault-injection")]
    pub(crate) fn reset(&self) {
        self.resets.store(true, Ordering::Relaxed);
        self.close();
    }

    /// Takes the connection from the HTTP library for a response with a stream.
    fn stream(&self, response: StreamResponse) {
        *self.streaming.lock().unwrap_or_else(PoisonError::into_inner) = Some(response);
    }

    /// Whether the connection is for such a response from now on.
    fn is_streaming(&self) -> bool {
        self.streaming.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// What is to befall its next answer on its way out.
    #[cfg(feature = "fault-injection")]
    pub(crate) fn wire(&self) -> &WriteFaults {
        &self.wire
    }
}

/// No answer is due: the connection just closes.
#[derive(Debug, thiserror::Error)]
#[error("the connection closes without a response")]
pub(crate) struct Closed;

/// Answers the requests of a connection.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Answers a request.
    ///
    /// # Errors
    /// [`Closed`] where the protocol wants the connection closed without an answer.
    fn handle(
        &self,
        connection: &Arc<Connection>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Body>, Closed>> + Send;
}

/// What a connection is served by.
pub(crate) struct ConnectionSettings {
    pub(crate) limits: ServerLimits,
    /// How long an encoder's session lives between requests; its connection lives a little longer.
    pub(crate) inactivity_timeout: Duration,
    /// The certificate, if TLS is spoken.
    pub(crate) tls: Option<Arc<ServerConfig>>,
}

/// Serves a connection from `peer` until it ends.
pub(crate) async fn serve<H: Handler>(
    handler: Arc<H>,
    stream: TcpStream,
    peer: SocketAddr,
    settings: ConnectionSettings,
    visit: ConnectionPermit,
) {
    // Boxed, so that a player's connection, which lasts, needs no memory for what came before its stream and what
    // comes after it.
    let served = Box::pin(serve_http(handler, stream, peer, settings, visit)).await;
    let Some((connection, mut stream)) = served else { return };
    let streaming = connection.streaming.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(response) = streaming {
        // Made after the stream, so that it is dropped before it, whichever way this ends.
        let _open = connection.socket.open(stream.tcp().as_raw_fd());
        if let Err(error) = response.send(&mut stream).await {
            tracing::debug!(%error, "connection");
        }
    }
    if connection.resets.load(Ordering::Relaxed) {
        // Closed with that, as it is here, it is a reset.
        let _ = SockRef::from(stream.tcp()).set_linger(Some(Duration::ZERO));
        return;
    }
    drop(connection);
    Box::pin(linger(stream)).await;
}

/// Answers requests until the connection ends, or one is answered with a stream. `None` if TLS was not established.
async fn serve_http<H: Handler>(
    handler: Arc<H>,
    stream: TcpStream,
    peer: SocketAddr,
    settings: ConnectionSettings,
    visit: ConnectionPermit,
) -> Option<(Arc<Connection>, MaybeTlsStream)> {
    if let Err(error) = set_options(&stream, &settings) {
        tracing::debug!(%error, "socket options");
    }
    let ConnectionSettings { limits, inactivity_timeout, tls, .. } = settings;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let stream = match timeout(limits.head_timeout, MaybeTlsStream::accept(stream, tls)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%error, "TLS handshake");
            return None;
        }
        Err(_) => {
            tracing::debug!("no TLS handshake in time");
            return None;
        }
    };
    let connection = Arc::new(Connection::new(peer, scheme, visit));
    // It bounds the time between requests too.
    let head_timeout = inactivity_timeout + AFTER_INACTIVITY;
    let service = {
        let connection = Arc::downgrade(&connection);
        service_fn(move |request: Request<Incoming>| {
            let handler = Arc::clone(&handler);
            let connection = connection.clone();
            Box::pin(async move {
                let connection = connection.upgrade().ok_or(Closed)?;
                connection.requests.fetch_add(1, Ordering::Relaxed);
                connection.busy.fetch_add(1, Ordering::Relaxed);
                let answer = handler.handle(&connection, request).await;
                connection.busy.fetch_sub(1, Ordering::Relaxed);
                // The library reads a request only when the response before it is sent: nothing of that is lost.
                let mut answer = answer?;
                match StreamResponse::take(&mut answer) {
                    None => Ok(answer),
                    Some(response) => {
                        connection.stream(response);
                        Err(Closed)
                    }
                }
            })
        })
    };
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .title_case_headers(true)
        .max_header_size(limits.max_head_bytes)
        .max_headers(limits.max_head_lines)
        .max_buf_size(READ_AHEAD)
        .header_read_timeout(head_timeout);
    let descriptor = stream.tcp().as_raw_fd();
    let mut http =
        http.serve_connection(TokioIo::new(FaultyStream::new(stream, Arc::clone(&connection.wire))), service);
    // Made after what has the stream, so that it is dropped before it, whichever way this ends.
    let open = connection.socket.open(descriptor);
    let mut look = interval_at(Instant::now() + limits.head_timeout, limits.head_timeout);
    loop {
        tokio::select! {
            result = poll_fn(|context| http.poll_without_shutdown(context)) => {
                if let Err(error) = result
                    && !connection.is_streaming()
                {
                    tracing::debug!(%error, "connection");
                }
                break;
            }
            () = connection.close.notified() => break,
            // The whole head counts, however its bytes trickle.
            _ = look.tick() => if connection.is_idle() {
                break;
            },
        }
    }
    drop(open);
    let stream = http.into_parts().io.into_inner();
    #[cfg(feature = "fault-injection")]
    let stream = stream.into_inner();
    Some((connection, stream))
}

fn set_options(stream: &TcpStream, settings: &ConnectionSettings) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(KEEP_ALIVE))?;
    socket.set_tcp_user_timeout(Some(settings.limits.stall_timeout))
}

/// Ends the connection for writing, and reads until the peer has done so too.
async fn linger(stream: MaybeTlsStream) {
    let until = Instant::now() + LINGERING_CLOSE_TIME;
    // Fails where the peer has gone already, or does not read.
    let Ok(Ok(stream)) = timeout_at(until, stream.end()).await else { return };
    let mut dropped = [0; 8 * 1024];
    let mut left = LINGER_BYTES;
    while let Ok(Ok(())) = timeout_at(until, stream.readable()).await {
        match stream.try_read(&mut dropped) {
            Ok(0) => return,
            Ok(len) if len < left => left -= len,
            Ok(_) => return,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}
