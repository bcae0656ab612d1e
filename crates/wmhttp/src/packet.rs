//! The packets in the body of a PushStart request ([MS-WMHTTP] 2.2.3).
//!
//! A packet consists of a 4-byte framing header (`$`, the packet's letter, the number of bytes that follow in
//! little-endian order), a Reason for some letters, and a payload. [`Packet`] encodes packets, and [`Decoder`] decodes
//! them from chunks of any size.
//!
//! ```
//! use bytes::Bytes;
//! use wmhttp::packet::{Decoder, Packet};
//!
//! let wire = Packet::Data(Bytes::from_static(b"media")).to_bytes()?;
//! assert_eq!(&wire[..], b"$D\x05\0media");
//!
//! let mut decoder = Decoder::default();
//! for byte in wire.chunks(1) {
//!     decoder.push(Bytes::copy_from_slice(byte));
//! }
//! assert_eq!(decoder.next_packet()?, Some(Packet::Data(Bytes::from_static(b"media"))));
//! # Ok::<(), wmhttp::packet::Malformed>(())
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::Hresult;
use crate::frame_buffer::FrameBuffer;

/// Size of the framing header in bytes (P-1).
pub const FRAMING_LEN: usize = 4;
/// Size of a whole `$E` in bytes (P-6).
pub const END_LEN: usize = FRAMING_LEN + 4;
/// Largest payload of `$H` and `$F` in bytes (P-3, P-7): with the framing header it has 65,535 bytes.
pub const MAX_PAYLOAD: usize = 65_531;
/// Largest ASF data packet of a `$D` in bytes: the maximum of PacketLength (P-2, P-5).
pub const MAX_DATA: usize = 65_535;
/// Largest ASF file header of a `$C` in bytes (P-4).
pub const MAX_STREAM_CHANGE: usize = 65_527;

const DOLLAR: u8 = b'$';

/// One packet of a PushStart body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// `$H`: the ASF file header, which is the first packet of a session (P-3).
    Header(Bytes),
    /// `$D`: one ASF data packet (P-5).
    Data(Bytes),
    /// `$C`: the ASF file header of the next entry (P-4).
    StreamChange(Bytes),
    /// `$E`: the end of the entry; [`Hresult::FALSE`] announces a `$C` (P-6).
    End(Hresult),
    /// `$F`: this number of padding bytes after the framing header (P-7).
    Filler(usize),
}

/// Why a byte sequence is not a packet of this protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The first byte is not `$`, or has the B flag set.
    #[error(
        "byte {0:#04x} instead of the `$` of a packet: the body is not an [MS-WMHTTP] packet stream, or has lost its alignment"
    )]
    NotFramed(u8),
    /// The letter is not one of a push.
    #[error("unknown packet type {0:#04x} after `$`: a push contains only H, D, C, E and F")]
    UnknownId(u8),
    /// The length is not valid for this kind of packet.
    #[error("${letter} with a PacketLength of {len}, outside {min}..={max}")]
    Length {
        /// The packet's letter.
        letter: char,
        /// The PacketLength field.
        len: usize,
        /// Minimum value.
        min: usize,
        /// Maximum value.
        max: usize,
    },
}

impl Packet {
    /// Returns the packet's letter.
    pub fn letter(&self) -> u8 {
        match self {
            Self::Header(_) => b'H',
            Self::Data(_) => b'D',
            Self::StreamChange(_) => b'C',
            Self::End(_) => b'E',
            Self::Filler(_) => b'F',
        }
    }

    /// Returns the encoded size in bytes, including the framing header.
    pub fn wire_len(&self) -> usize {
        FRAMING_LEN + self.packet_length()
    }

    /// The PacketLength field: the number of bytes that follow it (P-2).
    fn packet_length(&self) -> usize {
        match self {
            Self::Header(payload) | Self::Data(payload) => payload.len(),
            Self::StreamChange(header) => 4 + header.len(),
            Self::End(_) => 4,
            Self::Filler(len) => *len,
        }
    }

