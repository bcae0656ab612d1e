//! Pads packets to their full size, for players and files.

use bytes::BufMut;

use super::layout::{Layout, width};
use crate::Error;
use crate::cursor::Cursor;

/// Length Type Flags: Padding Length is a BYTE.
const PADDING_BYTE: u8 = 0b0000_1000;
/// Length Type Flags: Padding Length is a WORD.
const PADDING_WORD: u8 = 0b0001_0000;
/// Length Type Flags: the type of Padding Length.
const PADDING_TYPE: u8 = 0b0001_1000;

/// Appends a received packet, with or without padding, to `out`, padded to its full `size` in bytes.
///
/// The packet's length fields are updated to include the padding, because players would otherwise take the zeros for
/// the end of a single payload. A packet that cannot be parsed is only filled with zeros.
///
/// # Errors
///
/// [`Error::OverlongPacket`] if the packet has more bytes than `size`; nothing is appended then.
pub fn restore(packet: &[u8], size: usize, out: &mut impl BufMut) -> Result<(), Error> {
    let len = packet.len();
    let missing = size.checked_sub(len).ok_or(Error::OverlongPacket { len, size })?;
    let padding = match Layout::read(&mut Cursor::new(packet)) {
        Some(layout) => write_with_padding_length(packet, &layout, missing, out),
        None => None,
    };
    match padding {
        Some(padding) => out.put_bytes(0, padding),
        None => {
            out.put_slice(packet);
            out.put_bytes(0, missing);
        }
    }
    Ok(())
}

/// Writes the packet with a Padding Length for the padding to be appended, and returns that length. Returns `None` and
/// writes nothing if the packet is correct unchanged.
fn write_with_padding_length(packet: &[u8], layout: &Layout, missing: usize, out: &mut impl BufMut) -> Option<usize> {
    let Layout { flags_at, flags, packet_length, padding, times_at, .. } = *layout;
    let field = width(flags >> 3);
    let field_at = times_at.checked_sub(field)?;
    let rest = packet.get(times_at..)?;
    if width(flags >> 5) > 0 && packet_length > 0 {
        // The bytes after Packet Length are padding already. asfmux repeats them in Padding Length; that must be set
        // to 0, because players subtract both.
        let len = packet_length as usize;
        let whole = packet.len() + missing;
        let is_counted_twice =
            layout.has_multiple_payloads() && padding > 0 && len.checked_add(padding as usize)? == whole;
        if !is_counted_twice {
            return None;
        }
        out.put_slice(packet.get(..field_at)?);
        out.put_bytes(0, field);
        out.put_slice(rest);
        return Some(missing);
    }
    // If the sender removed the padding but kept its length, the field is already correct.
    if missing == 0 || padding > 0 {
        return None;
    }
    // A field that is inserted, or widened to a WORD, takes the place of one or two bytes of padding.
    let (kind, value) = match field {
        2 | 4 => (flags & PADDING_TYPE, missing),
        1 if missing <= 255 => (PADDING_BYTE, missing),
        1 => (PADDING_WORD, missing - 1),
        _ if missing <= 256 => (PADDING_BYTE, missing - 1),
        _ => (PADDING_WORD, missing - 2),
    };
    let value_bytes = u32::try_from(value).ok()?.to_le_bytes();
    let (value_bytes, too_high) = value_bytes.split_at_checked(width(kind >> 3))?;
    if too_high.iter().any(|byte| *byte != 0) {
        return None;
    }
    out.put_slice(packet.get(..flags_at)?);
    out.put_u8(flags & !PADDING_TYPE | kind);
    out.put_slice(packet.get(flags_at + 1..field_at)?);
    out.put_slice(value_bytes);
    out.put_slice(rest);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_util::{PacketBuilder, Payload, Width};

    fn restored(packet: &[u8], size: usize) -> Vec<u8> {
        let mut out = b"before".to_vec();
        restore(packet, size, &mut out).unwrap();
        out.split_off(6)
    }

    /// A packet without padding, and with a Padding Length of 0 if it has that field.
    fn full(padding: Width, size: usize) -> Vec<u8> {
        let builder = PacketBuilder {
            size: 0,
            padding,
            payloads: vec![Payload::new(1, &vec![7; size])],
            ..PacketBuilder::default()
        };
        builder.build().to_vec()
    }

    #[test]
    fn a_full_packet_is_unchanged() {
        for width in Width::ALL {
            let packet = full(width, 50);
            assert_eq!(restored(&packet, packet.len()), packet);
        }
    }

    #[test]
    fn a_padding_length_field_receives_the_missing_bytes() {
        for (width, len) in [(Width::Byte, 1), (Width::Word, 2), (Width::Dword, 4)] {
            let packet = full(width, 50);
            let out = restored(&packet, packet.len() + 200);
            assert_eq!(out[5..5 + len], [200, 0, 0, 0][..len]);
            assert_eq!(out[3], packet[3]);
            assert_eq!(out[5 + len..packet.len()], packet[5 + len..]);
            assert!(out[packet.len()..].iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn a_byte_field_becomes_a_word_if_it_is_too_small() {
        let packet = full(Width::Byte, 50);
        let out = restored(&packet, packet.len() + 256);
        assert_eq!(out[3..8], [0x10, 0x5D, 255, 0, packet[6]]);
        assert_eq!(out.len(), packet.len() + 256);
        let out = restored(&packet, packet.len() + 255);
        assert_eq!(out[3..7], [0x08, 0x5D, 255, packet[6]]);
    }

    #[test]
    fn a_missing_field_is_inserted() {
        let packet = full(Width::Absent, 50);
        for (missing, field) in [(1, &[0x08, 0x5D, 0][..]), (256, &[0x08, 0x5D, 255]), (257, &[0x10, 0x5D, 255, 0])] {
            let out = restored(&packet, packet.len() + missing);
            assert_eq!(out[3..3 + field.len()], *field);
            assert_eq!(out[3 + field.len()..][..packet.len() - 5], packet[5..]);
            assert_eq!(out.len(), packet.len() + missing);
        }
    }

    #[test]
    fn the_padding_of_asfmux_is_counted_once() {
        let packet = PacketBuilder::asfmux(200, vec![Payload::new(1, b"abc")]).build();
        let out = restored(&packet, 200);
        assert_eq!(out[..4], packet[..4]);
        assert_eq!(out[4..6], [0, 0]);
        assert_eq!(out[6..], packet[6..]);
    }

    #[test]
    fn a_packet_that_kept_its_padding_length_is_only_filled() {
        let packet = PacketBuilder::windows(200, Payload::new(1, b"abc")).build();
        let out = restored(&packet[..40], 200);
        assert_eq!(out[..40], packet[..40]);
    }

    #[test]
    fn invalid_packets_are_only_filled() {
        assert_eq!(restored(&[0xFF; 3], 5), [0xFF, 0xFF, 0xFF, 0, 0]);
        assert_eq!(restored(&[], 2), [0, 0]);
    }

    #[test]
    fn an_overlong_packet_is_an_error() {
        let mut out = Vec::new();
        let error = restore(&[0; 11], 10, &mut out).unwrap_err();
        assert_eq!(error, Error::OverlongPacket { len: 11, size: 10 });
        let text = error.to_string();
        assert!(text.contains("Data Packet") && text.contains("is 10"), "{text}");
        assert!(out.is_empty());
    }
}
