//! Limits per address: connections, players, the rate of new connections, and failed logins.
//!
//! All tables are bounded, whatever clients send: connections and players by the number of connections, the others by
//! [`MAX_REMEMBERED_ADDRESSES`] addresses. Beyond that, the address that was inactive for longest is forgotten. For the
//! rate of connections this forgives three seconds' worth, for logins the failed attempts: to make the server forget
//! one address, an attacker needs that many others.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use lru::LruCache;

use super::limits::ServerLimits;
use super::token_bucket::{Rate, TokenBucket};

/// Maximum number of addresses whose connection rate or failed logins are remembered.
const MAX_REMEMBERED_ADDRESSES: NonZeroUsize = NonZeroUsize::new(16_384).expect("it is not 0");

/// The rate of log lines about refusals of one address: more than an operator or fail2ban needs.
const LOG_RATE_OF_ADDRESS: Rate = Rate { burst: 30.0, per_second: 0.2 };
/// The rate of log lines about refusals of all addresses together. It protects the disk when an attacker has many
/// addresses.
const LOG_RATE_OF_ALL: Rate = Rate { burst: 600.0, per_second: 20.0 };

/// The key of the limits: an IPv4 address, or an IPv6 /64 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct AddressKey(IpAddr);

impl AddressKey {
    /// Returns the key of an address. IPv4-mapped IPv6 addresses count as IPv4.
    fn of(address: IpAddr) -> Self {
        /// Clears the 64 bits that the owner of the network chooses freely.
        const NETWORK: u128 = !(u64::MAX as u128);
        match address.to_canonical() {
            IpAddr::V6(address) => Self(Ipv6Addr::from_bits(address.to_bits() & NETWORK).into()),
            v4 @ IpAddr::V4(_) => Self(v4),
        }
    }
}

/// The limits per address and their state.
pub(crate) struct ClientLimits(Mutex<State>);

struct State {
    /// Connections of all addresses.
    connections: usize,
    /// Addresses that have a connection now.
    usage: HashMap<AddressKey, AddressUsage>,
    /// The rates of new connections.
    connection_rates: LruCache<AddressKey, TokenBucket>,
    /// The rates of failed logins. An empty bucket locks the address out.
    failed_login_rates: LruCache<AddressKey, TokenBucket>,
    /// The rates of log lines about an address, and how many lines were left out since the last one.
    log_rates: LruCache<AddressKey, (TokenBucket, u64)>,
    /// The rate of all log lines; `None` before the first line.
    log_rate_of_all: Option<TokenBucket>,
    failed_logins: FailedLogins,
}

/// The failed logins, for the status.
#[derive(Clone, Debug, Default)]
pub(crate) struct FailedLogins {
    pub(crate) count: u64,
    pub(crate) last: Option<FailedLogin>,
}

/// A failed login. Its texts come from the client.
#[derive(Clone, Debug)]
pub(crate) struct FailedLogin {
    pub(crate) time: SystemTime,
    pub(crate) address: IpAddr,
    /// The user name that the client sent, if any.
    pub(crate) user: Option<String>,
    pub(crate) path: String,
}

/// The current use of one address.
#[derive(Default)]
struct AddressUsage {
    connections: usize,
    players: usize,
}

/// Why a connection is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("too many connections")]
    Full,
    #[error("too many connections from this address")]
    FullOfAddress,
    #[error("too many new connections per second from this address")]
    TooFast,
}

