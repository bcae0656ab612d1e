//! A publishing point: its live stream, recorder, relays and statistics.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use super::activity::{PointActivity, Pusher};
use super::client::Client;
use super::source_state::{SourceDemand, SourceState};
use super::timeline::Timeline;
use crate::config::PointConfig;
use crate::playback::groups::PlayerGroups;
use crate::random::random_digits;
use crate::recording::recorder::Recorder;
use crate::relay::{RelayStats, Relays};
use asf::{Header, Packet};
use asfpush_client::packet_buffer::{PacketBuffer, Reader, ReaderOptions, StartPosition};
use wmhttp::server::PointLookup;

/// The statistics of a publishing point.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PointStats {
    /// Data packets received.
    pub packets: u64,
    /// Bytes of those packets as received.
    pub bytes: u64,
    /// Headers received in `$H` and `$C`.
    pub headers: u64,
    /// Total push sessions.
    pub sessions: u64,
    /// Total players.
    pub players: u64,
    /// Current players.
    pub playing: u64,
    /// Total packets that players missed because they were too slow.
    pub missed: u64,
    /// Whether a PushStart is in progress.
    pub pushing: bool,
    /// The latest recording files, up to 256, oldest first; files deleted by the server are not included.
    pub recordings: Vec<PathBuf>,
    /// The relays of the stream to other servers.
    pub relays: Vec<RelayStats>,
}

/// A publishing point.
pub(crate) struct PublishingPoint {
    name: String,
    /// A reload replaces it as a whole.
    config: RwLock<Arc<PointConfig>>,
    /// The current stream; `None` if there is none.
    live_stream: Mutex<Option<LiveStream>>,
    /// Set when the first configuration with recordings takes effect.
    recorder: OnceLock<Recorder>,
    relays: Relays,
    /// The state of the source that the stream is pulled from. It exists even if no source is configured.
    source: Arc<SourceState>,
    counters: Counters,
    /// Current players.
    playing: Arc<AtomicUsize>,
    activity: Arc<PointActivity>,
    /// When the point was created, the origin of the times in [`Counters`].
    created_at: Instant,
}

/// A stream from its first header to its end. Players receive all of it in one response.
#[derive(Clone)]
struct LiveStream {
    buffer: Arc<PacketBuffer>,
    groups: Arc<PlayerGroups>,
    header: Arc<Header>,
    /// The timeline of the stream, across all sessions that push it.
    timeline: Arc<Mutex<Timeline>>,
}

/// Counters of a point. Each is read on its own, so relaxed ordering suffices.
#[derive(Default)]
struct Counters {
    packets: AtomicU64,
    bytes: AtomicU64,
    headers: AtomicU64,
    sessions: AtomicU64,
    players: AtomicU64,
    /// 1 while a PushStart is in progress, otherwise 0.
    pushing: AtomicU64,
    /// When the latest data packets arrived: milliseconds since the creation of the point, plus one, so that 0 means
    /// never.
    latest_packet: AtomicU64,
    /// When the encoder's latest PushStart began, in the same unit.
    push_began: AtomicU64,
}

/// Counts a player at its point and in the server while it lives.
pub(crate) struct PlayerCountGuard {
    counts: [Arc<AtomicUsize>; 2],
    point: String,
    activity: Arc<PointActivity>,
    /// Keeps an on-demand source active.
    _demand: SourceDemand,
}

