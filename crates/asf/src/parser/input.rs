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
        self.unplaced = None;
        match self.arrival {
            InputPosition::InOrder => {}
            InputPosition::Discard => return,
            InputPosition::Overwrite(at) => {
                let room = self.queue.collect().get_mut(at..).unwrap_or_default();
                let over = bytes.split_to(bytes.len().min(room.len()));
                for (to, from) in room.iter_mut().zip(&over) {
                    *to = *from;
                }
                self.arrival = InputPosition::Overwrite(at + over.len());
                if bytes.is_empty() {
                    return;
                }
                self.arrival = InputPosition::InOrder;
            }
            InputPosition::Skip(count) => {
                let skipped = bytes.len().min(usize::try_from(count).unwrap_or(usize::MAX));
                bytes.advance(skipped);
                self.received += skipped as u64;
                self.arrival = match count - skipped as u64 {
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
        match self.unplaced {
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
        if start > self.received {
            self.seek(start);
        } else if start == self.received {
            self.arrival = InputPosition::InOrder;
        } else {
            self.rewrite(start);
        }
    }

    /// As [`Parser::segment`], after a seek without a flush: the next bytes do not replace those received before.
    pub fn seek_to(&mut self, start: u64) {
        if self.unplaced.is_none() && start != self.received {
            self.seek(start);
        } else {
            self.segment(start);
        }
    }

    /// Handles missing bytes (FLUSH_STOP, or DISCONT on a later buffer): an incomplete packet or header is dropped.
    pub fn discontinuity(&mut self) {
        self.drop_partial();
        if matches!(self.arrival, InputPosition::Overwrite(_)) {
            self.arrival = InputPosition::InOrder;
        }
        if self.unplaced.is_none() {
            self.unplaced = Some(PendingSeek::Flushed);
        }
    }

    /// Handles the start of another stream (STREAM_START): a header must follow.
    pub fn new_stream(&mut self) {
        if matches!(self.state, State::Failed(_)) {
            return;
        }
        self.drop_partial();
        self.arrival = InputPosition::InOrder;
        self.unplaced = Some(PendingSeek::NewStream);
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
        self.arrival = match at {
            Some(at) if is_header && self.arrival != InputPosition::Discard => {
                self.queue.collect();
                if let State::Header(expected) = &mut self.state {
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
        self.arrival = InputPosition::InOrder;
        let data = match &self.state {
            State::Packets(packets) => Some((packets.start, packets.end)),
            State::Trailing(after) => after.data,
            State::Header(_) => None,
            State::Failed(_) => return,
        };
        match data {
            Some((first, end)) if start >= first => {
                self.state = State::Packets(Packets {
                    start: first,
                    end,
                    begun_header: Bytes::new(),
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

    pub(super) fn drop_partial(&mut self) {
        let (offset, len) = (self.offset(), self.queue.len());
        // The output of `ffmpeg -f asf` to a pipe ends with an MMS `$E` chunk, which is not a packet.
        let end_of_stream = self.queue.peek::<2>() == Some(*b"$E");
        match &mut self.state {
            State::Packets(packets) => {
                packets.begun_header.clear();
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
        let into_packet = self.offset().saturating_sub(start) % size as u64;
        let rest = match into_packet {
            0 => 0,
            into_packet => size as u64 - into_packet,
        };
        let here = rest.min(self.queue.len() as u64);
        self.queue.skip(usize::try_from(here).unwrap_or(usize::MAX));
        self.arrival = match rest - here {
            0 => InputPosition::InOrder,
            rest => InputPosition::Skip(rest),
        };
    }
}
