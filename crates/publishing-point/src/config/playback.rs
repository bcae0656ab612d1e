//! How a point treats its players.

use serde::Deserialize;

/// How a player learns of another header in mid-stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeaderChange {
    /// What the player can do. Players of Windows, by their User-Agent, receive the header in place. All others continue
    /// under the header that they have if it decodes the new packets too; else their stream ends, without an error.
    #[default]
    Auto,
    /// `$C` and `$H` in the same response; a plain stream as with [`HeaderChange::Auto`].
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
