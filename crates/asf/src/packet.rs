//! Parses ASF data packets for `$D` and removes their padding.

mod encoder_offset;
mod filter;
mod key_frames;
mod layout;
mod packet_bytes;
mod pad;
mod shift;
mod start_filter;

use bytes::{Buf, BufMut, Bytes};

use crate::Header;
use crate::cursor::Cursor;
use layout::{Layout, PACKET_LENGTH_WORD, Scan};

pub(crate) use encoder_offset::{EncoderOffset, Finding};
pub use filter::{Selected, select};
pub use key_frames::key_frames;
pub use layout::PayloadInfo;
pub use packet_bytes::{Borrowed, PacketBytes};
pub use pad::restore;
pub use shift::{send_time, shift_times};
pub use start_filter::StartFilter;

/// One ASF data packet, ready for `$D`.
///
/// Shares the memory it was parsed from, or borrows it (`B`). If padding was removed, the first few bytes are
/// rewritten and stored in the packet itself.
#[derive(Clone, Debug)]
pub struct Packet<B = Bytes> {
    head: Head,
    /// The bytes after `head`, in the one or two buffers that they were received in.
    body: [B; 2],
    padding_removed: u32,
    send_time: u32,
    duration: u16,
    starts_key_frame: bool,
    parsed: bool,
}

/// How padding in a packet is handled.
///
/// [MS-WMHTTP] 2.2.3.3 requires that it is removed. Receivers differ in how they handle a packet without padding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Padding {
    /// Removed; the packet states its actual length and has no Padding Length field. All known receivers and players
    /// decode it.
    #[default]
    Explicit,
    /// Removed; the Padding Length field stays and is 0, as Windows Media Services sends it. If a receiver only
    /// appends zeros to such a packet, a single payload grows by the zeros.
    Zero,
    /// Not removed.
    Keep,
}

