//! The table `[bounds]`: limits for untrusted clients.

use std::time::Duration;

use bytesize::ByteSize;
use serde::Deserialize;

use super::super::error::ConfigError;
use crate::admission::limits::ServerLimits;
use crate::admission::networks::Networks;

/// The table `[bounds]`; the keys are the fields of [`ServerLimits`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct BoundsTable {
    /// [`ServerLimits::max_connections`].
    pub max_connections: Option<usize>,
    /// [`ServerLimits::max_connections_per_address`].
    pub max_connections_per_address: Option<usize>,
    /// [`ServerLimits::max_connection_rate`].
    pub max_connection_rate: Option<u32>,
    /// [`ServerLimits::max_players_per_address`].
    pub max_players_per_address: Option<usize>,
    /// [`ServerLimits::max_guesses`].
    pub max_guesses: Option<u32>,
    /// [`ServerLimits::guess_window`], such as `10m`.
    #[serde(with = "humantime_serde")]
    pub guess_window: Option<Duration>,
    /// [`ServerLimits::uncounted`].
    pub uncounted: Option<Networks>,
    /// [`ServerLimits::max_head_bytes`], such as `16KiB`.
    pub max_head_bytes: Option<ByteSize>,
    /// [`ServerLimits::max_head_lines`].
    pub max_head_lines: Option<usize>,
    /// [`ServerLimits::head_timeout`], such as `30s`.
    #[serde(with = "humantime_serde")]
    pub head_timeout: Option<Duration>,
    /// [`ServerLimits::setup_timeout`], such as `10s`.
    #[serde(with = "humantime_serde")]
    pub setup_timeout: Option<Duration>,
    /// [`ServerLimits::stall_timeout`], such as `60s`.
    #[serde(with = "humantime_serde")]
    pub stall_timeout: Option<Duration>,
}

impl BoundsTable {
    /// Converts the table; missing keys have the defaults.
    ///
    /// # Errors
    /// If a limit would reject every client.
    pub(super) fn into_bounds(self) -> Result<ServerLimits, ConfigError> {
        let unset = ServerLimits::default();
        let head = self.max_head_bytes.map(|size| usize::try_from(size.as_u64()).unwrap_or(usize::MAX));
        let bounds = ServerLimits {
            max_connections: self.max_connections.or(unset.max_connections),
            max_connections_per_address: self.max_connections_per_address.unwrap_or(unset.max_connections_per_address),
            max_connection_rate: self.max_connection_rate.unwrap_or(unset.max_connection_rate),
            max_players_per_address: self.max_players_per_address.unwrap_or(unset.max_players_per_address),
            max_guesses: self.max_guesses.unwrap_or(unset.max_guesses),
            guess_window: self.guess_window.unwrap_or(unset.guess_window),
            uncounted: self.uncounted.unwrap_or(unset.uncounted),
            max_head_bytes: head.unwrap_or(unset.max_head_bytes),
            max_head_lines: self.max_head_lines.unwrap_or(unset.max_head_lines),
            head_timeout: self.head_timeout.unwrap_or(unset.head_timeout),
            setup_timeout: self.setup_timeout.unwrap_or(unset.setup_timeout),
            stall_timeout: self.stall_timeout.unwrap_or(unset.stall_timeout),
        };
        for (key, value, least) in [
            ("max-connections", bounds.max_connections.unwrap_or(usize::MAX), 1),
            ("max-connections-per-address", bounds.max_connections_per_address, 1),
            ("max-connection-rate", bounds.max_connection_rate as usize, 1),
            ("max-guesses", bounds.max_guesses as usize, 1),
            ("max-head-bytes", bounds.max_head_bytes, ServerLimits::MIN_HEAD_BYTES),
            ("max-head-lines", bounds.max_head_lines, ServerLimits::MIN_HEAD_LINES),
            ("head-timeout", whole_seconds(bounds.head_timeout), 1),
            ("setup-timeout", whole_seconds(bounds.setup_timeout), 1),
            ("stall-timeout", whole_seconds(bounds.stall_timeout), 1),
            ("guess-window", whole_seconds(bounds.guess_window), 1),
        ] {
            if value < least {
                return Err(ConfigError::Bound { key, least });
            }
        }
        Ok(bounds)
    }
}

