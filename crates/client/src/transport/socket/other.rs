//! The implementation for systems other than Linux: no socket is found.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::Telemetry;

/// Knows nothing of any connection.
#[cfg(unix)]
pub fn tcp_info(_fd: std::os::fd::RawFd) -> Option<Telemetry> {
    None
}

/// Never exists.
pub(in crate::transport) struct Socket(Infallible);

impl Socket {
    /// Finds nothing.
    pub(in crate::transport) fn find_by_local_addr(_local: SocketAddr, _peers: &[SocketAddr]) -> Option<Self> {
        None
    }

    /// Finds nothing.
    pub(in crate::transport) fn find_unclaimed(_peers: &[SocketAddr]) -> Option<Self> {
        None
    }

    pub(in crate::transport) fn set_dscp(&self, _dscp: u8) {
        match self.0 {}
    }

    pub(in crate::transport) async fn finish(self, _grace: Duration, _by: Instant) -> bool {
        match self.0 {}
    }

    pub(in crate::transport) fn telemetry(&self) -> Option<Telemetry> {
        match self.0 {}
    }
}
