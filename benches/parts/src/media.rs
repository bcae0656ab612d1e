//! The streams for measurements: full packets, or packets of which a third is padding.

use asf::test_util::{HeaderBuilder, PacketBuilder, Payload};
use bytes::Bytes;

const VIDEO: u8 = 2;
/// Number of packets between key frames.
const KEY_FRAME_EVERY: u32 = 100;
/// Number of bytes that asfmux writes in addition to the single payload of a packet.
const AROUND_PAYLOAD: usize = 30;

/// The packets of a stream.
#[derive(Clone, Copy, Debug)]
pub struct Media {
    /// Size of a packet in bytes.
    pub packet_size: usize,
    /// Whether a third of each packet is padding.
    pub padded: bool,
    /// Milliseconds between send times.
    pub step: u32,
}

impl Media {
    /// Returns the Header Object and the start of the Data Object.
    pub fn header(self) -> Bytes {
        HeaderBuilder::default().packet_size(u32::try_from(self.packet_size).unwrap()).build()
    }

    /// Returns packet number `n`. A full packet ends with its number in little-endian order.
    pub fn packet(self, n: u32) -> Bytes {
        let room = self.packet_size - AROUND_PAYLOAD;
        let mut data = vec![0xA5; if self.padded { room * 2 / 3 } else { room }];
        let number = data.len() - 4;
        data[number..].copy_from_slice(&n.to_le_bytes());
        let payload = Payload::new(VIDEO, &data);
        let payload = if n.is_multiple_of(KEY_FRAME_EVERY) { payload.key() } else { payload };
        let packet = PacketBuilder::asfmux(self.packet_size, vec![payload]).send_time(n * self.step).build();
        assert_eq!(packet.len(), self.packet_size);
        packet
    }

    /// Returns consecutive packets.
    pub fn packets(self, numbers: std::ops::Range<u32>) -> Vec<u8> {
        numbers.map(|n| self.packet(n)).collect::<Vec<_>>().concat()
    }
}
