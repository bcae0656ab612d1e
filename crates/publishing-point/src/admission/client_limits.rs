//! Who is there, by address: connections, players, how fast they come, and passwords guessed at.
//!
//! All tables are bounded, whoever sends what: connections and players by the number of connections,
//! the rest by [`MAX_REMEMBERED_ADDRESSES`] addresses. There the address goes first that nothing was heard of for
//! longest. With the rate of connections that forgives it three seconds' worth, with guesses those that
//! it made: to make the server forget one address, an attacker needs that many others.

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

/// Addresses whose rate of connections, or wrong passwords, are remembered.
const MAX_REMEMBERED_ADDRESSES: NonZeroUsize = NonZeroUsize::new(16_384).expect("it is not 0");

/// Lines of the log about refusals of one address: more than an operator or a ban of addresses needs to see.
const LINES_OF_ADDRESS: Rate = Rate { burst: 30.0, per_second: 0.2 };
/// Those of all addresses together.
const LINES_OF_ALL: Rate = Rate { burst: 600.0, per_second: 20.0 };

/// What counts as one address: an IPv4 address, or an IPv6 /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct AddressKey(IpAddr);

impl AddressKey {
    fn of(address: IpAddr) -> Self {
        /// All but the 64 bits that whoever has the network chooses at will.
        const NETWORK: u128 = !(u64::MAX as u128);
        match address.to_canonical() {
            IpAddr::V6(address) => Self(Ipv6Addr::from_bits(address.to_bits() & NETWORK).into()),
            v4 @ IpAddr::V4(_) => Self(v4),
        }
    }
}

/// Who is there.
pub(crate) struct ClientLimits(Mutex<State>);

struct State {
    /// Those of every address.
    connections: usize,
    there: HashMap<AddressKey, AddressUsage>,
    arrivals: LruCache<AddressKey, TokenBucket>,
    guesses: LruCache<AddressKey, TokenBucket>,
    /// Lines of the log about an address, and how many were left out since the last.
    lines: LruCache<AddressKey, (TokenBucket, u64)>,
    all_lines: Option<TokenBucket>,
    failed_logins: FailedLogins,
}

/// Log-ins that failed, for the status.
#[derive(Clone, Debug, Default)]
pub(crate) struct FailedLogins {
    pub(crate) count: u64,
    pub(crate) last: Option<FailedLogin>,
}

/// A log-in that failed. Its texts are the client's.
#[derive(Clone, Debug)]
pub(crate) struct FailedLogin {
    pub(crate) time: SystemTime,
    pub(crate) address: IpAddr,
    /// The user that the client says it is, if it says so.
    pub(crate) user: Option<String>,
    pub(crate) path: String,
}

/// What there is of one address.
#[derive(Default)]
struct AddressUsage {
    connections: usize,
    players: usize,
}

