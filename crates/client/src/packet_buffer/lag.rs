//! How far a reader is behind.

use std::time::Duration;

/// How far a reader is behind the head of the packet buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// Packets not taken yet; the buffer keeps all of them.
    pub packets: u64,
    /// Framed bytes not taken yet, likewise.
    pub bytes: u64,
    /// Stream time from the first of them that is kept to the newest.
    pub time: Duration,
}
