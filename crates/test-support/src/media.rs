//! Small ASF streams whose packets contain their number.

use asf::test_util::{HeaderBuilder, PacketBuilder, Payload};
use asf::{self, Padding};
use bytes::Bytes;
use wmhttp::Hresult;
use wmhttp::packet::Packet;

pub const SIZE: u32 = 1000;
const VIDEO: u8 = 2;

/// Returns the header of a stream with packets of [`SIZE`] bytes.
pub fn header() -> Bytes {
    HeaderBuilder::default().packet_size(SIZE).build()
}

/// Returns packet number `n`, with the send time `n` × `step` ms; every tenth packet starts a key frame.
pub fn packet(n: u32, step: u32) -> Bytes {
    let mut data = vec![0xA5; SIZE as usize - 100];
    data[..4].copy_from_slice(&n.to_le_bytes());
    let payload = Payload::new(VIDEO, &data);
    let payload = if n.is_multiple_of(10) { payload.key() } else { payload };
    PacketBuilder::asfmux(SIZE as usize, vec![payload]).send_time(n * step).build()
}

/// Returns consecutive packets without a header.
pub fn packets(numbers: std::ops::Range<u32>, step: u32) -> Vec<u8> {
    numbers.flat_map(|n| packet(n, step)).collect()
}

/// Returns a header and `count` consecutive packets.
pub fn stream(count: u32, step: u32) -> Vec<u8> {
    let mut bytes = header().to_vec();
    bytes.extend(packets(0..count, step));
    bytes
}

/// Returns the body of a PushStart with this whole stream: `$H`, `count` `$D` and `$E`.
pub fn body(count: u32) -> Vec<u8> {
    let packets = numbered(count).chain([Packet::End(Hresult::OK)]);
    packets.flat_map(|packet| packet.to_bytes().unwrap()).collect()
}

/// Returns a header of this stream, and `packets` data packets.
pub fn numbered(packets: u32) -> impl Iterator<Item = Packet> {
    [Packet::Header(header())].into_iter().chain((0..packets).map(|n| Packet::Data(packet(n, 40))))
}

/// Returns the number of a pushed packet.
pub fn number(header: &asf::Header, packet: &Bytes, step: u32) -> u32 {
    let parsed = asf::Packet::parse([packet.clone(), Bytes::new()], header, Padding::Keep);
    assert!(parsed.is_parsed());
    parsed.send_time() / step
}

/// Returns the numbers of the data packets among pushed packets.
pub fn numbers(packets: &[Packet], step: u32) -> Vec<u32> {
    let header = asf::Header::parse(header()).unwrap();
    let data = packets.iter().filter_map(|packet| if let Packet::Data(data) = packet { Some(data) } else { None });
    data.map(|data| number(&header, data, step)).collect()
}

/// Returns the numbers in a complete push, which must begin with its header.
pub fn numbers_of_push(packets: &[Packet], step: u32) -> Vec<u32> {
    assert!(matches!(packets[0], Packet::Header(_)), "C-8: {:?}", packets[0]);
    numbers(packets, step)
}
