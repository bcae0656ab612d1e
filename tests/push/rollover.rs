//! A push of more than 2 GiB, which is more than the body of one request can contain.
//!
//! `ROLLOVER_BYTES` sets the number of bytes.

use std::thread;

use asf::test_util::{HeaderBuilder, PacketBuilder, Payload};
use bytes::Bytes;
use test_support::peer::{Peer, wms};
use test_support::pipeline::Pushing;
use test_support::upstream::Upstream;
use wmhttp::packet::Packet;

/// Size of a data packet: with its framing it has one byte less than 64 KiB.
const SIZE: usize = 65_531;
/// The default size of a body (C-7).
const BODY: u64 = 2_147_483_647;

/// Returns a packet into which a number will be written.
fn packet() -> Vec<u8> {
    let build = |data: &[u8]| {
        let payloads = vec![Payload::new(2, data).key()];
        PacketBuilder { size: 0, payloads, ..PacketBuilder::default() }.build()
    };
    let packet = build(&vec![0xA5; SIZE - build(&[]).len()]);
    assert_eq!(packet.len(), SIZE);
    packet.to_vec()
}

/// C-7, C-9, C-10: bodies of exactly 2,147,483,647 bytes, without missing or duplicate packets.
#[test]
fn c9_c10_a_push_beyond_two_gibibytes() {
    let bytes: u64 = std::env::var("ROLLOVER_BYTES").map_or(2_300_000_000, |text| text.parse().unwrap());
    let packets = u32::try_from(bytes.div_ceil(SIZE as u64)).unwrap();
    let peer = Peer::new();
    let pushing = Pushing::bare(&format!("location={} drop-policy=block eos-timeout=60000", peer.location()));
    let upstream = Upstream::live(&pushing.sink);
    pushing.play();
    thread::scope(|scope| {
        scope.spawn(|| {
            let header = HeaderBuilder::default().packet_size(u32::try_from(SIZE).unwrap()).build();
            upstream.push(header.to_vec()).0.unwrap();
            let template = packet();
            for n in 0..packets {
                let mut packet = template.clone();
                packet[SIZE - 4..].copy_from_slice(&n.to_le_bytes());
                upstream.push(packet).0.unwrap();
            }
            upstream.end();
        });
        let mut connection = peer.accept();
        let mut start = connection.set_up(&wms(204, "one"));
        let (mut bodies, mut next, mut filled) = (1, 0, 0);
        loop {
            assert_eq!(start.header("Content-Length"), Some(BODY.to_string().as_str()));
            let mut is_over = false;
            while let Some(packet) = connection.packet() {
                match packet {
                    Packet::Data(data) => {
                        assert_eq!(data[SIZE - 4..], next_number(&mut next), "body {bodies}");
                    }
                    Packet::Filler(len) => filled += len,
                    Packet::Header(_) => assert_eq!((bodies, next), (1, 0)),
                    Packet::End(_) => {
                        is_over = true;
                        break;
                    }
                    Packet::StreamChange(_) => panic!("no header has changed"),
                }
            }
            connection.answer(&wms(204, "one"));
            if is_over {
                break;
            }
            start = connection.request();
            bodies += 1;
        }
        println!("{next} packets in {bodies} bodies, {filled} bytes of filler");
        assert_eq!(next, packets);
        let in_a_body = BODY / (SIZE as u64 + 4);
        assert_eq!(bodies, 1 + u64::from(packets) / in_a_body);
        assert!(bodies > 1 || bytes < BODY);
    });
    pushing.wait_for_eos();
    let count = |field| pushing.count(0, field);
    assert_eq!((count("packets-sent"), count("packets-dropped")), (packets.into(), 0));
}

fn next_number(next: &mut u32) -> Bytes {
    let number = *next;
    *next += 1;
    Bytes::copy_from_slice(&number.to_le_bytes())
}
