//! A point's activity as shown in its status: its encoder, its players, recent errors and bit rates.
//!
//! The media path uses only atomics. Locks are taken when a client joins or leaves, and when the status is read.

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

/// The activity of a point, for its status.
#[derive(Default)]
pub(crate) struct PointActivity {
    /// The current players and the totals of former players, always updated together.
    players: Mutex<Players>,
    /// How often an encoder's connection was lost in mid-stream.
    breaks: AtomicU64,
    /// How often an encoder resumed its push after that.
    resumes: AtomicU64,
    /// The current push session; the reference is valid while the session lives.
    pusher: Mutex<Weak<Pusher>>,
    recent_errors: Mutex<RecentErrors>,
    history: Mutex<History>,
}

/// The players of a point.
#[derive(Default)]
struct Players {
    /// The current players by their id, which increases with each player.
    current: BTreeMap<u64, Arc<PlayerInfo>>,
    /// The id of the next player.
    next_id: u64,
    /// What was delivered to players that have left.
    former: DeliveryTotals,
}

/// What was delivered to players.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeliveryTotals {
    /// Bytes sent to players.
    pub(crate) bytes: u64,
    /// Packets that players missed.
    pub(crate) lost: u64,
}

/// A push session, as reported by its task.
pub(crate) struct Pusher {
    activity: Arc<PointActivity>,
    pub(crate) client: Client,
    pub(crate) since: SystemTime,
    started_at: Instant,
    /// Data packets of the session, and their bytes as received.
    packets: AtomicU64,
    bytes: AtomicU64,
    /// Packets and bytes that the point had received before this session.
    pub(crate) before: (u64, u64),
    /// Whether the connection was lost in mid-stream and no PushStart has followed.
    is_disconnected: AtomicBool,
    /// The wait for the encoder's next request; `None` while a PushStart is in progress.
    waiting: Mutex<Option<EncoderWait>>,
    pub(crate) breaks: AtomicU64,
    pub(crate) resumes: AtomicU64,
}

/// A push session that waits for its encoder's next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EncoderWait {
    pub(crate) since: SystemTime,
    /// When the session ends if no request arrives.
    pub(crate) until: SystemTime,
}

/// The registration of a player, which ends when this is dropped.
pub(crate) struct PlayerGuard {
    activity: Arc<PointActivity>,
    point: String,
    id: u64,
    started_at: Instant,
    player: Arc<PlayerInfo>,
}

/// The information about a player.
pub(crate) struct PlayerInfo {
    pub(crate) client: Client,
    pub(crate) since: SystemTime,
    /// Bytes sent.
    pub(crate) sent: AtomicU64,
    /// Packets missed since the player joined because it was too slow.
    pub(crate) lost: AtomicU64,
    pub(crate) monitor: ReaderMonitor,
    acknowledged: Acknowledgements,
    /// Whether the stream was ended so that the player connects to another server (see [`crate::drain`]).
    dismissed: AtomicBool,
}

impl PlayerInfo {
    /// Returns the bytes of the stream that the player's kernel has acknowledged; `None` if that is not known. They
    /// include the response head and TLS, but never exceed the bytes sent.
    pub(crate) fn acknowledged(&self) -> Option<u64> {
        Some(self.acknowledged.bytes()?.min(self.sent.load(Ordering::Relaxed)))
    }

    /// Counts bytes passed to the player's connection.
    pub(crate) fn count_sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Ends the player's stream after the packets received so far, so that the player connects again, to another server
    /// behind the load balancer. Returns `false` if this was done before.
    pub(crate) fn dismiss(&self) -> bool {
        let first = !self.dismissed.swap(true, Ordering::Relaxed);
        if first {
            self.monitor.end_at_head();
        }
        first
    }

    /// Returns whether the player's stream must end so that it connects again.
    pub(crate) fn is_dismissed(&self) -> bool {
        self.dismissed.load(Ordering::Relaxed)
    }
}

impl PointActivity {
    /// Registers a push session. `before` is the packets and bytes that the point has received so far.
    pub(crate) fn pusher(self: &Arc<Self>, client: Client, before: (u64, u64)) -> Arc<Pusher> {
        let pusher = Arc::new(Pusher {
            activity: Arc::clone(self),
            client,
            since: SystemTime::now(),
            started_at: Instant::now(),
            packets: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            before,
            is_disconnected: AtomicBool::new(false),
            waiting: Mutex::default(),
            breaks: AtomicU64::new(0),
            resumes: AtomicU64::new(0),
        });
        *lock(&self.pusher) = Arc::downgrade(&pusher);
        pusher
    }

