//! The server: a listener, and the tasks it feeds.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::config::Config;
use super::connection;
use super::gate::Gate;
use super::publishing::PointStats;
use super::registry::Registry;
use super::status::{self, StatusListener};

/// Pause after a failed accept, such as for want of descriptors, so that it does not spin.
const PAUSE: Duration = Duration::from_millis(100);
/// How long connections have to say their last at the end.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// A running server, in the runtime that it was started in.
pub struct Server {
    address: SocketAddr,
    tls_address: Option<SocketAddr>,
    registry: Arc<Registry>,
    stop: watch::Sender<bool>,
    accepting: Vec<JoinHandle<()>>,
    /// Where the status is served, if at an address of its own.
    status_address: Option<SocketAddr>,
    /// The clock of the status, and its listener.
    _watching: JoinSet<()>,
}

impl Server {
    /// Listens, and serves from then on.
    ///
    /// # Errors
    /// Where an address cannot be listened on, a recorder not be started, or a point not be named so.
    pub async fn start(config: Config) -> io::Result<Self> {
        make_directories(&config)?;
        let listener = listen(config.listen).await?;
        let address = listener.local_addr()?;
        let tls_listener = match &config.tls {
            Some(tls) => Some(listen(tls.listen).await?),
            None => None,
        };
        let tls_address = tls_listener.as_ref().map(TcpListener::local_addr).transpose()?;
        let status_listener = match config.status_listen {
            Some(address) => Some(StatusListener::bind(address).await?),
            None => None,
        };
        let registry = Registry::new(config)?;
        let mut watching = JoinSet::new();
        watching.spawn(status::sample(Arc::downgrade(&registry)));
        let status_address = status_listener.as_ref().map(StatusListener::address);
        if let Some(listener) = status_listener {
            watching.spawn(listener.serve(Arc::clone(&registry)));
        }
        let (stop, stopped) = watch::channel(false);
        let gate = Gate::new();
        let doors = [(Some(listener), Speech::Plain), (tls_listener, Speech::Tls)];
        let accepting = doors.into_iter().filter_map(|(listener, speech)| {
            let door = Door { listener: listener?, speech, registry: Arc::clone(&registry), gate: Arc::clone(&gate) };
            Some(tokio::spawn(door.keep(stopped.clone())))
        });
        let accepting = accepting.collect();
        Ok(Self { address, tls_address, registry, stop, accepting, status_address, _watching: watching })
    }

    /// The address that it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The address where it speaks TLS, if it does.
    pub fn tls_addr(&self) -> Option<SocketAddr> {
        self.tls_address
    }

    /// Where the status is served, if at an address of its own.
    pub fn status_addr(&self) -> Option<SocketAddr> {
        self.status_address
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
        reload(&self.registry, config)
    }

    /// Ends the push to the point with an HTTP error status (S-15); `false` where there is none.
    pub fn disconnect_pusher(&self, point: &str, status: u16) -> bool {
        self.registry.disconnect_pusher(point, status)
    }

    /// Ends pushes with 503 and players' streams with `$E`, and makes the recordings whole. Gives
    /// what each point has done, by name.
    pub async fn shutdown(self) -> Vec<(String, PointStats)> {
        let points = self.registry.stop().await;
        self.stop.send_replace(true);
        for door in self.accepting {
            // Fails only where the task panicked or was aborted: it is over then too.
            let _ = door.await;
        }
        points
    }

    pub(super) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }
}

/// # Errors
/// The system's, with the address.
async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))
}

/// See [`Server::reload`].
pub(super) fn reload(registry: &Registry, config: Config) -> io::Result<()> {
    make_directories(&config)?;
    registry.set_config(config)
}

fn make_directories(config: &Config) -> io::Result<()> {
    let mut directories = config.points.values().filter_map(|point| point.record.as_ref());
    directories.try_for_each(std::fs::create_dir_all)
}

/// What is spoken behind an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speech {
    Plain,
    Tls,
}

/// An address that connections come in by.
struct Door {
    listener: TcpListener,
    speech: Speech,
    registry: Arc<Registry>,
    gate: Arc<Gate>,
}

impl Door {
    /// Lets connections in until it is told to stop, and waits for their ends.
    async fn keep(self, mut stopped: watch::Receiver<bool>) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                // Fails where the server is gone.
                _ = stopped.changed() => break,
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, peer)) => self.let_in(stream, peer, &mut connections),
                    Err(error) => {
                        tracing::warn!(%error, "accept");
                        sleep(PAUSE).await;
                    }
                }
            }
        }
        drop(self.listener);
        let rest = async { while connections.join_next().await.is_some() {} };
        // Those left over are idle, or do not read: dropping the set ends them.
        let _ = timeout(LAST_WORDS, rest).await;
    }

    /// One too many is closed at once.
    fn let_in(&self, stream: TcpStream, peer: SocketAddr, connections: &mut JoinSet<()>) {
        let address = peer.ip();
        let registry = Arc::clone(&self.registry);
        let config = registry.config();
        let visit = match self.gate.enter(address, config.room(), &config.bounds, Instant::now()) {
            Ok(visit) => visit,
            Err(refused) => return tracing::debug!(%address, %refused, "a connection is closed"),
        };
        let tls = match self.speech {
            Speech::Plain => None,
            // The certificate of now: a reload may have brought another.
            Speech::Tls => config.tls.as_ref().map(|tls| Arc::clone(&tls.config)),
        };
        if self.speech == Speech::Tls && tls.is_none() {
            return;
        }
        connections.spawn(connection::serve(registry, stream, peer, tls, visit));
    }
}
