//! What can be wrong with an ASF stream.

/// Why a stream or a packet cannot be pushed.
///
/// The text names the object and the byte (counted from the first byte of the
/// header, or of the stream where it says so), the cause, and a remedy where
/// there is one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes are no ASF at all.
    #[error(
        "no Header Object at byte {offset} of the stream: this is not ASF (it begins with \
         {found}); put asfmux, or another ASF muxer, before the sink"
    )]
    NotAsf {
        /// Bytes of the stream before the place of the header.
        offset: u64,
        /// The first bytes found there, in hexadecimal.
        found: String,
    },
    /// The bytes are ASF cut into `$H` and `$D` chunks, as `ffmpeg -f asf_stream` writes it.
    #[error(
        "no Header Object at byte {offset} of the stream but a $H chunk: this is ASF already \
         framed for MMS; use the plain muxer (`ffmpeg -f asf`, avmux_asf)"
    )]
    AsfStream {
        /// Bytes of the stream before the chunk.
        offset: u64,
    },
    /// An object of the header breaks the format.
    #[error("invalid ASF header: {object} at byte {offset}: {reason}")]
    InvalidHeader {
        /// The object's name in the ASF specification.
        object: &'static str,
        /// Bytes from the start of the header to the object or field at fault.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The header does not fit the protocol, or no memory should be spent on it.
    #[error(
        "ASF header too big: {object} at byte {offset}: {size} bytes, at most {limit} can be \
         sent; take out metadata such as pictures, or streams"
    )]
    HeaderTooBig {
        /// The object that is too big.
        object: &'static str,
        /// Bytes from the start of the header to its size.
        offset: u64,
        /// Bytes it takes or claims.
        size: u64,
        /// Bytes it may take.
        limit: u64,
    },
    /// Data packets have no fixed size, or one too small for a packet.
    #[error(
        "unusable packet size: File Properties Object at byte {offset}: minimum {minimum}, \
         maximum {maximum} bytes; both must be the same, from 16 to 65535"
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
        "packets too big: File Properties Object at byte {offset}: data packets of {size} bytes, \
         at most {limit} can be sent; make them smaller (asfmux packet-size, \
         ffmpeg -packet_size)"
    )]
    PacketTooBig {
        /// Bytes from the start of the header to the field.
        offset: u64,
        /// Data Packet Size in bytes.
        size: u32,
        /// Bytes a data packet may take.
        limit: u32,
    },
    /// A received packet is longer than the packet size its header names.
    #[error("Data Packet too long: {len} bytes where the header says {size} (excess at byte {size})")]
    OverlongPacket {
        /// Bytes received.
        len: usize,
        /// Packet size by the header, in bytes.
        size: usize,
    },
    /// Packet after packet makes no sense: bytes were lost or put in between.
    #[error(
        "lost the packets: Data Packet at byte {offset} of the stream is the first of {packets} \
         in a row that are none; bytes were lost or added before the sink (a leaky queue on \
         unparsed ASF?)"
    )]
    LostAlignment {
        /// Bytes of the stream before the first of them.
        offset: u64,
        /// How many.
        packets: u32,
    },
    /// The stream ended, and no whole header had come.
    #[error(
        "no ASF header: the stream ended at byte {received} before the end of the Header Object; \
         nothing could be sent"
    )]
    NoHeader {
        /// Bytes of the stream received where the header should be.
        received: u64,
    },
}

impl Error {
    /// Whether the stream is another format, not a broken stream of this one.
    #[must_use]
    pub fn is_wrong_type(&self) -> bool {
        matches!(self, Self::NotAsf { .. } | Self::AsfStream { .. })
    }
}