impl ClientLimits {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            connections: 0,
            usage: HashMap::new(),
            connection_rates: LruCache::new(MAX_REMEMBERED_ADDRESSES),
            failed_login_rates: LruCache::new(MAX_REMEMBERED_ADDRESSES),
            log_rates: LruCache::new(MAX_REMEMBERED_ADDRESSES),
            log_rate_of_all: None,
            failed_logins: FailedLogins::default(),
        })))
    }

    /// Admits a new connection if there are fewer than `room`.
    ///
    /// # Errors
    /// Why it is rejected.
    pub(crate) fn enter(
        self: &Arc<Self>,
        address: IpAddr,
        room: usize,
        bounds: &ServerLimits,
        now: Instant,
    ) -> Result<ConnectionPermit, Refused> {
        let key = AddressKey::of(address);
        let counted = !bounds.uncounted.contains(address);
        let mut state = self.lock();
        let rate = bounds.connection_rate();
        // The rate is checked before the other limits, so that an address that reconnects to a full server is slowed
        // down as well.
        if counted
            && !state.connection_rates.get_or_insert_mut(key, || TokenBucket::full(rate, now)).take(1.0, rate, now)
        {
            return Err(Refused::TooFast);
        }
        // The total applies to uncounted addresses too, because it limits the server's descriptors.
        if state.connections >= room {
            return Err(Refused::Full);
        }
        let connections = state.usage.get(&key).map_or(0, |usage| usage.connections);
        if counted && connections >= bounds.max_connections_per_address {
            return Err(Refused::FullOfAddress);
        }
        state.connections += 1;
        state.usage.entry(key).or_default().connections += 1;
        Ok(ConnectionPermit { caller: self.caller(address), is_player: AtomicBool::new(false) })
    }

    /// Returns the account of this address, which records its failed logins and log lines.
    pub(crate) fn caller(self: &Arc<Self>, address: IpAddr) -> Caller {
        Caller { client_limits: Arc::clone(self), key: AddressKey::of(address), address: address.to_canonical() }
    }

    /// Returns the failed logins so far.
    pub(crate) fn failed_logins(&self) -> FailedLogins {
        self.lock().failed_logins.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A poisoned lock can be used: the counters are consistent after every statement.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An address as the source of logins and log lines.
pub(crate) struct Caller {
    client_limits: Arc<ClientLimits>,
    key: AddressKey,
    address: IpAddr,
}

impl Caller {
    /// Returns the peer's address; an IPv4-mapped address is returned as IPv4.
    pub(crate) fn address(&self) -> IpAddr {
        self.address
    }

    /// Returns how long the address must wait before its credentials are checked again; `None` if it need not wait.
    pub(crate) fn locked_out(&self, bounds: &ServerLimits, now: Instant) -> Option<Duration> {
        if bounds.uncounted.contains(self.address) {
            return None;
        }
        // Reading does not refresh the entry: an address that is only blocked is forgotten in time.
        let mut bucket = *self.client_limits.lock().failed_login_rates.peek(&self.key)?;
        Some(bucket.time_until(1.0, bounds.failed_login_rate(), now)).filter(|wait| !wait.is_zero())
    }

    /// Returns whether to log a refusal of this address, so that a client cannot fill the log. The value is the number
    /// of refusals left out since the last log line.
    pub(crate) fn may_log(&self, now: Instant) -> Option<u64> {
        let mut state = self.client_limits.lock();
        let State { log_rates, log_rate_of_all, .. } = &mut *state;
        let (bucket, left_out) =
            log_rates.get_or_insert_mut(self.key, || (TokenBucket::full(LOG_RATE_OF_ADDRESS, now), 0));
        let log_rate_of_all = log_rate_of_all.get_or_insert_with(|| TokenBucket::full(LOG_RATE_OF_ALL, now));
        if bucket.take(1.0, LOG_RATE_OF_ADDRESS, now) && log_rate_of_all.take(1.0, LOG_RATE_OF_ALL, now) {
            return Some(std::mem::take(left_out));
        }
        *left_out += 1;
        None
    }

    /// Counts a failed login for the status. The caller limits the length of `user` and `path`.
    pub(crate) fn count_failed_login(&self, user: Option<String>, path: String) {
        let mut state = self.client_limits.lock();
        state.failed_logins.count += 1;
        let time = SystemTime::now();
        state.failed_logins.last = Some(FailedLogin { time, address: self.address, user, path });
    }

    /// Records a wrong password. Returns whether this failure locks the address out, so that the caller logs the
    /// lock-out once.
    pub(crate) fn record_failed_login(&self, bounds: &ServerLimits, now: Instant) -> bool {
        if bounds.uncounted.contains(self.address) {
            return false;
        }
        let rate = bounds.failed_login_rate();
        let mut state = self.client_limits.lock();
        let bucket = state.failed_login_rates.get_or_insert_mut(self.key, || TokenBucket::full(rate, now));
        // An address that is already locked out has no token to take, so it does not lengthen its own lock-out.
        bucket.take(1.0, rate, now) && !bucket.time_until(1.0, rate, now).is_zero()
    }
}

/// Counts a connection until it is dropped.
pub(crate) struct ConnectionPermit {
    caller: Caller,
    is_player: AtomicBool,
}

impl ConnectionPermit {
    /// Counts the connection as a player from now on; returns `false` if its address has too many players.
    pub(crate) fn count_as_player(&self, bounds: &ServerLimits) -> bool {
        let mut state = self.client_limits.lock();
        let usage = state.usage.entry(self.key).or_default();
        // The lock protects this flag as well; it is atomic only because the permit is shared. Therefore relaxed
        // ordering suffices here and in `drop`.
        if self.is_player.load(Ordering::Relaxed) {
            return true;
        }
        if usage.players >= bounds.max_players_per_address && !bounds.uncounted.contains(self.address()) {
            return false;
        }
        usage.players += 1;
        self.is_player.store(true, Ordering::Relaxed);
        true
    }
}

impl Deref for ConnectionPermit {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.caller
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut state = self.client_limits.lock();
        state.connections -= 1;
        if let Some(usage) = state.usage.get_mut(&self.key) {
            usage.connections -= 1;
            usage.players -= usize::from(self.is_player.load(Ordering::Relaxed));
            if usage.connections == 0 {
                state.usage.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: usize = 100;

    fn bounds() -> ServerLimits {
        ServerLimits {
            max_connections_per_address: 2,
            max_connection_rate: 10,
            max_players_per_address: 1,
            ..ServerLimits::default()
        }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn connections_are_counted_by_address_and_in_total() {
        let (client_limits, bounds, now) = (ClientLimits::new(), bounds(), Instant::now());
        let enter = |text| client_limits.enter(address(text), 4, &bounds, now);
        let one = enter("192.0.2.1").unwrap();
        let _mapped = enter("::ffff:192.0.2.1").unwrap();
        assert_eq!(enter("192.0.2.1").err(), Some(Refused::FullOfAddress));
        let _v6 = enter("2001:db8::1").unwrap();
        let _same_network = enter("2001:db8::2:3:4:5").unwrap();
        assert_eq!(enter("2001:db8::9").err(), Some(Refused::Full));
        drop(one);
        assert_eq!(enter("2001:db8::9").err(), Some(Refused::FullOfAddress));
        assert!(enter("2001:db8:0:1::1").is_ok());
        assert!(enter("192.0.2.1").is_ok());
    }

    /// Each event is one line, but a client cannot fill the log: the lines left out are counted.
    #[test]
    fn log_lines_per_address_are_limited() {
        let (client_limits, now) = (ClientLimits::new(), Instant::now());
        let caller = client_limits.caller(address("192.0.2.1"));
        assert_eq!((0..1000).filter_map(|_| caller.may_log(now)).collect::<Vec<_>>(), [0; 30]);
        assert_eq!(
            client_limits.caller(address("192.0.2.2")).may_log(now),
            Some(0),
            "the limit of another address is separate"
        );
        assert_eq!(caller.may_log(now + Duration::from_secs(5)), Some(970));
        let many = (0..10_000_u32).map(|host| client_limits.caller(IpAddr::from(host.to_be_bytes())));
        assert!(
            many.filter_map(|caller| caller.may_log(now)).count() < 600,
            "the lines of all addresses are limited too"
        );
    }

    #[test]
    fn no_state_is_left_of_closed_connections() {
        let (client_limits, bounds, now) = (ClientLimits::new(), bounds(), Instant::now());
        for host in 0..1000_u32 {
            let permit = client_limits.enter(IpAddr::from(host.to_be_bytes()), ROOM, &bounds, now).unwrap();
            assert!(permit.count_as_player(&bounds));
        }
        let state = client_limits.lock();
        assert_eq!((state.connections, state.usage.len()), (0, 0));
    }

    #[test]
    fn remembered_addresses_are_bounded() {
        let (client_limits, bounds, now) = (ClientLimits::new(), bounds(), Instant::now());
        for host in 0..40_000_u32 {
            let permit = client_limits.enter(IpAddr::from(host.to_be_bytes()), ROOM, &bounds, now).unwrap();
            permit.record_failed_login(&bounds, now);
        }
        let state = client_limits.lock();
        assert_eq!(
            (state.connection_rates.len(), state.failed_login_rates.len()),
            (MAX_REMEMBERED_ADDRESSES.get(), MAX_REMEMBERED_ADDRESSES.get())
        );
    }

    #[test]
    fn the_rate_of_new_connections_is_limited() {
        let (client_limits, bounds, now) = (ClientLimits::new(), bounds(), Instant::now());
        let come = |from: &str, now| client_limits.enter(address(from), ROOM, &bounds, now).err();
        for _ in 0..30 {
            assert_eq!(come("192.0.2.1", now), None);
        }
        assert_eq!(come("192.0.2.1", now), Some(Refused::TooFast));
        assert_eq!(come("192.0.2.2", now), None);
        assert_eq!(come("192.0.2.1", now + Duration::from_millis(100)), None);
        assert_eq!(come("192.0.2.1", now + Duration::from_millis(100)), Some(Refused::TooFast));
        for _ in 0..100 {
            assert_eq!(come("127.0.0.1", now), None, "the loopback address is not limited");
        }
    }

    #[test]
    fn players_are_counted_once_per_connection() {
        let (client_limits, bounds, now) = (ClientLimits::new(), bounds(), Instant::now());
        let one = client_limits.enter(address("192.0.2.1"), ROOM, &bounds, now).unwrap();
        let other = client_limits.enter(address("192.0.2.1"), ROOM, &bounds, now).unwrap();
        assert!(one.count_as_player(&bounds) && one.count_as_player(&bounds) && !other.count_as_player(&bounds));
        drop(one);
        assert!(other.count_as_player(&bounds));
    }

    #[test]
    fn failed_logins_block_an_address_and_are_forgotten() {
        let bounds = ServerLimits { max_guesses: 3, guess_window: Duration::from_secs(60), ..ServerLimits::default() };
        let (client_limits, now) = (ClientLimits::new(), Instant::now());
        let permit = |text| client_limits.enter(address(text), ROOM, &bounds, now).unwrap();
        let guess = |now| permit("2001:db8::1").record_failed_login(&bounds, now);
        assert_eq!([guess(now), guess(now)], [false, false]);
        assert_eq!(permit("2001:db8::2").locked_out(&bounds, now), None);
        assert!(guess(now), "this attempt blocks the address");
        assert!(!guess(now));
        // 60 s for 3 attempts: one more every 20 s.
        let wait = permit("2001:db8::2").locked_out(&bounds, now).unwrap();
        assert!((19..=20).contains(&wait.as_secs()), "{wait:?}");
        assert_eq!(permit("2001:db8:0:1::1").locked_out(&bounds, now), None);
        assert_eq!(permit("2001:db8::2").locked_out(&bounds, now + Duration::from_millis(20_001)), None);
    }
}
