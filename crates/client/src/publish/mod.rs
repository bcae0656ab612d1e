//! Pushes one stream to publishing points, with a shared packet buffer and a task for each destination.
//!
//! This module depends neither on GStreamer nor on the HTTP library. The caller's thread appends to the buffer, and
//! only the buffer can block it. Everything else runs on the I/O thread and is reported as [`DestinationEvent`]s.

pub mod backoff;
pub mod bitrate;
mod body_layout;
mod destination;
pub mod stats;
pub mod status;

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use crate::packet_buffer::{
    DropPolicy, Interrupted, Limits, PacketBuffer, Reader, ReaderMonitor, ReaderOptions, StartPosition,
};
use crate::transport::{self, runtime};
use backoff::Policy;
pub use destination::Command;
use destination::{Control, DestinationTask};
use stats::Stats;
use status::DestinationEvent;
use wmhttp::auth::{CredentialRequest, Credentials};
use wmhttp::client::Config;
use wmhttp::failure::Failure;

/// The settings of one destination.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The settings of the session. Reports show its URL, so it must not contain credentials.
    pub session: Config,
    /// The settings of connections.
    pub transport: transport::Settings,
    /// The retry policy.
    pub retry: Policy,
    /// How far the destination may lag, and what happens then. Without a policy, [`Publisher::set_live`] decides.
    pub options: ReaderOptions,
}

impl Settings {
    /// Keeps packets until the peer has acknowledged them, because they may have to be sent again.
    fn reader_options(&self) -> ReaderOptions {
        ReaderOptions { keeps_unacknowledged: true, ..self.options }
    }
}

/// Receives a destination's events and answers its questions.
pub trait DestinationObserver: Send + Sync {
    /// Reports an event. Called on the I/O thread with no lock held; must not block.
    fn report(&self, report: DestinationEvent);

    /// Returns whether [`DestinationObserver::should_retry`] has a handler.
    fn has_retry_handler(&self) -> bool;

    /// Returns whether to retry after this failure. Called on a thread that may block; the destination waits for the
    /// answer, others do not.
    fn should_retry(&self, failure: &Failure) -> bool;

    /// Returns the credentials that a server or a proxy requires, if there are any. Called like
    /// [`DestinationObserver::should_retry`]; the session limits how long it may take.
    fn credentials(&self, question: &CredentialRequest) -> Option<Credentials>;
}

/// Pushes one stream to its destinations.
pub struct Publisher {
    buffer: Arc<PacketBuffer>,
    shared: Arc<Shared>,
    /// Stops the task that [`Publisher::set_ticker`] has started.
    ticker: Mutex<Option<AbortHandle>>,
}

struct Shared {
    destinations: Mutex<Destinations>,
    /// Notified when a destination is at rest, or a wait is interrupted.
    changed: Condvar,
}

#[derive(Default)]
struct Destinations {
    all: Vec<Destination>,
    /// Removed destinations that still send the packets that were queued for them.
    draining: Vec<Destination>,
    interrupted: bool,
    /// The publisher was dropped, so destinations that have not been started must not be.
    closed: bool,
}

struct Destination {
    name: String,
    /// Dropping it stops the destination.
    commands: mpsc::Sender<Command>,
    control: watch::Sender<Control>,
    stats: Arc<Mutex<Stats>>,
    monitor: ReaderMonitor,
}

/// A destination to be added.
pub struct NewDestination {
    /// The destination's name, which is unique among the publisher's destinations.
    pub name: String,
    /// Its settings.
    pub settings: Settings,
    /// Receives its events.
    pub observer: Arc<dyn DestinationObserver>,
}

/// The parts of a destination's task. The task itself, with its session and its client, is much larger, and the I/O
/// thread creates it.
struct UnstartedTask {
    control: watch::Receiver<Control>,
    stats: Arc<Mutex<Stats>>,
    reader: Reader,
    commands: mpsc::Receiver<Command>,
    observer: Arc<dyn DestinationObserver>,
}

/// Number of destinations that are started before the other tasks of the I/O thread get a turn.
const START_BATCH: usize = 256;

/// Maximum number of queued commands per destination.
const COMMAND_QUEUE_LEN: usize = 16;

/// The result of [`Publisher::wait_until_ended`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainOutcome {
    /// Every destination has ended with its server's confirmation, or has failed.
    All,
    /// This many destinations did not end before the caller's deadline or their own.
    TimedOut(usize),
}

impl Publisher {
    /// Creates a publisher without destinations and with a packet buffer of these limits.
    pub fn new(limits: Limits) -> Self {
        Self::with_buffer(PacketBuffer::new(limits))
    }

    /// Creates a publisher without destinations for a buffer that another component appends to and ends.
    pub fn with_buffer(buffer: Arc<PacketBuffer>) -> Self {
        let shared = Shared { destinations: Mutex::default(), changed: Condvar::new() };
        Self { buffer, shared: Arc::new(shared), ticker: Mutex::default() }
    }

