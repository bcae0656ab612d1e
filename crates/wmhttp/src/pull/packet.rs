//! The packets of a pull stream ([MS-WMSP] 2.2.3), as received by a player.
//!
//! A packet begins with a 4-byte framing header (`$`, the packet's letter, the number of bytes that follow in
//! little-endian order). In `$H`, `$D` and `$M`, an 8-byte MMS data packet prefix precedes the payload; `$C` and `$E`
//! have a Reason.
//!
//! ```
//! use bytes::Bytes;
//! use wmhttp::pull::packet::{Decoder, Packet};
//!
//! let mut decoder = Decoder::default();
//! decoder.push(Bytes::from_static(b"$D\x0d\0\x07\0\0\0\0\x01\x0d\0media"));
//! assert_eq!(decoder.next_packet()?, Some(Packet::Data(Bytes::from_static(b"media"))));
//! # Ok::<(), wmhttp::pull::packet::Malformed>(())
//! ```

use bytes::{Buf, Bytes};

use crate::Hresult;
use crate::frame_buffer::FrameBuffer;

/// Size of the framing header in bytes (2.2.3.1.1).
const FRAMING_LEN: usize = 4;
/// Size of the MMS data packet prefix in bytes (2.2.3.1.2), which PacketLength includes.
const PREFIX_LEN: usize = 8;
/// Bit of the first byte by which a server announces that the next packet follows without delay.
const B_FLAG: u8 = 0x80;
/// AFFlags of the first piece of a header (2.2.3.1.2).
const FIRST_PIECE: u8 = 0x04;
/// AFFlags of the last piece.
const LAST_PIECE: u8 = 0x08;

/// One packet of a pull stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// `$H`: the ASF file header, or a piece of it.
    Header {
        /// The bytes of the header or piece.
        piece: Bytes,
        /// Whether it is flagged as the first piece.
        first: bool,
        /// Whether it is flagged as the last piece.
        last: bool,
    },
    /// `$D`: one ASF data packet, with or without its padding.
    Data(Bytes),
    /// `$C`: a `$H` with a new header follows.
    StreamChange,
    /// `$E`: the end of the stream; [`Hresult::FALSE`] announces another entry.
    End(Hresult),
    /// `$M`, `$P`, `$T` or `$F`: metadata, connection tests and filler, which a relay does not need.
    Other,
}

/// Why a byte sequence is not a packet of this protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The first byte is not `$`.
    #[error("byte {0:#04x} instead of the `$` of a packet")]
    NotFramed(u8),
    /// The letter is not one of a pull stream.
    #[error("unknown packet type {0:#04x} after `$`: a stream contains only H, D, C, E, M, P, T and F")]
    UnknownId(u8),
    /// The length is too small for this kind of packet.
    #[error("${letter} with a PacketLength of {len}, which is less than {min}")]
    Length {
        /// The packet's letter.
        letter: char,
        /// The PacketLength field.
        len: usize,
        /// Minimum value.
        min: usize,
    },
}

/// Decodes packets from a body that arrives in chunks of any size. A packet within one chunk is a slice of it; the
/// decoder never holds more than one packet and one chunk.
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
        Ok(self.0.next_frame(FRAMING_LEN, peek)?.map(decode))
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
        [first, ..] if first & !B_FLAG != b'$' => Err(Malformed::NotFramed(first)),
        [_, letter, low, high, ..] => {
            let len = usize::from(u16::from_le_bytes([low, high]));
            let min = match letter {
                // A data packet must have a payload.
                b'D' => PREFIX_LEN + 1,
                b'H' | b'M' => PREFIX_LEN,
                b'C' | b'E' => 4,
                b'P' | b'T' | b'F' => 0,
                other => return Err(Malformed::UnknownId(other)),
            };
            if len < min {
                return Err(Malformed::Length { letter: char::from(letter), len, min });
            }
            Ok(Some(FRAMING_LEN + len))
        }
        _ => Ok(None),
    }
}

