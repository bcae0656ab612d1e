//! The packet buffer: a bounded buffer of framed packets with one writer and many readers.
//!
//! The writer appends each ASF data packet once, framed as `$D`. Every sender, that is, a destination of the element or
//! a player of the publishing point, is a [`Reader`] of the same bytes. Readers do not copy packets and do not block
//! each other: a reader that falls out of the retained window is moved to a packet at which decoding can start, and
//! receives the number of packets it missed. A reader with the policy [`DropPolicy::Block`] blocks the writer instead.
//!
//! The buffer does not depend on a runtime: readers wait with `std::task::Waker`, the writer with a condition variable,
//! and no lock is held during either wait.

mod follower;
mod lag;
mod reader;
mod ring;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, PoisonError};
use std::task::Waker;
use std::time::Duration;

use crate::sync::{Condvar, Mutex, MutexGuard};

pub use follower::Follower;
pub use lag::Lag;
pub use reader::{Acknowledged, NextPacket, Progress, Reader, ReaderMonitor};
pub use ring::Batch;
use ring::Ring;

/// How much the buffer keeps, and therefore how far a reader may lag; 0 disables a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Stream time, computed from the packets' send times.
    pub time: Duration,
    /// Number of framed bytes.
    pub bytes: usize,
    /// Number of data packets.
    pub packets: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { time: Duration::from_secs(5), bytes: 8 * 1024 * 1024, packets: 0 }
    }
}

impl Limits {
    /// Returns the looser value of each limit.
    fn loosest(self, other: Self) -> Self {
        let longer =
            |one: Duration, two: Duration| if one.is_zero() || two.is_zero() { Duration::ZERO } else { one.max(two) };
        let more = |one: usize, two: usize| if one == 0 || two == 0 { 0 } else { one.max(two) };
        Self {
            time: longer(self.time, other.time),
            bytes: more(self.bytes, other.bytes),
            packets: more(self.packets, other.packets),
        }
    }

    /// Returns the fraction of the limits that `lag` uses, from 0 to 1.
    fn used_by(&self, lag: &Lag) -> f64 {
        let part = |lag: f64, limit: f64| if limit > 0.0 { (lag / limit).min(1.0) } else { 0.0 };
        let time = part(lag.time.as_secs_f64(), self.time.as_secs_f64());
        time.max(part(lag.bytes as f64, self.bytes as f64)).max(part(lag.packets as f64, self.packets as f64))
    }

    /// Whether `lag` exceeds one of the limits.
    fn exceeded_by(&self, lag: &Lag) -> bool {
        (!self.time.is_zero() && lag.time > self.time)
            || (self.bytes > 0 && lag.bytes > self.bytes as u64)
            || (self.packets > 0 && lag.packets > self.packets as u64)
    }
}

/// What happens to a reader that lags beyond the limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DropPolicy {
    /// The reader resumes at the most recent packet that starts a key frame.
    #[default]
    Keyframe,
    /// The reader resumes at the oldest packet in the buffer.
    Oldest,
    /// The writer waits for the reader.
    Block,
    /// Like `Keyframe`; the owner disconnects and begins a new session when the packets are dropped.
    Disconnect,
}

/// The options of a reader. `None` selects the buffer's value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReaderOptions {
    /// What happens when the reader lags beyond the limits.
    pub policy: Option<DropPolicy>,
    /// How far the reader may lag. The buffer keeps as much as the loosest limits of all readers allow.
    pub limits: Option<Limits>,
    /// Where the reader resumes after a gap, unless the policy is [`DropPolicy::Oldest`].
    pub resync: StartPosition,
    /// Whether the packets that the reader has taken are kept until [`Reader::acknowledge`] reports their arrival, so
    /// that [`Reader::rewind`] can take them again. With [`DropPolicy::Block`] they count towards the limits and may
    /// block the writer; with the other policies they are kept as far as the limits allow.
    pub keeps_unacknowledged: bool,
}

