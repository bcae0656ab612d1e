//! Pushes one stream to publishing points: the shared log, and a task for each destination.
//!
//! Knows neither GStreamer nor the HTTP library. The caller's thread appends to
//! the buffer (the one thread crossing) and is held back only by it; everything else
//! happens on the I/O thread and comes back as [`DestinationEvent`]s.

pub mod backoff;
pub mod bitrate;
mod body_layout;
mod destination;
pub mod stats;
pub mod status;

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::packet_buffer::{
    DropPolicy, Interrupted, Limits, PacketBuffer, ReaderMonitor, ReaderOptions, StartPosition,
};
use crate::transport::{self, runtime};
use backoff::Policy;
pub use destination::Command;
use destination::DestinationTask;
use stats::Stats;
use status::DestinationEvent;
use wmhttp::auth::{CredentialRequest, Credentials};
use wmhttp::client::Config;
use wmhttp::failure::Failure;

/// How one destination is pushed to.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The protocol's part. Its URL is shown in reports: it carries no credentials.
    pub session: Config,
    /// The connection's part.
    pub transport: transport::Settings,
    /// When to try again.
    pub retry: Policy,
    /// How far it may lag, and what happens then; no policy follows [`Publisher::set_live`].
    pub options: ReaderOptions,
}

impl Settings {
    /// Taken packets may have to be sent again until the peer has acknowledged them.
    fn reader_options(&self) -> ReaderOptions {
        ReaderOptions { keeps_unacknowledged: true, ..self.options }
    }
}

/// Who hears of a destination, and is asked.
pub trait DestinationObserver: Send + Sync {
    /// Something happened. Called on the I/O thread with no lock held; it must not block.
    fn report(&self, report: DestinationEvent);

    /// Whether [`DestinationObserver::should_retry`] has anything to say.
    fn has_retry_handler(&self) -> bool;

    /// Whether to try again after this failure. Called on a thread that may block; the destination waits for it,
    /// others do not.
    fn should_retry(&self, failure: &Failure) -> bool;

    /// The credentials that a server or a proxy asks for, where there are some. Called as
    /// [`DestinationObserver::should_retry`] is; the session bounds how long it may take.
    fn credentials(&self, question: &CredentialRequest) -> Option<Credentials>;
}

/// One stream on its way to its destinations.
pub struct Publisher {
    buffer: Arc<PacketBuffer>,
    shared: Arc<Shared>,
    ticker: Mutex<Option<AbortHandle>>,
}

struct Shared {
    destinations: Mutex<Destinations>,
    /// Told when a destination is at rest, or the wait for that is broken off.
    changed: Condvar,
}

#[derive(Default)]
struct Destinations {
    all: Vec<Destination>,
    /// Taken out, but not before what waits for them is sent.
    draining: Vec<Destination>,
    interrupted: bool,
}

struct Destination {
    name: String,
    /// Dropped to stop the destination.
    commands: mpsc::Sender<Command>,
    settings: Arc<Mutex<Settings>>,
    stats: Arc<Mutex<Stats>>,
    monitor: ReaderMonitor,
}

/// Commands that wait for a destination.
const COMMAND_QUEUE_LEN: usize = 16;

/// How [`Publisher::wait_until_ended`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainOutcome {
    /// Every destination has ended, confirmed by its server, or failed.
    All,
    /// Time ran out for this many, ours or the destination's own.
    TimedOut(usize),
}

impl Publisher {
    /// A publisher without destinations whose log keeps what `limits` allow.
    pub fn new(limits: Limits) -> Self {
        Self::with_buffer(PacketBuffer::new(limits))
    }

    /// A publisher without destinations of what somebody else appends to `buffer`, and ends.
    pub fn with_buffer(buffer: Arc<PacketBuffer>) -> Self {
        let shared = Shared { destinations: Mutex::default(), changed: Condvar::new() };
        Self { buffer, shared: Arc::new(shared), ticker: Mutex::default() }
    }