    /// Adds a destination under a unique name and starts to connect. A destination added before the first packet
    /// receives everything; later ones start where their options say.
    ///
    /// # Errors
    /// The same as for [`Publisher::add_all`].
    pub fn add(&self, name: &str, settings: Settings, observer: Arc<dyn DestinationObserver>) -> io::Result<()> {
        self.add_all([NewDestination { name: name.to_owned(), settings, observer }])
    }

    /// Adds many destinations, each as [`Publisher::add`] does. The calling thread, which may be in a state change, is
    /// not delayed by thousands of them: the I/O thread creates sessions and connections, and is woken once for all.
    ///
    /// # Errors
    /// The system's error if the I/O thread cannot be started; then no destination is added.
    pub fn add_all(&self, new: impl IntoIterator<Item = NewDestination>) -> io::Result<()> {
        // First, because the end would wait for a destination without a running task.
        let io = runtime::handle()?;
        let (destinations, tasks): (Vec<_>, Vec<_>) = new.into_iter().map(|new| self.prepare(new)).unzip();
        self.shared.lock().all.extend(destinations);
        io.spawn(start_tasks(Arc::clone(&self.shared), tasks));
        Ok(())
    }

    /// Creates the publisher's part of a destination and the parts of its task.
    fn prepare(&self, new: NewDestination) -> (Destination, UnstartedTask) {
        let NewDestination { name, settings, observer } = new;
        // Before the first packet there is nothing to resume at: the destination receives everything.
        let start = if self.buffer.head() == 0 { StartPosition::Oldest } else { settings.options.resync };
        let reader = self.buffer.reader(start, settings.reader_options());
        let monitor = reader.monitor();
        let (to_task, commands) = mpsc::channel(COMMAND_QUEUE_LEN);
        let location = settings.session.url.to_string();
        let stats = Arc::new(Mutex::new(Stats { name: name.clone(), location, ..Stats::default() }));
        let (control, controlled) = watch::channel(Control::new(settings));
        let task = UnstartedTask { control: controlled, stats: Arc::clone(&stats), reader, commands, observer };
        (Destination { name, commands: to_task, control, stats, monitor }, task)
    }

    /// Removes a destination and returns its final statistics. Its connection closes without `$E`. With `drain`, it
    /// first sends the packets queued now and `$E`(0), for up to that time.
    pub fn remove(&self, name: &str, drain: Option<Duration>) -> Option<Stats> {
        let mut destinations = self.shared.lock();
        let index = destinations.all.iter().position(|destination| destination.name == name)?;
        let removed = destinations.all.remove(index);
        let stats = removed.snapshot();
        // A task that has ended has nothing to drain.
        let drain = drain.filter(|_| !removed.control.is_closed());
        let stats = if let Some(drain) = drain {
            // The end is at the current packet: later ones are no longer for this destination.
            removed.monitor.end_at_head();
            removed.control.send_modify(|control| control.drain_by = Some(Instant::now() + drain));
            destinations.draining.push(removed);
            stats
        } else {
            stats.after_removal()
        };
        drop(destinations);
        self.shared.notify_waiters();
        Some(stats)
    }

    /// Sends a command to one destination, or to all. Returns false if no destination received it.
    pub fn command(&self, name: Option<&str>, command: Command) -> bool {
        let destinations = self.shared.lock();
        let mut was_queued = false;
        for destination in &destinations.all {
            if name.is_none_or(|name| name == destination.name) {
                if command == Command::Reconnect {
                    // Undoes `stop_connecting`, before the command that needs it.
                    destination.control.send_if_modified(|control| {
                        control.may_connect = true;
                        // The task reads it when the command arrives.
                        false
                    });
                }
                // Fails if too many commands are queued; the caller then learns that the command was not accepted.
                was_queued |= destination.commands.try_send(command).is_ok();
            }
        }
        was_queued
    }

    /// Waits until the buffer has room, because of destinations with [`DropPolicy::Block`].
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

    /// Ends the stream: each destination sends the remaining packets and `$E`(0).
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
            // The lock is released during the wait, so that tasks can report that they are at rest.
            let waited = self.shared.changed.wait_timeout(destinations, left);
            destinations = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Prevents further connections until [`Command::Reconnect`], because the time for the end of the stream is over.
    /// An end in progress may complete.
    pub fn stop_connecting(&self) {
        for destination in &self.shared.lock().all {
            destination.control.send_modify(|control| control.may_connect = false);
        }
    }

    /// Returns the destinations that were never connected and have neither failed permanently nor been closed on
    /// request.
    pub fn unreached(&self) -> Vec<Stats> {
        let waits = |stats: &&Stats| stats.connected_at.is_none() && !stats.state.is_final();
        let destinations = self.shared.lock();
        destinations
            .all
            .iter()
            .filter_map(|destination| Some(lock(&destination.stats)).as_deref().filter(waits).cloned())
            .collect()
    }

