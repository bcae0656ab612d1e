//! State `Header`: waits for a header and accepts it.

use std::sync::Arc;

use bytes::Bytes;
use memchr::memmem;

use super::state::{Expected, InputPosition, Packets, State};
use super::{ParseStep, Parser};
use crate::header::{DATA_HEAD, HEADER_HEAD, MAX_READ, header_size};
use crate::packet::EncoderOffset;
use crate::{Error, Header, Warning, guid, header_search};

/// Number of invalid headers after the data at which the parser fails.
const MAX_BROKEN_HEADERS: u32 = 8;

impl Parser {
    /// Waits for a whole Header Object and the fixed part of the Data Object after it, and accepts them.
    pub(super) fn expect_header(&mut self) -> Result<ParseStep, Error> {
        // While a muxer overwrites bytes of the header, the header is incomplete and must not be read.
        if matches!(self.input_position, InputPosition::Overwrite(_)) {
            return Ok(ParseStep::NeedMoreBytes);
        }
        let Some(id) = self.queue.peek::<16>() else {
            return Ok(ParseStep::NeedMoreBytes);
        };
        if id != guid::HEADER {
            return self.start_from_caps();
        }
        // The GUID and the size of the Header Object (ASF 3.1).
        let Some(head) = self.queue.peek::<24>() else {
            return Ok(ParseStep::NeedMoreBytes);
        };
        let Some(size) = header_size(&head)? else {
            return self.repair_size();
        };
        let len = usize::try_from(size).unwrap_or(usize::MAX);
        let len = len.saturating_add(DATA_HEAD);
        if self.queue.len() < len {
            return Ok(ParseStep::NeedMoreBytes);
        }
        // The header is kept for the whole stream, so it must not keep the buffer alive in which it arrived.
        let bytes = self.queue.take_copy(len);
        self.accept(bytes)?;
        Ok(ParseStep::Continue)
    }

    /// Uses the header in the caps, if any, because the bytes do not begin with one.
    fn start_from_caps(&mut self) -> Result<ParseStep, Error> {
        let Some(caps) = self.caps_header.clone() else {
            return Err(self.not_a_header());
        };
        let State::Header(Expected { in_middle, .. }) = &self.state else {
            return Ok(ParseStep::Continue);
        };
        // In the middle of a file, offsets count from its start, where the header of the caps is. Otherwise the packets
        // begin with the first byte received.
        let start = match in_middle {
            true => caps.len() as u64,
            false => self.offset(),
        };
        self.accept(caps)?;
        // `accept` takes the packets to begin at the current offset. Move them to `start`, with the same length.
        if let State::Packets(packets) = &mut self.state {
            let len = packets.end.map(|end| end.saturating_sub(packets.start));
            packets.start = start;
            packets.end = len.map(|len| start.saturating_add(len));
        }
        self.align(start);
        Ok(ParseStep::Continue)
    }

    /// Finds the end of a header whose size the muxer did not write, by searching for the Data Object.
    fn repair_size(&mut self) -> Result<ParseStep, Error> {
        let State::Header(expected) = &mut self.state else {
            return Ok(ParseStep::Continue);
        };
        let bytes = self.queue.collect();
        // The Data Object cannot begin in the fixed part of the header, or in bytes that were searched before.
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
            // The GUID may begin in the last bytes and end in the next ones.
            expected.searched = bytes.len().saturating_sub(guid::DATA.len() - 1);
            return Ok(ParseStep::NeedMoreBytes);
        };
        expected.searched = at;
        let Some(data) = bytes.get(at..at + DATA_HEAD) else {
            return Ok(ParseStep::NeedMoreBytes);
        };
        // The last field of the Data Object's head is 0x0101 (ASF 5.1). Otherwise the GUID is part of another object's
        // data.
        if !data.ends_with(&[1, 1]) {
            expected.searched = at + 1;
            return Ok(ParseStep::Continue);
        }
        let size = (at as u64).to_le_bytes();
        if let Some(field) = bytes.get_mut(16..24) {
            field.copy_from_slice(&size);
        }
        self.warn(Warning::HeaderSizeRepaired { size: at });
        Ok(ParseStep::Continue)
    }

    /// Accepts a complete header: packets come next.
    fn accept(&mut self, bytes: Bytes) -> Result<(), Error> {
        let header = match Header::parse(bytes.clone()) {
            Ok(header) => header,
            Err(error) => return self.skip_broken_header(bytes, error),
        };
        if let Some(error) = header.broken_child() {
            self.warn(Warning::BrokenObject(error.clone()));
        }
        let start = self.offset();
        self.state = State::Packets(Packets {
            start,
            end: header.data_bytes().map(|len| start.saturating_add(len)),
            partial_header: Bytes::new(),
            unparsed: 0,
            unparsed_from: 0,
        });
        let header = self.prepare(header)?;
        let encoder_offset = self.settings.remove_encoder_offset.then(|| EncoderOffset::new(&header));
        self.encoder_offset = encoder_offset.filter(|offset| !offset.is_done());
        self.header = Some(Arc::new(header));
        self.received_header = Some(bytes);
        Ok(())
    }

    /// Modifies the header as the settings and the protocol require.
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

    /// Skips an invalid header after the data. Any bytes may follow the data, so this is an error only after it has
    /// happened several times.
    fn skip_broken_header(&mut self, bytes: Bytes, error: Error) -> Result<(), Error> {
        let State::Header(Expected { after_data: Some(trailing), .. }) = &self.state else {
            return Err(error);
        };
        let mut trailing = *trailing;
        trailing.broken_headers += 1;
        if trailing.broken_headers >= MAX_BROKEN_HEADERS {
            return Err(error);
        }
        // Without its GUID, the invalid header is not found again. The bytes after it are searched for another one.
        self.queue.push_front(bytes.slice(guid::HEADER.len()..));
        self.state = State::Trailing(trailing);
        self.warn(Warning::BrokenHeader(error));
        Ok(())
    }

    /// The error for bytes that do not begin with a header, although one must be there.
    pub(super) fn not_a_header(&self) -> Error {
        let mut found = [0; 16];
        let count = self.queue.peek_into(&mut found);
        let found = found.get(..count).unwrap_or_default();
        let offset = self.offset();
        // `ffmpeg -f asf_stream` writes ASF in the framing of [MS-WMSP], where the header is a `$H` chunk.
        if found.starts_with(b"$H") {
            return Error::AsfStream { offset };
        }
        let hex: Vec<String> = found.iter().map(|byte| format!("{byte:02x}")).collect();
        Error::NotAsf { offset, found: hex.join(" ") }
    }

    /// The error for a stream that ended without a header.
    pub(super) fn missing_header(&self) -> Error {
        let mut start = [0; 16];
        let count = self.queue.peek_into(&mut start);
        let start = start.get(..count).unwrap_or_default();
        if !header_search::matches_header_guid(start) && self.caps_header.is_none() {
            return self.not_a_header();
        }
        Error::NoHeader { received: self.queue.len() as u64 }
    }
}
