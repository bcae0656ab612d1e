//! What a destination tells of itself.

use std::time::Duration;

use wmhttp::Hresult;
use wmhttp::failure::Failure;

/// Steps of a destination's life, numbered as the SDK's WMT_STATUS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Status {
    /// The destination failed for good.
    Error = 0,
    /// The outcome of connecting: the result code decides.
    Opened = 1,
    /// The server is being looked up.
    Locating = 7,
    /// The connection is being made.
    Connecting = 8,
    /// Data packets flow.
    Started = 11,
    /// The stream has been ended.
    Stopped = 12,
    /// The connection is closed.
    Closed = 13,
    /// The server was told of another header.
    SourceSwitch = 22,
    /// The connection was lost; a retry follows.
    ReconnectStart = 35,
    /// The outcome of taking it up again.
    ReconnectEnd = 36,
}

/// Where a destination stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Not begun.
    #[default]
    Idle,
    /// The server is being looked up.
    Locating,
    /// The connection, then the answer to PushSetup, is awaited.
    Connecting,
    /// The server or a proxy is being told who pushes.
    Authenticating,
    /// PushSetup was accepted; no data yet.
    Opened,
    /// Data packets flow.
    Streaming,
    /// `$E` is out.
    Ending,
    /// Waiting to try again.
    Reconnecting,
    /// Given up.
    Failed,
    /// Ended.
    Closed,
}

impl State {
    /// The state's name in messages and statistics.
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

    /// Whether nothing more will happen.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Failed | Self::Closed)
    }
}

/// One report of a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DestinationEvent {
    /// A step was taken.
    StateChange(StateChange),
    /// A problem that does not stop the push.
    Notice {
        /// The destination's name.
        destination: String,
        /// What was found.
        text: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// A key frame is worth asking upstream for.
    KeyFrameWanted {
        /// The destination's name.
        destination: String,
    },
    /// Packets were missed, which is told once a second at most: the destination lagged beyond the limits, or a
    /// connection was lost for longer.
    Dropped {
        /// The destination's name.
        destination: String,
        /// Packets missed since the report before.
        packets: u64,
        /// Packets sent, and packets missed, since the destination joined.
        sent: u64,
        /// See `sent`.
        dropped: u64,
    },
}

/// A step and its circumstances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateChange {
    /// The destination's name, `dest_0`.
    pub destination: String,
    /// Its URL, without credentials.
    pub location: String,
    /// What happened.
    pub status: Status,
    /// With which result.
    pub hresult: Hresult,
    /// The state before.
    pub old_state: State,
    /// The state now.
    pub new_state: State,
    /// Why it failed, where it did.
    pub failure: Option<Failure>,
    /// Attempts in a row that have failed.
    pub attempt: u32,
    /// When the next attempt comes.
    pub retry_in: Option<Duration>,
}
