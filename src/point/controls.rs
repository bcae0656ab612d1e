//! What is asked of a running server, and told to it, from outside.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use super::config::Config;
use super::publishing::PointStats;
use super::registry::Registry;

/// A running server's addresses, figures and switches. [`Server`](super::Server) and
/// [`RunningServer`](super::RunningServer) both give them.
#[derive(Clone)]
pub struct Controls {
    pub(super) address: SocketAddr,
    pub(super) tls_address: Option<SocketAddr>,
    pub(super) status_address: Option<SocketAddr>,
    pub(super) registry: Arc<Registry>,
}

impl Controls {
    /// The address that it listens on.
    pub fn addr(&self) -> SocketAddr {
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
        make_directories(&config)?;
        self.registry.set_config(config)
    }

    /// Ends the push to the point with an HTTP error status (S-15); `false` where there is none.
    pub fn disconnect_pusher(&self, point: &str, status: u16) -> bool {
        self.registry.disconnect_pusher(point, status)
    }
}

/// Makes the directories that recordings go to.
///
/// # Errors
/// The system's, with the directory.
pub(super) fn make_directories(config: &Config) -> io::Result<()> {
    let mut directories = config.points.values().filter_map(|point| point.record.as_ref());
    directories.try_for_each(|directory| {
        let named = |error: io::Error| {
            let text = format!("the directory for recordings {} cannot be made: {error}", directory.display());
            io::Error::new(error.kind(), text)
        };
        std::fs::create_dir_all(directory).map_err(named)
    })
}