/// Returns the seconds of a time, rounded down, so that less than a second counts as 0 and is rejected.
fn whole_seconds(time: Duration) -> usize {
    usize::try_from(time.as_secs()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;
    use crate::config::file::{ConfigError, ConfigFile};

    fn config(text: &str) -> Result<Config, ConfigError> {
        text.parse::<ConfigFile>()?.into_config()
    }

    #[test]
    fn each_key_sets_its_limit() {
        let text = "[bounds]\nmax-connections = 1\nmax-connections-per-address = 2\nmax-connection-rate = 3\n\
                    max-players-per-address = 4\nmax-guesses = 5\nguess-window = '6s'\nuncounted = ['10.0.0.0/8']\n\
                    max-head-bytes = '7KiB'\nmax-head-lines = 80\nhead-timeout = '9s'\nsetup-timeout = '11s'\n\
                    stall-timeout = '12s'\n";
        let expected = ServerLimits {
            max_connections: Some(1),
            max_connections_per_address: 2,
            max_connection_rate: 3,
            max_players_per_address: 4,
            max_guesses: 5,
            guess_window: Duration::from_secs(6),
            uncounted: "10.0.0.0/8".parse().unwrap(),
            max_head_bytes: 7 << 10,
            max_head_lines: 80,
            head_timeout: Duration::from_secs(9),
            setup_timeout: Duration::from_secs(11),
            stall_timeout: Duration::from_secs(12),
        };
        assert_eq!(config(text).unwrap().bounds, expected);
        assert_eq!(config("").unwrap().bounds, ServerLimits::default());
    }

    #[test]
    fn networks_and_bit_rates_of_servers_and_points() {
        let text = "allow-push = ['192.0.2.0/24', '2001:db8::/32']\n[defaults]\nallow-play = []\nmax-bitrate = 5_000_000\n\
                    [point.concert]\nallow-push = ['192.0.2.7']\n[point.open]\nallow-play = ['::/0']\nmax-bitrate = 0\n";
        let config = config(text).unwrap();
        assert_eq!(config.allow_push.unwrap().to_string(), "192.0.2.0/24,2001:db8::/32");
        assert_eq!(config.allow_play, None);
        let (concert, open) = (&config.points["concert"], &config.points["open"]);
        assert_eq!(concert.allow_push.as_ref().unwrap().to_string(), "192.0.2.7/32");
        assert!(concert.allow_play.as_ref().unwrap().is_empty());
        assert_eq!((concert.max_bitrate, open.max_bitrate), (5_000_000, 0));
        assert_eq!((&open.allow_push, open.allow_play.as_ref().unwrap().to_string()), (&None, "::/0".to_owned()));
    }

    #[test]
    fn errors_name_the_line_and_the_cause() {
        for (text, words) in [
            ("[bounds]\nmax-connection = 1", &["line 2", "unknown field `max-connection`"][..]),
            ("allow-push = ['10.1.2.3/8']", &["line 1", "write 10.0.0.0/8 for the network"]),
            ("allow-play = '10.0.0.0/8'", &["line 1", "expected a sequence"]),
            ("[bounds]\nmax-head-bytes = '1KiB'", &["`max-head-bytes`", "2048"]),
            ("[bounds]\nhead-timeout = '0s'", &["`head-timeout`", "less than 1"]),
            ("[bounds]\nstall-timeout = '999ms'", &["`stall-timeout`", "less than 1"]),
            ("[bounds]\nmax-guesses = 0", &["`max-guesses`"]),
        ] {
            let error = config(text).unwrap_err().to_string();
            for word in words {
                assert!(error.contains(word), "{word}: {error}");
            }
        }
    }
}
