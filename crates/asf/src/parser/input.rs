//! Places input bytes: after the previous ones, over earlier ones, or elsewhere in the stream.

use bytes::{Buf, Bytes};

use super::Parser;
use super::state::{Expected, InputPosition, Packets, PendingSeek, State};
use crate::Warning;

impl Parser {
    /// Takes the next bytes of the stream.
    pub fn push(&mut self, mut bytes: Bytes) {
        if matches!(self.state, State::Failed(_)) || bytes.is_empty() {
            return;
        }
        self.pending_seek = None;
        match self.input_position {
            InputPosition::InOrder => {}
            InputPosition::Discard => return,
            InputPosition::Overwrite(at) => {
                let target = self.queue.collect().get_mut(at..).unwrap_or_default();
                let replacement = bytes.split_to(bytes.len().min(target.len()));
                for (to, from) in target.iter_mut().zip(&replacement) {
                    *to = *from;
                }
                self.input_position = InputPosition::Overwrite(at + replacement.len());
                if bytes.is_empty() {
                    return;
                }
                // The bytes after the end of the queue continue the header. Only these are counted below, because the
                // replaced ones were counted when they were first received.
                self.input_position = InputPosition::InOrder;
            }
            InputPosition::Skip(count) => {
                let skipped = bytes.len().min(usize::try_from(count).unwrap_or(usize::MAX));
                bytes.advance(skipped);
                self.received += skipped as u64;
                self.input_position = match count - skipped as u64 {
                    0 => InputPosition::InOrder,
                    rest => InputPosition::Skip(rest),
                };
            }
        }
        self.received += bytes.len() as u64;
        self.queue.push(bytes);
    }

    /// Handles the start of a BYTES segment: the next bytes have the offset `start` in the stream.
    pub fn segment(&mut self, start: u64) {
        match self.pending_seek {
            Some(PendingSeek::NewStream) => {
                self.received = start;
                if let State::Header(expected) = &mut self.state {
                    expected.in_middle = start > 0;
                }
                return;
            }
            // Even if the offset is unchanged: the flush discarded the incomplete packet.
            Some(PendingSeek::Flushed) => return self.seek(start),
            None => {}
        }
        // A segment announces an offset that does not continue the received bytes: a later one is a seek of the source,
        // the same one a muxer's return to the end after a rewrite, and an earlier one is a rewrite.
        if start > self.received {
            self.seek(start);
        } else if start == self.received {
            self.input_position = InputPosition::InOrder;
        } else {
            self.rewrite(start);
        }
    }

    /// As [`Parser::segment`], after a seek without a flush: the next bytes do not replace those received before.
    pub fn seek_to(&mut self, start: u64) {
        if self.pending_seek.is_none() && start != self.received {
            self.seek(start);
        } else {
            self.segment(start);
        }
    }

    /// Handles missing bytes (FLUSH_STOP, or DISCONT on a later buffer): an incomplete packet or header is dropped.
    pub fn discontinuity(&mut self) {
        self.drop_partial();
        // The header in the queue, which the bytes were to replace in part, was dropped.
        if matches!(self.input_position, InputPosition::Overwrite(_)) {
            self.input_position = InputPosition::InOrder;
        }
        if self.pending_seek.is_none() {
            self.pending_seek = Some(PendingSeek::Flushed);
        }
    }

    /// Handles the start of another stream (STREAM_START): a header must follow.
    pub fn new_stream(&mut self) {
        if matches!(self.state, State::Failed(_)) {
            return;
        }
        self.drop_partial();
        self.input_position = InputPosition::InOrder;
        self.pending_seek = Some(PendingSeek::NewStream);
        self.state = State::Header(Expected::default());
    }

    /// Handles a segment before the end of the received bytes: the muxer rewrites them.
    ///
    /// A muxer that fills in its header before the header is complete is followed. If it fills in the header at the
    /// end of the file, a live stream does not need the new values, and the bytes must not be taken for another
    /// stream.
    fn rewrite(&mut self, start: u64) {
        let in_queue = start.checked_sub(self.offset());
        let is_header = matches!(self.state, State::Header(_));
        let at = in_queue.and_then(|at| usize::try_from(at).ok());
        self.input_position = match at {
            Some(at) if is_header && self.input_position != InputPosition::Discard => {
                self.queue.collect();
                if let State::Header(expected) = &mut self.state {
                    // The rewritten bytes may contain the Data Object.
                    expected.searched = 0;
                }
                InputPosition::Overwrite(at)
            }
            _ => InputPosition::Discard,
        };
    }

    /// Continues at another offset of the stream.
    fn seek(&mut self, start: u64) {
        self.drop_partial();
        self.received = start;
        self.input_position = InputPosition::InOrder;
        let data = match &self.state {
            State::Packets(packets) => Some((packets.start, packets.end)),
            State::Trailing(trailing) => trailing.data,
            State::Header(_) => None,
            State::Failed(_) => return,
        };
        match data {
            // The offset is within or after the data of the current header: that header still applies. Before the data,
            // the next bytes contain a header.
            Some((first, end)) if start >= first => {
                self.state = State::Packets(Packets {
                    start: first,
                    end,
                    partial_header: Bytes::new(),
                    unparsed: 0,
                    unparsed_from: 0,
                });
                self.align(first);
            }
            _ => {
                self.state = State::Header(Expected { in_middle: start > 0, ..Expected::default() });
            }
        }
    }

    /// Drops the bytes in the queue, which are less than a packet or a header, and warns of them.
    pub(super) fn drop_partial(&mut self) {
        let (offset, len) = (self.offset(), self.queue.len());
        // The output of `ffmpeg -f asf` to a pipe ends with an MMS `$E` chunk, which is not a packet: 4 bytes of framing,
        // and 8 bytes of data.
        let end_of_stream = self.queue.peek::<2>() == Some(*b"$E");
        match &mut self.state {
            State::Packets(packets) => {
                packets.partial_header.clear();
                if len > 0 && !(end_of_stream && len <= 12) {
                    self.warn(Warning::PartialPacket { offset, len });
                }
            }
            // Without a first header the end of the stream is an error, which says so.
            State::Header(_) if len > 0 && self.header.is_some() => self.warn(Warning::PartialHeader { offset, len }),
            State::Header(_) | State::Trailing(_) | State::Failed(_) => {}
        }
        self.queue.clear();
    }

    /// Continues at the next packet boundary, in the queue or in later bytes. The first packet of the stream begins at
    /// `start`.
    pub(super) fn align(&mut self, start: u64) {
        let Some(size) = self.header.as_ref().map(|header| header.packet_size()) else {
            return;
        };
        // Packets have a fixed size, so a boundary is a multiple of it after the first one.
        let into_packet = self.offset().saturating_sub(start) % size as u64;
        let rest = match into_packet {
            0 => 0,
            into_packet => size as u64 - into_packet,
        };
        let in_queue = rest.min(self.queue.len() as u64);
        self.queue.skip(usize::try_from(in_queue).unwrap_or(usize::MAX));
        self.input_position = match rest - in_queue {
            0 => InputPosition::InOrder,
            rest => InputPosition::Skip(rest),
        };
    }
}
