//! What the server bears of those whom it does not know.

use std::time::Duration;

use super::networks::Networks;
use super::token_bucket::Rate;

/// What the server bears of those whom it does not know. A reload changes it for what comes after.
///
/// What is counted by address is counted by /64 for IPv6: who has one address there has them all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerLimits {
    /// Connections at one time; those beyond are closed as they come. `None` is as many as players and
    /// push sessions may be, and 256.
    pub max_connections: Option<usize>,
    /// Of these, from one address.
    pub max_connections_per_address: usize,
    /// New connections a second from one address; three times as many may come at once.
    pub max_connection_rate: u32,
    /// Players at one time from one address.
    pub max_players_per_address: usize,
    /// Wrong passwords from one address, until it is not asked any more.
    pub max_guesses: u32,
    /// The time in which so many wrong passwords are forgotten.
    pub guess_window: Duration,
    /// Addresses that are not counted: those of a proxy before the server, through which all come.
    pub uncounted: Networks,
    /// Bytes of a request's head.
    pub max_head_bytes: usize,
    /// Lines of a request's head.
    pub max_head_lines: usize,
    /// Time for a connection's first request to be whole, and between the requests of a connection that
    /// neither pushes nor plays.
    pub head_timeout: Duration,
    /// Time for the body of a PushSetup.
    pub setup_timeout: Duration,
    /// How long the peer of a connection may leave unacknowledged all that waits for it (`TCP_USER_TIMEOUT`); then
    /// it counts as dead.
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
    /// The least head that requests of the protocols fit into.
    pub const LEAST_HEAD_BYTES: usize = 2048;
    /// Lines of those, and of what proxies add.
    pub const LEAST_HEAD_LINES: usize = 32;

    /// That of new connections.
    pub(crate) fn arrivals(&self) -> Rate {
        let per_second = f64::from(self.max_connection_rate);
        Rate { burst: 3.0 * per_second, per_second }
    }

    /// That of wrong passwords.
    pub(crate) fn guesses(&self) -> Rate {
        let burst = f64::from(self.max_guesses);
        Rate { burst, per_second: burst / self.guess_window.as_secs_f64().max(1.0) }
    }
}
