//! Removes payloads from packets, for players that did not select every stream.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use super::layout::{self, Layout, PACKET_LENGTH_WORD, PayloadHead, PayloadInfo};
use crate::cursor::Cursor;

/// Payload Flags: the number of payloads. The two bits above are the type of the payloads' lengths.
const PAYLOADS: u8 = 0x3f;

/// Result of [`select`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selected {
    /// All payloads are kept: send the packet unchanged.
    Whole,
    /// A packet with the kept payloads, padded to its full size.
    Part(Bytes),
    /// No payload is kept.
    Nothing,
}

/// Removes the payloads for which `wanted` returns false. It is called once for each payload, in order.
///
/// The result has the size of `packet`, and its Packet Length excludes the padding. A packet that cannot be parsed is
/// kept whole; `wanted` may have been called for its first payloads. The result is allocated from `out`.
pub fn select(packet: &[u8], out: &mut BytesMut, mut wanted: impl FnMut(PayloadInfo) -> bool) -> Selected {
    match payloads(packet) {
        None => Selected::Whole,
        Some(Payloads::One(info)) if wanted(info) => Selected::Whole,
        Some(Payloads::One(_)) => Selected::Nothing,
        Some(Payloads::Several { layout, flags_at, all }) => {
            let kept: Vec<_> = all.iter().filter(|(info, _)| wanted(*info)).map(|(_, range)| range.clone()).collect();
            if kept.is_empty() && !all.is_empty() {
                return Selected::Nothing;
            }
            if kept.len() == all.len() {
                return Selected::Whole;
            }
            out.reserve(packet.len());
            let part = write(packet, &layout, flags_at, &kept, out);
            // Fails only if the packet is longer than a header can allow.
            part.map_or(Selected::Whole, |()| Selected::Part(out.split().freeze()))
        }
    }
}

enum Payloads {
    One(PayloadInfo),
    Several {
        layout: Layout,
        /// Offset of the Payload Flags.
        flags_at: usize,
        all: Vec<(PayloadInfo, Range<usize>)>,
    },
}

/// The payloads of a packet, with their bytes including the heads; `None` if the packet is invalid.
fn payloads(packet: &[u8]) -> Option<Payloads> {
    let mut cursor = Cursor::new(packet);
    let layout = Layout::read(&mut cursor)?;
    if layout.properties >> 6 != 1 {
        return None;
    }
    if !layout.has_multiple_payloads() {
        return PayloadHead::read(&layout, &mut cursor).map(|head| Payloads::One(head.info()));
    }
    let flags_at = cursor.position();
    let flags = cursor.u8()?;
    let mut all = Vec::with_capacity(usize::from(flags & PAYLOADS));
    for _ in 0..flags & PAYLOADS {
        let from = cursor.position();
        let head = PayloadHead::read(&layout, &mut cursor)?;
        if flags >> 6 == 0 {
            return None;
        }
        let len = cursor.typed(flags >> 6)?;
        cursor.skip(usize::try_from(len).ok()?)?;
        all.push((head.info(), from..cursor.position()));
    }
    Some(Payloads::Several { layout, flags_at, all })
}