    /// Appends the encoded packet to `out`.
    ///
    /// # Errors
    /// [`Malformed::Length`] if the payload is too large for the packet; nothing is written then.
    pub fn encode(&self, out: &mut impl BufMut) -> Result<(), Malformed> {
        let framing = framing(self.letter(), self.packet_length())?;
        out.put_slice(&framing);
        match self {
            Self::Header(payload) | Self::Data(payload) => out.put_slice(payload),
            Self::StreamChange(header) => {
                out.put_u32_le(Hresult::OK.0);
                out.put_slice(header);
            }
            Self::End(reason) => out.put_u32_le(reason.0),
            Self::Filler(len) => out.put_bytes(0, *len),
        }
        Ok(())
    }

    /// Returns the encoded packet.
    ///
    /// # Errors
    /// Like [`Packet::encode`].
    pub fn to_bytes(&self) -> Result<Bytes, Malformed> {
        let mut out = BytesMut::with_capacity(self.wire_len());
        self.encode(&mut out)?;
        Ok(out.freeze())
    }

    /// Decodes a packet from the bytes after the framing header.
    fn decode(letter: u8, mut rest: Bytes) -> Result<Self, Malformed> {
        Ok(match letter {
            b'H' => Self::Header(rest),
            b'D' => Self::Data(rest),
            b'C' => {
                // The Reason of a `$C` is always 0, so other values are ignored.
                rest.advance(4);
                Self::StreamChange(rest)
            }
            b'E' => Self::End(Hresult(rest.get_u32_le())),
            b'F' => Self::Filler(rest.len()),
            other => return Err(Malformed::UnknownId(other)),
        })
    }
}

/// Returns the framing header of a `$D` with `len` bytes (P-1, P-5), for callers that write the payload themselves.
///
/// # Errors
/// [`Malformed::Length`] if `len` is 0 or greater than [`MAX_DATA`].
pub fn data_framing(len: usize) -> Result<[u8; FRAMING_LEN], Malformed> {
    framing(b'D', len)
}

fn framing(letter: u8, packet_length: usize) -> Result<[u8; FRAMING_LEN], Malformed> {
    let length = checked_length(letter, packet_length)?;
    let [low, high] = length.to_le_bytes();
    Ok([DOLLAR, letter, low, high])
}

/// Checks the limits of each letter's PacketLength (P-3 to P-7).
fn checked_length(letter: u8, len: usize) -> Result<u16, Malformed> {
    // The limits of `$H`, `$C` and `$F` make a packet end within 65,535 bytes of its start; a `$D` may be longer by its
    // framing header.
    let (min, max) = match letter {
        b'H' => (1, MAX_PAYLOAD),
        b'D' => (1, MAX_DATA),
        b'C' => (5, 4 + MAX_STREAM_CHANGE),
        b'E' => (4, 4),
        b'F' => (0, MAX_PAYLOAD),
        other => return Err(Malformed::UnknownId(other)),
    };
    u16::try_from(len).ok().filter(|_| (min..=max).contains(&len)).ok_or(Malformed::Length {
        letter: char::from(letter),
        len,
        min,
        max,
    })
}

/// Decodes packets from a body that arrives in chunks of any size.
///
/// A packet within one chunk is a slice of it; only a packet that spans chunks is copied. The decoder never holds more
/// than one packet and one chunk.
#[derive(Debug, Default)]
pub struct Decoder(FrameBuffer);

impl Decoder {
    /// Adds the next bytes of the body.
    pub fn push(&mut self, chunk: Bytes) {
        self.0.push(chunk);
    }

    /// Returns the next whole packet, or `None` if more bytes are needed.
    ///
    /// # Errors
    /// [`Malformed`] if the bytes are not a packet. Packet boundaries are unknown then, so decoding cannot continue.
    pub fn next_packet(&mut self) -> Result<Option<Packet>, Malformed> {
        let Some(mut packet) = self.0.next_frame(FRAMING_LEN, peek)? else { return Ok(None) };
        let letter = packet.get(1).copied().unwrap_or_default();
        packet.advance(FRAMING_LEN);
        Packet::decode(letter, packet).map(Some)
    }

    /// Returns whether the bytes received so far end with a packet.
    pub fn is_aligned(&self) -> bool {
        self.0.is_aligned()
    }
}

