//! A server with a runtime and a thread of its own, for callers that are not async.

use std::io;
use std::ops::Deref;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use tokio::runtime;
use tokio::sync::oneshot;

use crate::config::Config;
use crate::handle::Controls;
use crate::server::Server;

/// A server with a runtime of its own. Dropping it is [`RunningServer::stop`].
pub struct RunningServer {
    controls: Controls,
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
                if started.send(Ok((*server).clone())).is_ok() && ended.await != Ok(End::Abrupt) {
                    server.shutdown().await;
                }
            });
            // Tasks end where they stand.
            runtime.shutdown_background();
        })?;
        let gone = |_| io::Error::other("the server's thread ended");
        let controls = result.recv().map_err(gone)??;
        Ok(RunningServer { controls, end: Some(end), thread: Some(thread) })
    }
}

impl RunningServer {
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

impl Deref for RunningServer {
    type Target = Controls;

    fn deref(&self) -> &Controls {
        &self.controls
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        self.finish(End::Graceful);
    }
}