/// Writes a packet with the payloads in `kept`. It is never longer than `packet`: the Padding Length field is removed,
/// and the two bytes of Packet Length fit where payloads were removed.
fn write(packet: &[u8], layout: &Layout, flags_at: usize, kept: &[Range<usize>], out: &mut BytesMut) -> Option<()> {
    let Layout { flags_at: length_types_at, flags, times_at, .. } = *layout;
    let before = packet.get(..length_types_at)?;
    let properties = packet.get(length_types_at + 1)?;
    let sequence_at = length_types_at + 2 + layout::width(flags >> 5);
    let sequence = packet.get(sequence_at..sequence_at + layout::width(flags >> 1))?;
    let times = packet.get(times_at..flags_at)?;
    let payloads: usize = kept.iter().map(ExactSizeIterator::len).sum();
    // Two bytes of flags, two of Packet Length, and one of Payload Flags.
    let len = before.len() + 2 + 2 + sequence.len() + times.len() + 1 + payloads;
    let padding = packet.len().checked_sub(len)?;
    let len = u16::try_from(len).ok()?;
    let count = u8::try_from(kept.len()).ok()?;
    let length_type = packet.get(flags_at)? & !PAYLOADS;
    out.put_slice(before);
    out.put_u8(flags & !layout::LENGTH_AND_PADDING | PACKET_LENGTH_WORD);
    out.put_u8(*properties);
    out.put_u16_le(len);
    out.put_slice(sequence);
    out.put_slice(times);
    out.put_u8(length_type | count);
    for range in kept {
        out.put_slice(packet.get(range.clone())?);
    }
    out.put_bytes(0, padding);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_util::{HeaderBuilder, Length, PacketBuilder, Payload, Width};
    use crate::{Header, Packet, Padding};

    fn kept(packet: &[u8], streams: &[u8]) -> Selected {
        select(packet, &mut BytesMut::new(), |info| streams.contains(&info.stream))
    }

    /// The facts and the bytes of each payload.
    fn found(packet: &[u8]) -> Vec<(PayloadInfo, Vec<u8>)> {
        match payloads(packet) {
            Some(Payloads::Several { all, .. }) => {
                all.into_iter().map(|(info, range)| (info, packet[range].to_vec())).collect()
            }
            Some(Payloads::One(_)) | None => panic!("{packet:02x?}"),
        }
    }

    #[test]
    fn unwanted_payloads_are_removed_and_the_size_stays() {
        let payloads =
            vec![Payload::new(1, &[1; 20]).key(), Payload::new(2, &[2; 30]).at(9), Payload::new(1, &[3; 10]).key()];
        for correction in [vec![], vec![0x82, 0, 0]] {
            for (multiple, padding, sequence) in [
                (Width::Word, Width::Word, Width::Absent),
                (Width::Byte, Width::Absent, Width::Word),
                (Width::Dword, Width::Byte, Width::Byte),
            ] {
                for length in [(Width::Absent, Length::Whole), (Width::Word, Length::WithoutPadding)] {
                    let packet = PacketBuilder {
                        correction: correction.clone(),
                        multiple: Some(multiple),
                        padding,
                        sequence,
                        length,
                        payloads: payloads.clone(),
                        send_time: 77,
                        duration: 5,
                        ..PacketBuilder::default()
                    }
                    .build();
                    assert_eq!(kept(&packet, &[1, 2]), Selected::Whole);
                    assert_eq!(kept(&packet, &[9]), Selected::Nothing);
                    let Selected::Part(part) = kept(&packet, &[1]) else { panic!() };
                    assert_eq!(part.len(), packet.len());
                    let wanted: Vec<_> = found(&packet).into_iter().filter(|(info, _)| info.stream == 1).collect();
                    assert_eq!(wanted.len(), 2);
                    assert_eq!(found(&part), wanted);
                    let header = Header::parse(HeaderBuilder::default().build()).unwrap();
                    let parsed = Packet::parse([part, Bytes::new()], &header, Padding::Explicit);
                    assert!(parsed.is_parsed() && parsed.padding_removed() > 0);
                    assert_eq!((parsed.send_time(), parsed.duration()), (77, 5));
                }
            }
        }
    }

    #[test]
    fn a_full_packet_has_space_for_packet_length() {
        let payloads = vec![Payload::new(1, &[1; 1]), Payload::new(2, &[2; 150])];
        let mut builder = PacketBuilder { size: 0, multiple: Some(Width::Word), payloads, ..PacketBuilder::default() };
        builder.size = builder.build().len();
        let packet = builder.build();
        let Selected::Part(part) = kept(&packet, &[2]) else { panic!() };
        assert_eq!(part.len(), packet.len());
        assert_eq!(found(&part)[0].1.len(), found(&packet)[1].1.len());
    }

    #[test]
    fn a_single_payload_is_kept_or_removed_as_a_whole() {
        let packet = PacketBuilder::windows(200, Payload::new(2, &[5; 20]).key()).build();
        assert_eq!(kept(&packet, &[2]), Selected::Whole);
        assert_eq!(kept(&packet, &[1]), Selected::Nothing);
        let mut seen = Vec::new();
        let begins = |info| {
            seen.push(info);
            true
        };
        select(&packet, &mut BytesMut::new(), begins);
        assert_eq!(seen, [PayloadInfo { stream: 2, key: true, begins: true }]);
    }

    #[test]
    fn invalid_packets_are_kept_whole() {
        let packet = PacketBuilder::asfmux(200, vec![Payload::new(1, &[1; 20]), Payload::new(2, &[1; 20])]).build();
        for packet in [&[][..], &[0xFF; 200], &packet[..30], &[0x82; 5]] {
            assert_eq!(kept(packet, &[1]), Selected::Whole);
        }
    }
}
