//! The parser: takes bytes and returns packets.
//!
//! ```text
//!             Header Object + 50 bytes                 index, end of the data
//!  ┌────────┐ ─────────────────────────▶ ┌─────────┐ ─────────────────────▶ ┌──────────┐
//!  │ Header │                            │ Packets │                        │ Trailing │
//!  └────────┘ ◀───────────────────────── └─────────┘                        └──────────┘
//!       ▲      another header, new stream                                        │
//!       └────────────────────────────────────────────────────────────────────────┘
//!                                  another header
//! ```
//!
//! The bytes decide. Caps and events are used only if the bytes are not sufficient.

mod headers;
mod input;
mod state;
mod zero_copy;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use self::state::{Expected, InputPosition, Packets, PendingSeek, State, TrailingData};
use crate::byte_queue::Queue;
use crate::cursor::Cursor;
use crate::header::HEADER_HEAD;
use crate::header_search::{self, HeaderSearch};
use crate::packet::{EncoderOffset, Finding};
use crate::{Error, Header, Packet, PacketBytes, Padding, Warning, guid};

/// Number of consecutive invalid packets after which the parser fails. A damaged stream has single invalid packets;
/// this many in a row mean that the packet boundaries are lost.
const MAX_UNPARSED_PACKETS: u32 = 8;
/// Maximum number of warnings kept until the caller takes them.
const MAX_WARNINGS: usize = 16;

/// How the parser modifies the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How padding in packets is handled.
    pub padding: Padding,
    /// Whether headers are converted to those of a live stream, see [`Header::to_live`].
    pub live_header: bool,
    /// Whether the 1000 hours that GStreamer's libav video encoders add to their timestamps are removed from packets. A
    /// stream that was received from its middle on and has run for 1000 hours cannot be told from one with the offset,
    /// if all of its streams have it.
    pub remove_encoder_offset: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { padding: Padding::Explicit, live_header: true, remove_encoder_offset: true }
    }
}

/// A data packet and the header that describes it.
///
/// The [`Arc`] identifies the stream: each header in the bytes gets a new one, even if it is equal byte for byte,
/// because send times start again after it.
#[derive(Clone, Debug)]
pub struct ParsedPacket<B = Bytes> {
    /// The header as it must be sent.
    pub header: Arc<Header>,
    /// The packet.
    pub packet: Packet<B>,
}

/// Splits an ASF byte stream, in chunks of any size, into [`ParsedPacket`]s.
///
/// After each [`Parser::push`], and before any event, call [`Parser::next_packet`] until it returns `None`. Memory is
/// bounded by the size of one packet, or of one header of up to 16 MiB, whatever sizes the bytes claim.
#[derive(Debug)]
pub struct Parser {
    settings: Settings,
    state: State,
    queue: Queue,
    search: HeaderSearch,
    /// Stream offset after the last received byte, as in BYTES segments.
    received: u64,
    /// How the next bytes relate to those before.
    input_position: InputPosition,
    /// Set if no byte was received since the start of the stream or since a flush. The next segment then gives the
    /// position of the next bytes.
    pending_seek: Option<PendingSeek>,
    header: Option<Arc<Header>>,
    /// The current header as received, before it is modified.
    received_header: Option<Bytes>,
    /// The `streamheader` of the caps.
    caps_header: Option<Bytes>,
    warnings: VecDeque<Warning>,
    warned_unparsed: bool,
    /// The 1000 hours of the encoders of the current header; `None` if no packet needs to be examined.
    encoder_offset: Option<EncoderOffset>,
    /// Whether it was reported that the hours are removed.
    reported_removal: bool,
    /// Whether it was reported that pictures are missing.
    reported_missing: bool,
}

/// What one step of the state machine did.
enum ParseStep {
    Packet(ParsedPacket),
    /// The state has changed, and the next step may return a packet.
    Continue,
    NeedMoreBytes,
}

