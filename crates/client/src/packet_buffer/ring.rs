//! The buffer's storage: framed packets in shared blocks, and an index of them.
//!
//! Packets are copied once into blocks of 64 KiB that all readers share. A slice of upstream's memory for each packet
//! would cost more than the copy: allocations, reference counts and entries of vectored writes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use super::Limits;
use super::lag::Lag;
use wmhttp::packet::{FRAMING_LEN, data_framing};

/// Size of a block in bytes; a larger packet has its own block.
pub(super) const BLOCK_BYTES: usize = 64 * 1024;
/// Maximum number of blocks that are kept to be reused. A live stream needs those of a group of pictures again.
const MAX_SPARE_BLOCKS: usize = 8;
/// Number of packets before the oldest one in the buffer whose sizes are still known. When a connection is lost after a
/// stall, some packets that it had not delivered have left the buffer and must be counted.
const MAX_REMOVED_SIZES: usize = 64 * 1024;

/// The packets in the buffer, from the oldest (`tail`) to the newest (before `head`).
///
/// A packet has a sequence number, counted from the first packet ever appended, and a byte position, counted in framed
/// bytes from there. Both only increase, so that readers can keep them while packets are removed.
#[derive(Default)]
pub(super) struct Ring {
    /// Sequence number of `entries[0]`.
    tail: u64,
    /// Byte position at which `entries[0]` begins.
    tail_position: u64,
    entries: VecDeque<Entry>,
    /// Framed sizes in bytes of the packets before `entries[0]`, the newest last.
    removed_sizes: VecDeque<u32>,
    /// The bytes of the packets, oldest first.
    segments: VecDeque<Segment>,
    /// Packets that no reader has taken yet; the block is still growing. They follow the last segment.
    open: Option<OpenBlock>,
    /// Blocks of removed segments, to be reused. The last one was used most recently.
    spare_blocks: Vec<BytesMut>,
    /// Sequence numbers of the packets at which decoding can start.
    key_frames: VecDeque<u64>,
    /// The header of the newest packet.
    last_header: Option<Arc<asf::Header>>,
    /// Stream time appended so far.
    time: asf::StreamTime,
    /// Bytes of padding removed from all packets so far, and from those before `entries[0]`.
    padding_saved: u64,
    padding_saved_at_tail: u64,
}

/// One packet.
struct Entry {
    /// Byte position after the packet; positions count framed bytes since the buffer was created.
    end: u64,
    /// Stream time in milliseconds.
    time: u64,
    /// Bytes of padding removed from the packets so far, including this one.
    padding_saved: u64,
}

/// Consecutive packets of one stream, in memory that batches share.
struct Segment {
    /// Sequence number and byte position of the first packet.
    first: u64,
    start: u64,
    header: Arc<asf::Header>,
    bytes: Bytes,
}

/// The memory block to which packets are appended.
struct OpenBlock {
    /// Sequence number and byte position of the first packet in `block`.
    first: u64,
    start: u64,
    header: Arc<asf::Header>,
    /// The packets that no segment contains yet; its capacity is the rest of the memory block.
    block: BytesMut,
}

/// Whole packets of one stream, as taken by a reader.
#[derive(Debug)]
pub struct Batch {
    /// The header of the packets' stream.
    pub header: Arc<asf::Header>,
    /// The packets as consecutive `$D`s.
    pub frames: Vec<Bytes>,
    /// Framed bytes of each packet.
    pub sizes: Vec<u32>,
    /// Bytes of padding removed from the packets.
    pub padding_saved: u64,
    /// Number of packets that the reader missed before these.
    pub skipped: u64,
    /// Whether the reader started, or resumed after a gap, with the first of these packets, because a key frame starts
    /// in it. That packet may also contain the end of older frames, which cannot be decoded there;
    /// [`Batch::trim_start`] and [`asf::StartFilter`] remove it.
    pub starts: bool,
    /// Whether many packets are kept only because they are not acknowledged, so that
    /// [`Reader::acknowledge`](super::Reader::acknowledge) should be called soon.
    pub needs_acknowledgement: bool,
}