/// Decodes a whole packet, whose length [`peek`] has checked.
fn decode(mut frame: Bytes) -> Packet {
    let letter = frame.get(1).copied().unwrap_or_default();
    match letter {
        b'H' => {
            // The prefix begins with a LocationId of 4 bytes and playIncarnation; AFFlags are next (2.2.3.1.2).
            let flags = frame.get(FRAMING_LEN + 5).copied().unwrap_or_default();
            frame.advance(FRAMING_LEN + PREFIX_LEN);
            Packet::Header { piece: frame, first: flags & FIRST_PIECE != 0, last: flags & LAST_PIECE != 0 }
        }
        b'D' => {
            frame.advance(FRAMING_LEN + PREFIX_LEN);
            Packet::Data(frame)
        }
        b'C' => Packet::StreamChange,
        b'E' => {
            frame.advance(FRAMING_LEN);
            Packet::End(Hresult(frame.get_u32_le()))
        }
        _ => Packet::Other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn samples() -> Vec<(Packet, Vec<u8>)> {
        let piece =
            |piece: &'static [u8], first, last| Packet::Header { piece: Bytes::from_static(piece), first, last };
        vec![
            (piece(b"head", true, true), b"$H\x0c\0\0\0\0\0\0\x0c\x0c\0head".to_vec()),
            (piece(b"he", true, false), b"$H\x0a\0\0\0\0\0\0\x04\x0a\0he".to_vec()),
            (piece(b"ad", false, true), b"$H\x0a\0\x01\0\0\0\0\x08\x0a\0ad".to_vec()),
            (Packet::Data(Bytes::from_static(b"media")), b"\xa4D\x0d\0\x07\0\0\0\x01\xff\x0d\0media".to_vec()),
            (Packet::Other, b"$M\x0a\0\0\0\0\0\0\x0c\x0a\0x\0".to_vec()),
            (Packet::Other, b"$P\x02\0..".to_vec()),
            (Packet::Other, b"$T\0\0".to_vec()),
            (Packet::StreamChange, b"$C\x04\0\0\0\0\0".to_vec()),
            (Packet::End(Hresult::FALSE), b"$E\x04\0\x01\0\0\0".to_vec()),
            (Packet::End(Hresult::OK), b"$E\x04\0\0\0\0\0".to_vec()),
        ]
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_packets(sizes in proptest::collection::vec(1_usize..40, 1..20)) {
            let wire: Vec<u8> = samples().into_iter().flat_map(|(_, wire)| wire).collect();
            let expected: Vec<Packet> = samples().into_iter().map(|(packet, _)| packet).collect();
            let mut decoder = Decoder::default();
            let mut got = Vec::new();
            let mut rest = &wire[..];
            for size in sizes.iter().cycle() {
                let (chunk, after) = rest.split_at((*size).min(rest.len()));
                decoder.push(Bytes::copy_from_slice(chunk));
                while let Some(packet) = decoder.next_packet().unwrap() {
                    got.push(packet);
                }
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(got, expected);
            prop_assert!(decoder.is_aligned());
        }

        #[test]
        fn any_bytes_are_packets_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut decoder = Decoder::default();
            decoder.push(Bytes::from(bytes));
            while let Ok(Some(_)) = decoder.next_packet() {}
        }
    }

    #[test]
    fn a_packet_within_one_chunk_is_not_copied() {
        let chunk = Bytes::from_static(b"$D\x0d\0\0\0\0\0\0\0\x0d\0media$D");
        let inside = chunk.slice(12..17);
        let mut decoder = Decoder::default();
        decoder.push(chunk);
        let Some(Packet::Data(payload)) = decoder.next_packet().unwrap() else { panic!() };
        assert_eq!(payload.as_ptr(), inside.as_ptr());
    }

    #[test]
    fn invalid_framing_is_rejected() {
        for (wire, expected) in [
            (&b"<asx"[..], Malformed::NotFramed(b'<')),
            (b"$X\x04\0....", Malformed::UnknownId(b'X')),
            (b"$E\x03\0...", Malformed::Length { letter: 'E', len: 3, min: 4 }),
            (b"$D\x08\0........", Malformed::Length { letter: 'D', len: 8, min: 9 }),
        ] {
            let mut decoder = Decoder::default();
            decoder.push(Bytes::copy_from_slice(wire));
            assert_eq!(decoder.next_packet(), Err(expected));
        }
    }
}
