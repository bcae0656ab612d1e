//! A reader of the buffer.

use std::future::poll_fn;
use std::ops::Range;
use std::sync::Arc;
use std::task::Poll;

use super::lag::Lag;
use super::ring::Ring;
use super::{
    ACKNOWLEDGE_FROM, Batch, DropPolicy, Limits, PacketBuffer, ReaderOptions, ReaderState, StartPosition, State,
};

/// The result of an acknowledgement; see [`Reader::acknowledge`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Acknowledged {
    /// Whether some packets no longer need to be kept.
    pub advanced: bool,
    /// Whether there are still many packets that are kept only because they are not acknowledged.
    pub more_needed: bool,
}

/// The packet that a reader takes next.
#[derive(Clone, Debug)]
pub struct NextPacket {
    /// The header of the packet's stream.
    pub header: Arc<asf::Header>,
    /// Size of the framed packet in bytes.
    pub size: usize,
}

/// A reader of the buffer.
pub struct Reader {
    pub(super) slot: Arc<Slot>,
}

/// Reads a reader's progress and sets its end, from any thread, even after the reader was dropped.
#[derive(Clone)]
pub struct ReaderMonitor {
    pub(super) slot: Arc<Slot>,
}

/// A reader's slot, which is freed when the reader and its monitors are dropped.
pub(super) struct Slot {
    pub(super) buffer: Arc<PacketBuffer>,
    /// Index in `State::readers`.
    pub(super) index: usize,
}

/// The packets that a reader has taken, missed and not taken yet.
///
/// At any moment `taken + dropped + lag.packets` is `received`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// Packets appended since the reader was created, including those with which it started.
    pub received: u64,
    /// Packets taken; a packet that was taken twice counts once.
    pub taken: u64,
    /// Bytes of padding removed from the packets taken.
    pub padding_saved: u64,
    /// Packets dropped.
    pub dropped: u64,
    /// Framed bytes of the packets dropped.
    pub dropped_bytes: u64,
    /// Packets not taken yet.
    pub lag: Lag,
    /// Fraction of its limits that the lag uses, from 0 to 1. For a blocking reader with many unacknowledged packets,
    /// the fraction that those use. 0 without limits.
    pub congestion: f64,
}

impl Reader {
    pub(super) fn new(buffer: Arc<PacketBuffer>, start: StartPosition, options: ReaderOptions) -> Self {
        let mut state = buffer.lock();
        let ring = &state.ring;
        let head = ring.head();
        let (next, seeks_key_frame) = match start {
            StartPosition::LatestKeyframe => ring.newest_key_frame().map_or((head, true), |key| (key, false)),
            StartPosition::NextKeyframe => (head, true),
            StartPosition::Live => (head, false),
            StartPosition::Oldest => (ring.tail(), false),
        };
        let position = ring.position(next);
        let starts_at = (start == StartPosition::LatestKeyframe && !seeks_key_frame).then_some(next);
        let reader = ReaderState {
            options,
            joined: next,
            next,
            position,
            resend_from: next,
            acknowledged: next,
            seeks_key_frame,
            starts_at,
            ..ReaderState::default()
        };
        let index = state.free_slots.pop().unwrap_or_else(|| {
            state.readers.push(None);
            state.readers.len() - 1
        });
        if let Some(slot) = state.readers.get_mut(index) {
            *slot = Some(reader);
        }
        drop(state);
        Self { slot: Arc::new(Slot { buffer, index }) }
    }

    /// Returns a monitor of this reader.
    pub fn monitor(&self) -> ReaderMonitor {
        ReaderMonitor { slot: Arc::clone(&self.slot) }
    }

    /// Waits until there is a packet to take and at least `min_bytes` of packets, or half of what the limits allow, or
    /// the end. While the reader follows another, it waits only for the end; see [`Reader::lead`].
    ///
    /// A caller that collects batches passes a `min_bytes` greater than 0, and must add its own timeout.
    pub async fn ready(&self, min_bytes: u64) {
        poll_fn(|context| {
            self.with(|state, index| {
                state.resolve_position(index);
                let ended = state.has_end(index);
                let State { ring, readers, limits, .. } = state;
                let Some(reader) = readers.get_mut(index).and_then(Option::as_mut) else { return Poll::Ready(()) };
                if ended || reader.has_own(min_bytes, ring, *limits) {
                    return Poll::Ready(());
                }
                reader.wake_at = min_bytes;
                // `clone_from` does nothing if the same task waits again, which is the usual case.
                match &mut reader.waker {
                    Some(waker) => waker.clone_from(context.waker()),
                    None => reader.waker = Some(context.waker().clone()),
                }
                Poll::Pending
            })
        })
        .await;
    }