impl Batch {
    /// Returns the total size of the framed packets in bytes.
    pub fn len(&self) -> u64 {
        self.sizes.iter().copied().map(u64::from).sum()
    }

    /// Returns whether the batch contains no packets.
    pub fn is_empty(&self) -> bool {
        self.sizes.is_empty()
    }

    /// Returns the ASF data packet with which the reader started or resumed because of a key frame in it, if it is the
    /// first in this batch.
    ///
    /// Returns `None` also if no key frame starts in it, because it is the first packet of its stream.
    pub fn start_packet(&self) -> Option<&[u8]> {
        let size = usize::try_from(*self.sizes.first().filter(|_| self.starts)?).ok()?;
        let packet = self.frames.first()?.get(FRAMING_LEN..size)?;
        (!asf::key_frames(packet, &self.header).is_empty()).then_some(packet)
    }

    /// Removes from the first packet the data of frames before the key frame with which the reader started or resumed.
    /// The packet keeps its size, and so does the batch.
    pub fn trim_start(&mut self) {
        let mut filter = asf::StartFilter::new(&self.header);
        let Some(packet) = self.start_packet() else { return };
        let len = FRAMING_LEN + packet.len();
        let asf::Selected::Part(part) = filter.select(packet, &mut BytesMut::new()) else { return };
        let Some(first) = self.frames.first_mut() else { return };
        let framing = first.split_to(len).split_to(FRAMING_LEN);
        let trimmed = [framing, part].concat().into();
        if first.is_empty() {
            *first = trimmed;
        } else {
            self.frames.insert(0, trimmed);
        }
    }
}

impl Ring {
    /// Returns the sequence number of the oldest packet in the buffer, or of the next one if the buffer is empty.
    pub(super) fn tail(&self) -> u64 {
        self.tail
    }

    /// Returns the sequence number of the next packet to be appended.
    pub(super) fn head(&self) -> u64 {
        self.tail + self.entries.len() as u64
    }

    /// Returns the number of packets in the buffer, and the size of the segments in bytes.
    #[cfg(test)]
    pub(super) fn kept(&self) -> (usize, usize) {
        (self.entries.len(), self.segments.iter().map(|segment| segment.bytes.len()).sum::<usize>() + BLOCK_BYTES)
    }

    /// Copies a packet to the open block, framed as `$D` ([MS-WMHTTP] 2.2.3.3), and adds it to the index.
    pub(super) fn append<B: asf::PacketBytes>(&mut self, header: &Arc<asf::Header>, packet: &asf::Packet<B>) {
        let Ok(framing) = data_framing(packet.len()) else {
            // The parser emits no packet that is too large for PacketLength.
            debug_assert!(false, "a packet of {} bytes", packet.len());
            return;
        };
        let sequence = self.head();
        let position = self.position(sequence);
        let new_stream = self.last_header.as_ref().is_none_or(|last| !Arc::ptr_eq(last, header));
        let wire_len = FRAMING_LEN + packet.len();

        // A segment has one header, and a packet is not split between blocks.
        let fits = self.open.as_ref().is_some_and(|open| {
            Arc::ptr_eq(&open.header, header) && open.block.capacity() - open.block.len() >= wire_len
        });
        if !fits {
            self.seal();
            self.open = None;
        }
        let open = self.open.get_or_insert_with(|| OpenBlock {
            first: sequence,
            start: position,
            header: Arc::clone(header),
            block: block(self.spare_blocks.pop(), wire_len),
        });
        // The packets before were sealed: the next segment begins here, in the rest of the block.
        if open.block.is_empty() {
            open.first = sequence;
            open.start = position;
        }
        open.block.put_slice(&framing);
        packet.write_to(&mut open.block);

        if new_stream {
            self.time.discontinuity();
        }
        // A packet that could not be parsed has no send time.
        if packet.is_parsed() {
            self.time.packet(packet.send_time());
        }
        // Decoding can start at the first packet of a stream as at a key frame, because nothing precedes it.
        if new_stream || packet.starts_key_frame() {
            self.key_frames.push_back(sequence);
        }
        if new_stream {
            self.last_header = Some(Arc::clone(header));
        }
        self.padding_saved += u64::from(packet.padding_removed());
        let (time, padding_saved) = (self.time(), self.padding_saved);
        self.entries.push_back(Entry { end: position + wire_len as u64, time, padding_saved });
    }