impl<B: PacketBytes> Packet<B> {
    /// Parses one packet from one buffer (the other is empty) or from two.
    ///
    /// Never fails: a packet that cannot be parsed is sent unchanged.
    #[must_use]
    pub fn parse(parts: [B; 2], header: &Header, padding: Padding) -> Packet<B> {
        let [first, second] = &parts;
        let bytes = Cursor::joined(first.as_ref(), second.as_ref());
        let Some(scan) = Scan::read(bytes.clone(), header) else {
            return Packet::unparsed(parts, header);
        };
        let (head, from) = match padding {
            Padding::Explicit => rewrite_explicit(&scan, bytes),
            Padding::Zero => rewrite_zero(&scan, bytes),
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

    /// Size in bytes as sent, after padding was removed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.head.as_slice().len() + self.body_len()
    }

    /// Whether the packet has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends all bytes.
    pub fn write_to(&self, out: &mut impl BufMut) {
        out.put_slice(self.head.as_slice());
        for part in &self.body {
            out.put_slice(part.as_ref());
        }
    }

    /// Send time in milliseconds; 0 if the packet could not be parsed.
    #[must_use]
    pub fn send_time(&self) -> u32 {
        self.send_time
    }

    /// Duration in milliseconds; 0 if the packet could not be parsed. Some muxers always write 0.
    #[must_use]
    pub fn duration(&self) -> u16 {
        self.duration
    }

    /// Whether a player can start with this packet: a video key frame begins in it, or the stream has no video.
    #[must_use]
    pub fn starts_key_frame(&self) -> bool {
        self.starts_key_frame
    }

    /// Number of padding bytes by which the packet was shortened.
    #[must_use]
    pub fn padding_removed(&self) -> u32 {
        self.padding_removed
    }

    /// Whether the packet could be parsed.
    #[must_use]
    pub fn is_parsed(&self) -> bool {
        self.parsed
    }

    /// A packet that is sent as received.
    fn unparsed(body: [B; 2], header: &Header) -> Packet<B> {
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
        self.body.iter().map(Buf::remaining).sum()
    }

    /// Cuts the body down to the bytes `from..end`.
    fn keep_body(&mut self, from: usize, end: usize) {
        let [first, second] = &mut self.body;
        // Both offsets count from the start of the first buffer; either may be in the second.
        let joint = first.remaining();
        second.truncate(end.saturating_sub(joint));
        second.advance(from.saturating_sub(joint).min(second.remaining()));
        first.truncate(end);
        first.advance(from.min(first.remaining()));
    }
}

impl Packet {
    /// Returns all bytes as a small copied head and two slices that share memory. Any of them may be empty.
    #[must_use]
    pub fn slices(&self) -> [Bytes; 3] {
        let [first, second] = self.body.clone();
        [Bytes::copy_from_slice(self.head.as_slice()), first, second]
    }
}

/// The rewritten start of a packet, and the first byte of the original that follows.
type Rewritten = (Head, usize);

/// Removes the padding and its length field; Packet Length becomes a WORD with the actual length.
fn rewrite_explicit(scan: &Scan, mut original: Cursor<'_>) -> Option<Rewritten> {
    if !scan.has_padding {
        return None;
    }
    let Layout { flags_at, flags, times_at, .. } = scan.layout;
    // Both length fields are removed, and a WORD is added.
    let fields = layout::width(flags >> 5) + layout::width(flags >> 3);
    let len = scan.end - fields + 2;
    // One byte of padding and its BYTE length field do not take more room than the WORD that is added here.
    if len >= original.len() {
        return None;
    }
    let mut head = Head::default();
    // Error correction, changed Length Type Flags, Property Flags, Packet Length, and the unchanged Sequence (ASF 5.2.2).
    // Padding Length, which would follow, is left out.
    head.copy(&mut original, flags_at)?;
    head.put(&[flags & !layout::LENGTH_AND_PADDING | PACKET_LENGTH_WORD])?;
    original.skip(1)?;
    head.copy(&mut original, 1)?;
    head.put(&u16::try_from(len).ok()?.to_le_bytes())?;
    original.skip(layout::width(flags >> 5))?;
    head.copy(&mut original, layout::width(flags >> 1))?;
    Some((head, times_at))
}

/// Removes the padding and keeps the fields: Padding Length becomes 0, and Packet Length the actual length if it was
/// that of the padded packet.
fn rewrite_zero(scan: &Scan, mut original: Cursor<'_>) -> Option<Rewritten> {
    if !scan.has_padding {
        return None;
    }
    let Layout { flags_at, flags, packet_length, times_at, .. } = scan.layout;
    let mut head = Head::default();
    let whole = original.len();
    head.copy(&mut original, flags_at + 2)?;
    // A Packet Length that already excludes the padding is correct without a change.
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

/// The rewritten start of a packet: error correction (up to 16 bytes), two bytes of flags, and three fields of up to 4
/// bytes each.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_util::{HeaderBuilder, Length, PacketBuilder, Payload, Width};

    fn header() -> Header {
        Header::parse(HeaderBuilder::default().build()).unwrap()
    }

    fn parse(bytes: &Bytes, padding: Padding) -> Packet {
        Packet::parse([bytes.clone(), Bytes::new()], &header(), padding)
    }

    fn sent(packet: &Packet) -> Vec<u8> {
        let mut out = Vec::new();
        packet.write_to(&mut out);
        assert_eq!(out.len(), packet.len());
        assert_eq!(packet.slices().concat(), out);
        out
    }

    fn restored(packet: &[u8], size: usize) -> Vec<u8> {
        let mut out = Vec::new();
        restore(packet, size, &mut out).unwrap();
        assert_eq!(out.len(), size);
        out
    }

    /// Reads a packet of a file as a player does, independently of the code under test, and returns stream, offset and
    /// data of each payload. Like ffmpeg, it assumes that Packet Length includes padding, and that the bytes after it
    /// are padding too.
    fn played(packet: &[u8]) -> Vec<(u8, u32, Vec<u8>)> {
        let mut at = 0;
        let mut take = |kind: u8| {
            let len = [0, 1, 2, 4][usize::from(kind & 3)];
            let mut value = [0; 4];
            value[..len].copy_from_slice(&packet[at..at + len]);
            at += len;
            (u32::from_le_bytes(value), at)
        };
        let mut flags = take(1).0 as u8;
        if flags & 0x80 != 0 {
            for _ in 0..flags & 0xf {
                take(1);
            }
            flags = take(1).0 as u8;
        }
        let properties = take(1).0 as u8;
        let length = take(flags >> 5).0 as usize;
        take(flags >> 1);
        let mut padding = take(flags >> 3).0 as usize;
        take(3);
        take(2);
        if length > 0 {
            padding += packet.len() - length;
        }
        let end = packet.len() - padding;
        let (count, lengths) = match flags & 1 {
            0 => (1, None),
            _ => {
                let flags = take(1).0 as u8;
                (flags & 0x3f, Some(flags >> 6))
            }
        };
        let mut payloads = Vec::new();
        for _ in 0..count {
            let stream = take(1).0 as u8;
            take(properties >> 4);
            let offset = take(properties >> 2).0;
            let replicated = take(properties).0;
            for _ in 0..replicated {
                take(1);
            }
            let (len, data_at) = match lengths {
                Some(kind) => take(kind),
                None => {
                    let at = take(0).1;
                    ((end - at) as u32, at)
                }
            };
            for _ in 0..len {
                take(1);
            }
            payloads.push((stream, offset, packet[data_at..data_at + len as usize].to_vec()));
        }
        payloads
    }

    /// All ways to write a packet with padding.
    fn variants() -> Vec<PacketBuilder> {
        let mut variants = Vec::new();
        let corrections = [vec![], vec![0x82, 0, 0], vec![0x8F; 16]];
        let single = (None, vec![Payload::new(2, &[9; 50]).key()]);
        let multiple = [Width::Byte, Width::Word, Width::Dword].map(|width| {
            let payloads =
                vec![Payload::new(2, &[1; 20]).at(7), Payload::new(1, &[2; 30]).key(), Payload::new(2, &[3; 5]).key()];
            (Some(width), payloads)
        });
        for correction in &corrections {
            for (multiple, payloads) in [single.clone()].iter().chain(&multiple) {
                for (padding, sequence) in Width::ALL.iter().flat_map(|a| Width::ALL.map(|b| (*a, b))) {
                    for width in Width::ALL {
                        for length in [Length::Whole, Length::WithoutPadding, Length::Is(0)] {
                            variants.push(PacketBuilder {
                                correction: correction.clone(),
                                length: (width, length),
                                sequence,
                                padding,
                                multiple: *multiple,
                                payloads: payloads.clone(),
                                send_time: 0x0102_0304,
                                duration: 0x0506,
                                ..PacketBuilder::default()
                            });
                        }
                    }
                }
            }
        }
        variants
    }

    #[test]
    fn every_variant_loses_its_padding_and_keeps_its_payloads() {
        let mut stripped = 0;
        for builder in variants() {
            let bytes = builder.build();
            let wanted: Vec<_> =
                builder.payloads.iter().map(|p| (p.stream | u8::from(p.key) << 7, p.offset, p.data.clone())).collect();
            for padding in [Padding::Explicit, Padding::Zero] {
                let packet = parse(&bytes, padding);
                assert!(packet.is_parsed(), "{builder:?}");
                assert_eq!(packet.send_time(), 0x0102_0304);
                assert_eq!(packet.duration(), 0x0506);
                assert!(packet.starts_key_frame());
                let sent = sent(&packet);
                assert_eq!(packet.padding_removed() as usize, 200 - sent.len());
                let (width, length) = builder.length;
                let implied = width != Width::Absent && length == Length::WithoutPadding;
                if builder.padding == Width::Absent && !implied {
                    // No field states that the bytes after the payloads are padding.
                    assert_eq!(sent, bytes, "{builder:?}");
                    continue;
                }
                stripped += 1;
                assert!(!sent.contains(&0xFF) || builder.correction.len() > 3);
                assert_eq!(played(&restored(&sent, 200)), wanted, "{padding:?} {builder:?}");
                let again = Bytes::from(restored(&sent, 200));
                let again = parse(&again, padding);
                assert_eq!(played(&restored(&self::sent(&again), 200)), wanted);
            }
            assert_eq!(sent(&parse(&bytes, Padding::Keep)), bytes);
        }
        assert!(stripped > 1000, "{stripped}");
    }

    #[test]
    fn explicit_writes_the_length_and_drops_the_padding_field() {
        let builder =
            PacketBuilder { sequence: Width::Word, ..PacketBuilder::windows(200, Payload::new(1, &[0x42; 10])) };
        let bytes = builder.send_time(7).build();
        let sent = sent(&parse(&bytes, Padding::Explicit));
        assert_eq!(sent.len(), 40);
        // WORD Packet Length, WORD Sequence, no padding; 40; 0x5E; 7 ms.
        assert_eq!(sent[..17], [0x82, 0, 0, 0x44, 0x5D, 40, 0, 0x5E, 0, 7, 0, 0, 0, 0, 0, 1, 0]);
        assert_eq!(sent[17..], bytes[17..40]);
    }

    #[test]
    fn zero_keeps_the_position_of_every_field() {
        for (width, len) in [(Width::Byte, 1), (Width::Word, 2), (Width::Dword, 4)] {
            let builder = PacketBuilder { padding: width, ..PacketBuilder::default() };
            let bytes = builder.build();
            let sent = sent(&parse(&bytes, Padding::Zero));
            assert_eq!(sent[..5], bytes[..5]);
            assert_eq!(sent[5..5 + len], [0; 4][..len]);
            assert_eq!(sent[5 + len..], bytes[5 + len..sent.len()]);
            assert_eq!(sent.last(), Some(&0x42));
        }
    }

    #[test]
    fn zero_sets_only_a_packet_length_that_counted_the_padding() {
        for (length, written) in [(Length::Whole, 68_u16), (Length::WithoutPadding, 68), (Length::Is(0), 0)] {
            let builder =
                PacketBuilder { length: (Width::Word, length), padding: Width::Word, ..PacketBuilder::default() };
            let sent = sent(&parse(&builder.build(), Padding::Zero));
            assert_eq!(sent.len(), 70);
            let written = if written == 68 { 70 } else { written };
            assert_eq!(sent[5..9], [written.to_le_bytes()[0], 0, 0, 0], "{length:?}");
        }
    }

    #[test]
    fn contradictory_lengths_leave_the_packet_unchanged() {
        let odd = |change: fn(&mut PacketBuilder)| {
            let mut builder = PacketBuilder { padding: Width::Word, ..PacketBuilder::default() };
            change(&mut builder);
            builder.build()
        };
        let cases = [
            odd(|p| p.length = (Width::Word, Length::Is(33))),
            odd(|p| p.length = (Width::Word, Length::Is(201))),
            odd(|p| p.length = (Width::Dword, Length::Is(u32::MAX))),
            // Without padding.
            odd(|p| p.payloads = vec![Payload::new(1, &[1; 172])]),
            odd(|p| p.padding = Width::Absent),
        ];
        for bytes in cases {
            for padding in [Padding::Explicit, Padding::Zero] {
                let packet = parse(&bytes, padding);
                assert!(packet.is_parsed());
                assert_eq!(packet.padding_removed(), 0);
                assert_eq!(sent(&packet), bytes);
            }
        }
    }

    #[test]
    fn a_padding_length_that_contradicts_the_payloads_is_unchanged() {
        let bytes = PacketBuilder { multiple: Some(Width::Word), padding: Width::Word, ..PacketBuilder::default() };
        for change in [1_u8, 255] {
            let mut bytes = bytes.build().to_vec();
            bytes[5] = bytes[5].wrapping_add(change);
            let bytes = Bytes::from(bytes);
            assert_eq!(sent(&parse(&bytes, Padding::Explicit)), bytes);
        }
        // More padding than fits after the head.
        let mut bytes = PacketBuilder::windows(200, Payload::new(1, &[1; 9])).build().to_vec();
        for padding in [186, 190, 200, 0xFFFF_u16] {
            bytes[5..7].copy_from_slice(&padding.to_le_bytes());
            let bytes = Bytes::from(bytes.clone());
            assert_eq!(sent(&parse(&bytes, Padding::Explicit)), bytes);
        }
    }

    #[test]
    fn invalid_packets_are_sent_unchanged() {
        let good = PacketBuilder::default().build().to_vec();
        let changed = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            bytes
        };
        let cases = [
            vec![],
            vec![0x82],
            vec![0xFF; 200],
            changed(0, 0x92),
            changed(0, 0xE2),
            changed(3, 0x80),
            changed(4, 0x1D),
            changed(17, 5),
            changed(17, 250),
            good[..20].to_vec(),
        ];
        for bytes in cases {
            let bytes = Bytes::from(bytes);
            let packet = parse(&bytes, Padding::Explicit);
            assert!(!packet.is_parsed(), "{bytes:02x?}");
            assert_eq!(packet.is_empty(), bytes.is_empty());
            assert!(!packet.starts_key_frame());
            assert_eq!(sent(&packet), bytes);
        }
    }

