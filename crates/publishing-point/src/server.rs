//! The server: a listener, and the tasks it feeds.

use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::admission::client_limits::ClientLimits;
use crate::config::Config;
use crate::handle::{ServerHandle, make_directories};
use crate::http::connection;
use crate::points::publishing_point::PointStats;
use crate::points::registry::Registry;
use crate::status::{self, StatusListener};

/// Pause after a failed accept, such as for want of descriptors, so that it does not spin.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);
/// How long connections have to say their last at the end.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(3);

/// A running server, in the runtime that it was started in.
pub struct Server {
    controls: ServerHandle,
    stop: watch::Sender<bool>,
    accepting: Vec<JoinHandle<()>>,
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
        let gate = ClientLimits::new();
        let status_address = status_listener.as_ref().map(StatusListener::address);
        if let Some(listener) = status_listener {
            watching.spawn(listener.serve(Arc::clone(&registry), Arc::clone(&gate)));
        }
        let (stop, stopped) = watch::channel(false);
        let doors = [(Some(listener), Scheme::Plain), (tls_listener, Scheme::Tls)];
        let accepting = doors.into_iter().filter_map(|(listener, speech)| {
            let door =
                Listener { listener: listener?, speech, registry: Arc::clone(&registry), gate: Arc::clone(&gate) };
            Some(tokio::spawn(door.keep(stopped.clone())))
        });
        let accepting = accepting.collect();
        let controls = ServerHandle { address, tls_address, status_address, registry };
        Ok(Self { controls, stop, accepting, _watching: watching })
    }

    /// Ends pushes with 503 and players' streams with `$E`, and makes the recordings whole. Gives
    /// what each point has done, by name.
    pub async fn shutdown(self) -> Vec<(String, PointStats)> {
        let points = self.controls.registry.stop().await;
        self.stop.send_replace(true);
        for door in self.accepting {
            // Fails only where the task panicked or was aborted: it is over then too.
            let _ = door.await;
        }
        points
    }
}

impl Deref for Server {
    type Target = ServerHandle;

    fn deref(&self) -> &ServerHandle {
        &self.controls
    }
}

/// # Errors
/// The system's, with the address.
async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))
}

/// What is spoken behind an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Plain,
    Tls,
}

/// An address that connections come in by.
struct Listener {
    listener: TcpListener,
    speech: Scheme,
    registry: Arc<Registry>,
    gate: Arc<ClientLimits>,
}

impl Listener {
    /// Lets connections in until it is told to stop, and waits for their ends.
    async fn keep(self, mut stopped: watch::Receiver<bool>) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                // Fails where the server is gone.
                _ = stopped.changed() => break,
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, peer)) => self.accept(stream, peer, &mut connections),
                    Err(error) => {
                        tracing::warn!(%error, "accept");
                        sleep(ACCEPT_RETRY_DELAY).await;
                    }
                }
            }
        }
        drop(self.listener);
        let rest = async { while connections.join_next().await.is_some() {} };
        // Those left over are idle, or do not read: dropping the set ends them.
        let _ = timeout(SHUTDOWN_GRACE, rest).await;
    }

    /// One too many is closed at once.
    fn accept(&self, stream: TcpStream, peer: SocketAddr, connections: &mut JoinSet<()>) {
        let address = peer.ip();
        let registry = Arc::clone(&self.registry);
        let config = registry.config();
        let visit = match self.gate.enter(address, config.room(), &config.bounds, Instant::now()) {
            Ok(visit) => visit,
            Err(refused) => return tracing::debug!(%address, %refused, "a connection is closed"),
        };
        let tls = match self.speech {
            Scheme::Plain => None,
            // The certificate of now: a reload may have brought another.
            Scheme::Tls => config.tls.as_ref().map(|tls| Arc::clone(&tls.config)),
        };
        if self.speech == Scheme::Tls && tls.is_none() {
            return;
        }
        connections.spawn(connection::serve(registry, stream, peer, tls, visit));
    }
}
