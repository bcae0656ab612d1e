//! The states and events of a destination.

use std::time::Duration;

use wmhttp::Hresult;
use wmhttp::failure::Failure;

/// Steps in the life of a destination, numbered like WMT_STATUS of the Windows Media Format SDK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Status {
    /// The destination failed permanently.
    Error = 0,
    /// The connection attempt has finished; the result code tells how.
    Opened = 1,
    /// The server's address is being looked up.
    Locating = 7,
    /// The connection is being established.
    Connecting = 8,
    /// Data flows.
    Started = 11,
    /// The stream has ended.
    Stopped = 12,
    /// The connection is closed.
    Closed = 13,
    /// Another header was sent to the server.
    SourceSwitch = 22,
    /// The connection was lost; a retry follows.
    ReconnectStart = 35,
    /// Result of the reconnect.
    ReconnectEnd = 36,
}

/// The state of a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Not started.
    #[default]
    Idle,
    /// The server's address is being looked up.
    Locating,
    /// Waiting for the connection, then for the response to PushSetup.
    Connecting,
    /// Authenticating with the server or proxy.
    Authenticating,
    /// PushSetup was accepted; no data was sent yet.
    Opened,
    /// Data flows.
    Streaming,
    /// `$E` was sent.
    Ending,
    /// Waiting to retry.
    Reconnecting,
    /// Failed permanently.
    Failed,
    /// Ended.
    Closed,
}

impl State {
    /// Returns the state's name in messages and statistics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Locating => "locating",
            Self::Connecting => "connecting",
            Self::Authenticating => "authenticating",
            Self::Opened => "opened",
            Self::Streaming => "streaming",
            Self::Ending => "ending",
            Self::Reconnecting => "reconnecting",
            Self::Failed => "failed",
            Self::Closed => "closed",
        }
    }

    /// Returns whether the destination has ended or failed permanently.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Failed | Self::Closed)
    }
}

/// An event of a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DestinationEvent {
    /// The state changed.
    StateChange(StateChange),
    /// A problem that does not stop the push.
    Notice {
        /// The destination's name.
        destination: String,
        /// The problem.
        text: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// Upstream should be asked for a key frame.
    KeyFrameWanted {
        /// The destination's name.
        destination: String,
    },
    /// Packets were dropped. Reported at most once per second while the push runs, and when it ends.
    Dropped {
        /// The destination's name.
        destination: String,
        /// Why they were dropped.
        reason: DropReason,
        /// Packets dropped since the previous report.
        packets: u64,
        /// Packets sent, and packets dropped, since the destination was added.
        sent: u64,
        /// See `sent`.
        dropped: u64,
    },
}

/// Why packets were dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// The destination lagged beyond the limits, because the server was disconnected, refused the push for now, or was
    /// too slow.
    Lag,
    /// The push ended while they were queued.
    Ended,
    /// The push failed permanently while they were queued. The next event is that failure.
    Failed,
}

/// A state change and its details.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateChange {
    /// The destination's name, `dest_0`.
    pub destination: String,
    /// Its URL, without credentials.
    pub location: String,
    /// The step.
    pub status: Status,
    /// The result code.
    pub hresult: Hresult,
    /// The previous state.
    pub old_state: State,
    /// The new state.
    pub new_state: State,
    /// The failure, if this is one.
    pub failure: Option<Failure>,
    /// Number of consecutive failed attempts.
    pub attempt: u32,
    /// Time until the next attempt.
    pub retry_in: Option<Duration>,
}
