//! The states of the parser.

use bytes::Bytes;

use crate::Error;

/// What the next bytes are; the diagram in the parent module shows the transitions.
#[derive(Debug)]
pub(super) enum State {
    Header(Expected),
    Packets(Packets),
    Trailing(TrailingData),
    /// All calls return this error.
    Failed(Error),
}

/// Parsing data packets.
#[derive(Debug)]
pub(super) struct Packets {
    /// Stream offset of the first packet.
    pub(super) start: u64,
    /// Stream offset of the end of the packets, if known.
    pub(super) end: Option<u64>,
    /// The end of the last packet, if it may be the start of a header.
    pub(super) partial_header: Bytes,
    /// Number of consecutive invalid packets, and the stream offset of the first.
    pub(super) unparsed: u32,
    pub(super) unparsed_from: u64,
}

/// After the data: everything except another header is ignored.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TrailingData {
    /// Number of invalid headers since the end of the data.
    pub(super) broken_headers: u32,
    /// Start and end of the data before, for a seek back into it.
    pub(super) data: Option<(u64, Option<u64>)>,
}

/// Waiting for a whole header.
#[derive(Debug, Default)]
pub(super) struct Expected {
    /// Set if it was found after the data, where it may be other data that looks like a header.
    pub(super) after_data: Option<TrailingData>,
    /// Whether the bytes begin in the middle of a file.
    pub(super) in_middle: bool,
    /// Number of bytes already searched for the Data Object, if the header's size is unknown.
    pub(super) searched: usize,
}

/// How the next bytes are handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InputPosition {
    /// They follow the previous ones.
    InOrder,
    /// They replace bytes of the incomplete header, from this offset in the queue.
    Overwrite(usize),
    /// They replace bytes that were already sent, and are ignored.
    Discard,
    /// This many of them are the rest of a packet whose start is missing, and are skipped.
    Skip(u64),
}

/// Why the next segment gives the position of the next bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PendingSeek {
    /// A stream starts. Its first segment may have any offset.
    NewStream,
    /// Bytes were lost, so that the next ones do not continue an incomplete packet.
    Flushed,
}
