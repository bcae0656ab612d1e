//! Parses packets in the caller's buffer without copying: most packets are complete in one buffer.

use bytes::Bytes;

use super::state::{InputPosition, State};
use super::{ParsedPacket, Parser};
use crate::cursor::Cursor;
use crate::{Borrowed, Error, guid};

impl Parser {
    /// Number of bytes missing from the incomplete packet, if any.
    #[must_use]
    pub fn missing(&self) -> Option<usize> {
        let (State::Packets(_), Some(header)) = (&self.state, &self.header) else { return None };
        let begun = !self.queue.is_empty() && self.arrival == InputPosition::InOrder;
        header.packet_size().checked_sub(self.queue.len()).filter(|missing| begun && *missing > 0)
    }

    /// As [`Parser::push`], but copies the bytes. Use it if there are so few bytes that keeping their buffer costs
    /// more.
    pub fn push_copied(&mut self, bytes: &[u8]) {
        if self.arrival != InputPosition::InOrder || !matches!(self.state, State::Packets(_)) {
            return self.push(Bytes::copy_from_slice(bytes));
        }
        self.unplaced = None;
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
    pub fn read_unit<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<ParsedPacket<Borrowed<'a>>>, Error> {
        let Some((here, rest)) = self.end_of_packet(bytes) else { return Ok(None) };
        let offset = self.offset();
        let [begun, _] = self.queue.take(self.queue.len());
        self.unplaced = None;
        self.received += here.len() as u64;
        *bytes = rest;
        let parts = match begun.is_empty() {
            true => [Borrowed::Here(here), Borrowed::Here(&[])],
            false => [Borrowed::Kept(begun), Borrowed::Here(here)],
        };
        self.unit(parts, offset).map(Some).inspect_err(|error| self.fail(error))
    }

    /// Splits `bytes` after the next packet, if that certainly is a packet.
    fn end_of_packet<'a>(&mut self, bytes: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        let offset = self.offset();
        let (State::Packets(packets), Some(header)) = (&mut self.state, &self.header) else { return None };
        if self.arrival != InputPosition::InOrder || packets.end.is_some_and(|end| offset >= end) {
            return None;
        }
        let missing = header.packet_size().checked_sub(self.queue.len()).filter(|missing| *missing > 0)?;
        let (here, rest) = bytes.split_at_checked(missing)?;
        let [begun, []] = self.queue.front(self.queue.len()) else { return None };
        let mut start = Cursor::joined(begun, here);
        let id = start.array::<16>()?;
        if id == guid::HEADER || guid::is_index(&id) || self.search.find([begun, here]).is_some() {
            return None;
        }
        if !packets.begun_header.is_empty() {
            // The last packet ended like the start of a header. In most cases it was not one.
            if id.starts_with(guid::HEADER.get(packets.begun_header.len()..).unwrap_or_default()) {
                return None;
            }
            packets.begun_header.clear();
        }
        Some((here, rest))
    }
}
