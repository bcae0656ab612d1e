//! A destination's counters.

use std::time::{Duration, Instant};

use super::status::State;
use crate::wmhttp::verdict::Failure;

/// Counted since the destination joined; kept over reconnects.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// The destination's name.
    pub name: String,
    /// Its URL, without credentials.
    pub location: String,
    /// Where the last request went: `location`, or where redirects have led.
    pub effective_location: Option<String>,
    /// Where it stands.
    pub state: State,
    /// Packets handed to the connection, those repeated after a loss counted once.
    pub packets_sent: u64,
    /// Bytes of requests' bodies, framing and fillers included.
    pub bytes_sent: u64,
    /// Packets missed.
    pub packets_dropped: u64,
    /// Framed bytes of the packets missed.
    pub bytes_dropped: u64,
    /// Bytes of `$F`.
    pub filler_bytes_sent: u64,
    /// Requests sent.
    pub requests_sent: u64,
    /// PushStarts that were answered at their end and went on in a next one.
    pub rollovers: u64,
    /// Headers sent after the first of a session.
    pub header_changes: u64,
    /// Pushes taken up again.
    pub reconnects: u64,
    /// Attempts in a row that have failed.
    pub retry_count: u32,
    /// The last failure.
    pub last_error: Option<Failure>,
    /// The last HTTP status.
    pub last_http_status: Option<u16>,
    /// Packets not sent yet.
    pub packets_queued: u64,
    /// Their framed bytes.
    pub bytes_queued: u64,
    /// Their stream time.
    pub time_queued: Duration,
    /// The server's `Server` header.
    pub server: Option<String>,
    /// The scheme by which the server authenticates the pusher.
    pub auth_scheme: Option<&'static str>,
    /// The server's Idle-Timeout.
    pub idle_timeout: Option<Duration>,
    /// When the destination last connected.
    pub connected_at: Option<Instant>,
    /// Round-trip time, where the system tells.
    pub rtt: Option<Duration>,
    /// Bytes that the system holds unsent.
    pub unsent_bytes: Option<u32>,
}
