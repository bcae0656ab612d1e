//! Pushes one stream to publishing points: the shared log, and a task for each destination.
//!
//! Knows neither GStreamer nor the HTTP library. The caller's thread appends to
//! the log (the one thread crossing) and is held back only by it; everything else
//! happens on the I/O thread and comes back as [`Report`]s.

pub mod backoff;
mod destination;
pub mod stats;
pub mod status;

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::mpsc;

use crate::asf;
use crate::log::{DropPolicy, Interrupted, Limits, Log, Observer, Start};
use crate::transport::{self, runtime};
use crate::wmhttp::auth::{Credentials, Question};
use crate::wmhttp::client::Config;
use backoff::Policy;
use destination::Actor;
pub use destination::Command;
use stats::Stats;
use status::{Report, State};

/// How one destination is pushed to.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The protocol's part. Its URL is shown in reports: it carries no credentials.
    pub session: Config,
    /// The connection's part.
    pub transport: transport::Settings,
    /// When to try again.
    pub retry: Policy,
    /// What happens beyond the limits; `None` follows [`Publisher::set_live`].
    pub drop_policy: Option<DropPolicy>,
}

/// Where a destination's reports go. Called on the I/O thread with no lock held; it must not block.
pub type Reporter = Arc<dyn Fn(Report) + Send + Sync>;

/// Who has credentials where a server or a proxy asks for them. Called on a thread of its own, with no lock
/// held; it may take its time, which the session bounds.
pub type Keeper = Arc<dyn Fn(&Question) -> Option<Credentials> + Send + Sync>;

/// One stream on its way to its destinations.
pub struct Publisher {
    log: Arc<Log>,
    shared: Arc<Shared>,
}

struct Shared {
    destinations: Mutex<Destinations>,
    /// Told when a destination is done, or the wait for that is broken off.
    changed: Condvar,
}

#[derive(Default)]
struct Destinations {
    all: Vec<Destination>,
    interrupted: bool,
}

struct Destination {
    name: String,
    /// Dropped to stop the destination.
    commands: mpsc::Sender<Command>,
    settings: Arc<Mutex<Settings>>,
    stats: Arc<Mutex<Stats>>,
    observer: Observer,
    done: bool,
}

/// Commands that wait for a destination.
const COMMANDS: usize = 16;

/// How [`Publisher::wait_until_ended`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Every destination has ended or failed.
    All,
    /// Time ran out for this many.
    TimedOut(usize),
}

impl Publisher {
    /// A publisher without destinations whose log keeps what `limits` allow.
    pub fn new(limits: Limits) -> Self {
        let shared = Shared { destinations: Mutex::default(), changed: Condvar::new() };
        Self { log: Log::new(limits), shared: Arc::new(shared) }
    }

    /// Adds a destination under a name of its own, and begins to connect. Before the first packet it gets
    /// everything; later it starts at the newest key frame.
    ///
    /// # Errors
    /// The system's, where the I/O thread cannot be had.
    pub fn add(&self, name: &str, settings: Settings, reporter: Reporter, keeper: Keeper) -> io::Result<()> {
        let start = if self.log.head() == 0 { Start::Oldest } else { Start::NewestKeyFrame };
        let cursor = self.log.cursor(start, settings.drop_policy);
        let observer = cursor.observer();
        let (to_actor, commands) = mpsc::channel(COMMANDS);
        let location = settings.session.url.to_string();
        let stats = Arc::new(Mutex::new(Stats { name: name.to_owned(), location, ..Stats::default() }));
        let settings = Arc::new(Mutex::new(settings));
        let actor = Actor::new(Arc::clone(&settings), Arc::clone(&stats), cursor, commands, (reporter, keeper));
        self.shared.lock().all.push(Destination {
            name: name.to_owned(),
            commands: to_actor,
            settings,
            stats,
            observer,
            done: false,
        });
        let shared = Arc::clone(&self.shared);
        let name = name.to_owned();
        runtime::spawn(async move {
            actor.run().await;
            shared.finished(&name);
        })?;
        Ok(())
    }

    /// Takes a destination out: its connection closes without `$E`. Gives its last counters.
    pub fn remove(&self, name: &str) -> Option<Stats> {
        let mut destinations = self.shared.lock();
        let index = destinations.all.iter().position(|destination| destination.name == name)?;
        let removed = destinations.all.remove(index);
        drop(destinations);
        self.shared.changed.notify_all();
        Some(removed.snapshot())
    }