    /// Removes the oldest packet, and its segment if this was the last packet in it.
    pub(super) fn drop_oldest(&mut self) {
        let Some(entry) = self.entries.pop_front() else { return };
        if self.removed_sizes.len() >= MAX_REMOVED_SIZES {
            self.removed_sizes.pop_front();
        }
        self.removed_sizes.push_back(u32::try_from(entry.end - self.tail_position).unwrap_or(u32::MAX));
        self.tail += 1;
        self.tail_position = entry.end;
        self.padding_saved_at_tail = entry.padding_saved;
        while self.key_frames.front().is_some_and(|key| *key < self.tail) {
            self.key_frames.pop_front();
        }
        let second_starts = self
            .segments
            .get(1)
            .map(|segment| segment.first)
            .or_else(|| self.open.as_ref().filter(|open| !open.block.is_empty()).map(|open| open.first))
            .unwrap_or_else(|| self.head());
        if second_starts <= self.tail {
            // The conversion succeeds only if no batch shares the memory any more.
            let block = self.segments.pop_front().and_then(|segment| segment.bytes.try_into_mut().ok());
            self.spare_blocks.extend(block.filter(|_| self.spare_blocks.len() < MAX_SPARE_BLOCKS));
        }
    }

    /// Returns the most recent packet in the buffer at which decoding can start.
    pub(super) fn newest_key_frame(&self) -> Option<u64> {
        self.key_frames.back().copied()
    }

    /// Returns the first packet from `sequence` on at which decoding can start.
    pub(super) fn key_frame_from(&self, sequence: u64) -> Option<u64> {
        let index = self.key_frames.partition_point(|key| *key < sequence);
        self.key_frames.get(index).copied()
    }

    /// Returns the last packet up to and including `sequence` at which decoding can start.
    pub(super) fn key_frame_before(&self, sequence: u64) -> Option<u64> {
        let index = self.key_frames.partition_point(|key| *key <= sequence).checked_sub(1)?;
        self.key_frames.get(index).copied()
    }

    /// Returns the stream time appended so far in milliseconds.
    pub(super) fn time(&self) -> u64 {
        self.time.elapsed_ms()
    }

    /// Returns the oldest packet from `sequence` on whose lag is within `limits`.
    pub(super) fn oldest_within(&self, limits: &Limits, sequence: u64) -> u64 {
        // A binary search: the lag is smaller for each later packet.
        let (mut from, mut to) = (sequence.max(self.tail), self.head());
        while from < to {
            let middle = from + (to - from) / 2;
            if limits.exceeded_by(&self.lag(middle)) {
                from = middle + 1;
            } else {
                to = middle;
            }
        }
        from
    }

    /// Returns the framed bytes from `sequence`, or from the oldest packet in the buffer, to the head.
    pub(super) fn bytes_after(&self, sequence: u64) -> u64 {
        self.position(self.head()) - self.position(sequence)
    }

    /// Returns the lag of a reader at `sequence`.
    pub(super) fn lag(&self, sequence: u64) -> Lag {
        Lag {
            packets: self.head().saturating_sub(sequence),
            bytes: self.bytes_after(sequence),
            time: self.time_after(sequence),
        }
    }

    /// Returns the lag of a reader at the oldest packet in the buffer. It is called for each packet, so it does not
    /// search.
    pub(super) fn kept_lag(&self) -> Lag {
        let (Some(first), Some(last)) = (self.entries.front(), self.entries.back()) else { return Lag::default() };
        Lag {
            packets: self.entries.len() as u64,
            bytes: last.end - self.tail_position,
            time: Duration::from_millis(self.time() - first.time),
        }
    }

