//! A server with its own runtime and thread, for callers that are not async.

use std::io;
use std::ops::Deref;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use tokio::runtime;
use tokio::sync::oneshot;

use crate::config::Config;
use crate::handle::ServerHandle;
use crate::server::Server;

/// A server with its own runtime. Dropping it has the same effect as [`BlockingServer::stop`].
pub struct BlockingServer {
    /// Control of the server, which callers reach by `Deref`.
    handle: ServerHandle,
    /// Sends the thread the way to stop; `None` once it was sent.
    shutdown: Option<oneshot::Sender<ShutdownMode>>,
    /// The thread; `None` when it has been joined.
    thread: Option<JoinHandle<()>>,
}

/// How a server stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ShutdownMode {
    /// Streams and recordings are finished.
    Graceful,
    /// Tasks are dropped where they wait, as in a crash.
    Abrupt,
}

impl Server {
    /// Starts a server in its own thread.
    ///
    /// # Errors
    /// Those of [`Server::start`], or if the system cannot start a thread.
    pub fn spawn(config: Config) -> io::Result<BlockingServer> {
        let (shutdown, shutdown_requested) = oneshot::channel();
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
                if started.send(Ok((*server).clone())).is_ok() && shutdown_requested.await != Ok(ShutdownMode::Abrupt) {
                    server.shutdown().await;
                }
            });
            // Tasks are dropped at their current await.
            runtime.shutdown_background();
        })?;
        let thread_ended = |_| io::Error::other("the server's thread ended");
        let handle = result.recv().map_err(thread_ended)??;
        Ok(BlockingServer { handle, shutdown: Some(shutdown), thread: Some(thread) })
    }
}

impl BlockingServer {
    /// Stops the server as [`Server::shutdown`] does; returns when it has stopped.
    pub fn stop(mut self) {
        self.finish(ShutdownMode::Graceful);
    }

    /// Stops like a crash: connections break, and recordings stay incomplete.
    pub fn kill(mut self) {
        self.finish(ShutdownMode::Abrupt);
    }

    /// Stops the thread and waits for its end. Further calls do nothing.
    fn finish(&mut self, shutdown: ShutdownMode) {
        if let Some(sender) = self.shutdown.take() {
            // Fails if the thread has ended already.
            let _ = sender.send(shutdown);
        }
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was already printed.
            let _ = thread.join();
        }
    }
}

impl Deref for BlockingServer {
    type Target = ServerHandle;

    fn deref(&self) -> &ServerHandle {
        &self.handle
    }
}

impl Drop for BlockingServer {
    fn drop(&mut self) {
        self.finish(ShutdownMode::Graceful);
    }
}
