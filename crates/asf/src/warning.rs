//! What was wrong with a stream and could be mended.

use std::fmt;

use crate::Error;

/// Something the parser mended or passed over. `Display` gives it with a remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// The header was too big, and lost what players can do without.
    HeaderShrunk {
        /// Bytes the header had.
        from: usize,
        /// Bytes it has now.
        to: usize,
        /// What was dropped.
        dropped: Vec<&'static str>,
    },
    /// The muxer did not know the size of its header, as it had written the first
    /// part of it already.
    HeaderSizeRepaired {
        /// The size found, in bytes.
        size: usize,
    },
    /// An object of the header is broken, and those behind it were not read.
    BrokenObject(Error),
    /// A packet makes no sense; it and those like it are sent as they are.
    UnparsedPacket {
        /// Bytes of the stream before it.
        offset: u64,
    },
    /// The stream was cut within a packet, which was dropped.
    PartialPacket {
        /// Bytes of the stream before it.
        offset: u64,
        /// Bytes dropped.
        len: usize,
    },
    /// Packets of one stream are 1000 hours away from those before: libav's video encoders add them in GStreamer, and its
    /// sound encoders do not.
    HoursAdded {
        /// Bytes of the stream before the first packet that is so far away.
        offset: u64,
    },
    /// What looked like another header behind the end of the data is none, and was
    /// passed over.
    BrokenHeader(Error),
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HeaderShrunk { from, to, dropped } => write!(
                f,
                "the ASF header had {from} bytes and was shrunk to {to}, without {}; take them \
                 out before the sink to choose yourself",
                dropped.join(", ")
            ),
            Self::HeaderSizeRepaired { size } => write!(
                f,
                "Header Object at byte 16: the muxer left its size open; it was found to be \
                 {size} bytes. Write to a seekable file or use less metadata to have it right"
            ),
            Self::BrokenObject(error) => {
                write!(f, "{error}; it is sent as it is, check the muxer")
            }
            Self::UnparsedPacket { offset } => write!(
                f,
                "Data Packet at byte {offset} of the stream makes no sense; such packets are \
                 sent as they are, check that no bytes are lost before the sink"
            ),
            Self::PartialPacket { offset, len } => write!(
                f,
                "Data Packet at byte {offset} of the stream ends after {len} bytes and was \
                 dropped; the stream was cut there"
            ),
            Self::HoursAdded { offset } => write!(
                f,
                "Data Packet at byte {offset} of the stream is 1000 hours away from the one before it, which no player \
                 can play: libav's video encoders add these hours; put identity single-segment=true behind each of them"
            ),
            Self::BrokenHeader(error) => {
                write!(f, "{error}; it was passed over, check the file behind its data")
            }
        }
    }
}
