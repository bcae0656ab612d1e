//! The handle of a running server: addresses, statistics and controls.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;

use crate::admission::authorization::Access;
use crate::config::Config;
use crate::points::names::{is_reserved, reserved};
use crate::points::publishing_point::{PointStats, PublishingPoint};
use crate::points::registry::Registry;
use crate::source;
use crate::urls::Urls;

/// The addresses, statistics and controls of a running server. [`Server`](crate::Server) and
/// [`BlockingServer`](crate::BlockingServer) both dereference to it.
#[derive(Clone)]
pub struct ServerHandle {
    pub(crate) address: SocketAddr,
    pub(crate) tls_address: Option<SocketAddr>,
    pub(crate) status_address: Option<SocketAddr>,
    pub(crate) registry: Arc<Registry>,
    access: Arc<Access>,
    urls: Urls,
    /// Serializes reloads.
    reloading: Arc<Mutex<()>>,
    runtime: Handle,
}

impl ServerHandle {
    /// Returns the handle of a server in the current runtime. Logs the URLs of the server.
    pub(crate) fn new(
        address: SocketAddr,
        tls_address: Option<SocketAddr>,
        status_address: Option<SocketAddr>,
        registry: Arc<Registry>,
        access: Arc<Access>,
        urls: Urls,
    ) -> Self {
        let runtime = Handle::current();
        let config = registry.config();
        urls.log_status(&config);
        for (name, point) in &config.points {
            urls.log_point(name, point);
        }
        Self { address, tls_address, status_address, registry, access, urls, reloading: Arc::default(), runtime }
    }

    /// Returns the address that the server listens on.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Returns the address of the TLS listener, if any.
    pub fn tls_addr(&self) -> Option<SocketAddr> {
        self.tls_address
    }

    /// Returns the separate address of the status, if any.
    pub fn status_addr(&self) -> Option<SocketAddr> {
        self.status_address
    }

    /// Returns the statistics of a point; `None` if there is no point of this name.
    pub fn stats(&self, point: &str) -> Option<PointStats> {
        self.registry.point(point).map(|point| point.stats())
    }

    /// Replaces the configuration of the running server: points are added, removed and changed, and so are users and
    /// limits. The listening addresses do not change.
    ///
    /// This creates directories and starts threads, and waits for another reload to finish: call it from a thread that
    /// may block.
    ///
    /// # Errors
    /// If a directory or the recorder of a new point cannot be created. The old configuration then remains in force.
    pub fn reload(&self, config: Config) -> io::Result<()> {
        let _guard = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        // Everything that can fail comes first, so that an error leaves the old configuration in force.
        make_directories(&config)?;
        check_names(&config)?;
        let mut new_points = Vec::new();
        let mut recorders = Vec::new();
        for (name, settings) in &config.points {
            match self.registry.point_named(name) {
                None => new_points.push(PublishingPoint::create(name, &Arc::new(settings.clone()))?),
                Some(point) if point.recorder().is_none() => {
                    let recorder = PublishingPoint::create_recorder(name, settings, point.activity())?;
                    recorders.extend(recorder.map(|recorder| (point, recorder)));
                }
                Some(_) => {}
            }
        }
        for point in &new_points {
            self.urls.log_point(point.name(), &point.config());
        }
        let changed_addresses = changed_addresses(&self.registry.config(), &config);
        // Set the users first, so that no new point accepts requests without the authentication that it needs.
        self.access.set_users(config.users.clone());
        self.registry.set_config(config, new_points, recorders);
        for point in self.registry.points() {
            source::ensure(&point, &self.runtime);
        }
        for key in changed_addresses {
            tracing::warn!(
                "`{key}` has changed, but the server still listens on the old address. Restart the server to apply it"
            );
        }
        Ok(())
    }

    /// Ends the push to the point with an HTTP error status (S-15); returns `false` if there is none.
    pub fn disconnect_pusher(&self, point: &str, status: u16) -> bool {
        self.registry.disconnect_pusher(point, status)
    }
}

/// Returns the configuration keys of addresses that differ.
fn changed_addresses(before: &Config, now: &Config) -> Vec<&'static str> {
    let tls = |config: &Config| config.tls.as_ref().map(|tls| tls.listen);
    let keys = [
        ("listen", before.listen != now.listen),
        ("tls.listen", tls(before) != tls(now)),
        ("status-listen", before.status_listen != now.status_listen),
    ];
    keys.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
}

/// Creates the directories for recordings and tests that they are writable, so that errors appear now and not at the
/// first header.
///
/// # Errors
/// The error of the system, with the directory in its message.
pub(crate) fn make_directories(config: &Config) -> io::Result<()> {
    let mut directories = config.points.values().filter_map(|point| point.record.as_ref());
    directories.try_for_each(|directory| {
        let named = |error: io::Error| {
            let text = format!("cannot create the directory for recordings {}: {error}. Create it for the server's user, or set another `record`", directory.display());
            io::Error::new(error.kind(), text)
        };
        std::fs::create_dir_all(directory).map_err(named)?;
        // The name contains the process id, because several servers may use the directory.
        let trial = directory.join(format!(".asf-publishing-point-{}", std::process::id()));
        // A full disk is not an error here, because a stream without a recording is better than none. The recorder logs
        // it.
        let passes = |error: &io::Error| matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        let written = std::fs::write(&trial, []).and_then(|()| std::fs::remove_file(&trial));
        written.or_else(|error| if passes(&error) { Ok(()) } else { Err(error) }).map_err(|error| {
            let text = format!(
                "cannot write recordings to {}: {error}. Give the server's user the right to write there, or set another \
                 `record`",
                directory.display()
            );
            io::Error::new(error.kind(), text)
        })
    })
}

/// Checks that no point has a reserved name.
///
/// # Errors
/// Names the reserved name.
pub(crate) fn check_names(config: &Config) -> io::Result<()> {
    let name = config.points.keys().find(|name| is_reserved(name));
    name.map_or(Ok(()), |name| Err(io::Error::new(io::ErrorKind::InvalidInput, reserved(name))))
}
