//! Where a parser is in the stream, and what becomes of the bytes that come next.

use bytes::Bytes;

use crate::Error;

#[derive(Debug)]
pub(super) enum State {
    Header(Expected),
    Packets(Packets),
    Trailing(TrailingData),
    Failed(Error),
}

/// Among data packets.
#[derive(Debug)]
pub(super) struct Packets {
    /// Where in the stream the first packet begins.
    pub(super) start: u64,
    /// Where in the stream the packets end, if that is known.
    pub(super) end: Option<u64>,
    /// The end of the last packet, if a header may have begun there.
    pub(super) begun_header: Bytes,
    /// Packets in a row that made no sense, and where in the stream they began.
    pub(super) unparsed: u32,
    pub(super) unparsed_from: u64,
}

/// Behind the data: nothing counts but another header.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TrailingData {
    pub(super) broken_headers: u32,
    /// What the data before it was, for a seek back into it.
    pub(super) data: Option<(u64, Option<u64>)>,
}

/// Waiting for a whole header.
#[derive(Debug, Default)]
pub(super) struct Expected {
    /// Whether it was found behind the data, where it may as well be none.
    pub(super) behind_data: Option<TrailingData>,
    /// Whether the bytes begin somewhere in the middle of a file.
    pub(super) in_middle: bool,
    /// Bytes already searched for the Data Object, where the header's size is open.
    pub(super) searched: usize,
}

/// What becomes of the next bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InputPosition {
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
pub(super) enum PendingSeek {
    NewStream,
    Flushed,
}
