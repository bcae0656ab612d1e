//! Limits for untrusted clients.

use std::time::Duration;

use super::networks::Networks;
use super::token_bucket::Rate;

/// Limits for untrusted clients. A reload changes them for new connections and requests.
///
/// Limits per address apply to a /64 network with IPv6, because the owner of one address usually has the whole network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerLimits {
    /// Maximum connections; further ones are closed at once. `None` means the limits of players and push sessions
    /// together, plus 256.
    pub max_connections: Option<usize>,
    /// Maximum connections from one address.
    pub max_connections_per_address: usize,
    /// Maximum new connections per second from one address; up to three times as many may arrive at once.
    pub max_connection_rate: u32,
    /// Maximum players from one address.
    pub max_players_per_address: usize,
    /// Failed logins from one address before its credentials are no longer checked.
    pub max_guesses: u32,
    /// The time in which that many failed logins are forgotten.
    pub guess_window: Duration,
    /// Addresses without limits per address, such as a proxy in front of the server that all clients use.
    pub uncounted: Networks,
    /// Maximum bytes of a request head.
    pub max_head_bytes: usize,
    /// Maximum lines of a request head.
    pub max_head_lines: usize,
    /// Maximum time until a connection's first request is complete, and between the requests of a connection that
    /// neither pushes nor plays.
    pub head_timeout: Duration,
    /// Maximum time to receive the body of a PushSetup.
    pub setup_timeout: Duration,
    /// Maximum time that sent data may stay unacknowledged before the connection is considered lost
    /// (`TCP_USER_TIMEOUT`).
    pub stall_timeout: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            max_connections: None,
            max_connections_per_address: 64,
            max_connection_rate: 20,
            max_players_per_address: 32,
            max_guesses: 10,
            guess_window: Duration::from_secs(600),
            uncounted: Networks::loopback(),
            max_head_bytes: 16 * 1024,
            max_head_lines: 100,
            head_timeout: Duration::from_secs(30),
            setup_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(60),
        }
    }
}

impl ServerLimits {
    /// The smallest maximum head size that allows the requests of the protocols, in bytes.
    pub const MIN_HEAD_BYTES: usize = 2048;
    /// The smallest maximum number of head lines, for the protocols and the headers that proxies add.
    pub const MIN_HEAD_LINES: usize = 32;

    /// Returns the rate of new connections.
    pub(crate) fn connection_rate(&self) -> Rate {
        let per_second = f64::from(self.max_connection_rate);
        // Players and browsers open several connections at once when they start or return after an interruption.
        Rate { burst: 3.0 * per_second, per_second }
    }

    /// Returns the rate of failed logins.
    pub(crate) fn failed_login_rate(&self) -> Rate {
        let burst = f64::from(self.max_guesses);
        // `max` avoids a division by 0 if the configuration has no window.
        Rate { burst, per_second: burst / self.guess_window.as_secs_f64().max(1.0) }
    }
}
