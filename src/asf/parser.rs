//! Bytes in, units out.
//!
//! ```text
//!             Header Object + 50 bytes                 index, end of the data
//!  ┌────────┐ ─────────────────────────▶ ┌─────────┐ ─────────────────────▶ ┌───────┐
//!  │ Header │                            │ Packets │                        │ After │
//!  └────────┘ ◀───────────────────────── └─────────┘                        └───────┘
//!       ▲      another header, new stream                                       │
//!       └───────────────────────────────────────────────────────────────────────┘
//!                                  another header
//! ```
//!
//! Bytes decide; what caps and events say only helps where the bytes cannot.

mod in_place;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use memchr::memmem;

use super::header::{DATA_HEAD, HEADER_HEAD, MAX_READ, header_size};
use super::queue::Queue;
use super::search::{self, HeaderSearch};
use super::{Chunk, Error, Header, Packet, Padding, Warning, guid};

/// Packets in a row that make no sense before the stream is given up.
const LOST_AFTER: u32 = 8;
/// Things behind the data that look like a header and are none, before giving up.
const BROKEN_HEADERS: u32 = 8;
/// Warnings kept for one who does not ask for them.
const WARNINGS: usize = 16;

/// What the parser does to the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What becomes of the packets' padding.
    pub padding: Padding,
    /// Whether headers become those of a live stream: [`Header::to_live`].
    pub live_header: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { padding: Padding::Explicit, live_header: true }
    }
}

/// A data packet and the header that describes it.
///
/// The stream's identity is that of the [`Arc`]: a new header in the bytes is a new
/// one even where it is equal byte for byte, since its send times start anew.
#[derive(Clone, Debug)]
pub struct Unit<B = Bytes> {
    /// The header, as it is to be sent.
    pub header: Arc<Header>,
    /// The packet.
    pub packet: Packet<B>,
}

/// Cuts an ASF byte stream, in any chunks, into [`Unit`]s.
///
/// After each [`Parser::push`], and before any event, call [`Parser::next_unit`]
/// until it gives `None`. Memory is bounded by the bytes of one packet, or of one
/// header of at most 16 MiB, whatever sizes the bytes claim.
#[derive(Debug)]
pub struct Parser {
    settings: Settings,
    state: State,
    queue: Queue,
    search: HeaderSearch,
    /// Bytes of the stream so far, counted as BYTES segments count.
    received: u64,
    /// How the next bytes lie in the stream.
    arrival: Arrival,
    /// No byte has come since the start of the stream, or since a flush: the next
    /// segment says where they come from.
    unplaced: Option<Unplaced>,
    header: Option<Arc<Header>>,
    /// The bytes of the current header as they came.
    received_header: Option<Bytes>,
    /// The header in the caps.
    caps_header: Option<Bytes>,
    warnings: VecDeque<Warning>,
    warned_unparsed: bool,
}

#[derive(Debug)]
enum State {
    Header(Expected),
    Packets(Packets),
    After(After),
    Failed(Error),
}

/// Waiting for a whole header.
#[derive(Debug, Default)]
struct Expected {
    /// Whether it was found behind the data, where it may as well be none.
    behind_data: Option<After>,
    /// Whether the bytes begin somewhere in the middle of a file.
    in_middle: bool,
    /// Bytes already searched for the Data Object, where the header's size is open.
    searched: usize,
}

/// Among data packets.
#[derive(Debug)]
struct Packets {
    /// Where in the stream the first packet begins.
    start: u64,
    /// Where in the stream the packets end, if that is known.
    end: Option<u64>,
    /// The end of the last packet, if a header may have begun there.
    begun_header: Bytes,
    /// Packets in a row that made no sense, and where in the stream they began.
    unparsed: u32,
    unparsed_from: u64,
}

/// Behind the data: nothing counts but another header.
#[derive(Clone, Copy, Debug, Default)]
struct After {
    broken_headers: u32,
    /// What the data before it was, for a seek back into it.
    data: Option<(u64, Option<u64>)>,
}

