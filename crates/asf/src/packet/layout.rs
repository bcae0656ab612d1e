//! Offsets and values of the fields of a data packet (ASF 5.2).

use crate::Header;
use crate::cursor::Cursor;
pub(super) use crate::cursor::width;

/// Length Type Flags: the types of Packet Length and Padding Length.
pub(super) const LENGTH_AND_PADDING: u8 = 0b0111_1000;
/// Length Type Flags: Packet Length is a WORD.
pub(super) const PACKET_LENGTH_WORD: u8 = 0b0100_0000;
const MULTIPLE_PAYLOADS: u8 = 1;
const KEY_FRAME: u8 = 0x80;

/// Properties of a payload, from its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayloadInfo {
    /// Stream number, 1 to 127.
    pub stream: u8,
    /// Whether it belongs to a key frame.
    pub key: bool,
    /// Whether a media object begins in it.
    pub begins: bool,
}

/// The start of a packet, up to its payloads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// Offset of the Length Type Flags, after the error correction.
    pub(super) flags_at: usize,
    /// Length Type Flags (ASF 5.2.2): bit 0 is set for multiple payloads. The types of three fields follow, of two bits
    /// each: Sequence from bit 1, Padding Length from bit 3, Packet Length from bit 5.
    pub(super) flags: u8,
    /// Property Flags (ASF 5.2.2): the types of four fields of a payload, of two bits each: Replicated Data Length from
    /// bit 0, Offset Into Media Object from bit 2, Media Object Number from bit 4, Stream Number from bit 6.
    pub(super) properties: u8,
    /// Packet Length in bytes; 0 if absent.
    pub(super) packet_length: u32,
    /// Padding Length in bytes; 0 if absent.
    pub(super) padding: u32,
    /// Offset of the Send Time, after the fields of variable width.
    pub(super) times_at: usize,
    /// Milliseconds.
    pub(super) send_time: u32,
    /// Milliseconds.
    pub(super) duration: u16,
}

impl Layout {
    /// Reads the start of a packet; `None` if it is too short or has an invalid value.
    pub(super) fn read(packet: &mut Cursor<'_>) -> Option<Self> {
        let mut flags_at = 0;
        let mut flags = packet.u8()?;
        if flags & 0x80 != 0 {
            // Error Correction Flags (ASF 5.2.1): the low four bits are the length of the data that follows. The other
            // bits stand for opaque data, or a length elsewhere; no muxer is known to set them.
            if flags & 0x70 != 0 {
                return None;
            }
            packet.skip(usize::from(flags & 0x0f))?;
            flags_at = packet.position();
            flags = packet.u8()?;
        }
        if flags & 0x80 != 0 {
            return None;
        }
        let properties = packet.u8()?;
        let packet_length = packet.typed(flags >> 5)?;
        // The Sequence has no use for the receiver.
        packet.typed(flags >> 1)?;
        let padding = packet.typed(flags >> 3)?;
        Some(Self {
            flags_at,
            flags,
            properties,
            packet_length,
            padding,
            times_at: packet.position(),
            send_time: packet.u32()?,
            duration: packet.u16()?,
        })
    }

    pub(super) fn has_multiple_payloads(&self) -> bool {
        self.flags & MULTIPLE_PAYLOADS != 0
    }
}

/// Result of one pass over a packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scan {
    pub(super) layout: Layout,
    /// Offset of the end of the payloads, where the padding begins.
    pub(super) end: usize,
    /// Whether there is padding that can be removed safely.
    pub(super) has_padding: bool,
    /// Whether a video key frame begins in the packet.
    pub(super) starts_key_frame: bool,
}

impl Scan {
    /// Scans a packet; `None` if the bytes are not a valid packet.
    pub(super) fn read(mut packet: Cursor<'_>, header: &Header) -> Option<Self> {
        let layout = Layout::read(&mut packet)?;
        let removable = removable_end(&layout, packet.position(), packet.len());
        let payloads = Payloads::read(&layout, packet.clone(), header)?;
        let (end, has_padding) = match (removable, payloads.end) {
            // A single payload has no length field: it ends where the padding begins.
            (Some(end), None) => (end, payloads.data_at <= end),
            (Some(end), Some(payloads_end)) => (end, payloads_end == end),
            (None, _) => (packet.len(), false),
        };
        Some(Self { layout, end, has_padding, starts_key_frame: payloads.start_key_frame })
    }
}

/// Returns the offset at which the padding begins, if there is any and the two length fields agree on it.
///
/// Packet Length may include the padding (as specified) or not (asfmux). It may also be the shorter length without a
/// Padding Length field; the rest of the packet is then padding too.
fn removable_end(layout: &Layout, head: usize, size: usize) -> Option<usize> {
    let packet_length = usize::try_from(layout.packet_length).ok()?;
    let padding = usize::try_from(layout.padding).ok()?;
    let end = match (packet_length, padding) {
        (0, 0) => return None,
        (0, padding) => size.checked_sub(padding)?,
        (length, 0) => length,
        (length, padding) => {
            let end = size.checked_sub(padding)?;
            if length != size && length != end {
                return None;
            }
            end
        }
    };
    (end < size && end >= head).then_some(end)
}

