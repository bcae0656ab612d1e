//! A separate address for the status: plain HTTP, without the points.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use super::routes::Status;
use crate::admission::client_limits::{Caller, ClientLimits};
use crate::events::{ACCEPT_REMEDY, Repeated};
use crate::http::body::Body;
use crate::http::listen::listen;

/// Maximum connections.
const MAX_CONNECTIONS: usize = 64;
/// Maximum bytes of a request head.
const MAX_HEAD: usize = 16 * 1024;
/// Maximum idle time of a connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum total time of a connection, so that a client that does not read cannot keep its place. It does not apply to
/// the download of a recording, for which [`STALL_TIMEOUT`] is the limit.
const MAX_CONNECTION_TIME: Duration = Duration::from_secs(600);
/// Maximum time that a client may leave sent data unacknowledged.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Delay after a failed accept.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Serves the status at a separate address.
pub(crate) struct StatusListener {
    listener: TcpListener,
    address: SocketAddr,
}

impl StatusListener {
    /// Starts listening.
    ///
    /// # Errors
    /// If the address is not available.
    pub(crate) async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = listen(address, format_args!("the status address {address}")).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Returns the address that it listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until it is dropped.
    pub(crate) async fn serve(self, status: Arc<Status>, client_limits: Arc<ClientLimits>) {
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = tokio::task::JoinSet::new();
        let mut failures = Repeated::default();
        loop {
            tokio::select! {
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept() => match accepted {
                    // A connection beyond the limit is closed at once.
                    Ok((stream, peer)) => if let Ok(permit) = Arc::clone(&permits).try_acquire_owned() {
                        let caller = client_limits.caller(peer.ip());
                        connections.spawn(serve(Arc::clone(&status), stream, peer, caller, permit));
                    },
                    Err(error) => {
                        if let Some(left_out) = failures.may_log(Instant::now()) {
                            tracing::warn!(%error, left_out, "cannot accept connections to the status address. {}", ACCEPT_REMEDY);
                        }
                        sleep(ACCEPT_RETRY_DELAY).await;
                    }
                }
            }
        }
    }
}

/// Serves a connection until it ends or has lasted for [`MAX_CONNECTION_TIME`]. The permit is released with the future.
async fn serve(
    status: Arc<Status>,
    stream: TcpStream,
    peer: SocketAddr,
    caller: Caller,
    _permit: OwnedSemaphorePermit,
) {
    if let Err(error) = SockRef::from(&stream).set_tcp_user_timeout(Some(STALL_TIMEOUT)) {
        tracing::debug!(%error, "cannot set socket options");
    }
    let downloads = AtomicBool::new(false);
    let service = service_fn(|request: Request<Incoming>| {
        let (status, caller, downloads) = (&status, &caller, &downloads);
        async move {
            let answer = status.answer_own(peer, caller, &request).await;
            let response = answer.unwrap_or_else(|| {
                let mut response = Response::new(Body::full("this address serves only the status of the server\n"));
                *response.status_mut() = StatusCode::NOT_FOUND;
                response
            });
            // The connection closes after this response.
            downloads.store(matches!(response.body(), Body::Stream(_)), Ordering::Relaxed);
            Ok::<_, Infallible>(response)
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).max_header_size(MAX_HEAD).header_read_timeout(IDLE_TIMEOUT);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    let mut ended = timeout(MAX_CONNECTION_TIME, connection.as_mut()).await;
    if ended.is_err() && downloads.load(Ordering::Relaxed) {
        ended = Ok(connection.await);
    }
    if let Ok(Err(error)) = ended {
        tracing::debug!(%error, "status connection failed");
    }
}
