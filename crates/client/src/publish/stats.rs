//! A destination's statistics.

use std::time::{Duration, Instant, SystemTime};

use super::bitrate::Bitrate;
use super::status::State;
use wmhttp::failure::Failure;

/// Statistics since the destination was added; kept across reconnects.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// The destination's name.
    pub name: String,
    /// Its URL, without credentials.
    pub location: String,
    /// The URL of the last request: `location`, or the target of redirects.
    pub effective_location: Option<String>,
    /// The current state, and since when.
    pub state: State,
    /// See `state`.
    pub state_since: Option<Instant>,
    /// Whether the server did not confirm the end of the last stream in time.
    pub end_unconfirmed: bool,
    /// Whether nothing more happens without a command, and all events were reported.
    pub at_rest: bool,
    /// Packets appended since the destination was added: the sum of those sent, dropped and queued.
    pub packets_received: u64,
    /// Packets passed to the connection; those sent again after a loss count once.
    pub packets_sent: u64,
    /// The packets among them that were sent so shortly before a connection was lost that the server may not have read
    /// them. This is the maximum number of sent packets that the server may lack.
    pub packets_uncertain: u64,
    /// Bytes of request bodies, including framing and fillers.
    pub bytes_sent: u64,
    /// Dropped packets.
    pub packets_dropped: u64,
    /// Framed bytes of the dropped packets.
    pub bytes_dropped: u64,
    /// Bytes of padding removed from the packets sent.
    pub padding_bytes_saved: u64,
    /// Bytes of `$F` packets.
    pub filler_bytes_sent: u64,
    /// Requests sent.
    pub requests_sent: u64,
    /// PushStarts that were answered at their end and continued in another one.
    pub rollovers: u64,
    /// Headers sent after the first one of a session.
    pub header_changes: u64,
    /// Number of reconnects.
    pub reconnects: u64,
    /// Number of consecutive failed attempts.
    pub retry_count: u32,
    /// The last failure.
    pub last_error: Option<Failure>,
    /// The last HTTP status.
    pub last_http_status: Option<u16>,
    /// Packets not sent yet. All of them are in the buffer and can be sent.
    pub packets_queued: u64,
    /// Their framed bytes.
    pub bytes_queued: u64,
    /// Duration of the queued packets in stream time.
    pub time_queued: Duration,
    /// The fraction of the limits that the queued packets use, from 0 to 1.
    pub congestion: f64,
    /// The recent send rate.
    pub bitrate: Bitrate,
    /// The stream's bit rate in bit/s, computed from its timestamps.
    pub bitrate_expected: u64,
    /// The server's `Server` header.
    pub server: Option<String>,
    /// The scheme with which this client authenticates to the server.
    pub auth_scheme: Option<&'static str>,
    /// The server's Idle-Timeout.
    pub idle_timeout: Option<Duration>,
    /// When the destination last connected.
    pub connected_at: Option<Timestamp>,
    /// When a connection last ended.
    pub disconnected_at: Option<Timestamp>,
    /// Total duration of earlier connections.
    pub connected_before: Duration,
    /// When bytes were last passed to the connection.
    pub last_activity: Option<SystemTime>,
    /// Round-trip time, if the system reports it.
    pub rtt: Option<Duration>,
    /// Unsent bytes in the system's socket buffer.
    pub unsent_bytes: Option<u32>,
}

/// A point in time on two clocks: the wall clock for display, and the monotonic clock for durations.
#[derive(Clone, Copy, Debug)]
pub struct Timestamp {
    /// Wall-clock time.
    pub wall: SystemTime,
    /// Monotonic time.
    pub steady: Instant,
}

impl Timestamp {
    fn now() -> Self {
        Self { wall: SystemTime::now(), steady: Instant::now() }
    }
}

impl Stats {
    /// Returns the duration of the current connection, or of the last one.
    pub fn connect_duration(&self) -> Option<Duration> {
        let since = self.connected_at?.steady;
        // An end before the last start belongs to an earlier connection.
        let ended = self.disconnected_at.map(|timestamp| timestamp.steady).filter(|ended| *ended >= since);
        Some(ended.unwrap_or_else(Instant::now).saturating_duration_since(since))
    }

    /// Returns the average send rate in bit/s over the total time connected.
    pub fn bitrate_average(&self) -> u64 {
        let connected = self.connected_before + self.connected_now().unwrap_or_default();
        if connected.is_zero() { 0 } else { (self.bytes_sent as f64 * 8.0 / connected.as_secs_f64()) as u64 }
    }

    /// Returns the statistics after the destination was removed and its connection closed: queued packets count as
    /// dropped.
    #[must_use]
    pub fn after_removal(mut self) -> Self {
        self.packets_dropped += std::mem::take(&mut self.packets_queued);
        self.bytes_dropped += std::mem::take(&mut self.bytes_queued);
        self.time_queued = Duration::ZERO;
        self.congestion = 0.0;
        if !self.state.is_final() {
            self.record_state(State::Closed);
        }
        self
    }

    /// Records a change of state, and with it the end of a connection.
    pub(super) fn record_state(&mut self, state: State) {
        if state != self.state {
            self.state = state;
            self.state_since = Some(Instant::now());
        }
        if matches!(state, State::Reconnecting | State::Failed | State::Closed)
            && let Some(lasted) = self.connected_now()
        {
            self.connected_before += lasted;
            self.disconnected_at = Some(Timestamp::now());
        }
    }

    /// Records the start of a connection, unless one is already recorded.
    pub(super) fn record_connected(&mut self) {
        if self.connected_now().is_none() {
            self.connected_at = Some(Timestamp::now());
        }
    }

    /// Records bytes that were passed to the connection.
    pub(super) fn record_sent(&mut self, bytes: u64, now: Instant) {
        self.bytes_sent += bytes;
        self.bitrate.add(bytes, now);
        self.last_activity = Some(SystemTime::now());
    }

    /// Returns the duration of the current connection, if any.
    fn connected_now(&self) -> Option<Duration> {
        let since = self.connected_at?.steady;
        let has_ended = self.disconnected_at.is_some_and(|ended| ended.steady >= since);
        (!has_ended).then(|| since.elapsed())
    }
}