    /// Waits until the reader lags beyond its limits.
    pub async fn wait_until_overrun(&self) {
        poll_fn(|context| {
            self.with(|state, index| {
                let State { ring, readers, limits, .. } = state;
                let Some(reader) = readers.get_mut(index).and_then(Option::as_mut) else { return Poll::Ready(()) };
                if reader.resync_due || reader.exceeds_limits(ring, *limits) {
                    return Poll::Ready(());
                }
                reader.overrun_waker = Some(context.waker().clone());
                Poll::Pending
            })
        })
        .await;
    }

    /// Waits until there are dropped packets that neither a batch nor [`Reader::take_dropped`] has reported.
    pub async fn wait_until_dropped(&self) {
        poll_fn(|context| {
            self.with(|state, index| {
                let Some(reader) = state.reader(index) else { return Poll::Ready(()) };
                if reader.dropped > reader.dropped_reported {
                    return Poll::Ready(());
                }
                reader.dropped_waker = Some(context.waker().clone());
                Poll::Pending
            })
        })
        .await;
    }

    /// Returns the number of dropped packets that neither a batch nor an earlier call has reported.
    pub fn take_dropped(&self) -> u64 {
        self.with(|state, index| state.reader(index).map_or(0, ReaderState::take_dropped))
    }

    /// Returns the next packet to take; `None` if there is none.
    pub fn peek(&self) -> Option<NextPacket> {
        self.with(|state, index| {
            let next = state.resolve_position(index).filter(|next| !state.is_beyond_end(index, *next))?;
            let (header, size) = state.ring.peek(next)?;
            Some(NextPacket { header: Arc::clone(header), size })
        })
    }

    /// Takes whole packets of one stream, up to `max_bytes`; `None` if there is none.
    ///
    /// The batch is empty if the next packet alone exceeds `max_bytes`.
    pub fn take(&mut self, max_bytes: u64) -> Option<Batch> {
        self.take_where(max_bytes, |_| true)
    }

    /// Like [`Reader::take`], but returns `None` if the next packet belongs to a stream with another header.
    ///
    /// Use it after [`Reader::peek`], because the writer may have overrun the reader meanwhile.
    pub fn take_if_header(&mut self, header: &Arc<asf::Header>, max_bytes: u64) -> Option<Batch> {
        self.take_where(max_bytes, |next| Arc::ptr_eq(next, header))
    }

    fn take_where(&mut self, max_bytes: u64, wanted: impl Fn(&Arc<asf::Header>) -> bool) -> Option<Batch> {
        let (batch, notify_writer) = self.with(|state, index| {
            let next = state.resolve_position(index)?;
            if !state.ring.peek(next).is_some_and(|(header, _)| wanted(header)) {
                return None;
            }
            // A reader with its own end takes no packets that were appended later.
            let max_packets = state.reader(index)?.end.map_or(u64::MAX, |end| end.saturating_sub(next));
            if max_packets == 0 {
                return None;
            }
            let mut batch = state.ring.take(next, max_packets, max_bytes)?;
            let State { ring, readers, policy, limits, .. } = state;
            let reader = readers.get_mut(index).and_then(Option::as_mut)?;
            batch.starts = reader.starts_at == Some(next);
            // Reported with the first batch after the gap, and only once.
            batch.skipped = reader.take_dropped();
            reader.advance(batch.sizes.len() as u64, batch.len(), batch.padding_saved);
            // For a reader that does not keep packets, those taken count as arrived.
            let keeps = reader.options.keeps_unacknowledged;
            if !keeps {
                reader.resend_from = reader.next;
            }
            if !keeps || reader.policy(*policy) != DropPolicy::Block {
                reader.acknowledged = reader.next;
            }
            batch.needs_acknowledgement = reader.needs_acknowledgement(ring, *policy, *limits);
            Some((batch, state.should_notify_writer()))
        })?;
        // Without the lock: the writer needs it to continue.
        if notify_writer {
            self.slot.buffer.room.notify_all();
        }
        Some(batch)
    }