/// Why a connection is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("there are too many connections")]
    Full,
    #[error("there are too many connections from this address")]
    FullOfAddress,
    #[error("connections come too fast from this address")]
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

    /// Takes a new connection, of `room` at most.
    ///
    /// # Errors
    /// Why it is not taken.
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

    /// Whoever names passwords from this address.
    pub(crate) fn caller(self: &Arc<Self>, address: IpAddr) -> Caller {
        Caller { gate: Arc::clone(self), site: AddressKey::of(address), address: address.to_canonical() }
    }

    /// The log-ins that failed so far.
    pub(crate) fn failed_logins(&self) -> FailedLogins {
        self.lock().failed_logins.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Plain data, consistent after every statement.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who names passwords.
pub(crate) struct Caller {
    gate: Arc<ClientLimits>,
    site: AddressKey,
    address: IpAddr,
}

impl Caller {
    /// The peer's address, an IPv4 one as such.
    pub(crate) fn address(&self) -> IpAddr {
        self.address
    }

    /// How long the address has to wait until it may name a password; `None` is not at all.
    pub(crate) fn locked_out(&self, bounds: &ServerLimits, now: Instant) -> Option<Duration> {
        if bounds.uncounted.has(self.address) {
            return None;
        }
        // Looking does not make the entry younger: who only knocks is forgotten in time.
        let mut bucket = *self.gate.lock().guesses.peek(&self.site)?;
        Some(bucket.wait(1.0, bounds.guesses(), now)).filter(|wait| !wait.is_zero())
    }

    /// Whether a refusal of this address is to be logged: not where a client would fill the log. Gives how many were
    /// left out since the last that was.
    pub(crate) fn takes_log_line(&self, now: Instant) -> Option<u64> {
        let mut state = self.gate.lock();
        let State { lines, all_lines, .. } = &mut *state;
        let (bucket, left_out) = lines.get_or_insert_mut(self.site, || (TokenBucket::full(LINES_OF_ADDRESS, now), 0));
        let all_lines = all_lines.get_or_insert_with(|| TokenBucket::full(LINES_OF_ALL, now));
        if bucket.take(1.0, LINES_OF_ADDRESS, now) && all_lines.take(1.0, LINES_OF_ALL, now) {
            return Some(std::mem::take(left_out));
        }
        *left_out += 1;
        None
    }

    /// Counts a failed log-in for the status; `user` and `path` are bounded.
    pub(crate) fn count_failed_login(&self, user: Option<String>, path: String) {
        let mut state = self.gate.lock();
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
        let mut state = self.gate.lock();
        let bucket = state.guesses.get_or_insert_mut(self.site, || TokenBucket::full(rate, now));
        bucket.take(1.0, rate, now) && !bucket.wait(1.0, rate, now).is_zero()
    }
}

/// A connection as long as it is there.
pub(crate) struct ConnectionPermit {
    caller: Caller,
    plays: AtomicBool,
}

impl ConnectionPermit {
    /// Counts the connection as a player's from now on; `false` where its address has too many of them.
    pub(crate) fn play(&self, bounds: &ServerLimits) -> bool {
        let mut state = self.gate.lock();
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
        let mut state = self.gate.lock();
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
    fn connections_are_counted_by_address_and_in_all() {
        let (gate, bounds, now) = (ClientLimits::new(), bounds(), Instant::now());
        let enter = |text| gate.enter(address(text), 4, &bounds, now);
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

    /// One event is one line, but no client fills the log: what is left out is counted.
    #[test]
    fn an_address_has_a_share_of_the_log() {
        let (gate, now) = (ClientLimits::new(), Instant::now());
        let caller = gate.caller(address("192.0.2.1"));
        assert_eq!((0..1000).filter_map(|_| caller.takes_log_line(now)).collect::<Vec<_>>(), [0; 30]);
        assert_eq!(gate.caller(address("192.0.2.2")).takes_log_line(now), Some(0), "another address has its own");
        assert_eq!(caller.takes_log_line(now + Duration::from_secs(5)), Some(970));
        let many = (0..10_000_u32).map(|host| gate.caller(IpAddr::from(host.to_be_bytes())));
        assert!(many.filter_map(|caller| caller.takes_log_line(now)).count() < 600, "many addresses do not either");
    }

    #[test]
    fn nothing_is_left_of_who_is_gone() {
        let (gate, bounds, now) = (ClientLimits::new(), bounds(), Instant::now());
        for host in 0..1000_u32 {
            let visit = gate.enter(IpAddr::from(host.to_be_bytes()), ROOM, &bounds, now).unwrap();
            assert!(visit.play(&bounds));
        }
        let state = gate.lock();
        assert_eq!((state.connections, state.there.len()), (0, 0));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (gate, bounds, now) = (ClientLimits::new(), bounds(), Instant::now());
        for host in 0..40_000_u32 {
            let visit = gate.enter(IpAddr::from(host.to_be_bytes()), ROOM, &bounds, now).unwrap();
            visit.guessed(&bounds, now);
        }
        let state = gate.lock();
        assert_eq!(
            (state.arrivals.len(), state.guesses.len()),
            (MAX_REMEMBERED_ADDRESSES.get(), MAX_REMEMBERED_ADDRESSES.get())
        );
    }

    #[test]
    fn connections_may_come_so_fast() {
        let (gate, bounds, now) = (ClientLimits::new(), bounds(), Instant::now());
        let come = |from: &str, now| gate.enter(address(from), ROOM, &bounds, now).err();
        for _ in 0..30 {
            assert_eq!(come("192.0.2.1", now), None);
        }
        assert_eq!(come("192.0.2.1", now), Some(Refused::TooFast));
        assert_eq!(come("192.0.2.2", now), None);
        assert_eq!(come("192.0.2.1", now + Duration::from_millis(100)), None);
        assert_eq!(come("192.0.2.1", now + Duration::from_millis(100)), Some(Refused::TooFast));
        for _ in 0..100 {
            assert_eq!(come("127.0.0.1", now), None, "the loopback is not counted");
        }
    }

    #[test]
    fn players_are_counted_once_a_connection() {
        let (gate, bounds, now) = (ClientLimits::new(), bounds(), Instant::now());
        let one = gate.enter(address("192.0.2.1"), ROOM, &bounds, now).unwrap();
        let other = gate.enter(address("192.0.2.1"), ROOM, &bounds, now).unwrap();
        assert!(one.play(&bounds) && one.play(&bounds) && !other.play(&bounds));
        drop(one);
        assert!(other.play(&bounds));
    }

    #[test]
    fn guesses_lock_out_and_are_forgotten() {
        let bounds = ServerLimits { max_guesses: 3, guess_window: Duration::from_secs(60), ..ServerLimits::default() };
        let (gate, now) = (ClientLimits::new(), Instant::now());
        let visit = |text| gate.enter(address(text), ROOM, &bounds, now).unwrap();
        let guess = |now| visit("2001:db8::1").guessed(&bounds, now);
        assert_eq!([guess(now), guess(now)], [false, false]);
        assert_eq!(visit("2001:db8::2").locked_out(&bounds, now), None);
        assert!(guess(now), "the one that locks out");
        assert!(!guess(now));
        // 60 s for 3: one more each 20 s.
        let wait = visit("2001:db8::2").locked_out(&bounds, now).unwrap();
        assert!((19..=20).contains(&wait.as_secs()), "{wait:?}");
        assert_eq!(visit("2001:db8:0:1::1").locked_out(&bounds, now), None);
        assert_eq!(visit("2001:db8::2").locked_out(&bounds, now + Duration::from_millis(20_001)), None);
    }
}
