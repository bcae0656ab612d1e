//! The kernel's side of a connection: what it has sent, and how much it may hold.
//!
//! The HTTP library keeps its socket to itself, so it is looked for among the process's descriptors. Without it
//! (another system than Linux, a locked-down process) only these extras are missing: what a lost connection had
//! delivered is estimated, and `qos-dscp`, `rtt` and `unsent-bytes` have no effect or value.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod other;

#[cfg(target_os = "linux")]
pub(super) use linux::Socket;
#[cfg(not(target_os = "linux"))]
pub(super) use other::Socket;

/// What the kernel tells of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Telemetry {
    /// Smoothed round-trip time, microseconds.
    pub rtt: u32,
    /// Bytes in the kernel's queue that were not sent yet.
    pub unsent: u32,
    /// Bytes that the peer has acknowledged since the connection began.
    pub acknowledged: u64,
    /// Bytes that the kernel has taken, and the peer has not acknowledged: `unsent`, and those on their way. On a
    /// connection that is lost, those that were when it was lost.
    pub outstanding: u64,
    /// Whether the connection is over on both sides, or was reset.
    pub is_closed: bool,
}