    /// Returns whether all packets were taken up to the end of the buffer or the reader's own end.
    pub fn at_end(&self) -> bool {
        self.with(|state, index| {
            state.resolve_position(index);
            state.is_at_end(index)
        })
    }

    /// Records that everything taken has arrived except the last `outstanding` bytes, and need not be kept for this
    /// reader; see [`ReaderOptions::keeps_unacknowledged`]. Returns whether packets were released, and whether further
    /// acknowledgements are needed.
    pub fn acknowledge(&self, outstanding: u64) -> Acknowledged {
        let (acknowledged, notify_writer) = self.with(|state, index| {
            let State { ring, readers, policy, limits, .. } = state;
            let Some(reader) = readers.get_mut(index).and_then(Option::as_mut) else {
                return (Acknowledged::default(), false);
            };
            // A rewind does not go back beyond a gap.
            let arrived = ring.sequence_at(reader.position.saturating_sub(outstanding)).max(reader.after_last_gap());
            let arrived = arrived.min(reader.next);
            let advanced = arrived > reader.resend_from;
            reader.resend_from = reader.resend_from.max(arrived);
            reader.acknowledged = reader.acknowledged.max(arrived);
            let more_needed = reader.needs_acknowledgement(ring, *policy, *limits);
            (Acknowledged { advanced, more_needed }, advanced && state.should_notify_writer())
        });
        if notify_writer {
            self.slot.buffer.room.notify_all();
        }
        acknowledged
    }

    /// Goes back by the last `bytes` taken, to the start of the packet that contains the first of them, but not beyond
    /// a gap. The reader takes these packets a second time; those that have left the buffer count as dropped.
    ///
    /// If some of the bytes were taken before a gap, the gap is extended, because going back there would also take the
    /// skipped packets.
    pub fn rewind(&mut self, bytes: u64) {
        self.with(|state, index| {
            let State { ring, readers, policy, limits, .. } = state;
            let Some(reader) = readers.get_mut(index).and_then(Option::as_mut) else { return };
            let (packets, back) = ring.packets_before(reader.next, reader.after_last_gap(), bytes);
            reader.next -= packets;
            reader.position -= back;
            reader.acknowledged = reader.acknowledged.min(reader.next);
            reader.resend_from = reader.resend_from.min(reader.next);
            reader.taken = reader.taken.saturating_sub(packets);
            reader.extend_last_gap(ring, bytes.saturating_sub(back));
            reader.drop_unreachable(ring, *policy, reader.options.limits.unwrap_or(*limits));
        });
    }

    /// Moves the reader to a position at which decoding can start, for a peer that has none of the packets taken
    /// before. This is the most recent key frame in the buffer, but not before a gap. If there is none, and packets may
    /// be dropped, it is the next key frame that was not taken yet. Otherwise, or with [`StartPosition::Live`], the
    /// reader does not move.
    ///
    /// Returns the number of framed bytes that the reader will take a second time.
    pub fn move_to_key_frame(&mut self) -> u64 {
        self.with(|state, index| {
            let Some(next) = state.resolve_position(index) else { return 0 };
            let State { ring, readers, policy, limits, .. } = state;
            let Some(reader) = readers.get_mut(index).and_then(Option::as_mut) else { return 0 };
            if reader.options.resync == StartPosition::Live {
                return 0;
            }
            let limits = reader.options.limits.unwrap_or(*limits);
            let policy = reader.policy(*policy);
            // A reader beyond its limits would be moved again immediately, unless it blocks the writer.
            let is_near = |key: &u64| policy == DropPolicy::Block || !limits.exceeded_by(&ring.lag(*key));
            let floor = reader.after_last_gap().max(ring.tail());
            let behind = ring.key_frame_before(next).filter(|key| *key >= floor);
            if let Some(key) = behind.filter(is_near) {
                let back = reader.position.saturating_sub(ring.position(key));
                reader.taken = reader.taken.saturating_sub(reader.next - key);
                reader.next = key;
                reader.position -= back;
                reader.acknowledged = reader.acknowledged.min(key);
                reader.resend_from = reader.resend_from.min(key);
                return back;
            }
            let drops = matches!(policy, DropPolicy::Keyframe | DropPolicy::Disconnect);
            if let Some(key) = ring.key_frame_from(next).filter(|_| drops) {
                reader.skip_to(ring, key);
            }
            0
        })
    }

