//! Shifts the times of packets.

use super::layout::{Layout, visit_payloads};
use crate::cursor::Cursor;

/// The send time of a packet in milliseconds; `None` if the packet cannot be parsed.
#[must_use]
pub fn send_time(packet: &[u8]) -> Option<u32> {
    Layout::read(&mut Cursor::new(packet)).map(|layout| layout.send_time)
}

/// Adds `offset_ms` milliseconds to the send time of a packet and to the presentation times of its payloads (ASF 5.2.2 and
/// 5.2.3). All of them have 32 bits and wrap. A packet that cannot be parsed is not changed.
pub fn shift_times(packet: &mut [u8], offset_ms: u32) {
    let mut cursor = Cursor::new(packet);
    let Some(layout) = Layout::read(&mut cursor) else { return };
    // All fields are found before the first one is changed, so that an invalid packet stays as it is.
    let mut fields = vec![layout.times_at];
    let visited = visit_payloads(&layout, cursor, |head| fields.extend(head.presentation_time_at(&layout)));
    if visited.is_none() {
        return;
    }
    for at in fields {
        if let Some(field) = packet.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<4>) {
            *field = u32::from_le_bytes(*field).wrapping_add(offset_ms).to_le_bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_util::{HeaderBuilder, PacketBuilder, Payload};
    use crate::{Header, key_frames};

    /// The builder's payloads are presented when their packet is sent.
    #[test]
    fn all_times_of_a_packet_are_shifted() {
        let header = Header::parse(HeaderBuilder::default().build()).unwrap();
        let video = || Payload::new(2, b"video").key();
        for (builder, times) in [
            (PacketBuilder::asfmux(200, vec![video(), Payload::new(1, b"audio"), video()]), vec![4000, 4000]),
            (PacketBuilder::windows(200, video()), vec![4000]),
            (PacketBuilder::windows(200, video().compressed().at(77)), vec![77]),
        ] {
            let original = builder.send_time(4000).build();
            let mut packet = original.to_vec();
            shift_times(&mut packet, 500);
            assert_eq!(send_time(&packet), Some(4500));
            let found: Vec<_> = key_frames(&packet, &header).into_iter().map(|(_, time)| time).collect();
            assert_eq!(found, times.iter().map(|time| time + 500).collect::<Vec<_>>());
            shift_times(&mut packet, 500_u32.wrapping_neg());
            assert!(packet == original, "nothing else is touched");
        }
    }

    #[test]
    fn invalid_packets_are_not_changed() {
        let packet = PacketBuilder::asfmux(200, vec![Payload::new(1, &[1; 20])]).build();
        for bytes in [&[][..], &[0xFF; 50], &packet[..20]] {
            let mut shifted = bytes.to_vec();
            shift_times(&mut shifted, 500);
            assert_eq!(shifted, bytes);
        }
    }
}
