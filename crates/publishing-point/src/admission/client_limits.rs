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

/// Log lines about refusals of one address: more than an operator or fail2ban needs.
const LINES_OF_ADDRESS: Rate = Rate { burst: 30.0, per_second: 0.2 };
/// Log lines about all addresses together.
const LINES_OF_ALL: Rate = Rate { burst: 600.0, per_second: 20.0 };

/// The key of the limits: an IPv4 address, or an IPv6 /64 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct AddressKey(IpAddr);

impl AddressKey {
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
    there: HashMap<AddressKey, AddressUsage>,
    arrivals: LruCache<AddressKey, TokenBucket>,
    guesses: LruCache<AddressKey, TokenBucket>,
    /// The log lines about an address, and how many were left out since the last one.
    lines: LruCache<AddressKey, (TokenBucket, u64)>,
    all_lines: Option<TokenBucket>,
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
    #[error("new connections from this address arrive too fast")]
    TooFast,
}

impl ClientLimits {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            connections: 0,
            there: HashMap::new(),
            arrivals: LruCache::new(MAX_REMEMBERED_ADDRESSES),
            guesses: LruCache::new(MAX_REMEMBERED_ADDRESSES),
            lines: LruCache::new(MAX_REMEMBERED_ADDRESSES),
            all_lines: None,
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
        let site = AddressKey::of(address);
        let counted = !bounds.uncounted.has(address);
        let mut state = self.lock();
        let rate = bounds.arrivals();
        if counted && !state.arrivals.get_or_insert_mut(site, || TokenBucket::full(rate, now)).take(1.0, rate, now) {
            return Err(Refused::TooFast);
        }
        if state.connections >= room {
            return Err(Refused::Full);
        }
        let there = state.there.get(&site).map_or(0, |there| there.connections);
        if counted && there >= bounds.max_connections_per_address {
            return Err(Refused::FullOfAddress);
        }
        state.connections += 1;
        state.there.entry(site).or_default().connections += 1;
        Ok(ConnectionPermit { caller: self.caller(address), plays: AtomicBool::new(false) })
    }

    /// Returns the login attempts of this address.
    pub(crate) fn caller(self: &Arc<Self>, address: IpAddr) -> Caller {
        Caller { client_limits: Arc::clone(self), site: AddressKey::of(address), address: address.to_canonical() }
    }

    /// Returns the failed logins so far.
    pub(crate) fn failed_logins(&self) -> FailedLogins {
        self.lock().failed_logins.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Plain data, consistent after every statement.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The login attempts of an address.
pub(crate) struct Caller {
    client_limits: Arc<ClientLimits>,
    site: AddressKey,
    address: IpAddr,
}

impl Caller {
    /// Returns the peer's address; an IPv4-mapped address is returned as IPv4.
    pub(crate) fn address(&self) -> IpAddr {
        self.address
    }

    /// Returns how long the address must wait before its credentials are checked again; `None` if it need not wait.
    pub(crate) fn locked_out(&self, bounds: &ServerLimits, now: Instant) -> Option<Duration> {
        if bounds.uncounted.has(self.address) {
            return None;
        }
        // Reading does not refresh the entry: an address that is only blocked is forgotten in time.
        let mut bucket = *self.client_limits.lock().guesses.peek(&self.site)?;
        Some(bucket.wait(1.0, bounds.guesses(), now)).filter(|wait| !wait.is_zero())
    }

    /// Returns whether to log a refusal of this address, so that a client cannot fill the log. The value is the number
    /// of refusals left out since the last log line.
    pub(crate) fn takes_log_line(&self, now: Instant) -> Option<u64> {
        let mut state = self.client_limits.lock();
        let State { lines, all_lines, .. } = &mut *state;
        let (bucket, left_out) = lines.get_or_insert_mut(self.site, || (TokenBucket::full(LINES_OF_ADDRESS, now), 0));
        let all_lines = all_lines.get_or_insert_with(|| TokenBucket::full(LINES_OF_ALL, now));
        if bucket.take(1.0, LINES_OF_ADDRESS, now) && all_lines.take(1.0, LINES_OF_ALL, now) {
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

    /// Remembers a wrong password; `true` where it is the one that locks the address out.
    pub(crate) fn guessed(&self, bounds: &ServerLimits, now: Instant) -> bool {
        if bounds.uncounted.has(self.address) {
            return false;
        }
        let rate = bounds.guesses();
        let mut state = self.client_limits.lock();
        let bucket = state.guesses.get_or_insert_mut(self.site, || TokenBucket::full(rate, now));
        bucket.take(1.0, rate, now) && !bucket.wait(1.0, rate, now).is_zero()
    }
}

/// Counts a connection while it lives.
pub(crate) struct ConnectionPermit {
    caller: Caller,
    plays: AtomicBool,
}

impl ConnectionPermit {
    /// Counts the connection as a player from now on; returns `false` if its address has too many players.
    pub(crate) fn play(&self, bounds: &ServerLimits) -> bool {
        let mut state = self.client_limits.lock();
        let there = state.there.entry(self.site).or_default();
        if self.plays.load(Ordering::Relaxed) {
            return true;
        }
        if there.players >= bounds.max_players_per_address && !bounds.uncounted.has(self.address()) {
            return false;
        }
        there.players += 1;
        self.plays.store(true, Ordering::Relaxed);
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
        if let Some(there) = state.there.get_mut(&self.site) {
            there.connections -= 1;
            there.players -= usize::from(self.plays.load(Ordering::Relaxed));
            if there.connections == 0 {
                state.there.remove(&self.site);
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
        assert_eq!((0..1000).filter_map(|_| caller.takes_log_line(now)).collect::<Vec<_>>(), [0; 30]);
        assert_eq!(
            client_limits.caller(address("192.0.2.2")).takes_log_line(now),
            Some(0),
            "the limit of another address is separate"
        );
        assert_eq!(caller.takes_log_line(now + Duration::from_secs(5)), Some(970));
        let many = (0..10_000_u32).map(|host| client_limits.caller(IpAddr::from(host.to_be_bytes())));
        assert!(
            many.filter_map(|caller| caller.takes_log_line(now)).count() < 600,
            "the lines of all addresses are limited too"
        );
    }

    #[test]
    fn no_state_is_left_of_closed_connections() {
        let (client_limits, bounds, now) = (ClientLimits::new(), bounds(), Instant::now());
        for host in 0..1000_u32 {
            let permit = client_limits.enter(IpAddr::from(host.to_be_bytes()), ROOM, &bounds, now).unwrap();
            assert!(permit.play(&bounds));
        }
        let state = client_limits.lock();
        assert_eq!((state.connections, state.there.len()), (0, 0));
    }

    #[test]
    fn remembered_addresses_are_bounded() {
        let (client_limits, bounds, now) = (ClientLimits::new(), bounds(), Instant::now());
        for host in 0..40_000_u32 {
            let permit = client_limits.enter(IpAddr::from(host.to_be_bytes()), ROOM, &bounds, now).unwrap();
            permit.guessed(&bounds, now);
        }
        let state = client_limits.lock();
        assert_eq!(
            (state.arrivals.len(), state.guesses.len()),
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
        assert!(one.play(&bounds) && one.play(&bounds) && !other.play(&bounds));
        drop(one);
        assert!(other.play(&bounds));
    }

    #[test]
    fn failed_logins_block_an_address_and_are_forgotten() {
        let bounds = ServerLimits { max_guesses: 3, guess_window: Duration::from_secs(60), ..ServerLimits::default() };
        let (client_limits, now) = (ClientLimits::new(), Instant::now());
        let permit = |text| client_limits.enter(address(text), ROOM, &bounds, now).unwrap();
        let guess = |now| permit("2001:db8::1").guessed(&bounds, now);
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