    /// Returns how many packets the last `bytes` taken belong to, without gaps.
    pub fn packets_in_last(&self, bytes: u64) -> u64 {
        self.with(|state, index| {
            let State { ring, readers, .. } = state;
            let Some(reader) = readers.get(index).and_then(Option::as_ref) else { return 0 };
            let (mut before, mut left, mut packets) = (reader.next, bytes, 0);
            // From the newest packet backwards, gap by gap. The packets within a gap were not taken, and are skipped.
            let starts = reader.gaps.iter().rev().map(|gap| (gap.end, gap.start));
            for (floor, beyond) in starts.chain([(reader.joined, reader.joined)]) {
                let (count, back) = ring.packets_before(before, floor, left);
                packets += count;
                left = left.saturating_sub(back);
                before = beyond;
            }
            packets
        })
    }

    /// Stops taking packets, without blocking the writer: packets not taken are dropped until [`Reader::resume`].
    pub fn pause(&self) {
        self.with(|state, index| {
            if let Some(reader) = state.reader(index) {
                reader.idle = true;
                reader.streaming = false;
            }
        });
        self.slot.buffer.notify_writer();
    }

    /// Takes packets again, from the position that [`ReaderOptions::resync`] selects.
    pub fn resume(&self) {
        self.with(|state, index| {
            let State { ring, readers, limits, .. } = state;
            let Some(reader) = readers.get_mut(index).and_then(Option::as_mut) else { return };
            // The packets since the pause were not counted one by one; they are counted as dropped here.
            if std::mem::take(&mut reader.idle) {
                let to = reader.resync(ring, reader.options.limits.unwrap_or(*limits));
                reader.skip_to(ring, to);
            }
        });
    }

    /// Sets whether the peer currently accepts packets. A blocking reader blocks the writer only in that case, or if no
    /// other reader streams.
    pub fn set_streaming(&self, streaming: bool) {
        self.with(|state, index| {
            if let Some(reader) = state.reader(index) {
                reader.streaming = streaming;
            }
            if state.writer_waits {
                self.slot.buffer.room.notify_all();
            }
        });
    }

    /// Changes the reader's options.
    pub fn set_options(&self, options: ReaderOptions) {
        self.with(|state, index| {
            if let Some(reader) = state.reader(index) {
                reader.options = options;
            }
        });
        self.slot.buffer.notify_writer();
    }

    /// Returns whether the reader may block the writer.
    pub fn may_block(&self) -> bool {
        self.with(|state, index| {
            let policy = state.policy;
            state.reader(index).is_some_and(|reader| reader.policy(policy) == DropPolicy::Block)
        })
    }

    /// Returns whether no packet can be taken before the next key frame.
    pub fn waits_for_key_frame(&self) -> bool {
        self.with(|state, index| state.reader(index).is_some_and(|reader| reader.seeks_key_frame && !reader.idle))
    }

    /// Returns the reader's progress since it was created.
    pub fn progress(&self) -> Progress {
        self.slot.progress()
    }

    /// Calls `f` with the locked state of the buffer and the index of the slot.
    pub(super) fn with<R>(&self, f: impl FnOnce(&mut State, usize) -> R) -> R {
        self.slot.with(f)
    }
}

impl Drop for Reader {
    /// Monitors can still read the progress, but the writer no longer waits for this reader.
    fn drop(&mut self) {
        self.with(|state, index| {
            if let Some(reader) = state.reader(index) {
                reader.idle = true;
                reader.streaming = false;
                reader.waker = None;
                reader.overrun_waker = None;
                reader.dropped_waker = None;
            }
        });
        self.slot.buffer.notify_writer();
    }
}

impl ReaderMonitor {
    /// Sets the reader's own end: packets appended from now on are not for it.
    pub fn end_at_head(&self) {
        let waker = self.slot.with(|state, index| {
            let head = state.ring.head();
            let reader = state.reader(index)?;
            reader.end = Some(head);
            reader.follows = None;
            reader.waker.take()
        });
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Returns the reader's progress.
    pub fn progress(&self) -> Progress {
        self.slot.progress()
    }
}

impl Slot {
    pub(super) fn with<R>(&self, f: impl FnOnce(&mut State, usize) -> R) -> R {
        f(&mut self.buffer.lock(), self.index)
    }