    /// Adds a destination under a name of its own, and begins to connect. Before the first packet it gets
    /// everything; later it starts where its terms say.
    ///
    /// # Errors
    /// The system's, where the I/O thread cannot be had.
    pub fn add(&self, name: &str, settings: Settings, observer: Arc<dyn DestinationObserver>) -> io::Result<()> {
        // First: a destination that nothing drives would be waited for at the end.
        let io = runtime::handle()?;
        let start = if self.buffer.head() == 0 { StartPosition::Oldest } else { settings.options.resync };
        let reader = self.buffer.reader(start, settings.reader_options());
        let monitor = reader.monitor();
        let (to_actor, commands) = mpsc::channel(COMMAND_QUEUE_LEN);
        let location = settings.session.url.to_string();
        let stats = Arc::new(Mutex::new(Stats { name: name.to_owned(), location, ..Stats::default() }));
        let settings = Arc::new(Mutex::new(settings));
        let shared = Arc::clone(&self.shared);
        let at_rest = Box::new(move || shared.notify_waiters());
        let actor =
            DestinationTask::new(Arc::clone(&settings), Arc::clone(&stats), reader, commands, observer, at_rest);
        let destination = Destination { name: name.to_owned(), commands: to_actor, settings, stats, monitor };
        self.shared.lock().all.push(destination);
        let shared = Arc::clone(&self.shared);
        io.spawn(async move {
            actor.run().await;
            shared.forget_drained();
        });
        Ok(())
    }

    /// Takes a destination out, and gives its last counters. Its connection closes without `$E`; but where there
    /// is a time to `drain`, only after what waits now, and `$E`(0), are sent, or the time is over.
    pub fn remove(&self, name: &str, drain: Option<Duration>) -> Option<Stats> {
        let mut destinations = self.shared.lock();
        let index = destinations.all.iter().position(|destination| destination.name == name)?;
        let removed = destinations.all.remove(index);
        let stats = removed.snapshot();
        let drains = drain.is_some_and(|drain| {
            // Here and now: what upstream sends next is no longer for it.
            removed.monitor.end_here();
            removed.commands.try_send(Command::Drain(Instant::now() + drain)).is_ok()
        });
        let stats = if drains {
            destinations.draining.push(removed);
            stats
        } else {
            stats.let_go()
        };
        drop(destinations);
        self.shared.notify_waiters();
        Some(stats)
    }

    /// Asks a destination, or all of them, for something; false where none is there to do it.
    pub fn command(&self, name: Option<&str>, command: Command) -> bool {
        let destinations = self.shared.lock();
        let mut asked = false;
        for destination in &destinations.all {
            if name.is_none_or(|name| name == destination.name) {
                // Fails where many commands wait already: then the caller learns that it was not asked.
                asked |= destination.commands.try_send(command).is_ok();
            }
        }
        asked
    }

    /// Waits until destinations with [`DropPolicy::Block`] leave room in the buffer.
    ///
    /// # Errors
    /// [`Interrupted`] while [`Publisher::interrupt`] is in force.
    pub fn wait_for_room(&self) -> Result<(), Interrupted> {
        self.buffer.wait_for_room()
    }

    /// Appends data packets of one stream. Never blocks.
    pub fn append<B: asf::PacketBytes>(
        &self,
        header: &Arc<asf::Header>,
        packets: impl IntoIterator<Item = asf::Packet<B>>,
    ) {
        self.buffer.append(header, packets);
    }

    /// The stream is over: each destination gets what is left, and `$E`(0).
    pub fn end(&self) {
        self.buffer.end();
    }

