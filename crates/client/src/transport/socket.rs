//! The kernel's view of a connection: what was sent and acknowledged, and how much may be buffered.
//!
//! The HTTP library does not expose its socket, so it is searched for among the process's descriptors. Without it (on
//! systems other than Linux, or in a restricted process) only these features are missing: the data delivered before a
//! connection was lost is estimated, and `qos-dscp`, `rtt` and `unsent-bytes` have no effect or value.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod other;

#[cfg(target_os = "linux")]
pub(super) use linux::Socket;
#[cfg(target_os = "linux")]
pub use linux::tcp_info;
#[cfg(not(target_os = "linux"))]
pub(super) use other::Socket;
#[cfg(all(unix, not(target_os = "linux")))]
pub use other::tcp_info;

/// The kernel's statistics of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Telemetry {
    /// Smoothed round-trip time in microseconds.
    pub rtt: u32,
    /// Unsent bytes in the kernel's queue.
    pub unsent: u32,
    /// Number of bytes that the peer has acknowledged since the connection was established.
    pub acknowledged: u64,
    /// Number of bytes that the kernel has accepted and the peer has not acknowledged: `unsent` and those in transit.
    /// On a lost connection, the number when it was lost.
    pub outstanding: u64,
    /// Whether the connection was closed by both sides or reset.
    pub is_closed: bool,
}
