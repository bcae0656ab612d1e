//! ASF data packets on their way into `$D`: what they say, and without their padding.

mod layout;
mod restore;

use bytes::{BufMut, Bytes};

use super::Header;
use super::cursor::Cursor;
use layout::{Layout, PACKET_LENGTH_WORD, Scan};

pub use restore::restore;

/// One ASF data packet, ready for `$D`.
///
/// Shares the memory it was parsed from. Where padding was removed, the first few
/// bytes are rewritten and lie in the packet itself.
#[derive(Clone, Debug)]
pub struct Packet {
    head: Head,
    body: [Bytes; 2],
    padding_removed: u32,
    send_time: u32,
    duration: u16,
    starts_key_frame: bool,
    parsed: bool,
}

/// What to do with the padding of a packet.
///
/// Removing it is what [MS-WMHTTP] 2.2.3.3 asks for. Receivers differ in how they
/// take a packet without.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Padding {
    /// Removed; the packet says its real length and has no Padding Length field.
    /// Every receiver and player known decodes it.
    #[default]
    Explicit,
    /// Removed; the Padding Length field stays and is 0, as Windows Media Services
    /// sends it. Where a receiver fills up with zeros and leaves it so, single
    /// payloads grow by the zeros.
    Zero,
    /// Left in.
    Keep,
}

impl Packet {
    /// Reads one packet, which lies in one buffer (the other empty) or in two.
    ///
    /// Never fails: a packet that makes no sense goes out as it is.
    #[must_use]
    pub fn parse(parts: [Bytes; 2], header: &Header, padding: Padding) -> Packet {
        let [first, second] = &parts;
        let bytes = Cursor::joined(first, second);
        let Some(scan) = Scan::read(bytes.clone(), header) else {
            return Packet::untouched(parts, header);
        };
        let (head, from) = match padding {
            Padding::Explicit => explicit(&scan, bytes),
            Padding::Zero => zeroed(&scan, bytes),
            Padding::Keep => None,
        }
        .unwrap_or_default();
        let mut packet = Packet {
            padding_removed: 0,
            send_time: scan.layout.send_time,
            duration: scan.layout.duration,
            starts_key_frame: scan.starts_key_frame || !header.has_video(),
            parsed: true,
            body: parts,
            head,
        };
        if from > 0 {
            let len = packet.body_len();
            packet.keep_body(from, scan.end);
            packet.padding_removed = u32::try_from(len - packet.len()).unwrap_or(u32::MAX);
        }
        packet
    }

    /// Bytes as sent, after the removal of padding.
    #[must_use]
    pub fn len(&self) -> usize {
        self.head.as_slice().len() + self.body_len()
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends all bytes.
    pub fn write_to(&self, out: &mut impl BufMut) {
        out.put_slice(self.head.as_slice());
        for part in &self.body {
            out.put_slice(part);
        }
    }

    /// All bytes as a head, which is copied and small, and two slices that share
    /// memory. Any of them may be empty.
    #[must_use]
    pub fn slices(&self) -> [Bytes; 3] {
        let [first, second] = self.body.clone();
        [Bytes::copy_from_slice(self.head.as_slice()), first, second]
    }

    /// Send time in milliseconds; 0 where the packet is not parsed.
    #[must_use]
    pub fn send_time(&self) -> u32 {
        self.send_time
    }

    /// Duration in milliseconds; 0 where the packet is not parsed. Some muxers write
    /// 0 always.
    #[must_use]
    pub fn duration(&self) -> u16 {
        self.duration
    }

    /// Whether a player can begin with this packet: a video key frame begins in it,
    /// or there is no video.
    #[must_use]
    pub fn starts_key_frame(&self) -> bool {
        self.starts_key_frame
    }

    /// Bytes by which the packet is shorter than it was.
    #[must_use]
    pub fn padding_removed(&self) -> u32 {
        self.padding_removed
    }

    /// Whether the packet made sense.
    #[must_use]
    pub fn is_parsed(&self) -> bool {
        self.parsed
    }

    fn untouched(body: [Bytes; 2], header: &Header) -> Packet {
        Packet {
            head: Head::default(),
            body,
            padding_removed: 0,
            send_time: 0,
            duration: 0,
            starts_key_frame: !header.has_video(),
            parsed: false,
        }
    }

    fn body_len(&self) -> usize {
        self.body.iter().map(Bytes::len).sum()
    }

    /// Cuts the body down to the bytes `from..end`.
    fn keep_body(&mut self, from: usize, end: usize) {
        let [first, second] = &mut self.body;
        let joint = first.len();
        second.truncate(end.saturating_sub(joint));
        bytes::Buf::advance(second, from.saturating_sub(joint).min(second.len()));
        first.truncate(end);
        bytes::Buf::advance(first, from.min(first.len()));
    }
}

/// The rewritten start of a packet, and the first byte of the original that follows.
type Rewritten = (Head, usize);

/// Padding gone, its length field too, Packet Length a WORD with the real length.
fn explicit(scan: &Scan, mut original: Cursor<'_>) -> Option<Rewritten> {
    if !scan.has_padding {
        return None;
    }
    let Layout { flags_at, flags, times_at, .. } = scan.layout;
    let fields = layout::width(flags >> 5) + layout::width(flags >> 3);
    let len = scan.end - fields + 2;
    // One byte of padding with a BYTE for its length is no more than the WORD.
    if len >= original.len() {
        return None;
    }
    let mut head = Head::default();
    head.copy(&mut original, flags_at)?;
    head.put(&[flags & !layout::LENGTH_AND_PADDING | PACKET_LENGTH_WORD])?;
    original.skip(1)?;
    head.copy(&mut original, 1)?;
    head.put(&u16::try_from(len).ok()?.to_le_bytes())?;
    original.skip(layout::width(flags >> 5))?;
    head.copy(&mut original, layout::width(flags >> 1))?;
    Some((head, times_at))
}

/// Padding gone, the fields at their places: Padding Length 0, and Packet Length the
/// real length where it was that of the padded packet.
fn zeroed(scan: &Scan, mut original: Cursor<'_>) -> Option<Rewritten> {
    if !scan.has_padding {
        return None;
    }
    let Layout { flags_at, flags, packet_length, times_at, .. } = scan.layout;
    let mut head = Head::default();
    let whole = original.len();
    head.copy(&mut original, flags_at + 2)?;
    let width = layout::width(flags >> 5);
    if width > 0 && packet_length as usize == whole {
        let len = u32::try_from(scan.end).ok()?.to_le_bytes();
        head.put(len.get(..width)?)?;
        original.skip(width)?;
    } else {
        head.copy(&mut original, width)?;
    }
    head.copy(&mut original, layout::width(flags >> 1))?;
    head.put([0; 4].get(..layout::width(flags >> 3))?)?;
    Some((head, times_at))
}

/// The rewritten start of a packet: error correction (at most 16 bytes), two bytes of
/// flags, three fields of at most 4 bytes each.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    bytes: [u8; 32],
    len: u8,
}

impl Head {
    fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len.into()).unwrap_or_default()
    }

    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let from = usize::from(self.len);
        let end = from + bytes.len();
        self.bytes.get_mut(from..end)?.copy_from_slice(bytes);
        self.len = u8::try_from(end).ok()?;
        Some(())
    }

    fn copy(&mut self, original: &mut Cursor<'_>, count: usize) -> Option<()> {
        for _ in 0..count {
            self.put(&[original.u8()?])?;
        }
        Some(())
    }
}
