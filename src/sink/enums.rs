//! The enumerations of the element's properties and signals, and their conversions to those of the client crate.

use gst::prelude::*;

use asfpush_client::packet_buffer;
use asfpush_client::publish::status;
use wmhttp::auth::Methods;
use wmhttp::client;

/// `drop-policy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstAsfPushDropPolicy")]
pub enum DropPolicy {
    /// `keyframe` if upstream is live, otherwise `block`.
    #[default]
    #[enum_value(name = "keyframe if upstream is live, otherwise block (no packet is dropped)", nick = "auto")]
    Auto,
    /// Block upstream.
    #[enum_value(name = "Block upstream until the server has caught up; no packet is dropped", nick = "block")]
    Block,
    /// Skip to the most recent key frame.
    #[enum_value(name = "Skip to the newest packet that starts a key frame", nick = "keyframe")]
    Keyframe,
    /// Skip as few packets as possible.
    #[enum_value(name = "Skip to the oldest packet within the limits", nick = "oldest")]
    Oldest,
    /// Disconnect and connect again.
    #[enum_value(name = "Disconnect and connect again", nick = "disconnect")]
    Disconnect,
}

impl DropPolicy {
    pub(super) fn policy(self) -> Option<packet_buffer::DropPolicy> {
        match self {
            Self::Auto => None,
            Self::Block => Some(packet_buffer::DropPolicy::Block),
            Self::Keyframe => Some(packet_buffer::DropPolicy::Keyframe),
            Self::Oldest => Some(packet_buffer::DropPolicy::Oldest),
            Self::Disconnect => Some(packet_buffer::DropPolicy::Disconnect),
        }
    }
}

/// `sync-method`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstAsfPushSyncMethod")]
pub enum SyncMethod {
    /// At the next packet.
    #[enum_value(name = "At the next packet", nick = "latest")]
    Latest,
    /// At the next key frame.
    #[enum_value(name = "At the next packet that starts a key frame", nick = "next-keyframe")]
    NextKeyframe,
    /// At the most recent key frame.
    #[default]
    #[enum_value(name = "At the newest packet that starts a key frame", nick = "latest-keyframe")]
    LatestKeyframe,
}

impl From<SyncMethod> for packet_buffer::StartPosition {
    fn from(method: SyncMethod) -> Self {
        match method {
            SyncMethod::Latest => Self::Live,
            SyncMethod::NextKeyframe => Self::NextKeyframe,
            SyncMethod::LatestKeyframe => Self::LatestKeyframe,
        }
    }
}

/// `padding`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstAsfPushPadding")]
pub enum Padding {
    /// Removed; the packet states its length.
    #[default]
    #[enum_value(name = "Remove padding; packets state their length (Packet Length)", nick = "explicit")]
    Explicit,
    /// Removed; Padding Length is 0.
    #[enum_value(name = "Remove padding; packets have a Padding Length of 0", nick = "zero")]
    Zero,
    /// Kept.
    #[enum_value(name = "Keep padding", nick = "keep")]
    Keep,
}

impl From<Padding> for asf::Padding {
    fn from(padding: Padding) -> Self {
        match padding {
            Padding::Explicit => Self::Explicit,
            Padding::Zero => Self::Zero,
            Padding::Keep => Self::Keep,
        }
    }
}

/// `header-change`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstAsfPushHeaderChange")]
pub enum HeaderChange {
    /// Depends on what the server is known to support.
    #[default]
    #[enum_value(
        name = "Within the session if the server is known to apply it, otherwise in a new session",
        nick = "auto"
    )]
    Auto,
    /// `$E`(1) and `$C` in the session.
    #[enum_value(name = "Within the session, with a stream change packet ($C)", nick = "stream-change")]
    StreamChange,
    /// A new session.
    #[enum_value(name = "In a new session", nick = "reconnect")]
    Reconnect,
}

impl From<HeaderChange> for client::HeaderChange {
    fn from(change: HeaderChange) -> Self {
        match change {
            HeaderChange::Auto => Self::Auto,
            HeaderChange::StreamChange => Self::StreamChange,
            HeaderChange::Reconnect => Self::Reconnect,
        }
    }
}

/// `resume`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstAsfPushResume")]
pub enum Resume {
    /// If the server shows that it still has the session.
    #[default]
    #[enum_value(
        name = "Resume if the server shows that it still has the session, otherwise start a new one",
        nick = "auto"
    )]
    Auto,
    /// At every server that assigned a push-id.
    #[enum_value(
        name = "Resume whenever the server has assigned a push-id, even if it may have lost the session",
        nick = "always"
    )]
    Always,
    /// Never.
    #[enum_value(name = "Start a new session after each lost connection", nick = "never")]
    Never,
}

impl From<Resume> for client::Resume {
    fn from(resume: Resume) -> Self {
        match resume {
            Resume::Auto => Self::Auto,
            Resume::Always => Self::Always,
            Resume::Never => Self::Never,
        }
    }
}

/// `on-error`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstAsfPushOnError")]
pub enum OnError {
    /// When any destination has failed.
    #[enum_value(name = "Post an ERROR when any publishing point has failed permanently", nick = "fail-any")]
    FailAny,
    /// When all destinations have failed.
    #[default]
    #[enum_value(name = "Post an ERROR when all publishing points have failed permanently", nick = "fail-all")]
    FailAll,
    /// Never.
    #[enum_value(name = "Post only WARNINGs, never an ERROR", nick = "never")]
    Never,
}

