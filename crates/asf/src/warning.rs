//! Problems in a stream that the parser repaired or skipped.

use std::fmt;

use crate::Error;

/// A problem that the parser repaired or skipped. `Display` includes a remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// The header was too big; objects that players do not need were removed.
    HeaderShrunk {
        /// Original size in bytes.
        from: usize,
        /// New size in bytes.
        to: usize,
        /// Names of the removed objects and attributes.
        dropped: Vec<&'static str>,
    },
    /// The muxer did not write the size of its header, because it had already written the first part when the size was
    /// known.
    HeaderSizeRepaired {
        /// The size found, in bytes.
        size: usize,
    },
    /// A header object is invalid; the objects after it were not read.
    BrokenObject(Error),
    /// A packet could not be parsed; it is sent unchanged, as are other such packets.
    UnparsedPacket {
        /// Bytes of the stream before it.
        offset: u64,
    },
    /// The stream was interrupted within a packet, which was dropped.
    PartialPacket {
        /// Bytes of the stream before it.
        offset: u64,
        /// Number of bytes dropped.
        len: usize,
    },
    /// The stream was interrupted within a later header, which was dropped.
    PartialHeader {
        /// Bytes of the stream before it.
        offset: u64,
        /// Number of bytes dropped.
        len: usize,
    },
    /// GStreamer's libav video encoders add 1000 hours to their timestamps. The hours are removed from all packets.
    OffsetRemoved {
        /// Offset in the stream of the first packet that had them, in bytes.
        offset: u64,
    },
    /// The same, but the muxer has written the sound before the pictures, since it compares the timestamps.
    PicturesLate {
        /// Offset in the stream of the first packet with a picture, in bytes.
        offset: u64,
        /// How much of the sound that belongs to the pictures was written before them, in milliseconds.
        late_ms: u32,
    },
    /// A stream with video begins with sound alone: the muxer holds the pictures back until the sound ends.
    PicturesMissing {
        /// Length of the sound so far, in milliseconds.
        sound_ms: u32,
    },
    /// Bytes after the end of the data looked like another header but are invalid, and were skipped.
    BrokenHeader(Error),
}

impl Warning {
    /// Whether the parser has repaired the stream completely, so that this is only for information.
    #[must_use]
    pub fn is_repaired(&self) -> bool {
        matches!(self, Self::OffsetRemoved { .. })
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HeaderShrunk { from, to, dropped } => write!(
                f,
                "the ASF header was too big for a push and was reduced from {from} to {to} bytes; removed: {}. To \
                 decide yourself what is removed, remove metadata upstream",
                dropped.join(", ")
            ),
            Self::HeaderSizeRepaired { size } => write!(
                f,
                "the muxer did not write the size of the Header Object (at byte 16); the size of {size} bytes was found \
                 by searching for the end. To have the muxer write it, reduce the metadata, or let the muxer write to a \
                 seekable file first"
            ),
            Self::BrokenObject(error) => {
                write!(f, "{error}. The object is sent unchanged; check the muxer")
            }
            Self::UnparsedPacket { offset } => write!(
                f,
                "the Data Packet at byte {offset} of the stream cannot be parsed; such packets are sent unchanged. Check \
                 that no bytes are lost upstream"
            ),
            Self::PartialPacket { offset, len } => write!(
                f,
                "the Data Packet at byte {offset} of the stream ends after {len} bytes and was dropped: the stream was \
                 interrupted there. Check why upstream stopped within a packet"
            ),
            Self::PartialHeader { offset, len } => write!(
                f,
                "the Header Object at byte {offset} of the stream ends after {len} bytes and was dropped, together with \
                 the stream that follows it: the stream was interrupted there. Check why upstream stopped within a header"
            ),
            Self::OffsetRemoved { offset } => write!(
                f,
                "the timestamps from byte {offset} of the stream on were 1000 hours too large and are corrected: libav's \
                 video encoders add these hours. To have them removed before the muxer, put identity single-segment=true \
                 after the encoder"
            ),
            Self::PicturesLate { late_ms, .. } => write!(
                f,
                "the pictures of the stream arrive {:.1} s after the sound that belongs to them, so that live players \
                 cannot play them: the video encoder adds 1000 hours to its timestamps, and the muxer therefore writes \
                 all sound first. The sink removes the hours, which helps recordings only; put identity \
                 single-segment=true after each libav video encoder",
                f64::from(*late_ms) / 1000.0
            ),
            Self::PicturesMissing { sound_ms } => write!(
                f,
                "the stream has {:.1} s of sound so far, but no picture. A libav video encoder adds 1000 hours to its \
                 timestamps, so that the muxer holds the pictures back until the sound ends; put identity \
                 single-segment=true after each libav video encoder",
                f64::from(*sound_ms) / 1000.0
            ),
            Self::BrokenHeader(error) => {
                write!(f, "{error}. This header was skipped; check what follows the data in the file")
            }
        }
    }
}
