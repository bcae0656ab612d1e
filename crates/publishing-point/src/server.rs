//! The server: listeners, and the tasks of their connections.

use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::admission::authorization::Access;
use crate::admission::client_limits::ClientLimits;
use crate::config::Config;
use crate::dispatch::Dispatcher;
use crate::drain;
use crate::events::{ACCEPT_REMEDY, Repeated};
use crate::handle::{ServerHandle, check_names, make_directories};
use crate::http::connection::{self, ConnectionSettings};
use crate::http::listen::listen;
use crate::ingest::setup::Ingest;
use crate::playback::handlers::Playback;
use crate::points::publishing_point::{PointStats, PublishingPoint};
use crate::points::push_session::SessionControl;
use crate::points::registry::Registry;
use crate::recording::recorder::SHUTDOWN_FINISH_TIMEOUT;
use crate::source;
use crate::status::listener::StatusListener;
use crate::status::routes::Status;
use crate::status::sampler;
use crate::urls::Urls;

/// Delay after a failed accept, for example without free file descriptors, which prevents a busy loop.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);
/// Maximum time for connections to finish when the server stops.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(3);
/// Maximum time of [`Server::shutdown`]: the ends of sessions and relays, [`SHUTDOWN_FINISH_TIMEOUT`] for recordings,
/// and [`SHUTDOWN_GRACE`].
const SHUTDOWN_TIME: Duration = Duration::from_secs(45);

/// A running server, in the runtime that it was started in.
pub struct Server {
    /// Control of the server, which callers reach by `Deref`.
    handle: ServerHandle,
    /// Set to `true` to end the accept loops and then the connections.
    stop: watch::Sender<bool>,
    /// The tasks of the listeners.
    accept_loops: Vec<JoinHandle<()>>,
    /// The tasks of the status: its sampler and its listener. They end when the set is dropped.
    _status_tasks: JoinSet<()>,
}

impl Server {
    /// Starts listening and serving.
    ///
    /// # Errors
    /// If an address is not available, a recorder cannot be started, or the name of a point is reserved.
    pub async fn start(config: Config) -> io::Result<Self> {
        make_directories(&config)?;
        let listener = listen(config.listen, config.listen).await?;
        let address = listener.local_addr()?;
        let tls_listener = match &config.tls {
            Some(tls) => Some(listen(tls.listen, tls.listen).await?),
            None => None,
        };
        let tls_address = tls_listener.as_ref().map(TcpListener::local_addr).transpose()?;
        let status_listener = match config.status_listen {
            Some(address) => Some(StatusListener::bind(address).await?),
            None => None,
        };
        check_names(&config)?;
        let points = config.points.iter().map(|(name, point)| PublishingPoint::create(name, &Arc::new(point.clone())));
        let points = points.collect::<io::Result<Vec<_>>>()?;
        let access = Arc::new(Access::new(config.users.clone()));
        let registry = Arc::new(Registry::new(config, points));
        let mut status_tasks = JoinSet::new();
        status_tasks.spawn(sampler::sample(Arc::downgrade(&registry)));
        let client_limits = ClientLimits::new();
        let status_address = status_listener.as_ref().map(StatusListener::address);
        let urls = Urls::new(address, tls_address, status_address);
        let status = Arc::new(Status::new(
            Arc::clone(&registry),
            Arc::clone(&access),
            Arc::clone(&client_limits),
            urls.clone(),
            status_listener.is_some(),
        ));
        if let Some(listener) = status_listener {
            status_tasks.spawn(listener.serve(Arc::clone(&status), Arc::clone(&client_limits)));
        }
        let dispatcher = Arc::new(Dispatcher {
            registry: Arc::clone(&registry),
            ingest: Ingest::new(Arc::clone(&registry), Arc::clone(&access)),
            playback: Playback::new(Arc::clone(&registry), Arc::clone(&access)),
            status,
        });
        let (stop, stopped) = watch::channel(false);
        let listeners = [(Some(listener), Scheme::Plain), (tls_listener, Scheme::Tls)];
        let accept_loops = listeners.into_iter().filter_map(|(listener, scheme)| {
            let dispatcher = Arc::clone(&dispatcher);
            let listener =
                Listener { listener: listener?, scheme, dispatcher, client_limits: Arc::clone(&client_limits) };
            Some(tokio::spawn(listener.accept_loop(stopped.clone())))
        });
        let accept_loops = accept_loops.collect();
        for point in registry.points() {
            source::ensure(&point, &Handle::current());
        }
        let handle = ServerHandle::new(address, tls_address, status_address, registry, access, urls);
        Ok(Self { handle, stop, accept_loops, _status_tasks: status_tasks })
    }