/// What becomes of the next bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arrival {
    /// They follow those before.
    InOrder,
    /// They replace bytes of the header still waited for, from this offset.
    Overwrite(usize),
    /// They replace what was sent long ago.
    Discard,
    /// So many of them are the rest of a packet whose start is missing.
    Skip(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unplaced {
    NewStream,
    Flushed,
}

enum Step {
    Unit(Unit),
    Again,
    Wait,
}

impl Parser {
    /// A parser at the start of a stream.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            state: State::Header(Expected::default()),
            queue: Queue::default(),
            search: HeaderSearch::new(),
            received: 0,
            arrival: Arrival::InOrder,
            unplaced: Some(Unplaced::NewStream),
            header: None,
            received_header: None,
            caps_header: None,
            warnings: VecDeque::new(),
            warned_unparsed: false,
        }
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, mut bytes: Bytes) {
        if matches!(self.state, State::Failed(_)) || bytes.is_empty() {
            return;
        }
        self.unplaced = None;
        match self.arrival {
            Arrival::InOrder => {}
            Arrival::Discard => return,
            Arrival::Overwrite(at) => {
                let room = self.queue.collect().get_mut(at..).unwrap_or_default();
                let over = bytes.split_to(bytes.len().min(room.len()));
                for (to, from) in room.iter_mut().zip(&over) {
                    *to = *from;
                }
                self.arrival = Arrival::Overwrite(at + over.len());
                if bytes.is_empty() {
                    return;
                }
                self.arrival = Arrival::InOrder;
            }
            Arrival::Skip(count) => {
                let skipped = bytes.len().min(usize::try_from(count).unwrap_or(usize::MAX));
                bytes::Buf::advance(&mut bytes, skipped);
                self.received += skipped as u64;
                self.arrival = match count - skipped as u64 {
                    0 => Arrival::InOrder,
                    rest => Arrival::Skip(rest),
                };
            }
        }
        self.received += bytes.len() as u64;
        self.queue.push(bytes);
    }

    /// The next packet; `None` where more bytes are needed.
    ///
    /// # Errors
    ///
    /// Where the stream cannot be pushed. The parser then gives the same error for
    /// ever.
    pub fn next_unit(&mut self) -> Result<Option<Unit>, Error> {
        loop {
            let step = match &self.state {
                State::Header(_) => self.expect_header(),
                State::Packets(_) => self.next_packet(),
                State::After(_) => Ok(self.search_header()),
                State::Failed(error) => Err(error.clone()),
            };
            match step {
                Ok(Step::Unit(unit)) => return Ok(Some(unit)),
                Ok(Step::Again) => {}
                Ok(Step::Wait) => return Ok(None),
                Err(error) => {
                    self.fail(&error);
                    return Err(error);
                }
            }
        }
    }

    fn fail(&mut self, error: &Error) {
        self.queue.clear();
        self.state = State::Failed(error.clone());
    }

    /// Takes the `streamheader` of the caps. It counts only where the bytes do not
    /// begin with a header. One that differs from that before announces another stream.
    pub fn stream_header(&mut self, header: Bytes) {
        if self.caps_header.as_ref() == Some(&header) {
            return;
        }
        let known = self.received_header.as_ref() == Some(&header);
        self.caps_header = Some(header);
        let in_stream = matches!(self.state, State::Packets(_) | State::After(_));
        if in_stream && !known {
            self.expect_new_stream();
        }
    }

    /// A segment in BYTES begins: the next bytes lie at `start` in the stream.
    pub fn segment(&mut self, start: u64) {
        match self.unplaced {
            Some(Unplaced::NewStream) => {
                self.received = start;
                if let State::Header(expected) = &mut self.state {
                    expected.in_middle = start > 0;
                }
                return;
            }
            Some(Unplaced::Flushed) if start != self.received => return self.seek(start),
            Some(Unplaced::Flushed) | None => {}
        }
        if start > self.received {
            self.seek(start);
        } else if start == self.received {
            self.arrival = Arrival::InOrder;
        } else {
            self.rewrite(start);
        }
    }

    /// The same after a seek that has not flushed: the next bytes are no other version of those that were there.
    pub fn sought(&mut self, start: u64) {
        if self.unplaced.is_none() && start != self.received {
            self.seek(start);
        } else {
            self.segment(start);
        }
    }

    /// Another stream begins (STREAM_START): a header comes next.
    pub fn new_stream(&mut self) {
        self.expect_new_stream();
    }

    /// Bytes are missing here (FLUSH_STOP, or DISCONT on a later buffer): what is
    /// there of a packet or of a header is dropped.
    pub fn discontinuity(&mut self) {
        self.drop_partial();
        if matches!(self.arrival, Arrival::Overwrite(_)) {
            self.arrival = Arrival::InOrder;
        }
        if self.unplaced.is_none() {
            self.unplaced = Some(Unplaced::Flushed);
        }
    }

    /// The stream has ended. A packet or a later header of which only a part has come
    /// is dropped.
    ///
    /// # Errors
    ///
    /// That of [`Parser::next_unit`], or where no header has ever come.
    pub fn finish(&mut self) -> Result<(), Error> {
        if let State::Failed(error) = &self.state {
            return Err(error.clone());
        }
        if self.header.is_none() {
            let error = self.missing_header();
            self.state = State::Failed(error.clone());
            return Err(error);
        }
        self.drop_partial();
        Ok(())
    }

    /// The header of the packets that come now, as it is to be sent.
    #[must_use]
    pub fn header(&self) -> Option<&Arc<Header>> {
        self.header.as_ref()
    }

    /// The oldest warning not yet taken.
    pub fn take_warning(&mut self) -> Option<Warning> {
        self.warnings.pop_front()
    }

    /// Where in the stream the first byte of the queue lies.
    fn offset(&self) -> u64 {
        self.received.saturating_sub(self.queue.len() as u64)
    }

    fn warn(&mut self, warning: Warning) {
        if self.warnings.len() < WARNINGS {
            self.warnings.push_back(warning);
        }
    }
}

