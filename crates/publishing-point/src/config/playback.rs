//! How a point treats its players.

use serde::Deserialize;

/// How a player learns of another header in mid-stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeaderChange {
    /// By its User-Agent: VLC, which stops at a second header, reconnects; all others take it in place.
    #[default]
    Auto,
    /// `$C` and `$H`, and on with the same response.
    InPlace,
    /// `$E` with Reason 1, after which players begin anew.
    Reconnect,
}

/// What happens to a player that lags beyond what its point keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SlowPlayers {
    /// It goes on at the newest key frame.
    #[default]
    Skip,
    /// Its stream ends.
    Disconnect,
}