    /// Moves the players to other servers, within [`Config::drain_time`]: health checks fail from now on, and the
    /// players' streams end one after the other. Does nothing if that time is 0.
    pub async fn drain(&self) {
        let time = self.handle.registry.config().drain_time;
        if !time.is_zero() {
            drain::drain(&self.handle.registry, time).await;
        }
    }

    /// Returns the maximum time of [`Server::drain`] and then [`Server::shutdown`]. A supervisor should wait this long
    /// before it kills the process.
    pub fn stop_time(&self) -> Duration {
        self.handle.registry.config().drain_time + SHUTDOWN_TIME
    }

    /// Ends pushes with 503 and players' streams with `$E`, and completes the recordings. Returns the statistics of
    /// each point, by name.
    pub async fn shutdown(self) -> Vec<(String, PointStats)> {
        let points = end_points(&self.handle.registry).await;
        self.stop.send_replace(true);
        for task in self.accept_loops {
            // Fails only if the task panicked or was aborted. In both cases it has ended.
            let _ = task.await;
        }
        points
    }
}

/// Ends all sessions with 503. When they have ended and the recordings are complete, it returns the statistics of each
/// point, by name.
async fn end_points(registry: &Registry) -> Vec<(String, PointStats)> {
    let (sessions, points) = registry.close();
    // All sessions receive the command before any is awaited, so that they end at the same time.
    for session in &sessions {
        session.control(SessionControl::Terminate(503));
    }
    for session in &sessions {
        session.closed().await;
    }
    for point in &points {
        point.close();
    }
    let mut all = Vec::with_capacity(points.len());
    for point in points {
        point.relays().wait_until_sent().await;
        if let Some(recorder) = point.recorder() {
            recorder.finish(SHUTDOWN_FINISH_TIMEOUT).await;
        }
        all.push((point.name().to_owned(), point.stats()));
    }
    all.sort_by(|(one, _), (other, _)| one.cmp(other));
    all
}

impl Deref for Server {
    type Target = ServerHandle;

    fn deref(&self) -> &ServerHandle {
        &self.handle
    }
}

/// The protocol of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    /// HTTP.
    Plain,
    /// HTTP over TLS.
    Tls,
}

/// A listening address and its handler.
struct Listener {
    listener: TcpListener,
    scheme: Scheme,
    dispatcher: Arc<Dispatcher>,
    client_limits: Arc<ClientLimits>,
}

impl Listener {
    /// Accepts connections until the server stops, then waits for their ends.
    async fn accept_loop(self, mut stopped: watch::Receiver<bool>) {
        let mut connections = JoinSet::new();
        let mut failures = Repeated::default();
        loop {
            tokio::select! {
                // Fails if the server was dropped.
                _ = stopped.changed() => break,
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, peer)) => self.accept(stream, peer, &mut connections),
                    Err(error) => {
                        self.dispatcher.registry.record_accept_failure();
                        if let Some(left_out) = failures.may_log(Instant::now()) {
                            tracing::warn!(%error, left_out, "cannot accept connections. {}", ACCEPT_REMEDY);
                        }
                        sleep(ACCEPT_RETRY_DELAY).await;
                    }
                }
            }
        }
        drop(self.listener);
        let rest = async { while connections.join_next().await.is_some() {} };
        // The remaining connections are idle or do not read: dropping the set closes them.
        let _ = timeout(SHUTDOWN_GRACE, rest).await;
    }

    /// Starts serving a connection. A connection beyond the limits is closed at once.
    fn accept(&self, stream: TcpStream, peer: SocketAddr, connections: &mut JoinSet<()>) {
        let address = peer.ip();
        let registry = &self.dispatcher.registry;
        let config = registry.config();
        let permit = match self.client_limits.enter(address, config.connection_limit(), &config.bounds, Instant::now())
        {
            Ok(permit) => permit,
            Err(refused) => return tracing::debug!(%address, %refused, "connection rejected"),
        };
        let tls = match self.scheme {
            Scheme::Plain => None,
            // Use the current certificate, because a reload may have replaced it.
            Scheme::Tls => config.tls.as_ref().map(|tls| Arc::clone(&tls.config)),
        };
        if self.scheme == Scheme::Tls && tls.is_none() {
            return;
        }
        let settings = ConnectionSettings {
            limits: config.bounds.clone(),
            inactivity_timeout: config.policy.inactivity_timeout,
            tls,
        };
        connections.spawn(connection::serve(Arc::clone(&self.dispatcher), stream, peer, settings, permit));
    }
}
