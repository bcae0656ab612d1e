//! A destination's counters.

use std::time::{Duration, Instant, SystemTime};

use super::bitrate::Bitrate;
use super::status::State;
use wmhttp::failure::Failure;

/// Counted since the destination joined; kept over reconnects.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// The destination's name.
    pub name: String,
    /// Its URL, without credentials.
    pub location: String,
    /// Where the last request went: `location`, or where redirects have led.
    pub effective_location: Option<String>,
    /// Where it stands, and since when.
    pub state: State,
    /// See `state`.
    pub state_since: Option<Instant>,
    /// Whether the server left the end of the last stream unanswered until the time for it was over.
    pub end_unconfirmed: bool,
    /// Whether nothing more happens by itself, and all that has happened was told.
    pub at_rest: bool,
    /// Packets appended since the destination joined; sent, dropped and queued add up to it.
    pub packets_received: u64,
    /// Packets handed to the connection, those repeated after a loss counted once.
    pub packets_sent: u64,
    /// Those of them that went so shortly before a connection broke that the server may not have read them: how many
    /// of those sent can be missing at the peer.
    pub packets_uncertain: u64,
    /// Bytes of requests' bodies, framing and fillers included.
    pub bytes_sent: u64,
    /// Packets missed.
    pub packets_dropped: u64,
    /// Framed bytes of the packets missed.
    pub bytes_dropped: u64,
    /// Bytes of padding that were removed from the packets sent.
    pub padding_bytes_saved: u64,
    /// Bytes of `$F`.
    pub filler_bytes_sent: u64,
    /// Requests sent.
    pub requests_sent: u64,
    /// PushStarts that were answered at their end and went on in a next one.
    pub rollovers: u64,
    /// Headers sent after the first of a session.
    pub header_changes: u64,
    /// Number of reconnects.
    pub reconnects: u64,
    /// Attempts in a row that have failed.
    pub retry_count: u32,
    /// The last failure.
    pub last_error: Option<Failure>,
    /// The last HTTP status.
    pub last_http_status: Option<u16>,
    /// Packets not sent yet; all of them are kept, and can be sent.
    pub packets_queued: u64,
    /// Their framed bytes.
    pub bytes_queued: u64,
    /// Their stream time.
    pub time_queued: Duration,
    /// How much of the limits they use up, from 0 to 1.
    pub congestion: f64,
    /// What was sent lately.
    pub bitrate: Bitrate,
    /// Bits a second that the stream has, by its own times.
    pub bitrate_expected: u64,
    /// The server's `Server` header.
    pub server: Option<String>,
    /// The scheme by which the server authenticates the pusher.
    pub auth_scheme: Option<&'static str>,
    /// The server's Idle-Timeout.
    pub idle_timeout: Option<Duration>,
    /// When the destination last connected.
    pub connected_at: Option<Timestamp>,
    /// When a connection last ended.
    pub disconnected_at: Option<Timestamp>,
    /// How long earlier connections lasted, together.
    pub connected_before: Duration,
    /// When bytes were last handed to the connection.
    pub last_activity: Option<SystemTime>,
    /// Round-trip time, where the system tells.
    pub rtt: Option<Duration>,
    /// Bytes that the system holds unsent.
    pub unsent_bytes: Option<u32>,
}

/// A moment by both clocks: one that people read, and one that measures.
#[derive(Clone, Copy, Debug)]
pub struct Timestamp {
    /// The wall clock's.
    pub wall: SystemTime,
    /// The steady clock's.
    pub steady: Instant,
}

impl Timestamp {
    fn now() -> Self {
        Self { wall: SystemTime::now(), steady: Instant::now() }
    }
}

impl Stats {
    /// How long the connection there is has lasted, or the last one did.
    pub fn connect_duration(&self) -> Option<Duration> {
        let since = self.connected_at?.steady;
        let ended = self.disconnected_at.map(|moment| moment.steady).filter(|ended| *ended >= since);
        Some(ended.unwrap_or_else(Instant::now).saturating_duration_since(since))
    }

    /// Bits a second sent over all the time connected.
    pub fn bitrate_average(&self) -> u64 {
        let connected = self.connected_before + self.connected_now().unwrap_or_default();
        if connected.is_zero() { 0 } else { (self.bytes_sent as f64 * 8.0 / connected.as_secs_f64()) as u64 }
    }

    /// The same after the publisher has released the destination and its connection closes: queued packets will not
    /// be sent.
    #[must_use]
    pub fn let_go(mut self) -> Self {
        self.packets_dropped += std::mem::take(&mut self.packets_queued);
        self.bytes_dropped += std::mem::take(&mut self.bytes_queued);
        self.time_queued = Duration::ZERO;
        self.congestion = 0.0;
        if !self.state.is_final() {
            self.note_state(State::Closed);
        }
        self
    }

    pub(super) fn note_state(&mut self, state: State) {
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

    pub(super) fn note_connected(&mut self) {
        if self.connected_now().is_none() {
            self.connected_at = Some(Timestamp::now());
        }
    }

    pub(super) fn note_sent(&mut self, bytes: u64, now: Instant) {
        self.bytes_sent += bytes;
        self.bitrate.add(bytes, now);
        self.last_activity = Some(SystemTime::now());
    }

    /// How long the connection that there is has lasted.
    fn connected_now(&self) -> Option<Duration> {
        let since = self.connected_at?.steady;
        let with_buffer = self.disconnected_at.is_some_and(|ended| ended.steady >= since);
        (!with_buffer).then(|| since.elapsed())
    }
}