    /// Registers a player of the point `point`. `observer` reports its position in the packet buffer, and
    /// `acknowledged` how much of the response the player's kernel has received.
    pub(crate) fn player(
        self: &Arc<Self>,
        point: &str,
        client: Client,
        monitor: ReaderMonitor,
        acknowledged: Acknowledgements,
    ) -> PlayerGuard {
        let (user, user_agent) = (client.user.as_deref(), client.agent.as_deref());
        tracing::info!(point, address = %client.address, user, user_agent, "player joined");
        let player = Arc::new(PlayerInfo {
            client,
            since: SystemTime::now(),
            sent: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            monitor,
            acknowledged,
            dismissed: AtomicBool::new(false),
        });
        let mut players = lock(&self.players);
        let id = players.next_id;
        players.next_id += 1;
        players.current.insert(id, Arc::clone(&player));
        drop(players);
        PlayerGuard { activity: Arc::clone(self), point: point.to_owned(), id, started_at: Instant::now(), player }
    }

    /// Records an error. `text` must not contain secrets, because everyone who may see the status can read it.
    pub(crate) fn record_error(&self, text: &str) {
        lock(&self.recent_errors).add(shortened(text), SystemTime::now());
    }

    /// Samples the point's counters once a second. `received` is the total of received bytes.
    pub(crate) fn sample(&self, received: u64, at: Instant, time: SystemTime) {
        let (_, DeliveryTotals { bytes: output, .. }) = self.players();
        lock(&self.history).add(Sample { at, time, input: received, output });
    }

    /// Returns the current push session.
    pub(crate) fn current_pusher(&self) -> Option<Arc<Pusher>> {
        lock(&self.pusher).upgrade()
    }

    /// Returns the current players in the order in which they joined, each with its progress, and the totals of all
    /// players so far.
    pub(crate) fn players(&self) -> (Vec<(Arc<PlayerInfo>, Progress)>, DeliveryTotals) {
        let players = lock(&self.players);
        let mut totals = players.former;
        let with_progress = |player: &Arc<PlayerInfo>| {
            let progress = player.monitor.progress();
            totals.bytes += player.sent.load(Ordering::Relaxed);
            totals.lost += player.lost.load(Ordering::Relaxed);
            (Arc::clone(player), progress)
        };
        (players.current.values().map(with_progress).collect(), totals)
    }

    /// Returns the packets that all players so far have missed.
    pub(crate) fn packets_lost(&self) -> u64 {
        self.players().1.lost
    }

    /// Returns the recent errors. The lock must not be held while waiting.
    pub(crate) fn recent_errors(&self) -> MutexGuard<'_, RecentErrors> {
        lock(&self.recent_errors)
    }

    /// Returns the bit rates of the last minutes. The lock must not be held while waiting.
    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        lock(&self.history)
    }

    /// Returns how often an encoder's connection was lost in mid-stream.
    pub(crate) fn breaks(&self) -> u64 {
        self.breaks.load(Ordering::Relaxed)
    }

    /// Returns how often an encoder resumed its push after that.
    pub(crate) fn resumes(&self) -> u64 {
        self.resumes.load(Ordering::Relaxed)
    }
}

impl Pusher {
    /// Logs an event of the session at the point `point`.
    pub(crate) fn log(&self, point: &str, what: &str) {
        let Client { address, user, .. } = &self.client;
        tracing::info!(point, %address, user = user.as_deref(), "{what}");
    }

    /// Logs the session's end and its totals. `is_refused` means that the encoder or its stream caused the end.
    pub(crate) fn log_end(&self, point: &str, reason: &str, is_refused: bool) {
        let Client { address, user, .. } = &self.client;
        let (user, reason) = (user.as_deref(), shortened(reason));
        let duration = whole_seconds(self.started_at.elapsed());
        let [packets, bytes] = [&self.packets, &self.bytes].map(|count| count.load(Ordering::Relaxed));
        if is_refused {
            tracing::warn!(point, %address, user, reason, %duration, packets, bytes, "push session ended");
        } else {
            tracing::info!(point, %address, user, reason, %duration, packets, bytes, "push session ended");
        }
    }