impl PlayerCountGuard {
    /// Counts a player at this point.
    fn new(point: &PublishingPoint, server_count: &Arc<AtomicUsize>) -> Self {
        let counts = [Arc::clone(&point.playing), Arc::clone(server_count)];
        for count in &counts {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Self {
            counts,
            point: point.name.clone(),
            activity: Arc::clone(&point.activity),
            _demand: point.source.demand(),
        }
    }

    /// Returns the name of the player's point.
    pub(crate) fn point(&self) -> &str {
        &self.point
    }

    /// Returns the activity of the player's point.
    pub(crate) fn activity(&self) -> &Arc<PointActivity> {
        &self.activity
    }
}

impl Drop for PlayerCountGuard {
    fn drop(&mut self) {
        for count in &self.counts {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The position of a new player in the stream.
pub(crate) struct Joined {
    pub(crate) reader: Reader,
    /// The groups of the stream's players.
    pub(crate) groups: Arc<PlayerGroups>,
    /// Describes the first packets that the reader returns.
    pub(crate) header: Arc<Header>,
    pub(crate) count: PlayerCountGuard,
}

impl PublishingPoint {
    /// Creates a point with its recorder, which is a thread, and its relays. This may block.
    ///
    /// # Errors
    /// If the recorder cannot be started, or the system provides no random numbers for the point's name in Via.
    pub(crate) fn create(name: &str, config: &Arc<PointConfig>) -> io::Result<Arc<Self>> {
        let activity = Arc::default();
        let recorder = Self::create_recorder(name, config, &activity)?;
        let via_pseudonym = random_digits().ok_or_else(|| io::Error::other("the system provides no random numbers"))?;
        let relays = Relays::new(name, via_pseudonym, config.forward.clone(), Arc::clone(&activity));
        Ok(Arc::new(Self::new(name, Arc::clone(config), recorder, relays, activity)))
    }

    /// Creates the recorder that this configuration needs, if any.
    ///
    /// # Errors
    /// If the system cannot start a thread.
    pub(crate) fn create_recorder(
        name: &str,
        config: &PointConfig,
        activity: &Arc<PointActivity>,
    ) -> io::Result<Option<Recorder>> {
        let start = |directory| Recorder::start(directory, name, Arc::clone(activity));
        config.record.as_deref().map(start).transpose()
    }

    fn new(
        name: &str,
        config: Arc<PointConfig>,
        recorder: Option<Recorder>,
        relays: Relays,
        activity: Arc<PointActivity>,
    ) -> Self {
        let recorder = recorder.map_or_else(OnceLock::new, OnceLock::from);
        Self {
            name: name.to_owned(),
            config: RwLock::new(config),
            live_stream: Mutex::new(None),
            recorder,
            source: SourceState::new(relays.via_pseudonym().to_owned()),
            relays,
            counters: Counters::default(),
            playing: Arc::default(),
            activity,
            created_at: Instant::now(),
        }
    }

    /// Returns the name of the point.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the current settings. Do not keep them, because a reload replaces them.
    pub(crate) fn config(&self) -> Arc<PointConfig> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the settings, and applies those of the relays and the source.
    pub(crate) fn set_config(&self, config: Arc<PointConfig>) {
        self.relays.set(config.forward.clone());
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        // The source reads the settings again when it is notified, so they must be replaced before.
        self.source.notify();
    }

    /// Returns the state of the source that the stream is pulled from.
    pub(crate) fn source(&self) -> &Arc<SourceState> {
        &self.source
    }

    /// Returns the relays to other servers.
    pub(crate) fn relays(&self) -> &Relays {
        &self.relays
    }

    /// Returns the recorder, if recordings were ever configured.
    pub(crate) fn recorder(&self) -> Option<&Recorder> {
        self.recorder.get()
    }

    /// Sets the recorder of the point if it has none.
    pub(crate) fn set_recorder(&self, recorder: Recorder) {
        // If the point already has a recorder, the new one is dropped. It has recorded nothing.
        drop(self.recorder.set(recorder));
    }

    /// Returns the statistics.
    pub(crate) fn stats(&self) -> PointStats {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PointStats {
            packets: count(&self.counters.packets),
            bytes: count(&self.counters.bytes),
            headers: count(&self.counters.headers),
            sessions: count(&self.counters.sessions),
            players: count(&self.counters.players),
            playing: self.playing.load(Ordering::Relaxed) as u64,
            missed: self.activity.packets_lost(),
            pushing: count(&self.counters.pushing) > 0,
            recordings: self.recorder().map(Recorder::files).unwrap_or_default(),
            relays: self.relays.stats(),
        }
    }

    /// Counts and registers a push session.
    pub(crate) fn count_session(&self, client: Client) -> Arc<Pusher> {
        self.counters.sessions.fetch_add(1, Ordering::Relaxed);
        self.activity.pusher(client, (self.counters.packets.load(Ordering::Relaxed), self.received()))
    }

    /// Returns the activity, for the status.
    pub(crate) fn activity(&self) -> &Arc<PointActivity> {
        &self.activity
    }

    /// Returns the total bytes of data packets received.
    pub(crate) fn received(&self) -> u64 {
        self.counters.bytes.load(Ordering::Relaxed)
    }

    /// Records whether a PushStart is in progress.
    pub(crate) fn set_pushing(&self, pushing: bool) {
        if self.counters.pushing.swap(u64::from(pushing), Ordering::Relaxed) == 0 && pushing {
            self.counters.push_began.store(self.now_ms(), Ordering::Relaxed);
        }
    }

    /// Returns the time since the latest data packets; `None` if there were none.
    pub(crate) fn since_packet(&self) -> Option<Duration> {
        self.since(&self.counters.latest_packet)
    }

    /// Returns the time since the start of the encoder's latest PushStart; `None` if there was none.
    pub(crate) fn since_push_began(&self) -> Option<Duration> {
        self.since(&self.counters.push_began)
    }

    /// Returns the current time in the unit of the counters. It uses the monotonic clock, because the wall clock may be
    /// set.
    fn now_ms(&self) -> u64 {
        u64::try_from(self.created_at.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    /// Returns the time since this counter was set; `None` if it never was.
    fn since(&self, time: &AtomicU64) -> Option<Duration> {
        let time = time.load(Ordering::Relaxed);
        (time > 0).then(|| Duration::from_millis(self.now_ms().saturating_sub(time)))
    }

    /// Accepts a header and returns the current header, with the timeline of the stream that follows. A header that is
    /// equal byte for byte continues the current stream with the same header object, because players treat another
    /// header object as another stream.
    pub(crate) fn begin(&self, header: Header) -> (Arc<Header>, Arc<Mutex<Timeline>>) {
        self.counters.headers.fetch_add(1, Ordering::Relaxed);
        let mut live_stream = self.lock();
        match live_stream.as_mut() {
            Some(known) => {
                let is_equal = known.header.bytes() == header.bytes();
                if known.header.decodes_as(&header) {
                    known.timeline.lock().unwrap_or_else(PoisonError::into_inner).header_received(is_equal);
                } else {
                    known.timeline = Arc::default();
                }
                if !is_equal {
                    known.header = Arc::new(header);
                }
                (Arc::clone(&known.header), Arc::clone(&known.timeline))
            }
            None => {
                let header = Arc::new(header);
                let buffer = PacketBuffer::new(self.config().limits);
                self.relays.begin(&buffer);
                let timeline = Arc::default();
                *live_stream = Some(LiveStream {
                    groups: Arc::new(PlayerGroups::new(Arc::clone(&buffer))),
                    buffer,
                    header: Arc::clone(&header),
                    timeline: Arc::clone(&timeline),
                });
                (header, timeline)
            }
        }
    }

    /// Appends data packets at their full size. `received` is their size in bytes as received.
    pub(crate) fn append(&self, header: &Arc<Header>, packets: Vec<Packet>, received: u64) {
        self.counters.packets.fetch_add(packets.len() as u64, Ordering::Relaxed);
        self.counters.bytes.fetch_add(received, Ordering::Relaxed);
        self.counters.latest_packet.store(self.now_ms(), Ordering::Relaxed);
        // The lock is released before the packets are appended, which wakes all readers.
        let buffer = self.lock().as_ref().map(|live_stream| Arc::clone(&live_stream.buffer));
        if let Some(buffer) = buffer {
            buffer.append(header, packets);
        }
    }

    /// Ends the stream. Players and relays receive its remaining packets and its end.
    pub(crate) fn end(&self) {
        if let Some(live_stream) = self.lock().take() {
            live_stream.buffer.end();
            self.relays.end();
        }
    }

    /// Closes the point: ends its stream and the pull of its source.
    pub(crate) fn close(&self) {
        self.source.close();
        self.end();
    }

    /// Returns the header of the current stream.
    pub(crate) fn header(&self) -> Option<Arc<Header>> {
        self.lock().as_ref().map(|live_stream| Arc::clone(&live_stream.header))
    }

    /// Returns a position in the current stream for a new player, counted at the point and in `of_server`; `None` if
    /// there is no stream.
    pub(crate) fn join(&self, server_count: &Arc<AtomicUsize>) -> Option<Joined> {
        let LiveStream { buffer, groups, header, .. } = self.lock().clone()?;
        let latest = self.config().fast_start;
        let start = if latest { StartPosition::LatestKeyframe } else { StartPosition::NextKeyframe };
        let mut reader = buffer.reader(start, ReaderOptions::default());
        if reader.peek().is_some_and(|next| !Arc::ptr_eq(&next.header, &header)) {
            // The buffer contains packets of the previous stream only, so the player starts with the first packet of
            // the new one.
            reader = buffer.reader(StartPosition::NextKeyframe, ReaderOptions::default());
        }
        self.counters.players.fetch_add(1, Ordering::Relaxed);
        Some(Joined { reader, groups, header, count: PlayerCountGuard::new(self, server_count) })
    }

    /// Returns the redirect of the point's encoders and players, if any (S-5).
    pub(crate) fn redirect(&self) -> Option<PointLookup> {
        let config = self.config();
        let moved = config.redirect.as_ref().map(|url| PointLookup::Moved(url.to_string()));
        moved.or_else(|| config.proxy_redirect.as_ref().map(|url| PointLookup::UseProxy(url.to_string())))
    }

    fn lock(&self) -> MutexGuard<'_, Option<LiveStream>> {
        // The data is consistent after every statement, so a poisoned lock can still be used.
        self.live_stream.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