/// The state Header.
impl Parser {
    fn expect_header(&mut self) -> Result<Step, Error> {
        // Bytes that are being replaced must not be read before the last is.
        if matches!(self.arrival, Arrival::Overwrite(_)) {
            return Ok(Step::Wait);
        }
        let Some(id) = self.queue.peek::<16>() else {
            return Ok(Step::Wait);
        };
        if id != guid::HEADER {
            return self.begin_with_caps();
        }
        let Some(head) = self.queue.peek::<24>() else {
            return Ok(Step::Wait);
        };
        let Some(size) = header_size(&head)? else {
            return self.repair_size();
        };
        let len = usize::try_from(size).unwrap_or(usize::MAX);
        let len = len.saturating_add(DATA_HEAD);
        if self.queue.len() < len {
            return Ok(Step::Wait);
        }
        let bytes = self.queue.take_copy(len);
        self.accept(bytes)?;
        Ok(Step::Again)
    }

    /// The bytes do not begin with a header, but the caps may have one.
    fn begin_with_caps(&mut self) -> Result<Step, Error> {
        let Some(caps) = self.caps_header.clone() else {
            return Err(self.not_a_header());
        };
        let State::Header(Expected { in_middle, .. }) = &self.state else {
            return Ok(Step::Again);
        };
        let start = match in_middle {
            true => caps.len() as u64,
            false => self.offset(),
        };
        self.accept(caps)?;
        if let State::Packets(packets) = &mut self.state {
            let len = packets.end.map(|end| end.saturating_sub(packets.start));
            packets.start = start;
            packets.end = len.map(|len| start.saturating_add(len));
        }
        self.align(start);
        Ok(Step::Again)
    }