impl Parser {
    /// Creates a parser at the start of a stream.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            state: State::Header(Expected::default()),
            queue: Queue::default(),
            search: HeaderSearch::new(),
            received: 0,
            input_position: InputPosition::InOrder,
            pending_seek: Some(PendingSeek::NewStream),
            header: None,
            received_header: None,
            caps_header: None,
            warnings: VecDeque::new(),
            warned_unparsed: false,
            encoder_offset: None,
            reported_removal: false,
            reported_missing: false,
        }
    }

    /// Returns the next packet; `None` if more bytes are needed.
    ///
    /// # Errors
    ///
    /// If the stream cannot be pushed. All further calls then return the same error.
    pub fn next_packet(&mut self) -> Result<Option<ParsedPacket>, Error> {
        loop {
            let step = match &self.state {
                State::Header(_) => self.expect_header(),
                State::Packets(_) => self.packet_step(),
                State::Trailing(_) => Ok(self.search_header()),
                State::Failed(error) => Err(error.clone()),
            };
            match step {
                Ok(ParseStep::Packet(packet)) => return Ok(Some(packet)),
                Ok(ParseStep::Continue) => {}
                Ok(ParseStep::NeedMoreBytes) => return Ok(None),
                Err(error) => {
                    self.fail(&error);
                    return Err(error);
                }
            }
        }
    }

    /// Enters the final state: all further calls return `error`.
    fn fail(&mut self, error: &Error) {
        // The rest is never parsed, and would keep the memory of upstream's buffers.
        self.queue.clear();
        self.state = State::Failed(error.clone());
    }

    /// Takes the `streamheader` of the caps. It is used only if the bytes do not begin with a header. A value that
    /// differs from the previous one announces another stream.
    pub fn stream_header(&mut self, header: Bytes) {
        if self.caps_header.as_ref() == Some(&header) {
            return;
        }
        // A muxer may send its caps after the bytes of the same header. They announce nothing new then.
        let known = self.received_header.as_ref() == Some(&header);
        self.caps_header = Some(header);
        let in_stream = matches!(self.state, State::Packets(_) | State::Trailing(_));
        if in_stream && !known {
            self.new_stream();
        }
    }

    /// Ends the stream. An incomplete packet or later header is dropped.
    ///
    /// # Errors
    ///
    /// Those of [`Parser::next_packet`], or [`Error::NoHeader`] or [`Error::NotAsf`] if no header was received.
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

    /// Returns the parser unchanged, or, if it has failed, a new one at the start of a stream that keeps the
    /// `streamheader` of the caps.
    #[must_use]
    pub fn reset_after_error(self) -> Self {
        match self.state {
            State::Failed(_) => Self { caps_header: self.caps_header, ..Self::new(self.settings) },
            State::Header(_) | State::Packets(_) | State::Trailing(_) => self,
        }
    }

    /// The current header, as it must be sent.
    #[must_use]
    pub fn header(&self) -> Option<&Arc<Header>> {
        self.header.as_ref()
    }

    /// Takes the oldest warning.
    pub fn take_warning(&mut self) -> Option<Warning> {
        self.warnings.pop_front()
    }

    /// Stream offset of the first byte in the queue.
    fn offset(&self) -> u64 {
        self.received.saturating_sub(self.queue.len() as u64)
    }

    fn warn(&mut self, warning: Warning) {
        if self.warnings.len() < MAX_WARNINGS {
            self.warnings.push_back(warning);
        }
    }
}

/// State `Packets`.
impl Parser {
    fn packet_step(&mut self) -> Result<ParseStep, Error> {
        let offset = self.offset();
        let (State::Packets(packets), Some(header)) = (&mut self.state, &self.header) else {
            return Ok(ParseStep::NeedMoreBytes);
        };
        // The header of a file states where the data ends; that of a live stream does not.
        if packets.end.is_some_and(|end| offset >= end) {
            self.state = State::Trailing(packets.trailing_data());
            return Ok(ParseStep::Continue);
        }
        if !packets.partial_header.is_empty() {
            return Ok(self.check_partial_header());
        }
        let Some(id) = self.queue.peek::<16>() else {
            return Ok(ParseStep::NeedMoreBytes);
        };
        // A new header starts another stream. It can be shorter than a packet, so it is looked for before a whole
        // packet is available.
        if id == guid::HEADER {
            self.state = State::Header(Expected::default());
            return Ok(ParseStep::Continue);
        }
        if guid::is_index(&id) {
            self.state = State::Trailing(packets.trailing_data());
            return Ok(ParseStep::Continue);
        }
        let size = header.packet_size();
        if self.queue.len() < size {
            return Ok(ParseStep::NeedMoreBytes);
        }
        // Upstream may have been interrupted within a packet, and started again with a header. The bytes before that
        // header are the rest of the old packet.
        if let Some(at) = self.search.find(self.queue.front(size)) {
            self.queue.skip(at);
            self.state = State::Header(Expected::default());
            self.warn(Warning::PartialPacket { offset, len: at });
            return Ok(ParseStep::Continue);
        }
        let parts = self.queue.take(size);
        self.parse_packet(parts, offset).map(ParseStep::Packet)
    }