/// Returns the total length of the packet that starts here, once its framing header is complete.
fn peek(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    match *bytes {
        [] => Ok(None),
        [first, ..] if first != DOLLAR => Err(Malformed::NotFramed(first)),
        [_, letter, low, high, ..] => {
            let len = usize::from(u16::from_le_bytes([low, high]));
            checked_length(letter, len)?;
            Ok(Some(FRAMING_LEN + len))
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<(Packet, Vec<u8>)> {
        vec![
            (Packet::Header(Bytes::from_static(b"head")), b"$H\x04\0head".to_vec()),
            (Packet::Data(Bytes::from_static(b"media")), b"$D\x05\0media".to_vec()),
            (Packet::StreamChange(Bytes::from_static(b"next")), b"$C\x08\0\0\0\0\0next".to_vec()),
            (Packet::End(Hresult::OK), b"$E\x04\0\0\0\0\0".to_vec()),
            (Packet::End(Hresult::FALSE), b"$E\x04\0\x01\0\0\0".to_vec()),
            (Packet::Filler(3), b"$F\x03\0\0\0\0".to_vec()),
            (Packet::Filler(0), b"$F\0\0".to_vec()),
        ]
    }

    /// P-1, P-2, P-3, P-4, P-5, P-6, P-7: the bytes of each packet, encoded and decoded.
    #[test]
    fn p1_p2_p3_p4_p5_p6_p7_bytes_of_each_packet() {
        for (packet, wire) in samples() {
            assert_eq!(packet.to_bytes().unwrap(), wire, "{packet:?}");
            assert_eq!(packet.wire_len(), wire.len());
            let mut decoder = Decoder::default();
            decoder.push(Bytes::from(wire));
            assert_eq!(decoder.next_packet().unwrap(), Some(packet));
            assert!(decoder.is_aligned());
        }
    }

    #[test]
    fn any_chunking_gives_the_same_packets() {
        let wire: Vec<u8> = samples().into_iter().flat_map(|(_, wire)| wire).collect();
        let expected: Vec<Packet> = samples().into_iter().map(|(packet, _)| packet).collect();
        for size in 1..=wire.len() {
            let mut decoder = Decoder::default();
            let mut got = Vec::new();
            for chunk in wire.chunks(size) {
                decoder.push(Bytes::copy_from_slice(chunk));
                while let Some(packet) = decoder.next_packet().unwrap() {
                    got.push(packet);
                }
            }
            assert_eq!(got, expected, "chunks of {size}");
            assert!(decoder.is_aligned());
        }
    }

    #[test]
    fn a_packet_within_one_chunk_is_not_copied() {
        let chunk = Bytes::from_static(b"$D\x05\0media$D\x01\0x");
        let inside = chunk.slice(4..9);
        let mut decoder = Decoder::default();
        decoder.push(chunk);
        let Some(Packet::Data(payload)) = decoder.next_packet().unwrap() else { panic!() };
        assert_eq!(payload.as_ptr(), inside.as_ptr());
    }

    /// P-1: `$` without the B flag, and one of the five letters.
    #[test]
    fn p1_invalid_framing_is_rejected() {
        for (wire, expected) in [
            (&b"\xa4D\x01\0x"[..], Malformed::NotFramed(0xa4)),
            (b"POST", Malformed::NotFramed(b'P')),
            (b"$M\x04\0....", Malformed::UnknownId(b'M')),
        ] {
            let mut decoder = Decoder::default();
            decoder.push(Bytes::copy_from_slice(wire));
            assert_eq!(decoder.next_packet(), Err(expected));
        }
    }

    /// P-3, P-4, P-6: lengths outside the packet's limits, encoded or decoded.
    #[test]
    fn p3_p4_p6_limits_of_length() {
        let big = |len| Bytes::from(vec![0; len]);
        assert!(Packet::Header(big(MAX_PAYLOAD)).to_bytes().is_ok());
        assert!(Packet::Header(big(MAX_PAYLOAD + 1)).to_bytes().is_err());
        assert!(Packet::StreamChange(big(MAX_STREAM_CHANGE)).to_bytes().is_ok());
        assert!(Packet::StreamChange(big(MAX_STREAM_CHANGE + 1)).to_bytes().is_err());
        assert!(Packet::Data(Bytes::new()).to_bytes().is_err());
        let mut decoder = Decoder::default();
        decoder.push(Bytes::from_static(b"$E\x05\0\0\0\0\0x"));
        assert_eq!(decoder.next_packet(), Err(Malformed::Length { letter: 'E', len: 5, min: 4, max: 4 }));
    }
}
