//! One TCP connection: HTTP/1 on it, its bounds in time, and an end the far side can read.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::service::service_fn;
use hyper::{Request, body::Incoming, server::conn::http1};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::registry::Registry;
use super::stream::Stream;
use super::{pull, push};

/// Bytes of a request's head.
const MAX_HEAD: usize = 16 * 1024;
/// Bytes that the HTTP library reads ahead of a pusher's session.
const READ_AHEAD: usize = 64 * 1024;
/// How long a new connection may take to its first request.
const FIRST_REQUEST: Duration = Duration::from_secs(30);
/// Time beyond the Inactivity-Timeout, at which the session itself closes its connection.
const AFTER_INACTIVITY: Duration = Duration::from_secs(30);
/// How long a player may leave everything unacknowledged before it counts as dead.
const DEAD: Duration = Duration::from_secs(60);
/// Silence after which the kernel asks whether the far end is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long what still comes is read and dropped after the last answer, so that the far end can read
/// that: a socket closed over unread bytes resets the connection.
const LINGER: Duration = Duration::from_secs(1);
/// Bytes dropped at most in that time.
const LINGER_BYTES: usize = 64 << 20;

/// What requests and sessions know of the connection they came on. It is gone when the connection is.
#[derive(Default)]
pub(super) struct Connection {
    close: Notify,
    used: AtomicBool,
}

impl Connection {
    /// Closes the connection without an answer.
    pub(super) fn close(&self) {
        self.close.notify_one();
    }
}

/// No answer is due: the connection just closes.
#[derive(Debug, thiserror::Error)]
#[error("the connection closes without an answer")]
pub(super) struct Closed;

/// Serves a connection until it ends.
pub(super) async fn serve(registry: Arc<Registry>, stream: TcpStream, tls: Option<Arc<ServerConfig>>) {
    if let Err(error) = set_options(&stream) {
        tracing::debug!(%error, "socket options");
    }
    let scheme = if tls.is_some() { "https" } else { "http" };
    let stream = match timeout(FIRST_REQUEST, Stream::accept(stream, tls)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake"),
        Err(_) => return tracing::debug!("no TLS handshake in time"),
    };
    let connection = Arc::new(Connection::default());
    // It bounds the time between requests too.
    let head_timeout = registry.config().policy.inactivity_timeout + AFTER_INACTIVITY;
    let service = {
        let connection = Arc::downgrade(&connection);
        service_fn(move |request: Request<Incoming>| {
            let registry = Arc::clone(&registry);
            let connection = connection.clone();
            Box::pin(async move {
                let connection = connection.upgrade().ok_or(Closed)?;
                connection.used.store(true, Ordering::Relaxed);
                if push::is_push(&request) {
                    push::answer(&registry, &connection, request).await
                } else {
                    Ok(pull::answer(&registry, scheme, request).await)
                }
            })
        })
    };
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .title_case_headers(true)
        .max_header_size(MAX_HEAD)
        .max_buf_size(READ_AHEAD)
        .header_read_timeout(head_timeout);
    let mut http = http.serve_connection(TokioIo::new(stream), service);
    let mut first_request = pin!(sleep(FIRST_REQUEST));
    let mut checked = false;
    loop {
        tokio::select! {
            result = poll_fn(|context| http.poll_without_shutdown(context)) => {
                if let Err(error) = result {
                    tracing::debug!(%error, "connection");
                }
                break;
            }
            () = connection.close.notified() => break,
            () = &mut first_request, if !checked => {
                checked = true;
                if !connection.used.load(Ordering::Relaxed) {
                    break;
                }
            }
        }
    }
    let parts = http.into_parts();
    drop(connection);
    linger(parts.io.into_inner()).await;
}

fn set_options(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(KEEP_ALIVE))?;
    socket.set_tcp_user_timeout(Some(DEAD))
}

/// Ends the connection for writing, and reads until the far end has done so too.
async fn linger(stream: Stream) {
    let until = Instant::now() + LINGER;
    // Fails where the far end has gone already, or does not read.
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
