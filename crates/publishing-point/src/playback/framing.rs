//! The packets of a pull stream ([MS-WMSP] 2.2.3), which are sent to players.
//!
//! As in a push, a packet is `$`, a letter and a little-endian count of the following bytes. `$H` and `$D` have an MMS
//! data packet prefix before their payload.

use bytes::{BufMut, Bytes, BytesMut};

/// Bytes of the framing header and the prefix (2.2.3.1).
pub(crate) const HEAD_LEN: usize = 12;
/// Bytes of the prefix, which are included in PacketLength and PacketSize.
const PREFIX_LEN: usize = 8;
/// Maximum bytes of payload that fit into a PacketLength in addition to the prefix.
pub(crate) const MAX_PAYLOAD: usize = 65_527;

/// AFFlags of the parts of a header (2.2.3.1.2).
const FIRST_PIECE: u8 = 0x04;
const LAST_PIECE: u8 = 0x08;

/// Returns `$H` with an ASF file header. It is a single packet if possible, because players in the field accept no
/// other.
pub(crate) fn header(header: &[u8]) -> Bytes {
    let pieces = header.chunks(MAX_PAYLOAD);
    let last = pieces.len().saturating_sub(1);
    let mut out = BytesMut::with_capacity(header.len() + (last + 1) * HEAD_LEN);
    for (location, piece) in pieces.enumerate() {
        let first = if location == 0 { FIRST_PIECE } else { 0 };
        let flags = if location == last { first | LAST_PIECE } else { first };
        put_head(&mut out, b'H', u32::try_from(location).unwrap_or(u32::MAX), flags, piece.len());
        out.put_slice(piece);
    }
    out.freeze()
}

/// Returns `$C` with Reason 0: the `$H` that follows describes another stream.
pub(crate) fn stream_change() -> Bytes {
    Bytes::from_static(b"$C\x04\0\0\0\0\0")
}

/// Returns `$E` with Reason 0: the stream has ended.
pub(crate) fn end() -> Bytes {
    Bytes::from_static(b"$E\x04\0\0\0\0\0")
}

/// Returns `$E` with Reason 1 (S_FALSE): a player that connects again receives more.
pub(crate) fn end_of_entry() -> Bytes {
    Bytes::from_static(b"$E\x04\0\x01\0\0\0")
}

/// Appends the framing before the ASF data packet of a `$D`, which is the player's `count`th and `len` bytes long.
pub(crate) fn put_data_head(out: &mut BytesMut, count: u32, len: usize) {
    // AFFlags of data packets are an 8-bit counter.
    let [flags, ..] = count.to_le_bytes();
    put_head(out, b'D', count, flags, len);
}

/// Changes the count in the framing of a `$D`, written by [`put_data_head`].
pub(crate) fn set_count(head: &mut [u8; HEAD_LEN], count: u32) {
    let [_, _, _, _, c0, c1, c2, c3, _, flags, ..] = head;
    let count = count.to_le_bytes();
    [*c0, *c1, *c2, *c3] = count;
    [*flags, ..] = count;
}

/// Appends the framing of a packet. `len` must not exceed [`MAX_PAYLOAD`], which the callers ensure.
fn put_head(out: &mut BytesMut, letter: u8, location: u32, flags: u8, len: usize) {
    debug_assert!(len <= MAX_PAYLOAD);
    let length = u16::try_from(PREFIX_LEN + len).unwrap_or(u16::MAX);
    out.put_slice(&[b'$', letter]);
    out.put_u16_le(length);
    out.put_u32_le(location);
    // The incarnation is constant, because each request of a player has only one.
    out.put_u8(0);
    out.put_u8(flags);
    out.put_u16_le(length);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_one_packet_with_both_flags() {
        assert_eq!(&header(b"abc")[..], b"$H\x0b\0\0\0\0\0\0\x0c\x0b\0abc");
        assert_eq!(header(&vec![1; MAX_PAYLOAD]).len(), HEAD_LEN + MAX_PAYLOAD);
    }

    #[test]
    fn a_header_larger_than_a_packet_is_split() {
        let out = header(&vec![1; 2 * MAX_PAYLOAD + 1]);
        let pieces: Vec<(u8, u8)> = out.chunks(HEAD_LEN + MAX_PAYLOAD).map(|piece| (piece[4], piece[9])).collect();
        assert_eq!(pieces, [(0, 0x04), (1, 0), (2, 0x08)]);
        assert_eq!(&out[2 * (HEAD_LEN + MAX_PAYLOAD)..][..4], b"$H\x09\0");
    }

    #[test]
    fn data_packets_are_counted_in_location_and_flags() {
        let mut out = BytesMut::new();
        put_data_head(&mut out, 0x1ff, 3200);
        assert_eq!(&out[..], b"$D\x88\x0c\xff\x01\0\0\0\xff\x88\x0c");
        let mut changed: [u8; HEAD_LEN] = out[..].try_into().unwrap();
        set_count(&mut changed, 0x0403_0201);
        assert_eq!(&changed, b"$D\x88\x0c\x01\x02\x03\x04\0\x01\x88\x0c");
    }
}
