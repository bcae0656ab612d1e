//! A TCP connection with HTTP/1: its timeouts, and a close that does not cut off the last response.

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

/// Maximum bytes that the HTTP library reads before the push session has received them. TCP flow control delays the
/// encoder beyond that.
const MAX_READ_AHEAD: usize = 64 * 1024;
/// Authentication challenges on a connection before it is closed. Each challenge costs a nonce.
const MAX_CHALLENGES: usize = 8;
/// Added to the Inactivity-Timeout for the connection, because the session itself closes its connection at the
/// Inactivity-Timeout, and the HTTP library must not be first.
const INACTIVITY_MARGIN: Duration = Duration::from_secs(30);
/// Idle time after which the kernel probes whether the peer still exists, and the time between probes.
const KEEP_ALIVE_TIME: Duration = Duration::from_secs(15);
/// After the last response, the server reads and discards incoming data for this time, so that the peer can read the
/// response: closing a socket with unread data resets the connection.
const LINGERING_CLOSE_TIME: Duration = Duration::from_secs(1);
/// Maximum bytes discarded in that time, so that a fast sender does not keep a core busy.
const MAX_LINGER_BYTES: usize = 64 << 20;

/// Connection state shared with requests and sessions. They hold weak references to it, which end with the connection.
pub(crate) struct Connection {
    peer: SocketAddr,
    /// The scheme of URLs of this server on this connection.
    scheme: &'static str,
    permit: ConnectionPermit,
    socket: Arc<OpenSocket>,
    /// Ends the connection; see [`Connection::close`].
    close: Notify,
    /// Whether the connection is closed by a reset.
    close_with_reset: AtomicBool,
    /// Number of requests so far.
    requests: AtomicU64,
    /// The number of requests at the last idle check.
    requests_at_last_check: AtomicU64,
    /// Requests in progress.
    active_requests: AtomicUsize,
    /// Whether the connection pushes or plays, so that no idle limit applies.
    is_established: AtomicBool,
    /// Authentication challenges so far.
    challenges: AtomicUsize,
    /// Faults to inject into responses.
    write_faults: Arc<WriteFaults>,
    /// The stream response that takes over the connection, if any.
    streaming: Mutex<Option<StreamResponse>>,
}

impl Connection {
    /// Returns the state of a connection before its first request.
    fn new(peer: SocketAddr, scheme: &'static str, permit: ConnectionPermit) -> Self {
        Self {
            peer,
            scheme,
            permit,
            socket: Arc::default(),
            close: Notify::new(),
            close_with_reset: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            requests_at_last_check: AtomicU64::new(0),
            active_requests: AtomicUsize::new(0),
            is_established: AtomicBool::new(false),
            challenges: AtomicUsize::new(0),
            write_faults: Arc::default(),
            streaming: Mutex::default(),
        }
    }

