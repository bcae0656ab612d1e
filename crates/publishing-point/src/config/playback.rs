//! Settings of a point that concern its players.

use serde::Deserialize;

/// How a player receives a changed header in mid-stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeaderChange {
    /// Depends on the player. Windows players, recognized by their User-Agent, receive the header in place. Other
    /// players continue under the old header if it also decodes the new packets; otherwise their stream ends without an
    /// error.
    #[default]
    Auto,
    /// `$C` and `$H` in the same response; a plain stream is treated as with [`HeaderChange::Auto`].
    InPlace,
    /// `$E` with Reason 1, after which players reconnect.
    Reconnect,
}

/// What happens to a player that falls behind the packets that its point keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SlowPlayers {
    /// The player continues at the latest key frame.
    #[default]
    Skip,
    /// The player's stream ends.
    Disconnect,
}