    /// Parses the packet in these bytes, which begin at `offset` in the stream.
    fn parse_packet<B: PacketBytes>(&mut self, parts: [B; 2], offset: u64) -> Result<ParsedPacket<B>, Error> {
        // This needs the bytes as received: the next lines move them, and may change them.
        let partial_header = header_search::partial_header_at_end(parts[0].as_ref(), parts[1].as_ref());
        let parts = match self.encoder_offset {
            Some(_) => self.without_encoder_offset(parts, offset),
            None => parts,
        };
        let (State::Packets(packets), Some(header)) = (&mut self.state, &self.header) else {
            return Err(self.not_a_header());
        };
        packets.partial_header = partial_header;
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
        Ok(ParsedPacket { header: Arc::clone(header), packet })
    }

    /// Removes the 1000 hours of encoders from the packet in these bytes, which begin at `offset` in the stream. Only a
    /// packet that has them is copied.
    #[cold]
    fn without_encoder_offset<B: PacketBytes>(&mut self, parts: [B; 2], offset: u64) -> [B; 2] {
        let Some(encoder_offset) = &mut self.encoder_offset else { return parts };
        let [first, second] = &parts;
        let (has_offset, finding) = encoder_offset.examine(&Cursor::joined(first.as_ref(), second.as_ref()));
        let changed = has_offset.then(|| {
            let mut packet = [first.as_ref(), second.as_ref()].concat();
            encoder_offset.remove(&mut packet);
            [B::owned(packet.into()), B::owned(Bytes::new())]
        });
        // From here on, packets of this stream are not examined at all.
        if encoder_offset.is_done() {
            self.encoder_offset = None;
        }
        let (warning, reported) = match finding {
            Some(Finding::Removed) => (Warning::OffsetRemoved { offset }, &mut self.reported_removal),
            Some(Finding::Late(late_ms)) => (Warning::PicturesLate { offset, late_ms }, &mut self.reported_removal),
            Some(Finding::PicturesMissing(sound_ms)) => {
                (Warning::PicturesMissing { sound_ms }, &mut self.reported_missing)
            }
            None => return changed.unwrap_or(parts),
        };
        if !std::mem::replace(reported, true) {
            self.warn(warning);
        }
        changed.unwrap_or(parts)
    }

    /// Checks the bytes after a packet that ended like the start of a header. If they complete a header, the stream
    /// was interrupted within that packet.
    fn check_partial_header(&mut self) -> ParseStep {
        let State::Packets(packets) = &mut self.state else {
            return ParseStep::Continue;
        };
        // The fixed part of a header, if it is one: its start at the end of the last packet, and its end in the next
        // bytes.
        let mut head = [0; HEADER_HEAD];
        let (start, rest) = head.split_at_mut(packets.partial_header.len());
        start.copy_from_slice(&packets.partial_header);
        let known = start.len() + self.queue.peek_into(rest);
        if !header_search::matches_header_guid(head.get(..known).unwrap_or_default()) {
            packets.partial_header.clear();
            return ParseStep::Continue;
        }
        if known < head.len() {
            return ParseStep::NeedMoreBytes;
        }
        let start = std::mem::take(&mut packets.partial_header);
        if header_search::is_header(&head) {
            // The packet that ended with these bytes has already been returned, and cannot be taken back. The header
            // is complete nevertheless.
            self.queue.push_front(start);
            self.state = State::Header(Expected::default());
        }
        ParseStep::Continue
    }
}

impl Packets {
    /// The state after these packets.
    fn trailing_data(&self) -> TrailingData {
        TrailingData { broken_headers: 0, data: Some((self.start, self.end)) }
    }

    /// Counts an invalid packet at `offset`, and fails after [`MAX_UNPARSED_PACKETS`] in a row.
    fn count_unparsed(&mut self, offset: u64) -> Result<(), Error> {
        if self.unparsed == 0 {
            self.unparsed_from = offset;
        }
        self.unparsed += 1;
        if self.unparsed < MAX_UNPARSED_PACKETS {
            return Ok(());
        }
        Err(Error::LostAlignment { offset: self.unparsed_from, packets: self.unparsed })
    }
}

/// State `Trailing`.
impl Parser {
    /// Skips everything up to the next header: an index, or whatever else a muxer writes after the data.
    fn search_header(&mut self) -> ParseStep {
        let len = self.queue.len();
        if let Some(at) = self.search.find(self.queue.front(len)) {
            self.queue.skip(at);
            let after_data = match &self.state {
                State::Trailing(trailing) => Some(*trailing),
                State::Header(_) | State::Packets(_) | State::Failed(_) => None,
            };
            self.state = State::Header(Expected { after_data, ..Expected::default() });
            return ParseStep::Continue;
        }
        // The last bytes may be the start of a header that continues in the next ones.
        self.queue.skip(len.saturating_sub(HEADER_HEAD - 1));
        ParseStep::NeedMoreBytes
    }
}

#[cfg(test)]
mod tests;