    /// Returns the address of the peer.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Returns `http` or `https`.
    pub(crate) fn scheme(&self) -> &'static str {
        self.scheme
    }

    /// Returns the permit of the connection, with the limits of its address.
    pub(crate) fn permit(&self) -> &ConnectionPermit {
        &self.permit
    }

    /// Returns the connection's socket, to query the kernel's state of it.
    pub(crate) fn socket(&self) -> &Arc<OpenSocket> {
        &self.socket
    }

    /// Marks the connection as pushing or playing. From now on only the timeouts of the protocols apply.
    pub(crate) fn mark_established(&self) {
        self.is_established.store(true, Ordering::Relaxed);
    }

    /// Counts an authentication challenge; the connection closes after too many of them.
    pub(crate) fn count_challenge(&self, mut response: Response<Body>) -> Response<Body> {
        if self.challenges.fetch_add(1, Ordering::Relaxed) + 1 >= MAX_CHALLENGES {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// Returns whether no request is in progress and none has arrived since the last call.
    fn is_idle(&self) -> bool {
        // All of these are counters and flags without data behind them, so relaxed ordering suffices. A request that
        // arrives at the same moment is seen at the next check.
        let requests = self.requests();
        let used = self.requests_at_last_check.swap(requests, Ordering::Relaxed) != requests;
        !used && !self.is_established.load(Ordering::Relaxed) && self.active_requests.load(Ordering::Relaxed) == 0
    }

    /// Closes the connection without a response.
    pub(crate) fn close(&self) {
        self.close.notify_one();
    }

    /// Resets the connection.
    #[cfg(feature = "fault-injection")]
    pub(crate) fn reset(&self) {
        self.close_with_reset.store(true, Ordering::Relaxed);
        self.close();
    }

    /// Takes the connection over from the HTTP library, for a response with a stream.
    fn stream(&self, response: StreamResponse) {
        *self.streaming.lock().unwrap_or_else(PoisonError::into_inner) = Some(response);
    }

    /// Returns whether the connection was taken over for such a response.
    fn is_streaming(&self) -> bool {
        self.streaming.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Returns the number of requests so far.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Returns the faults to inject into the next response.
    #[cfg(feature = "fault-injection")]
    pub(crate) fn write_faults(&self) -> &WriteFaults {
        &self.write_faults
    }
}

/// No response is sent: the connection is closed.
#[derive(Debug, thiserror::Error)]
#[error("the connection closes without a response")]
pub(crate) struct Closed;

/// Answers the requests of a connection.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Answers a request.
    ///
    /// # Errors
    /// [`Closed`] if the protocol requires closing the connection without a response.
    fn handle(
        &self,
        connection: &Arc<Connection>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Body>, Closed>> + Send;
}

/// The settings of a connection.
pub(crate) struct ConnectionSettings {
    pub(crate) limits: ServerLimits,
    /// Maximum time between two requests of an encoder's session; its connection lives slightly longer.
    pub(crate) inactivity_timeout: Duration,
    /// The certificate, if TLS is used.
    pub(crate) tls: Option<Arc<ServerConfig>>,
}

/// Serves a connection from `peer` until it ends.
pub(crate) async fn serve<H: Handler>(
    handler: Arc<H>,
    stream: TcpStream,
    peer: SocketAddr,
    settings: ConnectionSettings,
    permit: ConnectionPermit,
) {
    // Boxed, so that the long-lived connection of a player needs no memory for the phases before and after its stream.
    let served = Box::pin(serve_http(handler, stream, peer, settings, permit)).await;
    let Some((connection, mut stream)) = served else { return };
    let streaming = connection.streaming.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(response) = streaming {
        // Created after the stream, so that it is dropped first, however the connection ends.
        let _open = connection.socket.open(stream.tcp().as_raw_fd());
        let result;
        (stream, result) = response.send(stream).await;
        if let Err(error) = result {
            tracing::debug!(%error, "connection");
        }
    }
    if connection.close_with_reset.load(Ordering::Relaxed) {
        // With a linger time of zero, closing the socket sends RST instead of FIN.
        let _ = SockRef::from(stream.tcp()).set_linger(Some(Duration::ZERO));
        return;
    }
    // Its permit is released before the lingering close, which needs no place among the connections.
    drop(connection);
    Box::pin(linger(stream)).await;
}

/// Answers requests until the connection ends or a response with a stream takes it over. Returns `None` if the TLS
/// handshake failed.
async fn serve_http<H: Handler>(
    handler: Arc<H>,
    stream: TcpStream,
    peer: SocketAddr,
    settings: ConnectionSettings,
    permit: ConnectionPermit,
) -> Option<(Arc<Connection>, MaybeTlsStream)> {
    if let Err(error) = set_options(&stream, &settings) {
        tracing::debug!(%error, "cannot set socket options");
    }
    let ConnectionSettings { limits, inactivity_timeout, tls, .. } = settings;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let stream = match timeout(limits.head_timeout, MaybeTlsStream::accept(stream, tls)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%error, "TLS handshake failed");
            return None;
        }
        Err(_) => {
            tracing::debug!("TLS handshake timed out");
            return None;
        }
    };
    let connection = Arc::new(Connection::new(peer, scheme, permit));
    // This timeout also limits the time between requests.
    let head_timeout = inactivity_timeout + INACTIVITY_MARGIN;
    let service = {
        let connection = Arc::downgrade(&connection);
        service_fn(move |request: Request<Incoming>| {
            let handler = Arc::clone(&handler);
            let connection = connection.clone();
            Box::pin(async move {
                let connection = connection.upgrade().ok_or(Closed)?;
                connection.requests.fetch_add(1, Ordering::Relaxed);
                connection.active_requests.fetch_add(1, Ordering::Relaxed);
                let answer = handler.handle(&connection, request).await;
                connection.active_requests.fetch_sub(1, Ordering::Relaxed);
                // The library reads a request only after the previous response is sent, so no data of a request is
                // lost.
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
        // Some old clients compare header names with their case (see `header_case`).
        .title_case_headers(true)
        .max_header_size(limits.max_head_bytes)
        .max_headers(limits.max_head_lines)
        .max_buf_size(MAX_READ_AHEAD)
        .header_read_timeout(head_timeout);
    // The number is read here, because the library owns the stream from now on.
    let descriptor = stream.tcp().as_raw_fd();
    let mut http =
        http.serve_connection(TokioIo::new(FaultyStream::new(stream, Arc::clone(&connection.write_faults))), service);
    // Created after the owner of the stream, so that it is dropped first, however the connection ends.
    let open = connection.socket.open(descriptor);
    let mut idle_check = interval_at(Instant::now() + limits.head_timeout, limits.head_timeout);
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
            // This check limits the time for the whole head, even if its bytes arrive slowly. The library's own timeout
            // is longer, because it also applies between the requests of an encoder.
            _ = idle_check.tick() => if connection.is_idle() {
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

/// Sets the socket options: no delay of small packets, and the detection of lost peers.
fn set_options(stream: &TcpStream, settings: &ConnectionSettings) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEP_ALIVE_TIME).with_interval(KEEP_ALIVE_TIME))?;
    socket.set_tcp_user_timeout(Some(settings.limits.stall_timeout))
}

/// Shuts down the write side, then reads until the peer closes too.
async fn linger(stream: MaybeTlsStream) {
    let until = Instant::now() + LINGERING_CLOSE_TIME;
    // Fails if the peer has closed already or does not read.
    let Ok(Ok(stream)) = timeout_at(until, stream.end()).await else { return };
    let mut dropped = [0; 8 * 1024];
    let mut left = MAX_LINGER_BYTES;
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