    /// Waits until every destination has ended or failed.
    ///
    /// # Errors
    /// [`Interrupted`] while [`Publisher::interrupt`] is in force.
    pub fn wait_until_ended(&self, until: Instant) -> Result<DrainOutcome, Interrupted> {
        let mut destinations = self.shared.lock();
        loop {
            let all = destinations.all.iter().chain(&destinations.draining);
            let waiting = all.clone().filter(|destination| destination.is_awaited()).count();
            let unconfirmed = all.filter(|destination| destination.is_unconfirmed()).count();
            if waiting == 0 {
                return Ok(if unconfirmed == 0 { DrainOutcome::All } else { DrainOutcome::TimedOut(unconfirmed) });
            }
            if destinations.interrupted {
                return Err(Interrupted);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(DrainOutcome::TimedOut(waiting + unconfirmed));
            }
            let waited = self.shared.changed.wait_timeout(destinations, left);
            destinations = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Makes no further connection: the time for the end of the stream is over. See [`Command::StopConnecting`].
    pub fn stop_connecting(&self) {
        self.command(None, Command::StopConnecting);
    }

    /// The destinations that were never connected and have neither failed for good nor been closed on request.
    pub fn unreached(&self) -> Vec<Stats> {
        let waits = |stats: &&Stats| stats.connected_at.is_none() && !stats.state.is_final();
        let destinations = self.shared.lock();
        destinations
            .all
            .iter()
            .filter_map(|destination| Some(lock(&destination.stats)).as_deref().filter(waits).cloned())
            .collect()
    }

    /// Breaks off the waits of the caller's thread from now on, or allows them again.
    pub fn interrupt(&self, interrupted: bool) {
        self.buffer.interrupt(interrupted);
        self.shared.lock().interrupted = interrupted;
        self.shared.changed.notify_all();
    }

    /// Whether upstream is live: then a destination that lags is not waited for.
    pub fn set_live(&self, live: bool) {
        self.buffer.set_policy(if live { DropPolicy::Keyframe } else { DropPolicy::Block });
    }

    /// Changes how much the buffer keeps.
    pub fn set_limits(&self, limits: Limits) {
        self.buffer.set_limits(limits);
    }

    /// Changes the settings of the destinations, each by its name; what concerns a connection counts from
    /// the next one on.
    pub fn update(&self, change: impl Fn(&str, &mut Settings)) {
        let destinations = self.shared.lock();
        for destination in &destinations.all {
            change(&destination.name, &mut lock(&destination.settings));
            // A destination that is done listens no more.
            let _ = destination.commands.try_send(Command::Reread);
        }
    }

    /// Calls `tick` on the I/O thread each `interval` from now on; `None` stops it.
    ///
    /// # Errors
    /// The system's, where the I/O thread cannot be had.
    pub fn set_ticker(&self, interval: Option<Duration>, tick: impl Fn() + Send + 'static) -> io::Result<()> {
        let ticker = interval.map(|interval| {
            runtime::spawn(async move {
                loop {
                    tokio::time::sleep(interval).await;
                    tick();
                }
            })
        });
        let ticker = ticker.transpose()?.map(|task| task.abort_handle());
        let before = std::mem::replace(&mut *lock(&self.ticker), ticker);
        if let Some(before) = before {
            before.abort();
        }
        Ok(())
    }

    /// How many destinations are in `state`.
    pub fn count(&self, state: status::State) -> usize {
        self.shared.lock().all.iter().filter(|destination| lock(&destination.stats).state == state).count()
    }

    /// Whether there are `number` destinations or more, and all of them are in `state`.
    pub fn all_are(&self, state: status::State, number: usize) -> bool {
        let destinations = self.shared.lock();
        // Destinations added last get there last, so looking at one usually answers this, even with thousands of them.
        destinations.all.len() >= number
            && destinations.all.iter().rev().all(|destination| lock(&destination.stats).state == state)
    }

    /// The counters of each destination.
    pub fn stats(&self) -> Vec<Stats> {
        // The stream's own times say how fast it is, once there is enough of it.
        let (time, bytes) = self.buffer.appended();
        let bits = if time < Duration::from_secs(1) { 0.0 } else { bytes as f64 * 8.0 / time.as_secs_f64() };
        let mut all: Vec<Stats> = self.shared.lock().all.iter().map(Destination::snapshot).collect();
        for stats in &mut all {
            stats.bitrate_expected = bits as u64;
        }
        all
    }
}

impl Destination {
    /// Whether the end of the stream is still to reach it, or something is still to be told: the end is not to
    /// overtake a failure. One that was disconnected does not wait for it.
    fn is_awaited(&self) -> bool {
        !lock(&self.stats).at_rest
    }

    /// Whether it has closed the connection without hearing that the end arrived.
    fn is_unconfirmed(&self) -> bool {
        let stats = lock(&self.stats);
        stats.state == status::State::Closed && stats.end_unconfirmed
    }

    fn snapshot(&self) -> Stats {
        let mut stats = lock(&self.stats).clone();
        let progress = self.monitor.progress();
        stats.packets_received = progress.received;
        stats.packets_sent = progress.taken;
        stats.padding_bytes_saved = progress.padding_saved;
        stats.packets_dropped = progress.dropped;
        stats.bytes_dropped = progress.dropped_bytes;
        stats.packets_queued = progress.lag.packets;
        stats.bytes_queued = progress.lag.bytes;
        stats.time_queued = progress.lag.time;
        stats.congestion = progress.congestion;
        stats
    }
}

impl Drop for Publisher {
    /// Connections close without `$E`; nothing is waited for.
    fn drop(&mut self) {
        if let Some(ticker) = lock(&self.ticker).take() {
            ticker.abort();
        }
        let mut destinations = self.shared.lock();
        destinations.all.clear();
        destinations.draining.clear();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Destinations> {
        lock(&self.destinations)
    }

    /// A waiter that has just looked holds the lock until it waits: whoever has had the lock is heard.
    fn notify_waiters(&self) {
        drop(self.lock());
        self.changed.notify_all();
    }

    /// Forgets the destinations whose tasks are over.
    fn forget_drained(&self) {
        self.lock().draining.retain(|destination| !destination.commands.is_closed());
        self.changed.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Plain data, consistent after every statement: a panic elsewhere does not spoil it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