    /// Does not change the reader: where an overrun reader resumes is decided when it takes packets, not here.
    fn progress(&self) -> Progress {
        self.with(|state, index| {
            let Some(reader) = state.readers.get(index).and_then(Option::as_ref) else { return Progress::default() };
            let mut lag = reader.lag(&state.ring);
            let ReaderState { taken, padding_saved, mut dropped, mut dropped_bytes, .. } = *reader;
            let received = reader.head(&state.ring).saturating_sub(reader.joined);
            if reader.idle {
                dropped += lag.packets;
                dropped_bytes += lag.bytes;
                lag = Lag::default();
            }
            let queued = reader.options.limits.unwrap_or(state.limits).used_by(&lag);
            let blocks = !reader.idle && reader.policy(state.policy) == DropPolicy::Block;
            // Below this fraction the reader needs no acknowledgements, so the value would be out of date.
            let held = reader.blocking_usage(&state.ring, state.limits);
            let congestion = if blocks && held >= ACKNOWLEDGE_FROM { held } else { queued };
            Progress { received, taken, padding_saved, dropped, dropped_bytes, lag, congestion }
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.with(|state, index| {
            if let Some(slot) = state.readers.get_mut(index) {
                *slot = None;
                state.free_slots.push(index);
            }
        });
    }
}

impl State {
    pub(super) fn reader(&mut self, index: usize) -> Option<&mut ReaderState> {
        self.readers.get_mut(index)?.as_mut()
    }

    /// Whether a packet was appended after the reader's own end.
    fn is_beyond_end(&mut self, index: usize, sequence: u64) -> bool {
        self.reader(index).and_then(|reader| reader.end).is_some_and(|end| sequence >= end)
    }

    /// Whether no further packets are appended for the reader.
    fn has_end(&self, index: usize) -> bool {
        self.ended || self.readers.get(index).and_then(Option::as_ref).is_some_and(|reader| reader.end.is_some())
    }

    /// Whether the reader has taken the last packet that it will get.
    fn is_at_end(&self, index: usize) -> bool {
        let reader = self.readers.get(index).and_then(Option::as_ref);
        self.has_end(index) && reader.is_none_or(|reader| reader.next >= reader.head(&self.ring))
    }

    /// Returns the reader's position after moving it past packets that it cannot take: those that have left the
    /// buffer, those beyond its limits, and those before the key frame it needs.
    fn resolve_position(&mut self, index: usize) -> Option<u64> {
        let Self { ring, readers, policy, limits, .. } = self;
        let reader = readers.get_mut(index)?.as_mut()?;
        let policy = reader.policy(*policy);
        let limits = reader.options.limits.unwrap_or(*limits);
        // A reader that fell behind the oldest packet, or beyond its own limits, resumes where its policy says.
        let was_overrun = std::mem::take(&mut reader.resync_due) || reader.next < ring.tail();
        if was_overrun || (policy != DropPolicy::Block && limits.exceeded_by(&reader.lag(ring))) {
            let to = match policy {
                DropPolicy::Oldest => ring.oldest_within(&limits, reader.next),
                DropPolicy::Keyframe | DropPolicy::Block | DropPolicy::Disconnect => reader.resync(ring, limits),
            };
            reader.skip_to(ring, to);
        }
        if reader.seeks_key_frame {
            // Until a key frame is appended, the reader stays at the head, so that the packets before it count as
            // dropped.
            let key = ring.key_frame_from(reader.next);
            reader.seeks_key_frame = key.is_none();
            reader.starts_at = key;
            reader.skip_to(ring, key.unwrap_or_else(|| reader.head(ring)));
        }
        Some(reader.next)
    }
}

impl ReaderState {
    pub(super) fn lag(&self, ring: &Ring) -> Lag {
        let head = self.head(ring);
        Lag {
            packets: head.saturating_sub(self.next),
            bytes: ring.position(head).saturating_sub(self.position),
            time: ring.time_between(self.next, head),
        }
    }

    /// Returns the lag from `sequence` to the reader's end.
    pub(super) fn lag_from(&self, ring: &Ring, sequence: u64) -> Lag {
        let head = self.head(ring);
        Lag {
            packets: head.saturating_sub(sequence),
            bytes: ring.position(head).saturating_sub(ring.position(sequence)),
            time: ring.time_between(sequence, head),
        }
    }

    /// Moves the reader past packets that were taken, without acknowledging them.
    pub(super) fn advance(&mut self, packets: u64, bytes: u64, padding_saved: u64) {
        self.next += packets;
        self.position += bytes;
        self.taken += packets;
        self.padding_saved += padding_saved;
    }

    /// Returns the number of packets dropped since the last report to the owner.
    fn take_dropped(&mut self) -> u64 {
        self.dropped - std::mem::replace(&mut self.dropped_reported, self.dropped)
    }

    /// Counts as dropped the packets not taken that have left the buffer or exceed the reader's limits. The policy
    /// decides where the reader resumes when it next takes packets.
    pub(super) fn drop_unreachable(&mut self, ring: &Ring, default: DropPolicy, limits: Limits) {
        if self.idle {
            return;
        }
        let policy = self.policy(default);
        let to = match policy {
            DropPolicy::Block => ring.tail(),
            DropPolicy::Keyframe | DropPolicy::Oldest | DropPolicy::Disconnect => {
                if limits.exceeded_by(&self.lag(ring)) { ring.oldest_within(&limits, self.next) } else { ring.tail() }
            }
        };
        if to > self.next {
            self.skip_to(ring, to);
            self.resync_due |= policy != DropPolicy::Oldest;
        }
    }

    /// Selects the position at which to resume after a gap.
    fn resync(&mut self, ring: &Ring, limits: Limits) -> u64 {
        match self.options.resync {
            StartPosition::Oldest => ring.oldest_within(&limits, self.next),
            StartPosition::Live => self.head(ring),
            StartPosition::NextKeyframe => {
                self.seeks_key_frame = true;
                self.head(ring)
            }
            StartPosition::LatestKeyframe => {
                let newest = ring.newest_key_frame();
                // Resuming at a key frame beyond the limits would immediately cause another gap.
                let near = newest.filter(|key| *key >= self.next && !limits.exceeded_by(&ring.lag(*key)));
                self.seeks_key_frame = near.is_none();
                self.starts_at = near;
                near.unwrap_or_else(|| self.head(ring))
            }
        }
    }

    /// Moves the reader forward to `sequence`, and counts the packets in between as dropped.
    fn skip_to(&mut self, ring: &Ring, sequence: u64) {
        let Some(skipped) = sequence.min(self.head(ring)).checked_sub(self.next) else { return };
        if skipped == 0 {
            return;
        }
        let position = ring.position(self.next + skipped);
        self.follows = None;
        self.record_gap(ring, self.next..self.next + skipped);
        self.dropped += skipped;
        self.dropped_bytes += position.saturating_sub(self.position);
        self.position = position;
        self.next += skipped;
        // A rewind does not go back beyond the gap.
        self.acknowledged = self.next;
        self.resend_from = self.next;
    }

    /// Returns the sequence number of the first packet after the last gap.
    fn after_last_gap(&self) -> u64 {
        self.gaps.back().map_or(self.joined, |gap| gap.end)
    }

    /// Records the packets `gap` as skipped, for a later rewind.
    fn record_gap(&mut self, ring: &Ring, gap: Range<u64>) {
        // A rewind does not go back to packets whose size is unknown.
        while self.gaps.front().is_some_and(|gap| gap.end <= ring.first_with_known_size()) {
            self.gaps.pop_front();
        }
        match self.gaps.back_mut() {
            Some(last) if last.end == gap.start => last.end = gap.end,
            Some(_) | None => self.gaps.push_back(gap),
        }
    }

    /// The last `bytes` taken before the last gap are lost too, so they extend it.
    fn extend_last_gap(&mut self, ring: &Ring, bytes: u64) {
        let mut left = bytes;
        while left > 0
            && let Some(gap) = self.gaps.pop_back()
        {
            // The packets taken between the previous gap and this one, from the end. If all of them are lost, both gaps
            // become one, and the loop continues before it.
            let floor = self.after_last_gap();
            let (packets, back) = ring.packets_before(gap.start, floor, left);
            self.taken = self.taken.saturating_sub(packets);
            self.dropped += packets;
            self.dropped_bytes += back;
            left = left.saturating_sub(back);
            let start = gap.start - packets;
            match self.gaps.back_mut() {
                Some(before) if start == floor => before.end = gap.end,
                Some(_) | None => {
                    self.gaps.push_back(start..gap.end);
                    break;
                }
            }
        }
    }
}
