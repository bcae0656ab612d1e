//! What a point remembers for those who look at it: its pusher, its players, what went wrong, how fast it went.
//!
//! The way of the media touches atomics only. Locks are taken when somebody comes, goes or looks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Instant, SystemTime};

use super::bitrate_history::{History, Sample};
use super::client::{Client, shortened};
use super::recent_errors::RecentErrors;
use crate::events::whole_seconds;
use crate::http::open_socket::Acknowledgements;
use asfpush_client::packet_buffer::{Progress, ReaderMonitor};

/// What a point remembers for its status.
#[derive(Default)]
pub(crate) struct PointActivity {
    /// Those who play, and what those who do not any more came to: never one without the other.
    players: Mutex<Players>,
    breaks: AtomicU64,
    resumes: AtomicU64,
    /// It lives as long as its session.
    pusher: Mutex<Weak<Pusher>>,
    troubles: Mutex<RecentErrors>,
    history: Mutex<History>,
}

#[derive(Default)]
struct Players {
    now: BTreeMap<u64, Arc<PlayerInfo>>,
    next: u64,
    gone: DeliveryTotals,
}

/// What became of the stream on its way to players.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeliveryTotals {
    /// Bytes handed to their connections.
    pub(crate) bytes: u64,
    /// Packets that they missed.
    pub(crate) lost: u64,
}

/// A push session, as its session's task tells of it.
pub(crate) struct Pusher {
    ledger: Arc<PointActivity>,
    pub(crate) client: Client,
    pub(crate) since: SystemTime,
    begun: Instant,
    /// Data packets of the session, and their bytes as received.
    packets: AtomicU64,
    bytes: AtomicU64,
    /// What the point had received when it came: packets and bytes.
    pub(crate) before: (u64, u64),
    away: AtomicBool,
    waiting: Mutex<Option<EncoderWait>>,
    pub(crate) breaks: AtomicU64,
    pub(crate) resumes: AtomicU64,
}

/// A push session that waits for its encoder's next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EncoderWait {
    pub(crate) since: SystemTime,
    /// When the session ends if no request comes.
    pub(crate) until: SystemTime,
}

/// A player, as long as it is there.
pub(crate) struct PlayerGuard {
    ledger: Arc<PointActivity>,
    point: String,
    number: u64,
    begun: Instant,
    viewer: Arc<PlayerInfo>,
}

/// What is known of a player.
pub(crate) struct PlayerInfo {
    pub(crate) client: Client,
    pub(crate) since: SystemTime,
    /// Bytes.
    pub(crate) sent: AtomicU64,
    /// Packets that it was too slow for, since it began.
    pub(crate) lost: AtomicU64,
    pub(crate) observer: ReaderMonitor,
    acknowledged: Acknowledgements,
    /// It is to go and ask elsewhere.
    dismissed: AtomicBool,
}

impl PlayerInfo {
    /// Bytes of its stream that the player's system has acknowledged; `None` if that is not known. The head of the
    /// response, and TLS, count too, but never more than what was sent.
    pub(crate) fn acknowledged(&self) -> Option<u64> {
        Some(self.acknowledged.bytes()?.min(self.sent.load(Ordering::Relaxed)))
    }

    /// Ends the player's stream with what has arrived by now, so that it asks again, elsewhere; `false` if that was
    /// done before.
    pub(crate) fn dismiss(&self) -> bool {
        let first = !self.dismissed.swap(true, Ordering::Relaxed);
        if first {
            self.observer.end_here();
        }
        first
    }

    /// Whether its stream ends so that it asks again.
    pub(crate) fn is_dismissed(&self) -> bool {
        self.dismissed.load(Ordering::Relaxed)
    }
}

impl PointActivity {
    /// A push session begins, at a point that has received so many packets and bytes before.
    pub(crate) fn pusher(self: &Arc<Self>, client: Client, before: (u64, u64)) -> Arc<Pusher> {
        let pusher = Arc::new(Pusher {
            ledger: Arc::clone(self),
            client,
            since: SystemTime::now(),
            begun: Instant::now(),
            packets: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            before,
            away: AtomicBool::new(false),
            waiting: Mutex::default(),
            breaks: AtomicU64::new(0),
            resumes: AtomicU64::new(0),
        });
        *lock(&self.pusher) = Arc::downgrade(&pusher);
        pusher
    }