    /// Returns the stream time from `sequence`, or from the oldest packet in the buffer, to the last packet before
    /// `end`.
    pub(super) fn time_between(&self, sequence: u64, end: u64) -> Duration {
        match end.checked_sub(1).filter(|last| *last >= sequence) {
            Some(last) => self.time_after(sequence).saturating_sub(self.time_after(last)),
            None => Duration::ZERO,
        }
    }

    /// Returns the stream time from `sequence`, or from the oldest packet in the buffer, to the newest.
    pub(super) fn time_after(&self, sequence: u64) -> Duration {
        let first = self.entry(sequence.max(self.tail)).map_or(self.time(), |entry| entry.time);
        Duration::from_millis(self.time() - first)
    }

    /// Returns the header and the framed size of the packet `sequence`.
    pub(super) fn peek(&mut self, sequence: u64) -> Option<(&Arc<asf::Header>, usize)> {
        let size = self.entry(sequence)?.end - self.position(sequence);
        let header = match &self.open {
            Some(open) if !open.block.is_empty() && sequence >= open.first => &open.header,
            Some(_) | None => &self.segment_of(sequence)?.header,
        };
        Some((header, usize::try_from(size).ok()?))
    }

    /// Returns whole packets of one stream from `sequence` on, up to `max_packets` and `max_bytes`; empty if the first
    /// one does not fit.
    pub(super) fn take(&mut self, sequence: u64, max_packets: u64, max_bytes: u64) -> Option<Batch> {
        let from = self.position(sequence);
        self.entry(sequence)?;
        // The packets of the open block can be shared only after it was sealed. That is not done earlier than needed,
        // because each segment is an entry of a vectored write.
        if self.open.as_ref().is_some_and(|open| self.position(open.first) < from.saturating_add(max_bytes)) {
            self.seal();
        }
        let mut index = self.segments.partition_point(|segment| segment.first <= sequence).checked_sub(1)?;
        let header = Arc::clone(&self.segments.get(index)?.header);

        let skip = usize::try_from(sequence - self.tail).ok()?;
        // The batch ends with the stream, or before the first packet that exceeds `max_bytes`.
        let last = self.end_of_stream(index).min(from.saturating_add(max_bytes));
        let until = self.entries.partition_point(|entry| entry.end <= last);
        let max_packets = usize::try_from(max_packets).unwrap_or(usize::MAX);
        let count = until.saturating_sub(skip).min(max_packets);
        // Entries store the sum over all packets so far, so that of the batch is a difference.
        let saved_before = skip.checked_sub(1).and_then(|before| self.entries.get(before));
        let saved_before = saved_before.map_or(self.padding_saved_at_tail, |entry| entry.padding_saved);
        let mut saved = saved_before;
        let mut end = from;
        let mut sizes = Vec::with_capacity(count);
        for entry in self.entries.iter().skip(skip).take(count) {
            sizes.push(u32::try_from(entry.end - end).unwrap_or(u32::MAX));
            end = entry.end;
            saved = entry.padding_saved;
        }

        let segments = self.segments.partition_point(|segment| segment.start < end).saturating_sub(index);
        let mut frames = Vec::with_capacity(segments);
        let mut position = from;
        while position < end {
            let segment = self.segments.get(index)?;
            let to = end.min(segment.start + segment.bytes.len() as u64);
            let range = usize::try_from(position - segment.start).ok()?..usize::try_from(to - segment.start).ok()?;
            frames.push(segment.bytes.slice(range));
            position = to;
            index += 1;
        }
        Some(Batch {
            header,
            frames,
            sizes,
            padding_saved: saved - saved_before,
            skipped: 0,
            starts: false,
            needs_acknowledgement: false,
        })
    }

