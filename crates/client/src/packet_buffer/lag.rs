//! How far a reader lags.

use std::time::Duration;

/// How far a reader lags behind the head of the packet buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Number of packets not taken yet, all of which are in the buffer.
    pub packets: u64,
    /// Framed bytes not taken yet, all of which are in the buffer.
    pub bytes: u64,
    /// Stream time from the first of these packets to the newest.
    pub time: Duration,
}