/// Values combined from all payloads.
struct Payloads {
    start_key_frame: bool,
    /// Offset after the heads, and in the form with multiple payloads after their data as well.
    data_at: usize,
    /// Offset of the end of the last payload, in the form with multiple payloads.
    end: Option<usize>,
}

impl Payloads {
    fn read(layout: &Layout, packet: Cursor<'_>, header: &Header) -> Option<Self> {
        let mut start_key_frame = false;
        let (data_at, end) = visit_payloads(layout, packet, |head| start_key_frame |= head.starts_key_frame(header))?;
        Some(Self { start_key_frame, data_at, end })
    }
}

/// Calls `visit` with the head of each payload. Returns the offset after the heads, and in the form with multiple
/// payloads after their data as well, and the offset of the end of the last payload, in the form with multiple
/// payloads.
pub(super) fn visit_payloads(
    layout: &Layout,
    mut packet: Cursor<'_>,
    mut visit: impl FnMut(&PayloadHead),
) -> Option<(usize, Option<usize>)> {
    // The type of the stream number must be BYTE. If it is not, the bytes are most likely not a packet.
    if layout.properties >> 6 != 1 {
        return None;
    }
    if !layout.has_multiple_payloads() {
        visit(&PayloadHead::read(layout, &mut packet)?);
        return Some((packet.position(), None));
    }
    // Payload Flags: the number of payloads in six bits, and the type of their lengths in two.
    let flags = packet.u8()?;
    for _ in 0..flags & 0x3f {
        visit(&PayloadHead::read(layout, &mut packet)?);
        // Without lengths, the payloads cannot be separated.
        if flags >> 6 == 0 {
            return None;
        }
        let len = packet.typed(flags >> 6)?;
        packet.skip(usize::try_from(len).ok()?)?;
    }
    Some((packet.position(), Some(packet.position())))
}

/// The start of a payload (ASF 5.2.3).
pub(super) struct PayloadHead {
    /// Stream number, and the key frame bit.
    stream: u8,
    /// Offset Into Media Object in bytes; a presentation time if the payload is compressed.
    object_offset: u32,
    /// Offset of that field in the packet.
    object_offset_at: usize,
    compressed: bool,
    /// Offset in the packet and size in bytes of the Replicated Data.
    replicated: (usize, u32),
}

impl PayloadHead {
    pub(super) fn read(layout: &Layout, packet: &mut Cursor<'_>) -> Option<Self> {
        let properties = layout.properties;
        let stream = packet.u8()?;
        packet.typed(properties >> 4)?;
        let object_offset_at = packet.position();
        let object_offset = packet.typed(properties >> 2)?;
        let replicated = packet.typed(properties)?;
        // Replicated Data has at least the size and the time of the media object, 8 bytes. A length of 1 marks a
        // compressed payload (ASF 5.2.3), and 0 means that there is none.
        if matches!(replicated, 2..=7) {
            return None;
        }
        let replicated_at = packet.position();
        packet.skip(usize::try_from(replicated).ok()?)?;
        let compressed = replicated == 1;
        Some(Self { stream, object_offset, object_offset_at, compressed, replicated: (replicated_at, replicated) })
    }

    pub(super) fn stream(&self) -> u8 {
        self.stream & !KEY_FRAME
    }

    /// The presentation time in milliseconds, including the preroll. `packet` is the whole packet.
    pub(super) fn presentation_time(&self, packet: &[u8]) -> Option<u32> {
        if self.compressed {
            return Some(self.object_offset);
        }
        let (at, len) = self.replicated;
        // The size of the media object comes first.
        let mut replicated = Cursor::new(packet.get(at..)?.get(..usize::try_from(len).ok()?)?);
        replicated.skip(4)?;
        replicated.u32()
    }

    /// Offset in the packet of the presentation time, a DWORD. `None` if the field has another width or is absent.
    pub(super) fn presentation_time_at(&self, layout: &Layout) -> Option<usize> {
        /// The size of the media object and its presentation time (ASF 5.2.3.1).
        const REPLICATED: u32 = 8;
        if self.compressed {
            return (width(layout.properties >> 2) == 4).then_some(self.object_offset_at);
        }
        let (at, len) = self.replicated;
        (len >= REPLICATED).then_some(at + 4)
    }

    pub(super) fn info(&self) -> PayloadInfo {
        PayloadInfo {
            stream: self.stream(),
            key: self.stream & KEY_FRAME != 0,
            begins: self.compressed || self.object_offset == 0,
        }
    }

    /// Whether this payload is the first one of a video key frame.
    pub(super) fn starts_key_frame(&self, header: &Header) -> bool {
        let PayloadInfo { stream, key, begins } = self.info();
        key && begins && header.is_video(stream)
    }
}
