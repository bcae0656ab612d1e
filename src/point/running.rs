//! A server with a runtime and a thread of its own, for callers that are not async.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use tokio::runtime;
use tokio::sync::oneshot;

use super::config::Config;
use super::publishing::PointStats;
use super::registry::Registry;
use super::server::{Server, reload};

/// A server with a runtime of its own. Dropping it is [`RunningServer::stop`].
pub struct RunningServer {
    address: SocketAddr,
    tls_address: Option<SocketAddr>,
    status_address: Option<SocketAddr>,
    registry: Arc<Registry>,
    end: Option<oneshot::Sender<End>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Graceful,
    Abrupt,
}

impl Server {
    /// Starts a server in a thread of its own.
    ///
    /// # Errors
    /// Those of [`Server::start`], and where the system gives no thread.
    pub fn spawn(config: Config) -> io::Result<RunningServer> {
        let (end, ended) = oneshot::channel();
        let (started, result) = mpsc::sync_channel(1);
        let thread = thread::Builder::new().name("server".to_owned()).spawn(move || {
            let runtime = match runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(started.send(Err(error))),
            };
            runtime.block_on(async {
                let server = match Server::start(config).await {
                    Ok(server) => server,
                    Err(error) => return drop(started.send(Err(error))),
                };
                let facts =
                    (server.local_addr(), server.tls_addr(), server.status_addr(), Arc::clone(server.registry()));
                if started.send(Ok(facts)).is_ok() && ended.await != Ok(End::Abrupt) {
                    server.shutdown().await;
                }
            });
            // Tasks end where they stand.
            runtime.shutdown_background();
        })?;
        let gone = |_| io::Error::other("the server's thread ended");
        let (address, tls_address, status_address, registry) = result.recv().map_err(gone)??;
        Ok(RunningServer { address, tls_address, status_address, registry, end: Some(end), thread: Some(thread) })
    }
}

impl RunningServer {
    /// The address that it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// As [`Server::tls_addr`].
    pub fn tls_addr(&self) -> Option<SocketAddr> {
        self.tls_address
    }

    /// As [`Server::status_addr`].
    pub fn status_addr(&self) -> Option<SocketAddr> {
        self.status_address
    }

    /// As [`Server::stats`].
    pub fn stats(&self, point: &str) -> Option<PointStats> {
        self.registry.point(point).map(|point| point.stats())
    }

    /// As [`Server::reload`].
    ///
    /// # Errors
    /// As there.
    pub fn reload(&self, config: Config) -> io::Result<()> {
        reload(&self.registry, config)
    }

    /// As [`Server::disconnect_pusher`].
    pub fn disconnect_pusher(&self, point: &str, status: u16) -> bool {
        self.registry.disconnect_pusher(point, status)
    }

    /// As [`Server::shutdown`]; returns when all is done.
    pub fn stop(mut self) {
        self.finish(End::Graceful);
    }

    /// Ends like a crash: connections break, recordings stay unfinished.
    pub fn kill(mut self) {
        self.finish(End::Abrupt);
    }

    fn finish(&mut self, end: End) {
        if let Some(sender) = self.end.take() {
            // Fails where the thread is gone already.
            let _ = sender.send(end);
        }
        if let Some(thread) = self.thread.take() {
            // A panic there was printed there.
            let _ = thread.join();
        }
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        self.finish(End::Graceful);
    }
}