/// Where a new reader starts, or a reader resumes after a gap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartPosition {
    /// At the most recent packet in the buffer that starts a key frame, or else at the next one to be appended.
    #[default]
    LatestKeyframe,
    /// At the next packet to be appended that starts a key frame.
    NextKeyframe,
    /// At the next packet to be appended.
    Live,
    /// At the oldest packet in the buffer.
    Oldest,
}

/// The writer's wait was interrupted by [`PacketBuffer::interrupt`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the wait for room in the buffer was interrupted")]
pub struct Interrupted;

/// The waiting writer is woken when the readers use no more than this fraction of the limits. Waking it for each packet
/// taken would cost more than the packet.
const WAKE_WRITER_BELOW: f64 = 0.75;

/// A reader that uses more than this fraction of its limits does not wait for a larger batch.
const BATCH_BELOW: f64 = 0.5;

/// A reader that does not block the writer needs acknowledgements when it has taken this number of bytes since the last
/// one. Each of them costs a system call, so it releases many packets.
const ACKNOWLEDGE_BYTES: u64 = 256 * 1024;

/// After each of these numbers of bytes appended, the packets that nobody needs are removed. The memory of a packet is
/// released with its block, so removing them more often would gain nothing.
const RELEASE_BYTES: u64 = ring::BLOCK_BYTES as u64;

/// The packet buffer; see the module documentation.
pub struct PacketBuffer {
    state: Mutex<State>,
    /// Notified when a reader has advanced, or the writer must stop waiting.
    room: Condvar,
}

struct State {
    ring: Ring,
    limits: Limits,
    /// The policy of readers without their own.
    policy: DropPolicy,
    /// One slot per reader; the slots in `free_slots` are reused.
    readers: Vec<Option<ReaderState>>,
    free_slots: Vec<usize>,
    /// No further packets are appended.
    ended: bool,
    /// Whether waits of the writer return [`Interrupted`].
    interrupted: bool,
    /// Whether the writer waits on `room`, so that it must be notified.
    writer_waits: bool,
    /// Byte position of the head at which packets that nobody needs are removed next.
    release_at: u64,
}

/// The buffer's state of one reader.
#[derive(Default)]
struct ReaderState {
    options: ReaderOptions,
    /// Sequence number of the first packet that the reader could take.
    joined: u64,
    /// Sequence number of the next packet to take, and the byte position at which it begins.
    next: u64,
    position: u64,
    /// Sequence number of the first packet that the reader may take again; not greater than `next`.
    resend_from: u64,
    /// The same, if the policy was to block when the packets were taken: only those may block the writer.
    acknowledged: u64,
    /// Set if the next packet to take must start a key frame.
    seeks_key_frame: bool,
    /// Sequence number of the packet at which the reader started, or resumed after a gap, because it contains a key
    /// frame.
    starts_at: Option<u64>,
    /// Packets before the next one were dropped, and the policy has yet to decide where the reader resumes.
    resync_due: bool,
    /// Sequence number after the last packet that the reader takes, if it has its own end.
    end: Option<u64>,
    /// Whether the peer currently accepts packets; see [`PacketBuffer::wait_for_room`].
    streaming: bool,
    /// The reader was dropped or paused, so packets that it has not taken will not be taken.
    idle: bool,
    /// The counters of [`Progress`].
    taken: u64,
    padding_saved: u64,
    dropped: u64,
    dropped_bytes: u64,
    /// The gaps between packets that the reader took, as far back as packet sizes are known.
    gaps: VecDeque<Range<u64>>,
    /// The part of `dropped` that was reported to the owner.
    dropped_reported: u64,
    /// Wakes the reader's task when `wake_at` bytes are available, or at the end.
    waker: Option<Waker>,
    wake_at: u64,
    /// The slot of the reader that this one follows; see [`Reader::lead`].
    follows: Option<usize>,
    /// Wakes the reader's task when it lags beyond its limits.
    overrun_waker: Option<Waker>,
    /// Wakes the reader's task when packets are dropped.
    dropped_waker: Option<Waker>,
}

/// Fraction of its limits above which a reader that keeps unacknowledged packets needs acknowledgements.
const ACKNOWLEDGE_FROM: f64 = 0.5;

