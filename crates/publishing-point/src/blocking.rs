//! A server with a runtime and a thread of its own, for callers that are not async.

use std::io;
use std::ops::Deref;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use tokio::runtime;
use tokio::sync::oneshot;

use crate::config::Config;
use crate::handle::ServerHandle;
use crate::server::Server;

/// A server with a runtime of its own. Dropping it is [`BlockingServer::stop`].
pub struct BlockingServer {
    controls: ServerHandle,
    end: Option<oneshot::Sender<ShutdownMode>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ShutdownMode {
    Graceful,
    Abrupt,
}

impl Server {
    /// Starts a server in a thread of its own.
    ///
    /// # Errors
    /// Those of [`Server::start`], and where the system gives no thread.
    pub fn spawn(config: Config) -> io::Result<BlockingServer> {
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
                if started.send(Ok((*server).clone())).is_ok() && ended.await != Ok(ShutdownMode::Abrupt) {
                    server.shutdown().await;
                }
            });
            // Tasks end where they stand.
            runtime.shutdown_background();
        })?;
        let gone = |_| io::Error::other("the server's thread ended");
        let controls = result.recv().map_err(gone)??;
        Ok(BlockingServer { controls, end: Some(end), thread: Some(thread) })
    }
}

impl BlockingServer {
    /// As [`Server::shutdown`]; returns when all is done.
    pub fn stop(mut self) {
        self.finish(ShutdownMode::Graceful);
    }

    /// Ends like a crash: connections break, recordings stay unfinished.
    pub fn kill(mut self) {
        self.finish(ShutdownMode::Abrupt);
    }

    fn finish(&mut self, end: ShutdownMode) {
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

impl Deref for BlockingServer {
    type Target = ServerHandle;

    fn deref(&self) -> &ServerHandle {
        &self.controls
    }
}

impl Drop for BlockingServer {
    fn drop(&mut self) {
        self.finish(ShutdownMode::Graceful);
    }
}
