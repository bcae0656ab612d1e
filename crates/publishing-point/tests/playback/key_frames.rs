//! Players start, and resume after a gap, with a key frame, and receive nothing before it that cannot be decoded.

use asf::test_util::{AUDIO_MEDIA, HeaderBuilder, PacketBuilder, Payload, VIDEO_MEDIA};
use asf::{PayloadInfo, Selected};
use asf_publishing_point::BlockingServer;
use bytes::{Bytes, BytesMut};
use test_support::pipeline::until;
use test_support::server_fixture::*;
use test_support::wire::{CONCERT, Wire};
use wmhttp::packet::Packet;

const SIZE: usize = 2000;

/// Audio in stream 1, video in streams 2 and 3.
fn header() -> Bytes {
    let streams = vec![(1, AUDIO_MEDIA), (2, VIDEO_MEDIA), (3, VIDEO_MEDIA)];
    HeaderBuilder { streams, flags: 1, ..HeaderBuilder::default() }.packet_size(SIZE as u32).build()
}

/// Returns a payload of frame `n` of a stream.
fn frame(stream: u8, n: u8) -> Payload {
    Payload::new(stream, &[n; 30])
}

fn packet(send_time: u32, payloads: Vec<Payload>) -> Packet {
    Packet::Data(PacketBuilder::asfmux(SIZE, payloads).send_time(send_time).build())
}

/// Returns the packet in which key frame `n` of stream 2 begins, after the end of an earlier frame.
fn with_key_frame(send_time: u32, n: u8) -> Packet {
    let before = [frame(2, n - 2).at(30), frame(1, n).at(30), frame(3, n - 1), frame(2, n - 1), frame(1, n)];
    packet(send_time, before.into_iter().chain([frame(2, n).key()]).collect())
}

/// Returns the payloads of a packet: the stream, whether it is part of a key frame, and whether the key frame begins
/// there.
fn payloads(packet: &[u8]) -> Vec<(u8, bool, bool)> {
    let mut found = Vec::new();
    let all = asf::select(packet, &mut BytesMut::new(), |PayloadInfo { stream, key, begins }| {
        found.push((stream, key, begins));
        true
    });
    assert_eq!((all, packet.len()), (Selected::Whole, SIZE));
    found
}

/// Pushes a stream whose latest key frame begins in its second packet.
fn pushed(server: &BlockingServer) -> Wire {
    let (mut wire, id) = Wire::set_up(server.addr(), CONCERT);
    let packets = [packet(0, vec![frame(2, 1).key(), frame(3, 1).key()]), with_key_frame(40, 10)];
    wire.start(CONCERT.id(&id), [Packet::Header(header())].into_iter().chain(packets));
    until("the packets", || server.stats("concert").unwrap().packets == 2);
    wire
}

/// What players receive of that packet and of [`following`].
const FROM_THE_KEY_FRAME: [&[(u8, bool, bool)]; 3] = [
    &[(1, false, true), (2, true, true)],
    &[(2, true, false), (3, true, true), (2, false, true)],
    &[(2, false, true), (3, false, true)],
];

/// Returns the first key frame of the other video stream, and frames that depend on both.
fn following() -> [Packet; 2] {
    [
        packet(80, vec![frame(3, 11).at(30), frame(2, 10).key().at(30), frame(3, 12).key(), frame(2, 13)]),
        packet(120, vec![frame(2, 14), frame(3, 14)]),
    ]
}

#[test]
fn a_player_starts_with_decodable_data() {
    let server = server();
    let mut wire = pushed(&server);
    let mut player = Wire::to(server.addr());
    player.send("GET /concert HTTP/1.0\r\nPragma: xPlayStrm=1\r\n\r\n");
    player.head();
    assert_eq!(player.pulled().0, 'H');
    let mut plain = Wire::to(server.addr());
    plain.send("GET /concert?format=asf HTTP/1.0\r\n\r\n");
    plain.head();
    assert_eq!(plain.take(header().len()), header());
    wire.packets(following());
    for expected in FROM_THE_KEY_FRAME {
        assert_eq!(payloads(&player.pulled_data().2), expected);
        assert_eq!(payloads(&plain.take(SIZE)), expected);
    }
}

/// The same for a player that selects only the two video streams, and one that waits for the next key frame.
#[test]
fn players_that_select_or_wait_start_with_decodable_data() {
    let server = server_with(|config| config.points.values_mut().for_each(|point| point.fast_start = false));
    let mut wire = pushed(&server);
    let mut player = Wire::to(server.addr());
    player.send("GET /concert HTTP/1.0\r\nPragma: xPlayStrm=1,stream-switch-entry=ffff:2:0 ffff:3:0\r\n\r\n");
    player.head();
    assert_eq!(player.pulled().0, 'H');
    wire.packet(packet(160, vec![frame(2, 15)]));
    wire.packet(with_key_frame(200, 20));
    assert_eq!(payloads(&player.pulled_data().2), [(2, true, true)]);
}

/// A player that was too slow resumes in the same way as it started.
#[test]
fn a_player_that_missed_packets_resumes_with_decodable_data() {
    const PACKETS: u32 = 10_000;
    let server = server_with(|config| config.points.values_mut().for_each(|point| point.limits.bytes = 64 * SIZE));
    let mut wire = pushed(&server);
    let mut player = Wire::to(server.addr());
    player.send("GET /concert HTTP/1.0\r\nPragma: xPlayStrm=1\r\n\r\n");
    player.head();
    assert_eq!(player.pulled().0, 'H');
    // More than both kernels buffer for a player that does not read: it is overrun.
    for from in (0..PACKETS).step_by(16) {
        let round = (from..from + 16).map(|n| match n % 16 {
            0 => with_key_frame(1000 + n, 30),
            _ => packet(1000 + n, vec![frame(2, 31)]),
        });
        wire.packets(round.collect::<Vec<_>>());
    }
    wire.end();
    let header = asf::Header::parse(header()).unwrap();
    let (mut last, mut gaps) = (None, 0);
    while let ('D', payload) = player.pulled() {
        let bytes = Bytes::from(payload).slice(8..);
        let packet = asf::Packet::parse([bytes.clone(), Bytes::new()], &header, asf::Padding::Keep);
        if last.is_some_and(|last| last >= 1000 && packet.send_time() != last + 1) {
            gaps += 1;
            assert_eq!(payloads(&bytes), FROM_THE_KEY_FRAME[0], "at {}", packet.send_time());
        }
        last = Some(packet.send_time());
    }
    assert!(gaps > 0 && server.stats("concert").unwrap().missed > 0);
}
