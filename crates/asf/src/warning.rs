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
                "ASF header shrunk from {from} to {to} bytes; removed: {}. To choose what is removed, \
                 remove metadata before the sink",
                dropped.join(", ")
            ),
            Self::HeaderSizeRepaired { size } => write!(
                f,
                "Header Object at byte 16: the muxer did not write the size; it was detected as \
                 {size} bytes. Write to a seekable file or use less metadata to get a correct size"
            ),
            Self::BrokenObject(error) => {
                write!(f, "{error}. The object is sent unchanged; check the muxer")
            }
            Self::UnparsedPacket { offset } => write!(
                f,
                "Data Packet at byte {offset} of the stream cannot be parsed; such packets are \
                 sent unchanged. Check that no bytes are lost before the sink"
            ),
            Self::PartialPacket { offset, len } => write!(
                f,
                "Data Packet at byte {offset} of the stream ends after {len} bytes and was \
                 dropped: the stream was interrupted there"
            ),
            Self::PartialHeader { offset, len } => write!(
                f,
                "Header Object at byte {offset} of the stream ends after {len} bytes and was dropped, so that the \
                 stream that it announces is missing: the stream was interrupted there"
            ),
            Self::OffsetRemoved { offset } => write!(
                f,
                "the timestamps from byte {offset} of the stream on are 1000 hours too large and are corrected: libav's \
                 video encoders add these hours. identity single-segment=true after the encoder removes them as well"
            ),
            Self::PicturesLate { late_ms, .. } => write!(
                f,
                "the stream has its pictures {:.1} s after the sound that belongs to them, which live players cannot \
                 play: the video encoder adds 1000 hours to its timestamps, so that the muxer writes all sound first. \
                 The hours are removed, which helps recordings only; put identity single-segment=true after each libav \
                 video encoder",
                f64::from(*late_ms) / 1000.0
            ),
            Self::PicturesMissing { sound_ms } => write!(
                f,
                "the stream has {:.1} s of sound so far, but no picture. libav's video encoders add 1000 hours to their \
                 timestamps, so that the muxer waits for the end of the sound; put identity single-segment=true after \
                 each of them",
                f64::from(*sound_ms) / 1000.0
            ),
            Self::BrokenHeader(error) => {
                write!(f, "{error}. It was skipped; check what follows the data in the file")
            }
        }
    }
}
