//! Errors in an ASF stream.

/// Why a stream or a packet cannot be pushed.
///
/// The message names the object and the byte offset (from the first byte of the header, or of the stream if the
/// message says so), the cause, and the remedy if there is one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes are not ASF.
    #[error(
        "no Header Object at byte {offset} of the stream: this is not ASF (it begins with \
         {found}). Use asfmux or another ASF muxer"
    )]
    NotAsf {
        /// Byte offset in the stream at which the header was expected.
        offset: u64,
        /// The first bytes found there, in hexadecimal.
        found: String,
    },
    /// The bytes are ASF framed in `$H` and `$D` chunks, as `ffmpeg -f asf_stream` writes it.
    #[error(
        "no Header Object at byte {offset} of the stream, but a $H chunk: this is ASF in the framing of MMS over HTTP. \
         Use a muxer that writes plain ASF (avmux_asf, asfmux, ffmpeg -f asf)"
    )]
    AsfStream {
        /// Byte offset of the chunk in the stream.
        offset: u64,
    },
    /// An object of the header breaks the format.
    #[error("invalid ASF header: {object} at byte {offset}: {reason}")]
    InvalidHeader {
        /// The object's name in the ASF specification.
        object: &'static str,
        /// Byte offset of the faulty object or field in the header.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The header is larger than the protocol allows, or larger than the parser buffers.
    #[error(
        "ASF header too big: {object} at byte {offset} has {size} bytes; the limit is {limit}. \
         Remove metadata such as pictures, or streams"
    )]
    HeaderTooBig {
        /// The object that is too big.
        object: &'static str,
        /// Byte offset of the object's size field in the header.
        offset: u64,
        /// Actual or claimed size in bytes.
        size: u64,
        /// Maximum size in bytes.
        limit: u64,
    },
    /// Data packets do not have a fixed size, or the size is too small for a packet.
    #[error(
        "unusable packet size: the File Properties Object (at byte {offset}) has minimum {minimum} and maximum {maximum} \
         bytes. Both must be equal, from 16 to 65535; check the muxer's packet size"
    )]
    PacketSize {
        /// Bytes from the start of the header to the field.
        offset: u64,
        /// Minimum Data Packet Size in bytes.
        minimum: u32,
        /// Maximum Data Packet Size in bytes.
        maximum: u32,
    },
    /// Data packets are bigger than a `$D` packet can be.
    #[error(
        "packets too big: according to the File Properties Object at byte {offset}, data packets have {size} bytes; \
         the limit is {limit}. Reduce the packet size (asfmux packet-size, ffmpeg -packet_size)"
    )]
    PacketTooBig {
        /// Bytes from the start of the header to the field.
        offset: u64,
        /// Data Packet Size in bytes.
        size: u32,
        /// Maximum size of a data packet in bytes.
        limit: u32,
    },
    /// A received packet is longer than the packet size in its header.
    #[error("Data Packet too long: it has {len} bytes, but the packet size in the header is {size}")]
    OverlongPacket {
        /// Bytes received.
        len: usize,
        /// Packet size in the header, in bytes.
        size: usize,
    },
    /// Several consecutive packets are invalid: bytes were lost or inserted.
    #[error(
        "lost packet alignment: Data Packet at byte {offset} of the stream is the first of {packets} \
         consecutive invalid packets. Bytes were lost or added upstream: check for a \
         leaky queue on unparsed ASF"
    )]
    LostAlignment {
        /// Byte offset of the first invalid packet in the stream.
        offset: u64,
        /// Number of consecutive invalid packets.
        packets: u32,
    },
    /// The stream ended before a whole header was received.
    #[error(
        "no ASF header: the stream ended at byte {received} before the end of the Header Object; \
         nothing was sent. Check that the muxer receives data"
    )]
    NoHeader {
        /// Number of header bytes received.
        received: u64,
    },
}

impl Error {
    /// Whether the stream has another format, as opposed to being invalid ASF.
    #[must_use]
    pub fn is_wrong_type(&self) -> bool {
        matches!(self, Self::NotAsf { .. } | Self::AsfStream { .. })
    }
}