    /// Interrupts the waits of the caller's thread from now on, or allows them again.
    pub fn interrupt(&self, interrupted: bool) {
        self.buffer.interrupt(interrupted);
        self.shared.lock().interrupted = interrupted;
        self.shared.changed.notify_all();
    }

    /// Sets whether upstream is live; if so, it does not wait for a lagging destination.
    pub fn set_live(&self, live: bool) {
        self.buffer.set_policy(if live { DropPolicy::Keyframe } else { DropPolicy::Block });
    }

    /// Changes the limits of the buffer.
    pub fn set_limits(&self, limits: Limits) {
        self.buffer.set_limits(limits);
    }

    /// Changes the settings of the destinations by name. Settings of connections apply from the next connection on.
    pub fn update(&self, change: impl Fn(&str, &mut Settings)) {
        let destinations = self.shared.lock();
        for destination in &destinations.all {
            destination.control.send_modify(|control| change(&destination.name, &mut control.settings));
        }
    }

    /// Calls `tick` on the I/O thread at each `interval` from now on; `None` stops it.
    ///
    /// # Errors
    /// The system's error if the I/O thread cannot be started.
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

    /// Returns the number of destinations in `state`.
    pub fn count(&self, state: status::State) -> usize {
        self.shared.lock().all.iter().filter(|destination| lock(&destination.stats).state == state).count()
    }

    /// Returns whether there are at least `number` destinations and all of them are in `state`.
    pub fn all_are(&self, state: status::State, number: usize) -> bool {
        let destinations = self.shared.lock();
        // Destinations added last get there last, so looking at one usually answers this, even with thousands of them.
        destinations.all.len() >= number
            && destinations.all.iter().rev().all(|destination| lock(&destination.stats).state == state)
    }

    /// Returns the statistics of each destination.
    pub fn stats(&self) -> Vec<Stats> {
        // The stream's timestamps show its bit rate, once there are enough of them.
        let (time, bytes) = self.buffer.appended();
        // Over less than a second, the rate depends on where the packets of one picture end.
        let bits = if time < Duration::from_secs(1) { 0.0 } else { bytes as f64 * 8.0 / time.as_secs_f64() };
        let mut all: Vec<Stats> = self.shared.lock().all.iter().map(Destination::snapshot).collect();
        for stats in &mut all {
            stats.bitrate_expected = bits as u64;
        }
        all
    }
}

impl Destination {
    /// Whether the end of the stream has yet to reach it, or an event has yet to be reported, so that the end does not
    /// overtake a failure. A disconnected destination is not awaited.
    fn is_awaited(&self) -> bool {
        !lock(&self.stats).at_rest
    }

    /// Whether it closed the connection without a confirmation that the end arrived.
    fn is_unconfirmed(&self) -> bool {
        let stats = lock(&self.stats);
        stats.state == status::State::Closed && stats.end_unconfirmed
    }

    /// Combines the task's own counters with those of its reader.
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
    /// Closes the connections without `$E` and without waiting.
    fn drop(&mut self) {
        if let Some(ticker) = lock(&self.ticker).take() {
            ticker.abort();
        }
        let released = {
            let mut destinations = self.shared.lock();
            destinations.closed = true;
            (std::mem::take(&mut destinations.all), std::mem::take(&mut destinations.draining))
        };
        // Dropping a destination wakes its task, which takes a system call on any thread but the I/O thread.
        let _ = runtime::spawn(async move { drop(released) });
    }
}

/// Starts tasks. Runs on the I/O thread.
async fn start_tasks(shared: Arc<Shared>, tasks: Vec<UnstartedTask>) {
    for (number, task) in tasks.into_iter().enumerate() {
        if number % START_BATCH == START_BATCH - 1 {
            tokio::task::yield_now().await;
        }
        if shared.lock().closed {
            return;
        }
        tokio::spawn(task.run(Arc::clone(&shared)));
    }
}

impl UnstartedTask {
    async fn run(self, shared: Arc<Shared>) {
        let Self { control, stats, reader, commands, observer } = self;
        let waiters = Arc::clone(&shared);
        let at_rest = Box::new(move || waiters.notify_waiters());
        // Boxed, because the future would contain the task more than once.
        Box::new(DestinationTask::new(control, stats, reader, commands, observer, at_rest)).run().await;
        shared.remove_ended();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Destinations> {
        lock(&self.destinations)
    }

    /// Taking the lock first ensures that a waiter that has just checked its condition is already waiting, and is
    /// notified.
    fn notify_waiters(&self) {
        drop(self.lock());
        self.changed.notify_all();
    }

    /// Removes the destinations whose tasks have ended.
    fn remove_ended(&self) {
        self.lock().draining.retain(|destination| !destination.commands.is_closed());
        self.changed.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The data is plain and consistent after every statement, so a panic elsewhere does not corrupt it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