    /// Returns how many packets from `floor` up to `sequence` the last `bytes` before `sequence` belong to, and how
    /// many bytes those packets have. Packets so old that their sizes are unknown are not counted.
    pub(super) fn packets_before(&self, sequence: u64, floor: u64, bytes: u64) -> (u64, u64) {
        let (mut packets, mut back) = (0, 0);
        while back < bytes
            && sequence - packets > floor
            && let Some(size) = self.size(sequence - packets - 1)
        {
            packets += 1;
            back += size;
        }
        (packets, back)
    }

    /// Returns the sequence number of the oldest packet whose size is known.
    pub(super) fn first_with_known_size(&self) -> u64 {
        self.tail - self.removed_sizes.len() as u64
    }

    /// Returns the framed size in bytes of a packet, even if it has left the buffer.
    fn size(&self, sequence: u64) -> Option<u64> {
        match self.entry(sequence) {
            Some(entry) => Some(entry.end - self.position(sequence)),
            None => {
                // The last of `removed_sizes` is that of the packet before `tail`.
                let from_end = usize::try_from(self.tail.checked_sub(sequence)?).ok()?;
                let index = self.removed_sizes.len().checked_sub(from_end)?;
                self.removed_sizes.get(index).copied().map(u64::from)
            }
        }
    }

    /// Returns the byte position at which the packet `sequence` begins, or that of the oldest packet in the buffer if
    /// it was removed.
    pub(super) fn position(&self, sequence: u64) -> u64 {
        // A packet begins where the previous one ends.
        match sequence.checked_sub(self.tail).and_then(|index| index.checked_sub(1)) {
            None => self.tail_position,
            Some(before) => {
                let entry =
                    usize::try_from(before).ok().and_then(|before| self.entries.get(before)).or(self.entries.back());
                entry.map_or(self.tail_position, |entry| entry.end)
            }
        }
    }

    /// Returns the sequence number of the packet that contains the byte `position`, or of the oldest packet in the
    /// buffer if it was removed.
    pub(super) fn sequence_at(&self, position: u64) -> u64 {
        self.tail + self.entries.partition_point(|entry| entry.end <= position) as u64
    }

    /// Returns the index entry of a packet, if it is in the buffer.
    fn entry(&self, sequence: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(sequence.checked_sub(self.tail)?).ok()?)
    }

    /// Returns the sealed segment that contains a packet.
    fn segment_of(&self, sequence: u64) -> Option<&Segment> {
        let after = self.segments.partition_point(|segment| segment.first <= sequence);
        self.segments.get(after.checked_sub(1)?)
    }

    /// Returns the byte position at which the stream of segment `index` ends within the sealed segments.
    fn end_of_stream(&self, index: usize) -> u64 {
        let Some(header) = self.segments.get(index).map(|segment| &segment.header) else { return 0 };
        self.segments
            .iter()
            .skip(index)
            .find(|segment| !Arc::ptr_eq(&segment.header, header))
            .map(|segment| segment.start)
            .or_else(|| self.open.as_ref().filter(|open| !open.block.is_empty()).map(|open| open.start))
            .unwrap_or_else(|| self.position(self.head()))
    }

    /// Converts the appended packets to a segment; the rest of the block is used for further packets.
    fn seal(&mut self) {
        let Some(open) = self.open.as_mut().filter(|open| !open.block.is_empty()) else { return };
        self.segments.push_back(Segment {
            first: open.first,
            start: open.start,
            header: Arc::clone(&open.header),
            bytes: open.block.split().freeze(),
        });
    }
}

/// Returns an empty block for packets of `wire_len` bytes, with space for a whole number of them.
fn block(spare_block: Option<BytesMut>, wire_len: usize) -> BytesMut {
    let len = (BLOCK_BYTES / wire_len).max(1) * wire_len;
    if let Some(mut block) = spare_block {
        block.clear();
        // The block was split into segments, so its length is that of the last one. Its memory is larger.
        if block.try_reclaim(len) {
            return block;
        }
    }
    BytesMut::with_capacity(len)
}