    /// A player joins the point `point`; `observer` sees its place in the packet buffer, and `acknowledged` what its
    /// system has of the response.
    pub(crate) fn player(
        self: &Arc<Self>,
        point: &str,
        client: Client,
        observer: ReaderMonitor,
        acknowledged: Acknowledgements,
    ) -> PlayerGuard {
        let (user, user_agent) = (client.user.as_deref(), client.agent.as_deref());
        tracing::info!(point, address = %client.address, user, user_agent, "player joined");
        let viewer = Arc::new(PlayerInfo {
            client,
            since: SystemTime::now(),
            sent: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            observer,
            acknowledged,
            dismissed: AtomicBool::new(false),
        });
        let mut players = lock(&self.players);
        let number = players.next;
        players.next += 1;
        players.now.insert(number, Arc::clone(&viewer));
        drop(players);
        PlayerGuard { ledger: Arc::clone(self), point: point.to_owned(), number, begun: Instant::now(), viewer }
    }

    /// Something went wrong. `text` holds no secret: everybody who may see the status reads it.
    pub(crate) fn trouble(&self, text: &str) {
        lock(&self.troubles).add(shortened(text), SystemTime::now());
    }

    /// Takes the point's counters, once a second: bytes received ever.
    pub(crate) fn sample(&self, received: u64, at: Instant, time: SystemTime) {
        let (_, DeliveryTotals { bytes: output, .. }) = self.players();
        lock(&self.history).take(Sample { at, time, input: received, output });
    }

    /// Who pushes now.
    pub(crate) fn pusher_now(&self) -> Option<Arc<Pusher>> {
        lock(&self.pusher).upgrade()
    }

    /// Those who play now, in the order in which they came and each with its progress, and what all players ever
    /// came to.
    pub(crate) fn players(&self) -> (Vec<(Arc<PlayerInfo>, Progress)>, DeliveryTotals) {
        let players = lock(&self.players);
        let mut handed = players.gone;
        let look = |viewer: &Arc<PlayerInfo>| {
            let progress = viewer.observer.progress();
            handed.bytes += viewer.sent.load(Ordering::Relaxed);
            handed.lost += viewer.lost.load(Ordering::Relaxed);
            (Arc::clone(viewer), progress)
        };
        (players.now.values().map(look).collect(), handed)
    }

    /// Packets that all players ever missed.
    pub(crate) fn packets_lost(&self) -> u64 {
        self.players().1.lost
    }

    pub(crate) fn troubles(&self) -> MutexGuard<'_, RecentErrors> {
        lock(&self.troubles)
    }

    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        lock(&self.history)
    }

    pub(crate) fn breaks(&self) -> u64 {
        self.breaks.load(Ordering::Relaxed)
    }

    pub(crate) fn resumes(&self) -> u64 {
        self.resumes.load(Ordering::Relaxed)
    }
}

impl Pusher {
    /// Logs something that happened to the session at the point `point`.
    pub(crate) fn log(&self, point: &str, what: &str) {
        let Client { address, user, .. } = &self.client;
        tracing::info!(point, %address, user = user.as_deref(), "{what}");
    }

    /// Logs the session's end, and what it brought; `is_refused` where the encoder or its stream was at fault.
    pub(crate) fn log_end(&self, point: &str, reason: &str, is_refused: bool) {
        let Client { address, user, .. } = &self.client;
        let (user, reason) = (user.as_deref(), shortened(reason));
        let duration = whole_seconds(self.begun.elapsed());
        let [packets, bytes] = [&self.packets, &self.bytes].map(|count| count.load(Ordering::Relaxed));
        if is_refused {
            tracing::warn!(point, %address, user, reason, %duration, packets, bytes, "push session ended");
        } else {
            tracing::info!(point, %address, user, reason, %duration, packets, bytes, "push session ended");
        }
    }

