//! Packets that are read where they lie: most of them lie whole in the memory at hand.

use bytes::Bytes;

use super::state::{InputPosition, State};
use super::{ParsedPacket, Parser};
use crate::cursor::Cursor;
use crate::{Borrowed, Error, guid};

impl Parser {
    /// Bytes that the packet which has begun lacks, where one has.
    #[must_use]
    pub fn missing(&self) -> Option<usize> {
        let (State::Packets(_), Some(header)) = (&self.state, &self.header) else { return None };
        let begun = !self.queue.is_empty() && self.arrival == InputPosition::InOrder;
        header.packet_size().checked_sub(self.queue.len()).filter(|missing| begun && *missing > 0)
    }

    /// As [`Parser::push`], by a copy: for so few bytes that to keep the memory they lie in costs more.
    pub fn push_copied(&mut self, bytes: &[u8]) {
        if self.arrival != InputPosition::InOrder || !matches!(self.state, State::Packets(_)) {
            return self.push(Bytes::copy_from_slice(bytes));
        }
        self.unplaced = None;
        self.received += bytes.len() as u64;
        self.queue.push_copy(bytes);
    }

    /// The packet whose end, or all of it, lies at the start of `bytes`, which follow all that were pushed; moves on
    /// past it.
    ///
    /// `None` where there is none, or any doubt: then the bytes are to be pushed, for [`Parser::next_packet`]. This is
    /// the way of most packets: it takes no memory and copies nothing.
    ///
    /// # Errors
    ///
    /// As [`Parser::next_packet`].
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

    /// Splits `bytes` behind the packet that is next, where that is one without a doubt.
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
            // The last packet ended like the start of a header; mostly, it was none.
            if id.starts_with(guid::HEADER.get(packets.begun_header.len()..).unwrap_or_default()) {
                return None;
            }
            packets.begun_header.clear();
        }
        Some((here, rest))
    }
}