impl PacketBuffer {
    /// Creates an empty buffer with these limits.
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                ring: Ring::default(),
                limits,
                policy: DropPolicy::default(),
                readers: Vec::new(),
                free_slots: Vec::new(),
                ended: false,
                interrupted: false,
                writer_waits: false,
                release_at: RELEASE_BYTES,
            }),
            room: Condvar::new(),
        })
    }

    /// Changes the limits.
    pub fn set_limits(&self, limits: Limits) {
        self.lock().limits = limits;
        self.notify_writer();
    }

    /// Changes the policy of readers without their own.
    pub fn set_policy(&self, policy: DropPolicy) {
        self.lock().policy = policy;
        self.notify_writer();
    }

    /// Appends packets of one stream and wakes the readers that wait for them.
    ///
    /// Never blocks: a writer that supports back-pressure calls [`PacketBuffer::wait_for_room`] before.
    pub fn append<B: asf::PacketBytes>(
        &self,
        header: &Arc<asf::Header>,
        packets: impl IntoIterator<Item = asf::Packet<B>>,
    ) {
        let mut state = self.lock();
        for packet in packets {
            state.ring.append(header, &packet);
        }
        let limits = state.trim();
        state.drop_unreachable(limits);
        state.release_unneeded();
        let wakers = state.take_due_wakers();
        drop(state);
        // Without the lock: a waker may run its task at once, and the task takes the lock.
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Ends the stream: readers reach their end after they have taken all packets.
    pub fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        let wakers = state.take_due_wakers();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Waits until the readers with [`DropPolicy::Block`] have room.
    ///
    /// The slowest streaming reader decides. Readers that do not stream do not block the writer, unless none streams:
    /// then the wait ends when the first of them has room.
    ///
    /// # Errors
    /// [`Interrupted`] while [`PacketBuffer::interrupt`] is in force.
    pub fn wait_for_room(&self) -> Result<(), Interrupted> {
        let mut state = self.lock();
        while !state.interrupted && state.is_writer_blocked() {
            state.writer_waits = true;
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.writer_waits = false;
        if state.interrupted { Err(Interrupted) } else { Ok(()) }
    }

    /// Interrupts the writer's waits from now on, or allows them again.
    pub fn interrupt(&self, interrupted: bool) {
        self.lock().interrupted = interrupted;
        self.room.notify_all();
    }

    /// Creates a reader.
    pub fn reader(self: &Arc<Self>, start: StartPosition, options: ReaderOptions) -> Reader {
        Reader::new(Arc::clone(self), start, options)
    }

    /// Returns the sequence number of the next packet to be appended, which is the number of packets appended so far.
    pub fn head(&self) -> u64 {
        self.lock().ring.head()
    }

    /// Returns the stream time and framed bytes appended so far.
    pub fn appended(&self) -> (Duration, u64) {
        let state = self.lock();
        (Duration::from_millis(state.ring.time()), state.ring.position(state.ring.head()))
    }

    /// Wakes the writer if it waits. Otherwise, notifying would be an unnecessary system call. No notification is lost,
    /// because the writer sets the flag under the lock before it waits.
    fn notify_writer(&self) {
        if self.lock().writer_waits {
            self.room.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The data is plain and consistent after every statement, so a panic elsewhere does not corrupt it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReaderState {
    /// The reader's own policy, or that of the buffer.
    fn policy(&self, default: DropPolicy) -> DropPolicy {
        self.options.policy.unwrap_or(default)
    }

    /// Whether the packets not taken exceed the reader's limits.
    fn exceeds_limits(&self, ring: &Ring, default: Limits) -> bool {
        self.options.limits.unwrap_or(default).exceeded_by(&self.lag(ring))
    }

    /// Returns the sequence number of the first packet that must be kept for the reader if its policy is to block.
    fn needed_from(&self) -> u64 {
        if self.options.keeps_unacknowledged { self.acknowledged } else { self.next }
    }

    /// Returns the lag by which a blocking reader holds the writer back, and the limits that apply to it.
    ///
    /// Packets that were taken and may have to be sent again use memory, so they count towards the limit of bytes. They
    /// do not count towards the limits of time and packets: these say how far the reader may be behind, and a file that
    /// is pushed faster than it plays has many seconds on the way.
    fn blocking_lag(&self, ring: &Ring, default: Limits) -> (Lag, Limits) {
        let limits = self.options.limits.unwrap_or(default);
        let lag = self.lag(ring);
        if !self.options.keeps_unacknowledged {
            return (lag, limits);
        }
        let kept = self.lag_from(ring, self.acknowledged);
        // Without a limit of bytes, the other limits must bound the memory.
        let lag = if limits.bytes == 0 { kept } else { Lag { bytes: kept.bytes, ..lag } };
        (lag, limits)
    }

    /// Returns the fraction of the limits that a blocking reader uses, from 0 to 1.
    fn blocking_usage(&self, ring: &Ring, default: Limits) -> f64 {
        let (lag, limits) = self.blocking_lag(ring, default);
        limits.used_by(&lag)
    }

    /// Whether a blocking reader exceeds its limits.
    fn blocks_writer(&self, ring: &Ring, default: Limits) -> bool {
        let (lag, limits) = self.blocking_lag(ring, default);
        limits.exceeded_by(&lag)
    }

    /// Whether many packets are kept only because they are not acknowledged.
    fn needs_acknowledgement(&self, ring: &Ring, policy: DropPolicy, default: Limits) -> bool {
        if !self.options.keeps_unacknowledged {
            return false;
        }
        if self.policy(policy) != DropPolicy::Block {
            return self.position - ring.position(self.resend_from) >= ACKNOWLEDGE_BYTES;
        }
        // All limits count here, so that a stream in real time keeps no more seconds of it than the limit of time says.
        self.acknowledged < self.next
            && self.options.limits.unwrap_or(default).used_by(&self.lag_from(ring, self.acknowledged))
                >= ACKNOWLEDGE_FROM
    }

    /// Returns the sequence number of the first packet that the reader may still take.
    fn may_take_from(&self) -> u64 {
        self.resend_from.min(self.next)
    }

    /// Whether `bytes` are available, or the reader uses [`BATCH_BELOW`] of its limits, so that waiting longer could drop
    /// packets.
    fn has_batch(&self, bytes: u64, ring: &Ring, default: Limits) -> bool {
        let limits = self.options.limits.unwrap_or(default);
        ring.head() > self.next
            && (ring.bytes_after(self.next) >= bytes || limits.used_by(&self.lag(ring)) >= BATCH_BELOW)
    }

    /// Like [`ReaderState::has_batch`], but no packets are available to the owner of a reader that follows another.
    fn has_own(&self, bytes: u64, ring: &Ring, default: Limits) -> bool {
        self.follows.is_none() && self.has_batch(bytes, ring, default)
    }

    /// Returns the sequence number after the last packet that the reader may take now.
    fn head(&self, ring: &Ring) -> u64 {
        self.end.map_or(ring.head(), |end| end.min(ring.head()))
    }
}

impl State {
    /// Returns the readers that may currently block the writer.
    fn blockers(&self) -> impl Iterator<Item = &ReaderState> {
        let default = self.policy;
        let blocking = move |reader: &&ReaderState| !reader.idle && reader.policy(default) == DropPolicy::Block;
        // A destination that is still connecting must not stop the pipeline while others stream.
        let any_streams = self.readers.iter().flatten().filter(blocking).any(|reader| reader.streaming);
        self.readers.iter().flatten().filter(blocking).filter(move |reader| reader.streaming || !any_streams)
    }

    /// Whether the writer must wait before it appends more.
    fn is_writer_blocked(&self) -> bool {
        self.is_blocked(|reader| reader.blocks_writer(&self.ring, self.limits))
    }

    /// Whether the writer waits, and there is enough room to wake it.
    fn should_notify_writer(&self) -> bool {
        self.writer_waits
            && !self.is_blocked(|reader| reader.blocking_usage(&self.ring, self.limits) > WAKE_WRITER_BELOW)
    }

    /// Whether the readers that may block the writer do so; `full` decides for each of them.
    fn is_blocked(&self, full: impl Fn(&ReaderState) -> bool) -> bool {
        let mut blockers = self.blockers().peekable();
        match blockers.peek() {
            None => false,
            Some(first) if first.streaming => blockers.any(full),
            Some(_) => blockers.all(full),
        }
    }

    /// Drops the oldest packets beyond the limits, except those that a blocking reader has yet to take or acknowledge.
    /// Returns the loosest limits of all readers.
    fn trim(&mut self) -> Limits {
        let own =
            self.readers.iter().flatten().filter(|reader| !reader.idle).filter_map(|reader| reader.options.limits);
        let limits = own.fold(self.limits, Limits::loosest);
        // Usually there is nothing to drop, so the readers need not be examined.
        if !limits.exceeded_by(&self.ring.kept_lag()) {
            return limits;
        }
        let first_needed = match self.blockers().next() {
            Some(first) if first.streaming => self.blockers().map(ReaderState::needed_from).min(),
            // No reader streams: the most advanced one ends the writer's wait, so its packets must be kept.
            Some(_) => self.blockers().map(ReaderState::needed_from).max(),
            None => None,
        }
        .unwrap_or(u64::MAX);
        while self.ring.tail() < first_needed.min(self.ring.head()) {
            self.ring.drop_oldest();
            if !limits.exceeded_by(&self.ring.kept_lag()) {
                break;
            }
        }
        limits
    }

    /// Removes the packets that no reader may still take, except those from the key frame before on: there a new reader
    /// starts, and a reader whose peer has lost the stream. So the buffer of a live stream contains about one group of
    /// pictures, and grows to its limits only while a reader lags.
    fn release_unneeded(&mut self) {
        let head = self.ring.head();
        let position = self.ring.position(head);
        if position < self.release_at {
            return;
        }
        self.release_at = position + RELEASE_BYTES;
        let readers = self.readers.iter().flatten().filter(|reader| !reader.idle);
        let needed = readers.map(ReaderState::may_take_from).min().unwrap_or(head);
        let first = self.ring.key_frame_before(needed).unwrap_or(needed);
        // No more than twice what was appended: so most blocks are reused, and only some are freed.
        let until = self.ring.position(self.ring.tail()) + 2 * RELEASE_BYTES;
        while self.ring.tail() < first && self.ring.position(self.ring.tail()) < until {
            self.ring.drop_oldest();
        }
    }

    /// Counts as dropped, for each reader, the packets that have left the buffer or exceed the reader's own limits, which
    /// may be tighter than `kept`.
    fn drop_unreachable(&mut self, kept: Limits) {
        let Self { ring, readers, policy, limits, .. } = self;
        let is_beyond = kept.exceeded_by(&ring.kept_lag());
        for reader in readers.iter_mut().flatten() {
            let own = reader.options.limits.unwrap_or(*limits);
            // A reader within the buffer that has the limits of the buffer cannot be beyond them, so it need not be
            // examined for each packet.
            if reader.next < ring.tail() || is_beyond || own != kept {
                reader.drop_unreachable(ring, *policy, own);
            }
        }
    }

    /// Takes the wakers of the tasks whose wait is over. The caller wakes them after it has released the lock.
    fn take_due_wakers(&mut self) -> Vec<Waker> {
        let Self { ring, readers, ended, limits, .. } = self;
        let mut due = Vec::new();
        for reader in readers.iter_mut().flatten() {
            if reader.waker.is_some() && (*ended || reader.has_own(reader.wake_at, ring, *limits)) {
                due.extend(reader.waker.take());
            }
            if reader.overrun_waker.is_some() && (reader.resync_due || reader.exceeds_limits(ring, *limits)) {
                due.extend(reader.overrun_waker.take());
            }
            if reader.dropped_waker.is_some() && reader.dropped > reader.dropped_reported {
                due.extend(reader.dropped_waker.take());
            }
        }
        due
    }
}

#[cfg(test)]
mod tests;
