//! Restricts an HTTP client to a single connection.
//!
//! A kept connection returns to the library's pool shortly after its response is complete. A request sent before that
//! would open a second connection. This layer delays such an attempt long enough for the pool to offer the kept
//! connection, and rejects it if the connection is actually lost.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::Notify;
use tower::{BoxError, Layer, Service};

use super::socket::Socket;

/// How long to wait for the kept connection to return to the pool. It returns as soon as the I/O thread has handled the
/// end of the response; the rest of the time is a reserve for a busy machine.
const POOL_RETURN_GRACE: Duration = Duration::from_millis(300);

/// The kept connection was lost.
#[derive(Debug, thiserror::Error)]
#[error("the kept connection was closed")]
pub(super) struct ConnectionLost;

/// The layer; all services that it creates share one permit.
#[derive(Clone)]
pub(super) struct SingleConnection {
    /// Whether the permit was used.
    used: Arc<AtomicBool>,
    /// The possible addresses of the peer. The connection's socket is found by comparing its peer with them.
    peers: Arc<[SocketAddr]>,
    info: Arc<ConnectionInfo>,
}

/// Information about the connection that the layer has made.
#[derive(Default)]
pub(super) struct ConnectionInfo {
    /// Its socket, if it can be found.
    pub(super) socket: Mutex<Option<Socket>>,
    /// Notified once, when the connection is established.
    pub(super) connected: Notify,
}

impl SingleConnection {
    /// Creates a layer that permits one connection, to one of `peers`.
    pub(super) fn new(peers: &[SocketAddr], info: Arc<ConnectionInfo>) -> Self {
        Self { used: Arc::default(), peers: peers.into(), info }
    }
}

impl<S> Layer<S> for SingleConnection {
    type Service = SingleConnectionLayer<S>;

    fn layer(&self, inner: S) -> SingleConnectionLayer<S> {
        SingleConnectionLayer { inner, single: self.clone() }
    }
}

#[derive(Clone)]
pub(super) struct SingleConnectionLayer<S> {
    inner: S,
    single: SingleConnection,
}

impl<S, R> Service<R> for SingleConnectionLayer<S>
where
    S: Service<R, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, target: R) -> Self::Future {
        // A second connection attempt. The library drops this future if the kept connection becomes available
        // meanwhile.
        if self.single.used.swap(true, Ordering::Relaxed) {
            return Box::pin(async {
                tokio::time::sleep(POOL_RETURN_GRACE).await;
                Err(ConnectionLost.into())
            });
        }
        let connecting = self.inner.call(target);
        let SingleConnection { peers, info, .. } = self.single.clone();
        Box::pin(async move {
            let connection = connecting.await?;
            *info.socket.lock().unwrap_or_else(PoisonError::into_inner) = Socket::find_unclaimed(&peers);
            info.connected.notify_one();
            Ok(connection)
        })
    }
}
