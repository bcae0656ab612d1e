//! Parses packets in the caller's buffer without copying: most packets are complete in one buffer.

use bytes::Bytes;

use super::state::{InputPosition, State};
use super::{ParsedPacket, Parser};
use crate::cursor::Cursor;
use crate::{Borrowed, Error, guid};

impl Parser {
    /// Number of bytes missing from the incomplete packet, if any.
    #[must_use]
    pub fn missing_bytes(&self) -> Option<usize> {
        let (State::Packets(_), Some(header)) = (&self.state, &self.header) else { return None };
        let is_incomplete = !self.queue.is_empty() && self.input_position == InputPosition::InOrder;
        header.packet_size().checked_sub(self.queue.len()).filter(|missing| is_incomplete && *missing > 0)
    }

    /// As [`Parser::push`], but copies the bytes. Use it if there are so few bytes that keeping their buffer costs
    /// more.
    pub fn push_copied(&mut self, bytes: &[u8]) {
        if self.input_position != InputPosition::InOrder || !matches!(self.state, State::Packets(_)) {
            return self.push(Bytes::copy_from_slice(bytes));
        }
        self.pending_seek = None;
        self.received += bytes.len() as u64;
        self.queue.push_copy(bytes);
    }

    /// Returns the packet that ends in `bytes` and is completed by their start, and advances `bytes` past it. `bytes`
    /// must follow all bytes pushed before.
    ///
    /// `None` if there is no such packet or the parser cannot be certain. Push the bytes then, and call
    /// [`Parser::next_packet`]. Most packets are returned here, without an allocation or a copy.
    ///
    /// # Errors
    ///
    /// Those of [`Parser::next_packet`].
    pub fn next_packet_in_place<'a>(
        &mut self,
        bytes: &mut &'a [u8],
    ) -> Result<Option<ParsedPacket<Borrowed<'a>>>, Error> {
        let Some((packet_end, rest)) = self.end_of_packet(bytes) else { return Ok(None) };
        let offset = self.offset();
        // `end_of_packet` has checked that the queue has no second chunk.
        let [packet_start, _] = self.queue.take(self.queue.len());
        self.pending_seek = None;
        self.received += packet_end.len() as u64;
        *bytes = rest;
        let parts = match packet_start.is_empty() {
            true => [Borrowed::Slice(packet_end), Borrowed::Slice(&[])],
            false => [Borrowed::Owned(packet_start), Borrowed::Slice(packet_end)],
        };
        self.parse_packet(parts, offset).map(Some).inspect_err(|error| self.fail(error))
    }

    /// Splits `bytes` after the next packet, if the bytes up to there certainly are a packet.
    fn end_of_packet<'a>(&mut self, bytes: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        let offset = self.offset();
        let (State::Packets(packets), Some(header)) = (&mut self.state, &self.header) else { return None };
        if self.input_position != InputPosition::InOrder || packets.end.is_some_and(|end| offset >= end) {
            return None;
        }
        let missing = header.packet_size().checked_sub(self.queue.len()).filter(|missing| *missing > 0)?;
        let (packet_end, rest) = bytes.split_at_checked(missing)?;
        // A packet is parsed from two parts at most, so its start must be in one chunk.
        let [packet_start, []] = self.queue.front(self.queue.len()) else { return None };
        // Reading and searching are faster in the first of two parts, and most packets are complete in one.
        let [first, second] = if packet_start.is_empty() { [packet_end, &[]] } else { [packet_start, packet_end] };
        let id = Cursor::joined(first, second).array::<16>()?;
        // These bytes are, or contain, something other than a packet, which `next_packet` handles.
        if id == guid::HEADER || guid::is_index(&id) || self.search.find([first, second]).is_some() {
            return None;
        }
        if !packets.partial_header.is_empty() {
            // The last packet ended like the start of a header. In most cases it was not one.
            if id.starts_with(guid::HEADER.get(packets.partial_header.len()..).unwrap_or_default()) {
                return None;
            }
            packets.partial_header.clear();
        }
        Some((packet_end, rest))
    }
}
