//! Packets back to their full size, for players and files.

use bytes::BufMut;

use super::layout::{Layout, width};
use crate::asf::Error;
use crate::asf::cursor::Cursor;

const PADDING_BYTE: u8 = 0b0000_1000;
const PADDING_WORD: u8 = 0b0001_0000;
const PADDING_TYPE: u8 = 0b0001_1000;

/// Appends a received packet, with or without padding, to `out` at its full `size`
/// in bytes.
///
/// What is appended as padding is accounted for in the packet: players that find
/// zeros nobody speaks of take them for the end of a single payload. A packet that
/// makes no sense is only filled up.
///
/// # Errors
///
/// [`Error::OverlongPacket`] where the packet has more bytes than `size`; nothing
/// is appended then.
pub fn restore(packet: &[u8], size: usize, out: &mut impl BufMut) -> Result<(), Error> {
    let len = packet.len();
    let missing = size
        .checked_sub(len)
        .ok_or(Error::OverlongPacket { len, size })?;
    let padding = match Layout::read(&mut Cursor::new(packet)) {
        Some(layout) => account(packet, &layout, missing, out),
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

/// Writes the packet with a Padding Length of what will be appended, and gives that.
/// `None`, and nothing written, where the packet is right as it is.
fn account(packet: &[u8], layout: &Layout, missing: usize, out: &mut impl BufMut) -> Option<usize> {
    let Layout {
        flags_at,
        flags,
        packet_length,
        padding,
        times_at,
        ..
    } = *layout;
    let field = width(flags >> 3);
    let field_at = times_at.checked_sub(field)?;
    let rest = packet.get(times_at..)?;
    if width(flags >> 5) > 0 && packet_length > 0 {
        // What Packet Length leaves out is padding already. Only asfmux's way of
        // naming that again in Padding Length must go: players subtract it twice.
        let len = packet_length as usize;
        let whole = packet.len() + missing;
        let twice = layout.has_multiple_payloads()
            && padding > 0
            && len.checked_add(padding as usize)? == whole;
        if !twice {
            return None;
        }
        out.put_slice(packet.get(..field_at)?);
        out.put_bytes(0, field);
        out.put_slice(rest);
        return Some(missing);
    }
    // A sender that cut the padding off and left its length has accounted for it.
    if missing == 0 || padding > 0 {
        return None;
    }
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
