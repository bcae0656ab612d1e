//! The server: a listener, and the tasks it feeds.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::config::Config;
use super::connection;
use super::gate::Gate;
use super::publishing::PointStats;
use super::registry::Registry;

/// Pause after a failed accept, such as for want of descriptors, so that it does not spin.
const PAUSE: Duration = Duration::from_millis(100);
/// How long connections have to say their last at the end.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// A running server, in the runtime that it was started in.
pub struct Server {
    address: SocketAddr,
    registry: Arc<Registry>,
    stop: Arc<Notify>,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Listens, and serves from then on.
    ///
    /// # Errors
    /// Where the address cannot be listened on, or a recorder not be started.
    pub async fn start(config: Config) -> io::Result<Self> {
        make_directories(&config)?;
        let listener = TcpListener::bind(config.listen).await?;
        let address = listener.local_addr()?;
        let registry = Registry::new(config)?;
        let stop = Arc::new(Notify::new());
        let accepting = tokio::spawn(accept(listener, Arc::clone(&registry), Arc::clone(&stop)));
        Ok(Self { address, registry, stop, accepting })
    }

    /// The address that it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// What the point has done so far; `None` where there is none of this name.
    pub fn stats(&self, point: &str) -> Option<PointStats> {
        self.registry.point(point).map(|point| point.stats())
    }

    /// Takes another configuration while it serves: points come, go and change, and so do users and limits. The
    /// addresses that it listens on stay.
    ///
    /// # Errors
    /// Where a directory or a recorder for a new point cannot be had: then all stays as it is.
    pub fn reload(&self, config: Config) -> io::Result<()> {
        make_directories(&config)?;
        self.registry.set_config(config)
    }

    /// Ends the push to the point with an HTTP error status (S-15); `false` where there is none.
    pub fn disconnect_pusher(&self, point: &str, status: u16) -> bool {
        self.registry.disconnect_pusher(point, status)
    }

    /// Ends pushes with 503 and players' streams with `$E`, and makes the recordings whole. Gives
    /// what each point has done, by name.
    pub async fn shutdown(self) -> Vec<(String, PointStats)> {
        let points = self.registry.stop().await;
        self.stop.notify_one();
        // Fails only where the task panicked or was aborted: it is over then too.
        let _ = self.accepting.await;
        points
    }

    pub(super) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }
}

fn make_directories(config: &Config) -> io::Result<()> {
    let mut directories = config.points.values().filter_map(|point| point.record.as_ref());
    directories.try_for_each(std::fs::create_dir_all)
}

async fn accept(listener: TcpListener, registry: Arc<Registry>, stop: Arc<Notify>) {
    let mut connections = JoinSet::new();
    let gate = Gate::new();
    loop {
        tokio::select! {
            () = stop.notified() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                // One too many is closed at once.
                Ok((stream, from)) => {
                    let config = registry.config();
                    match gate.enter(from.ip(), config.room(), &config.bounds, Instant::now()) {
                        Ok(visit) => drop(connections.spawn(connection::serve(Arc::clone(&registry), stream, visit))),
                        Err(refused) => tracing::debug!(address = %from.ip(), %refused, "a connection is closed"),
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "accept");
                    sleep(PAUSE).await;
                }
            }
        }
    }
    drop(listener);
    let rest = async { while connections.join_next().await.is_some() {} };
    // Those left over are idle, or do not read: dropping the set ends them.
    let _ = timeout(LAST_WORDS, rest).await;
}