    /// Counts received data packets.
    pub(crate) fn received(&self, packets: usize, bytes: u64) {
        self.packets.fetch_add(packets as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Records that the connection was lost during a PushStart.
    pub(crate) fn lost(&self) {
        self.is_disconnected.store(true, Ordering::Relaxed);
        for breaks in [&self.breaks, &self.activity.breaks] {
            breaks.fetch_add(1, Ordering::Relaxed);
        }
        self.activity.record_error("the encoder's connection was lost in mid-stream");
    }

    /// Records that the session waits for its encoder until `until`; `None` means that a PushStart is in progress. The
    /// start of a wait that continues is kept.
    pub(crate) fn set_waiting(&self, until: Option<Instant>) {
        let now = SystemTime::now();
        let mut waiting = lock(&self.waiting);
        *waiting = until.map(|until| EncoderWait {
            since: waiting.map_or(now, |before| before.since),
            until: now + until.saturating_duration_since(Instant::now()),
        });
    }

    /// Returns since when and until when the session waits for its encoder, if it does.
    pub(crate) fn waiting(&self) -> Option<EncoderWait> {
        *lock(&self.waiting)
    }

    /// Records that a PushStart begins.
    pub(crate) fn started(&self) {
        if self.is_disconnected.swap(false, Ordering::Relaxed) {
            for resumes in [&self.resumes, &self.activity.resumes] {
                resumes.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl PlayerGuard {
    /// Returns the player's address, for the log.
    pub(crate) fn address(&self) -> String {
        self.player.client.address.to_string()
    }

    /// Counts bytes passed to the player's connection.
    pub(crate) fn sent(&self, bytes: usize) {
        self.player.count_sent(bytes);
    }

    /// Returns the information about the player.
    pub(crate) fn info(&self) -> Arc<PlayerInfo> {
        Arc::clone(&self.player)
    }

    /// Returns whether the player must move to another server.
    pub(crate) fn is_dismissed(&self) -> bool {
        self.player.is_dismissed()
    }

    /// Counts packets that the player missed because it was too slow.
    pub(crate) fn lost(&self, packets: u64) {
        self.player.lost.fetch_add(packets, Ordering::Relaxed);
    }
}

impl Drop for PlayerGuard {
    fn drop(&mut self) {
        let bytes = self.player.sent.load(Ordering::Relaxed);
        let lost = self.player.lost.load(Ordering::Relaxed);
        let mut players = lock(&self.activity.players);
        // Removed from the current players and added to the former ones under one lock, so that the totals never
        // decrease in between.
        players.current.remove(&self.id);
        players.former.bytes += bytes;
        players.former.lost += lost;
        drop(players);
        let Client { address, user, .. } = &self.player.client;
        let (point, user) = (self.point.as_str(), user.as_deref());
        let duration = whole_seconds(self.started_at.elapsed());
        let packets_lost = (lost > 0).then_some(lost);
        tracing::info!(point, %address, user, %duration, bytes, packets_lost, "player left");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The data is consistent after every statement, so a poisoned lock can still be used.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_encoder_is_listed_while_its_session_lives() {
        let activity = Arc::new(PointActivity::default());
        let client = Client::new("[::ffff:192.0.2.1]:80".parse().unwrap(), Some("WMEncoder/12.0.0.0"));
        assert_eq!(client.address.to_string(), "192.0.2.1:80");
        let first = activity.pusher(client.clone(), (0, 0));
        let second = activity.pusher(client, (1, 100));
        drop(first);
        assert_eq!(
            activity.current_pusher().unwrap().before,
            (1, 100),
            "the end of the displaced session does not end the current one"
        );
        second.started();
        second.lost();
        second.started();
        second.started();
        assert_eq!((activity.breaks(), activity.resumes()), (1, 1));
        let minute = Duration::from_secs(60);
        second.set_waiting(Some(Instant::now() + minute));
        let first_wait = second.waiting().unwrap();
        let left = first_wait.until.duration_since(first_wait.since).unwrap();
        assert!(left > minute / 2 && left <= minute, "{left:?}");
        second.set_waiting(Some(Instant::now() + 2 * minute));
        let wait = second.waiting().unwrap();
        assert_eq!(wait.since, first_wait.since, "the wait continues");
        assert!(wait.until > first_wait.until + minute / 2);
        second.set_waiting(None);
        assert_eq!(second.waiting(), None);
        drop(second);
        assert!(activity.current_pusher().is_none());
    }
}