    /// Asks a destination, or all of them, for something; false where none is there to do it.
    pub fn command(&self, name: Option<&str>, command: Command) -> bool {
        let destinations = self.shared.lock();
        let mut asked = false;
        for destination in &destinations.all {
            if !destination.done && name.is_none_or(|name| name == destination.name) {
                // Fails where many commands wait already: then the caller learns that it was not asked.
                asked |= destination.commands.try_send(command).is_ok();
            }
        }
        asked
    }

    /// Waits until destinations with [`DropPolicy::Block`] leave room in the log.
    ///
    /// # Errors
    /// [`Interrupted`] while [`Publisher::interrupt`] is in force.
    pub fn wait_for_room(&self) -> Result<(), Interrupted> {
        self.log.wait_for_room()
    }

    /// Appends data packets of one stream. Never blocks.
    pub fn append(&self, header: &Arc<asf::Header>, packets: impl IntoIterator<Item = asf::Packet>) {
        self.log.append(header, packets);
    }

    /// The stream is over: each destination gets what is left, and `$E`(0).
    pub fn end(&self) {
        self.log.end();
    }

    /// Waits until every destination has ended or failed.
    ///
    /// # Errors
    /// [`Interrupted`] while [`Publisher::interrupt`] is in force.
    pub fn wait_until_ended(&self, until: Instant) -> Result<Drained, Interrupted> {
        let mut destinations = self.shared.lock();
        loop {
            let waiting = destinations.all.iter().filter(|destination| destination.is_awaited()).count();
            if waiting == 0 {
                return Ok(Drained::All);
            }
            if destinations.interrupted {
                return Err(Interrupted);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Drained::TimedOut(waiting));
            }
            let waited = self.shared.changed.wait_timeout(destinations, left);
            destinations = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Breaks off the waits of the caller's thread from now on, or allows them again.
    pub fn interrupt(&self, interrupted: bool) {
        self.log.interrupt(interrupted);
        self.shared.lock().interrupted = interrupted;
        self.shared.changed.notify_all();
    }

    /// Whether upstream is live: then a destination that lags is not waited for.
    pub fn set_live(&self, live: bool) {
        self.log.set_policy(if live { DropPolicy::Keyframe } else { DropPolicy::Block });
    }

    /// Changes how much the log keeps.
    pub fn set_limits(&self, limits: Limits) {
        self.log.set_limits(limits);
    }

    /// Changes the settings of the destinations, each by its name; what concerns a connection counts from
    /// the next one on.
    pub fn update(&self, change: impl Fn(&str, &mut Settings)) {
        let destinations = self.shared.lock();
        for destination in &destinations.all {
            change(&destination.name, &mut destination.settings.lock().unwrap_or_else(PoisonError::into_inner));
            // A destination that is done listens no more.
            let _ = destination.commands.try_send(Command::Reread);
        }
    }

    /// The counters of each destination.
    pub fn stats(&self) -> Vec<Stats> {
        self.shared.lock().all.iter().map(Destination::snapshot).collect()
    }
}

impl Destination {
    /// Whether the end of the stream is still to reach it. One that was disconnected does not wait for it.
    fn is_awaited(&self) -> bool {
        !self.done && self.stats.lock().unwrap_or_else(PoisonError::into_inner).state != State::Closed
    }

    fn snapshot(&self) -> Stats {
        let mut stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let progress = self.observer.progress();
        stats.packets_sent = progress.taken;
        stats.packets_dropped = progress.dropped;
        stats.bytes_dropped = progress.dropped_bytes;
        stats.packets_queued = progress.lag.packets;
        stats.bytes_queued = progress.lag.bytes;
        stats.time_queued = progress.lag.time;
        stats
    }
}

impl Drop for Publisher {
    /// Connections close without `$E`; nothing is waited for.
    fn drop(&mut self) {
        self.shared.lock().all.clear();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Destinations> {
        self.destinations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finished(&self, name: &str) {
        let mut destinations = self.lock();
        if let Some(destination) = destinations.all.iter_mut().find(|destination| destination.name == name) {
            destination.done = true;
        }
        drop(destinations);
        self.changed.notify_all();
    }
}