/// `auth-methods`.
#[glib::flags(name = "GstAsfPushAuthMethods")]
pub enum AuthMethods {
    /// User name and password in readable form.
    #[flags_value(name = "Basic (sends the password in clear text)", nick = "basic")]
    BASIC = 1 << 0,
    /// RFC 7616.
    #[flags_value(name = "Digest with SHA-256 or MD5", nick = "digest")]
    DIGEST = 1 << 1,
    /// NTLM.
    #[flags_value(name = "NTLM (Windows)", nick = "ntlm")]
    NTLM = 1 << 2,
    /// SPNEGO.
    #[flags_value(name = "Negotiate with Kerberos or NTLM", nick = "negotiate")]
    NEGOTIATE = 1 << 3,
}

impl From<AuthMethods> for Methods {
    fn from(methods: AuthMethods) -> Self {
        Self {
            negotiate: methods.contains(AuthMethods::NEGOTIATE),
            ntlm: methods.contains(AuthMethods::NTLM),
            digest: methods.contains(AuthMethods::DIGEST),
            basic: methods.contains(AuthMethods::BASIC),
        }
    }
}

/// The connection state of a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstAsfPushDestinationState")]
#[allow(missing_docs)]
pub enum DestinationState {
    #[default]
    #[enum_value(name = "Not started", nick = "idle")]
    Idle,
    #[enum_value(name = "Looking up the server", nick = "locating")]
    Locating,
    #[enum_value(name = "Connecting, and waiting for the server's response", nick = "connecting")]
    Connecting,
    #[enum_value(name = "Authenticating with the server or proxy", nick = "authenticating")]
    Authenticating,
    #[enum_value(name = "The server has accepted the push; no data was sent yet", nick = "opened")]
    Opened,
    #[enum_value(name = "Sending data packets", nick = "streaming")]
    Streaming,
    #[enum_value(name = "Ending the stream", nick = "ending")]
    Ending,
    #[enum_value(name = "Waiting for the next retry", nick = "reconnecting")]
    Reconnecting,
    #[enum_value(name = "Failed permanently", nick = "failed")]
    Failed,
    #[enum_value(name = "Ended or disconnected", nick = "closed")]
    Closed,
}

impl From<status::State> for DestinationState {
    fn from(state: status::State) -> Self {
        match state {
            status::State::Idle => Self::Idle,
            status::State::Locating => Self::Locating,
            status::State::Connecting => Self::Connecting,
            status::State::Authenticating => Self::Authenticating,
            status::State::Opened => Self::Opened,
            status::State::Streaming => Self::Streaming,
            status::State::Ending => Self::Ending,
            status::State::Reconnecting => Self::Reconnecting,
            status::State::Failed => Self::Failed,
            status::State::Closed => Self::Closed,
        }
    }
}

/// The steps that the `status` signal reports, numbered like WMT_STATUS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstAsfPushStatus")]
#[repr(i32)]
pub enum Status {
    /// See [`status::Status`] for this and the following values.
    #[enum_value(name = "The destination failed permanently", nick = "error")]
    Error = 0,
    #[allow(missing_docs)]
    #[enum_value(name = "Result of the connection attempt", nick = "opened")]
    Opened = 1,
    #[allow(missing_docs)]
    #[enum_value(name = "Looking up the server", nick = "locating")]
    Locating = 7,
    #[allow(missing_docs)]
    #[enum_value(name = "Connecting to the server", nick = "connecting")]
    Connecting = 8,
    #[allow(missing_docs)]
    #[enum_value(name = "Sending data packets", nick = "started")]
    Started = 11,
    #[allow(missing_docs)]
    #[enum_value(name = "The stream has ended", nick = "stopped")]
    Stopped = 12,
    #[allow(missing_docs)]
    #[enum_value(name = "The connection is closed", nick = "closed")]
    Closed = 13,
    #[allow(missing_docs)]
    #[enum_value(name = "A new header was sent to the server", nick = "source-switch")]
    SourceSwitch = 22,
    #[allow(missing_docs)]
    #[enum_value(name = "The connection was lost; reconnecting", nick = "reconnect-start")]
    ReconnectStart = 35,
    #[allow(missing_docs)]
    #[enum_value(name = "Result of the reconnect", nick = "reconnect-end")]
    ReconnectEnd = 36,
}

impl From<status::Status> for Status {
    fn from(status: status::Status) -> Self {
        match status {
            status::Status::Error => Self::Error,
            status::Status::Opened => Self::Opened,
            status::Status::Locating => Self::Locating,
            status::Status::Connecting => Self::Connecting,
            status::Status::Started => Self::Started,
            status::Status::Stopped => Self::Stopped,
            status::Status::Closed => Self::Closed,
            status::Status::SourceSwitch => Self::SourceSwitch,
            status::Status::ReconnectStart => Self::ReconnectStart,
            status::Status::ReconnectEnd => Self::ReconnectEnd,
        }
    }
}

pub(super) fn register() {
    for kind in [
        AuthMethods::static_type(),
        DestinationState::static_type(),
        DropPolicy::static_type(),
        HeaderChange::static_type(),
        Resume::static_type(),
        OnError::static_type(),
        Padding::static_type(),
        Status::static_type(),
        SyncMethod::static_type(),
    ] {
        kind.mark_as_plugin_api(gst::PluginAPIFlags::empty());
    }
}