    /// Goes on at the first packet, of those that begin at `start`, in the queue or
    /// still to come.
    fn align(&mut self, start: u64) {
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
            0 => Arrival::InOrder,
            rest => Arrival::Skip(rest),
        };
    }

    /// Finds the end of a header whose size the muxer left open, by the Data Object.
    fn repair_size(&mut self) -> Result<Step, Error> {
        let State::Header(expected) = &mut self.state else {
            return Ok(Step::Again);
        };
        let bytes = self.queue.collect();
        let from = expected.searched.max(HEADER_HEAD);
        let found = memmem::find(bytes.get(from..).unwrap_or_default(), &guid::DATA);
        let Some(at) = found.map(|at| from + at) else {
            if bytes.len() as u64 > MAX_READ {
                return Err(Error::HeaderTooBig {
                    object: "Header Object",
                    offset: 16,
                    size: bytes.len() as u64,
                    limit: MAX_READ,
                });
            }
            expected.searched = bytes.len().saturating_sub(guid::DATA.len() - 1);
            return Ok(Step::Wait);
        };
        expected.searched = at;
        let Some(data) = bytes.get(at..at + DATA_HEAD) else {
            return Ok(Step::Wait);
        };
        if !data.ends_with(&[1, 1]) {
            expected.searched = at + 1;
            return Ok(Step::Again);
        }
        let size = (at as u64).to_le_bytes();
        if let Some(field) = bytes.get_mut(16..24) {
            field.copy_from_slice(&size);
        }
        self.warn(Warning::HeaderSizeRepaired { size: at });
        Ok(Step::Again)
    }

    /// A whole header is there: packets come next.
    fn accept(&mut self, bytes: Bytes) -> Result<(), Error> {
        let header = match Header::parse(bytes.clone()) {
            Ok(header) => header,
            Err(error) => return self.pass_over(bytes, error),
        };
        if let Some(error) = header.broken_child() {
            self.warn(Warning::BrokenObject(error.clone()));
        }
        let start = self.offset();
        self.state = State::Packets(Packets {
            start,
            end: header.data_bytes().map(|len| start.saturating_add(len)),
            begun_header: Bytes::new(),
            unparsed: 0,
            unparsed_from: 0,
        });
        let header = self.prepare(header)?;
        self.header = Some(Arc::new(header));
        self.received_header = Some(bytes);
        Ok(())
    }

    /// The header as it is to be sent.
    fn prepare(&mut self, mut header: Header) -> Result<Header, Error> {
        if self.settings.live_header {
            header = header.to_live();
        }
        let (shrunk, dropped) = header.shrink()?;
        if !dropped.is_empty() {
            self.warn(Warning::HeaderShrunk { from: header.bytes().len(), to: shrunk.bytes().len(), dropped });
        }
        Ok(shrunk)
    }

    /// Behind the data anything may lie: what looked like a header need not be one.
    fn pass_over(&mut self, bytes: Bytes, error: Error) -> Result<(), Error> {
        let State::Header(Expected { behind_data: Some(after), .. }) = &self.state else {
            return Err(error);
        };
        let mut after = *after;
        after.broken_headers += 1;
        if after.broken_headers >= BROKEN_HEADERS {
            return Err(error);
        }
        self.queue.push_front(bytes.slice(guid::HEADER.len()..));
        self.state = State::After(after);
        self.warn(Warning::BrokenHeader(error));
        Ok(())
    }

    fn not_a_header(&self) -> Error {
        let mut found = [0; 16];
        let count = self.queue.peek_into(&mut found);
        let found = found.get(..count).unwrap_or_default();
        let offset = self.offset();
        if found.starts_with(b"$H") {
            return Error::AsfStream { offset };
        }
        let hex: Vec<String> = found.iter().map(|byte| format!("{byte:02x}")).collect();
        Error::NotAsf { offset, found: hex.join(" ") }
    }

    /// Why there is no header at the end of the stream.
    fn missing_header(&self) -> Error {
        let mut start = [0; 16];
        let count = self.queue.peek_into(&mut start);
        let start = start.get(..count).unwrap_or_default();
        if !search::agrees(start) && self.caps_header.is_none() {
            return self.not_a_header();
        }
        Error::NoHeader { received: self.queue.len() as u64 }
    }
}

/// The state Packets.
impl Parser {
    fn next_packet(&mut self) -> Result<Step, Error> {
        let offset = self.offset();
        let (State::Packets(packets), Some(header)) = (&mut self.state, &self.header) else {
            return Ok(Step::Wait);
        };
        if packets.end.is_some_and(|end| offset >= end) {
            self.state = State::After(packets.ended());
            return Ok(Step::Again);
        }
        if !packets.begun_header.is_empty() {
            return Ok(self.finish_begun_header());
        }
        let Some(id) = self.queue.peek::<16>() else {
            return Ok(Step::Wait);
        };
        if id == guid::HEADER {
            self.state = State::Header(Expected::default());
            return Ok(Step::Again);
        }
        if guid::is_index(&id) {
            self.state = State::After(packets.ended());
            return Ok(Step::Again);
        }
        let size = header.packet_size();
        if self.queue.len() < size {
            return Ok(Step::Wait);
        }
        if let Some(at) = self.search.find(self.queue.front(size)) {
            self.queue.skip(at);
            self.state = State::Header(Expected::default());
            self.warn(Warning::PartialPacket { offset, len: at });
            return Ok(Step::Again);
        }
        let parts = self.queue.take(size);
        self.unit(parts, offset).map(Step::Unit)
    }