    #[test]
    fn every_split_gives_the_same_packet() {
        for builder in variants().iter().step_by(37) {
            let bytes = builder.build();
            for padding in [Padding::Explicit, Padding::Zero, Padding::Keep] {
                let whole = parse(&bytes, padding);
                for cut in 0..=bytes.len() {
                    let parts = [bytes.slice(..cut), bytes.slice(cut..)];
                    let cut = Packet::parse(parts, &header(), padding);
                    assert_eq!(sent(&cut), sent(&whole));
                    assert_eq!(cut.is_parsed(), whole.is_parsed());
                    assert_eq!(cut.padding_removed(), whole.padding_removed());
                    assert_eq!(cut.starts_key_frame(), whole.starts_key_frame());
                }
            }
        }
    }

    #[test]
    fn the_body_is_not_copied() {
        let bytes = PacketBuilder::windows(200, Payload::new(1, &[1; 50])).build();
        let [_, body, _] = parse(&bytes, Padding::Explicit).slices();
        assert_eq!(body.as_ptr(), bytes[7..].as_ptr());
    }

    #[test]
    fn only_video_key_frames_that_begin_in_the_packet_count() {
        let starts = |header: &HeaderBuilder, payloads: Vec<Payload>| {
            let header = Header::parse(header.build()).unwrap();
            let bytes = PacketBuilder::asfmux(200, payloads).build();
            Packet::parse([bytes, Bytes::new()], &header, Padding::Keep).starts_key_frame()
        };
        let both = HeaderBuilder::default();
        let audio = || Payload::new(1, b"a").key();
        let video = || Payload::new(2, b"v");
        assert!(starts(&both, vec![audio(), video().key()]));
        assert!(starts(&both, vec![video().key().at(99).compressed()]));
        assert!(!starts(&both, vec![]));
        assert!(!starts(&both, vec![audio(), video()]));
        assert!(!starts(&both, vec![audio(), video().key().at(1)]));
        assert!(!starts(&both, vec![Payload::new(9, b"?").key()]));
        assert!(starts(&both.clone().audio_only(), vec![audio().at(5)]));
        assert!(starts(&both.clone().audio_only(), vec![]));
        assert!(starts(&both.command_only(), vec![Payload::new(3, b"c")]));
    }

    #[test]
    fn wide_object_numbers_are_read() {
        let bytes = PacketBuilder { properties: 0x7D, ..PacketBuilder::windows(200, Payload::new(2, b"abc").key()) };
        let packet = parse(&bytes.build(), Padding::Explicit);
        assert!(packet.is_parsed() && packet.starts_key_frame());
        assert_eq!(sent(&packet).len(), 200 - packet.padding_removed() as usize);
        assert!(sent(&packet).ends_with(b"abc"));
    }
}