    /// Data packets of the session came.
    pub(crate) fn received(&self, packets: usize, bytes: u64) {
        self.packets.fetch_add(packets as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The connection is lost in the middle of a PushStart.
    pub(crate) fn lost(&self) {
        self.away.store(true, Ordering::Relaxed);
        for breaks in [&self.breaks, &self.ledger.breaks] {
            breaks.fetch_add(1, Ordering::Relaxed);
        }
        self.ledger.trouble("the encoder's connection was lost in mid-stream");
    }

    /// The session waits for its encoder until `until`; `None`: a PushStart is under way.
    pub(crate) fn set_waiting(&self, until: Option<Instant>) {
        let now = SystemTime::now();
        let mut waiting = lock(&self.waiting);
        *waiting = until.map(|until| EncoderWait {
            since: waiting.map_or(now, |before| before.since),
            until: now + until.saturating_duration_since(Instant::now()),
        });
    }

    /// Since when the session waits for its encoder, if it does, and until when.
    pub(crate) fn waiting(&self) -> Option<EncoderWait> {
        *lock(&self.waiting)
    }

    /// A PushStart begins.
    pub(crate) fn started(&self) {
        if self.away.swap(false, Ordering::Relaxed) {
            for resumes in [&self.resumes, &self.ledger.resumes] {
                resumes.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl PlayerGuard {
    /// The player's address, for the log.
    pub(crate) fn address(&self) -> String {
        self.viewer.client.address.to_string()
    }

    /// Bytes are handed over to the player's connection.
    pub(crate) fn sent(&self, bytes: usize) {
        self.viewer.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Whether the player is to go and ask elsewhere.
    pub(crate) fn is_dismissed(&self) -> bool {
        self.viewer.is_dismissed()
    }

    /// The player was too slow for so many packets.
    pub(crate) fn lost(&self, packets: u64) {
        self.viewer.lost.fetch_add(packets, Ordering::Relaxed);
    }
}

impl Drop for PlayerGuard {
    fn drop(&mut self) {
        let bytes = self.viewer.sent.load(Ordering::Relaxed);
        let lost = self.viewer.lost.load(Ordering::Relaxed);
        let mut players = lock(&self.ledger.players);
        players.now.remove(&self.number);
        players.gone.bytes += bytes;
        players.gone.lost += lost;
        drop(players);
        let Client { address, user, .. } = &self.viewer.client;
        let (point, user) = (self.point.as_str(), user.as_deref());
        let duration = whole_seconds(self.begun.elapsed());
        let packets_lost = (lost > 0).then_some(lost);
        tracing::info!(point, %address, user, %duration, bytes, packets_lost, "player left");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Plain data, consistent after every statement.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_pusher_is_known_as_long_as_its_session_lives() {
        let ledger = Arc::new(PointActivity::default());
        let client = Client::new("[::ffff:192.0.2.1]:80".parse().unwrap(), Some("WMEncoder/12.0.0.0"));
        assert_eq!(client.address.to_string(), "192.0.2.1:80");
        let first = ledger.pusher(client.clone(), (0, 0));
        let second = ledger.pusher(client, (1, 100));
        drop(first);
        assert_eq!(ledger.pusher_now().unwrap().before, (1, 100), "the end of the one displaced is not its end");
        second.started();
        second.lost();
        second.started();
        second.started();
        assert_eq!((ledger.breaks(), ledger.resumes()), (1, 1));
        let minute = Duration::from_secs(60);
        second.set_waiting(Some(Instant::now() + minute));
        let first_wait = second.waiting().unwrap();
        let left = first_wait.until.duration_since(first_wait.since).unwrap();
        assert!(left > minute / 2 && left <= minute, "{left:?}");
        second.set_waiting(Some(Instant::now() + 2 * minute));
        let wait = second.waiting().unwrap();
        assert_eq!(wait.since, first_wait.since, "it waits on");
        assert!(wait.until > first_wait.until + minute / 2);
        second.set_waiting(None);
        assert_eq!(second.waiting(), None);
        drop(second);
        assert!(ledger.pusher_now().is_none());
    }
}