    /// The packet in these bytes, which begin at `offset` in the stream.
    fn unit<B: Chunk>(&mut self, parts: [B; 2], offset: u64) -> Result<Unit<B>, Error> {
        let (State::Packets(packets), Some(header)) = (&mut self.state, &self.header) else {
            return Err(self.not_a_header());
        };
        packets.begun_header = search::begun_at_end(parts[0].as_ref(), parts[1].as_ref());
        let packet = Packet::parse(parts, header, self.settings.padding);
        if packet.is_parsed() {
            packets.unparsed = 0;
        } else {
            packets.count_unparsed(offset)?;
            if !self.warned_unparsed {
                self.warned_unparsed = true;
                self.warnings.push_back(Warning::UnparsedPacket { offset });
            }
        }
        Ok(Unit { header: Arc::clone(header), packet })
    }

    /// The last packet ended like the start of a header. If the next bytes make it
    /// one, the stream was cut within that packet.
    fn finish_begun_header(&mut self) -> Step {
        let State::Packets(packets) = &mut self.state else {
            return Step::Again;
        };
        let mut head = [0; HEADER_HEAD];
        let (begun, next) = head.split_at_mut(packets.begun_header.len());
        begun.copy_from_slice(&packets.begun_header);
        let known = begun.len() + self.queue.peek_into(next);
        if !search::agrees(head.get(..known).unwrap_or_default()) {
            packets.begun_header.clear();
            return Step::Again;
        }
        if known < head.len() {
            return Step::Wait;
        }
        let begun = std::mem::take(&mut packets.begun_header);
        if search::is_header(&head) {
            self.queue.push_front(begun);
            self.state = State::Header(Expected::default());
        }
        Step::Again
    }
}

impl Packets {
    fn ended(&self) -> After {
        After { broken_headers: 0, data: Some((self.start, self.end)) }
    }

    fn count_unparsed(&mut self, offset: u64) -> Result<(), Error> {
        if self.unparsed == 0 {
            self.unparsed_from = offset;
        }
        self.unparsed += 1;
        if self.unparsed < LOST_AFTER {
            return Ok(());
        }
        Err(Error::LostAlignment { offset: self.unparsed_from, packets: self.unparsed })
    }
}

/// The state After.
impl Parser {
    fn search_header(&mut self) -> Step {
        let len = self.queue.len();
        if let Some(at) = self.search.find(self.queue.front(len)) {
            self.queue.skip(at);
            let behind_data = match &self.state {
                State::After(after) => Some(*after),
                State::Header(_) | State::Packets(_) | State::Failed(_) => None,
            };
            self.state = State::Header(Expected { behind_data, ..Expected::default() });
            return Step::Again;
        }
        self.queue.skip(len.saturating_sub(HEADER_HEAD - 1));
        Step::Wait
    }
}

/// Events.
impl Parser {
    fn expect_new_stream(&mut self) {
        if matches!(self.state, State::Failed(_)) {
            return;
        }
        self.drop_partial();
        self.arrival = Arrival::InOrder;
        self.unplaced = Some(Unplaced::NewStream);
        self.state = State::Header(Expected::default());
    }

    /// Bytes that lie before the end of those received come again, changed.
    ///
    /// A muxer that completes its header before it is whole must be heard. One that
    /// completes it at the end of the file says nothing a live stream needs, and its
    /// bytes must not be taken for another stream.
    fn rewrite(&mut self, start: u64) {
        let in_queue = start.checked_sub(self.offset());
        let is_header = matches!(self.state, State::Header(_));
        let at = in_queue.and_then(|at| usize::try_from(at).ok());
        self.arrival = match at {
            Some(at) if is_header && self.arrival != Arrival::Discard => {
                self.queue.collect();
                if let State::Header(expected) = &mut self.state {
                    expected.searched = 0;
                }
                Arrival::Overwrite(at)
            }
            _ => Arrival::Discard,
        };
    }

    /// The next bytes come from another place in the stream.
    fn seek(&mut self, start: u64) {
        self.drop_partial();
        self.received = start;
        self.arrival = Arrival::InOrder;
        let data = match &self.state {
            State::Packets(packets) => Some((packets.start, packets.end)),
            State::After(after) => after.data,
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

    fn drop_partial(&mut self) {
        let (offset, len) = (self.offset(), self.queue.len());
        // What `ffmpeg -f asf` writes to a pipe ends with an MMS `$E` chunk.
        let end_of_stream = self.queue.peek::<2>() == Some(*b"$E");
        if let State::Packets(packets) = &mut self.state {
            packets.begun_header.clear();
            if len > 0 && !(end_of_stream && len <= 12) {
                self.warn(Warning::PartialPacket { offset, len });
            }
        }
        self.queue.clear();
    }
}

#[cfg(test)]
mod tests;
